"""From a scene to the radiograph of a CT phantom: pixels, masks and anatomy."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache, partial

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from workbench import findings
from workbench.phantom.ct.devices import KINDS, path_of
from workbench.phantom.ct.exposure import Exposure, expose
from workbench.phantom.ct.lesions import MAKE
from workbench.phantom.ct.projection import LATTICE, Beam, cast, lattice, project
from workbench.phantom.ct.shape import ANATOMY, Shape, depths, silhouettes, with_ratio
from workbench.phantom.ct.site import Patch, Site
from workbench.phantom.ct.volume import Volume, chest
from workbench.phantom.drawing import lead_marker
from workbench.phantom.scene import Drawn, Lesion, Scene

#: Attenuation of a lesion along a ray that is seen.
VISIBLE = 0.01


def sample_chest(rng: np.random.Generator) -> dict:
    """Draw how a chest differs from the scan, how it is turned and how it is exposed."""
    uniform = rng.uniform
    shape = Shape(
        scale=(uniform(0.94, 1.08), uniform(0.9, 1.12), uniform(0.92, 1.08)),
        breath=uniform(4, 34),
        lean=uniform(-5, 5),
        waves=tuple((uniform(0, 2.5), uniform(150, 260), uniform(0, 2 * np.pi)) for _ in range(3)),
    )
    field = uniform(312, 345)
    top = -1.08 * shape.scale[0] * 166 + uniform(-4, 14)
    beam = Beam(
        field=field,
        distance=uniform(1700, 1900),
        centre=(top + field / 2, uniform(-8, 8)),
        turn=(uniform(-5, 5), uniform(-2, 2), uniform(-4, 4)),
    )
    exposure = Exposure(
        dose=10 ** uniform(4.7, 5.3),
        scatter=uniform(0.08, 0.25),
        blur=uniform(0.2, 0.5),
        slow=uniform(0.75, 0.95),
        middle=uniform(1.0, 1.25),
        fine=uniform(1.4, 2.1),
        sharp=uniform(2.4, 3.8),
        half=uniform(0.8, 1.3),
        white=uniform(1.15, 1.45),
        gamma=uniform(0.95, 1.7),
        top=uniform(0.75, 1.0),
    )
    return {
        "shape": shape, "beam": beam, "exposure": exposure, "bone": uniform(0.8, 1.6),
        "soft": uniform(0.94, 1.08), "ratio": uniform(0.43, 0.49),
    }  # fmt: skip


def inner_size(size: int) -> int:
    """Return the edge of the grid on which rays are cast for an image of `size` pixels.

    Rays every millimetre see all that voxels of 1.4 mm hold.
    """
    return (LATTICE - 1) * int(np.clip(round(size * 0.78 / (LATTICE - 1)), 4, 8)) + 1


def patch_path(
    patch: Patch, volume: Volume, where: torch.Tensor, beam: Beam, size: int, depth: float
) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Return what a patch adds along the rays that meet it, and which rays (rows, columns)."""
    shape = np.array(patch.added.shape)
    low = np.array(patch.corner)
    whole = np.array(volume.shape) - 1
    # from the frame of the volume to that of the patch, both -1 to 1, in the order (x, y, z)
    scale, middle = whole / (shape - 1), (2 * low + shape - 1 - whole) / (shape - 1)
    scale, middle = (torch.tensor(at[::-1].copy()).float()[:, None, None] for at in (scale, middle))
    inside = where * scale - middle
    near = ((inside.abs() <= 1.02).all(1)).numpy()
    if not near.any():
        return None
    ends = []
    for axis in range(3):
        at = np.flatnonzero(near.any(tuple({0, 1, 2} - {axis})))
        ends.append((max(at[0] - 1, 0), min(at[-1] + 1, LATTICE - 1)))
    (p0, p1), (r0, r1), (c0, c1) = ends
    step = (size - 1) // (LATTICE - 1)
    part = inside[p0 : p1 + 1, :, r0 : r1 + 1, c0 : c1 + 1]
    rows, columns = (r1 - r0) * step + 1, (c1 - c0) * step + 1
    found = project(
        patch.added[None], part, beam, (rows, columns), depth * (p1 - p0) / (LATTICE - 1),
        edges="zeros",
    )[0]  # fmt: skip
    at = (slice(r0 * step, r0 * step + rows), slice(c0 * step, c0 * step + columns))
    return at, found


def added_by(lesion: Lesion, site: Site, where: torch.Tensor, beam: Beam, size: int) -> np.ndarray:
    """Return the attenuation (size, size) that a finding adds along the rays."""
    total = np.zeros((size, size), np.float32)
    depth = beam.depth(site.volume)
    for patch in MAKE[lesion.finding](site, lesion):
        found = patch_path(patch, site.volume, where, beam, size, depth)
        if found is not None:
            total[found[0]] += found[1]
    return total


def larger(image: np.ndarray, size: int) -> np.ndarray:
    """Return an image (H, W) at (size, size), cubic between pixels."""
    one = torch.from_numpy(image)[None, None]
    found = functional.interpolate(one, (size, size), mode="bicubic", align_corners=True)
    return found[0, 0].numpy()


@lru_cache(maxsize=32)
def _shape(shape: Shape, beam: Beam, ratio: float) -> Shape:
    return with_ratio(shape, chest(), beam, ratio)


class _Room:
    """One chest before one detector: what lesions and devices are projected with."""

    def __init__(self, scene: Scene, size: int) -> None:
        drawn = scene.anatomy
        enlarged = [one for one in scene.lesions if one.finding == findings.CARDIOMEGALY]
        ratio = enlarged[0].params["ratio"] if enlarged else drawn["ratio"]
        self.scene, self.size, self.fine = scene, size, inner_size(size)
        self.volume, self.bone = chest(), float(drawn["bone"])
        self.shape = _shape(drawn["shape"], drawn["beam"], ratio)
        self.beam = replace(drawn["beam"], view=scene.view)

    @cached_property
    def where(self) -> torch.Tensor:
        """Where samples along the rays lie in the volume; see `lattice`."""
        deform = partial(self.shape.to_scan, volume=self.volume)
        return lattice(self.volume, self.beam, self.fine, deform)

    def chest(self) -> np.ndarray:
        """Return the attenuation of the chest along the rays, (size, size)."""
        body = self.volume.attenuation(self.bone)[None]
        depth = self.beam.depth(self.volume)
        path = project(body, self.where, self.beam, self.fine, depth)[0]
        return larger(path * self.scene.anatomy["soft"], self.size)

    def lesion(self, lesion: Lesion) -> np.ndarray:
        """Return the attenuation that a finding adds, (size, size)."""
        if lesion.finding in (findings.DEVICE, findings.CARDIOMEGALY):
            paths = self.wires if lesion.finding == findings.DEVICE else ()
            return sum((path for path, _ in paths), np.zeros((self.size, self.size), np.float32))
        rng = np.random.default_rng([self.scene.seed, 8, *lesion.finding.encode()])
        supine = self.scene.view == "AP"
        site = Site(self.volume, rng, shape=self.shape, bone=self.bone, supine=supine)
        return larger(added_by(lesion, site, self.where, self.beam, self.fine), self.size)

    @cached_property
    def wires(self) -> list[tuple[np.ndarray, float]]:
        """What each wire of the scene's device attenuates, (size, size), and its width in mm."""

        def seen(points: np.ndarray) -> np.ndarray:
            at = self.shape.to_chest(points, self.volume)
            return cast(at, self.volume, self.beam, self.size)

        rng = np.random.default_rng([self.scene.seed, 9])
        pixel = self.beam.pixel(self.size) / self.beam.magnification(self.volume)
        return [
            (path_of(wire, seen, self.size, pixel), wire.width)
            for device in self.scene.lesions
            if device.finding == findings.DEVICE
            for wire in KINDS[str(device.kind)](self.volume, device.side, rng)
        ]

    def gain(self, added: np.ndarray) -> np.ndarray:
        """Return how strongly what lesions add is shown, (size, size): fine wires as fine lines.

        Other lesions are shown as structures of 6 to 30 mm. Where they overlap with a wire, each
        counts by what it attenuates.
        """
        exposure = self.scene.anatomy["exposure"]
        gain = np.full_like(added, exposure.middle)
        for path, width in self.wires:
            share = np.divide(path, added, out=np.zeros_like(path), where=added > 0).clip(0, 1)
            gain += share * (max(exposure.gain(width), exposure.middle) - exposure.middle)
        return gain

    def anatomy(self) -> dict[str, np.ndarray]:
        """Return where heart and lungs are, boolean (size, size)."""
        outlines = silhouettes(self.shape, self.volume, self.beam, inner_size(self.size // 2))
        enlarged = (larger(one.astype(np.float32), self.size) > 0.5 for one in outlines)
        return dict(zip(ANATOMY, enlarged, strict=True))


def _whole(mask: np.ndarray, reach: int = 2) -> np.ndarray:
    """Return a mask (H, W) without gaps narrower than twice `reach` pixels."""
    return np.asarray(ndimage.binary_closing(np.pad(mask, reach), iterations=reach), bool)[
        reach:-reach, reach:-reach
    ]


def structure_depths(scene: Scene, size: int, names: tuple[str, ...]) -> np.ndarray:
    """Return how many mm of each structure lie behind each pixel, (structures, size, size)."""
    room = _Room(scene, size)
    return depths(room.shape, room.volume, room.beam, size, names)


def render(scene: Scene, size: int) -> Drawn:
    """Project a scene at `size` pixels along each edge."""
    by_name = {lesion.finding: lesion for lesion in scene.lesions}
    room = _Room(scene, size)
    base, anatomy = room.chest(), room.anatomy()
    paths = {name: room.lesion(lesion) for name, lesion in by_name.items()}
    added = sum(paths.values(), np.zeros((size, size), np.float32))
    rng = np.random.default_rng([scene.seed, 4])
    exposure, gain = scene.anatomy["exposure"], room.gain(added)
    pixels = expose(base, added, exposure, room.beam.pixel(size), rng, gain=gain)
    pixels = np.maximum(pixels, lead_marker("L", size) * 0.96)
    masks = {name: _whole(np.abs(path) >= VISIBLE) for name, path in paths.items()}
    if findings.CARDIOMEGALY in masks:
        masks[findings.CARDIOMEGALY] = _whole(anatomy["heart"], max(size // 50, 1))
    whole = np.maximum(base + np.abs(added), 1e-3)
    occupancy = {name: np.abs(path) / whole for name, path in paths.items()}
    return Drawn(np.rint(pixels * 255).astype(np.float32) / 255, masks, anatomy, occupancy)
