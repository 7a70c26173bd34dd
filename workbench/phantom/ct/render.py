"""From a scene to the radiograph of a CT phantom: pixels, masks and anatomy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from workbench import findings
from workbench.phantom.ct.exposure import Exposure, expose
from workbench.phantom.ct.lesions import MAKE, Patch, Site
from workbench.phantom.ct.devices import KINDS, path_of
from workbench.phantom.ct.projection import LATTICE, Beam, cast, lattice, project
from workbench.phantom.ct.shape import ANATOMY, Shape, silhouettes, with_ratio
from workbench.phantom.ct.volume import Volume, attenuation, chest
from workbench.phantom.scene import Lesion, Scene

#: Attenuation of a lesion along a ray that is seen.
VISIBLE = 0.02


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
        half=uniform(2.0, 3.0),
        white=uniform(5.5, 7.5),
        gamma=uniform(0.85, 1.2),
    )
    return {
        "shape": shape, "beam": beam, "exposure": exposure, "bone": uniform(0.8, 1.6),
        "soft": uniform(0.94, 1.08), "ratio": uniform(0.43, 0.49),
    }  # fmt: skip


def inner_size(size: int) -> int:
    """Return the edge of the grid on which rays are cast for an image of `size` pixels."""
    return (LATTICE - 1) * int(np.clip(round(size * 0.78 / (LATTICE - 1)), 4, 14)) + 1


def patch_path(
    patch: Patch, volume: Volume, where: torch.Tensor, beam: Beam, size: int, depth: float
) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Return what a patch adds along the rays that meet it, and which rays (rows, columns)."""
    shape = np.array(patch.added.shape)
    low = np.array(patch.corner)
    whole = np.array(volume.shape) - 1
    # from the frame of the volume to that of the patch, both -1 to 1, in the order (x, y, z)
    scale = torch.from_numpy((whole / (shape - 1))[::-1].astype(np.float32).copy())
    middle = torch.from_numpy(((2 * low + shape - 1 - whole) / (shape - 1))[::-1].astype(np.float32).copy())
    inside = where * scale[None, :, None, None] - middle[None, :, None, None]
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


def added_by(
    lesion: Lesion, site: Site, where: torch.Tensor, beam: Beam, size: int
) -> np.ndarray:
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
    return functional.interpolate(one, (size, size), mode="bicubic", align_corners=True)[0, 0].numpy()


@lru_cache(maxsize=8)
def _shape(scene_key: tuple, ratio: float) -> Shape:
    shape, beam = scene_key
    return with_ratio(shape, chest(), beam, ratio)


def render(
    scene: Scene, size: int, view: str = "PA"
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Draw a scene.

    Returns:
        pixels (size, size) float32; finding -> boolean mask; "right lung", "left lung", "heart" ->
        boolean mask.
    """
    volume, drawn = chest(), scene.anatomy
    by_name = {lesion.finding: lesion for lesion in scene.lesions}
    heart = by_name.get(findings.CARDIOMEGALY)
    ratio = heart.params["ratio"] if heart else drawn["ratio"]
    shape = _shape((drawn["shape"], drawn["beam"]), ratio)
    beam = replace(drawn["beam"], view=view)
    fine = inner_size(size)
    where = lattice(volume, beam, fine, lambda points: shape.to_scan(points, volume))
    body = attenuation(volume.density, drawn["bone"])[None]
    base = project(body, where, beam, fine, beam.depth(volume))[0] * drawn["soft"]
    paths = {}
    for name, lesion in by_name.items():
        if name in MAKE:
            rng = np.random.default_rng([scene.seed, 8, *name.encode()])
            site = Site(volume, drawn["bone"], rng)
            paths[name] = larger(added_by(lesion, site, where, beam, fine), size)
    if device := by_name.get(findings.DEVICE):
        rng = np.random.default_rng([scene.seed, 9])

        def seen(points: np.ndarray) -> np.ndarray:
            return cast(shape.to_chest(points, volume), volume, beam, size)

        wires = KINDS[str(device.kind)](volume, device.side, rng)
        scale = beam.pixel(size) / beam.magnification(volume)
        paths[findings.DEVICE] = np.sum([path_of(w, seen, size, scale) for w in wires], 0)
    added = sum(paths.values(), np.zeros((size, size), np.float32))
    rng = np.random.default_rng([scene.seed, 4])
    pixels = expose(larger(base, size), added, drawn["exposure"], beam.pixel(size), rng)
    outlines = silhouettes(shape, volume, beam, inner_size(size // 2))
    anatomy = {
        name: larger(outline.astype(np.float32), size) > 0.5
        for name, outline in zip(ANATOMY, outlines, strict=True)
    }
    masks = {name: np.abs(path) >= VISIBLE for name, path in paths.items()}
    if heart:
        masks[findings.CARDIOMEGALY] = ndimage.binary_closing(anatomy["heart"], iterations=size // 50)
    return pixels, {lesion.finding: masks[lesion.finding] for lesion in scene.lesions if lesion.finding in masks}, anatomy
