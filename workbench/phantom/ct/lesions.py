"""Findings in three dimensions: what each adds to the attenuation of the chest, and where.

A finding is made in the scan, before it is deformed and projected, from its anatomy: fluid fills
the pleural space from below up to a meniscus, air lies between wall and a collapsed lung, a
consolidation ends at its lobe and leaves bronchi open, septal lines stand in the outer lung.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from workbench import findings
from workbench.phantom.anatomy import edge
from workbench.phantom.ct.volume import Volume, attenuation
from workbench.phantom.drawing import sides_of
from workbench.phantom.scene import Lesion

#: Density of fluid, of solid lung and tumour, and of air, HU.
FLUID, SOLID, AIR = 8.0, 35.0, -1000.0
ZONE_ENDS = {"upper": (0.0, 0.36), "mid": (0.36, 0.66), "lower": (0.66, 1.0)}


@dataclass(frozen=True, eq=False)
class Patch:
    """A part of the volume that a finding changes.

    Attributes:
        corner: (z, y, x) of its first voxel.
        added: attenuation that it adds there, 1/mm, (slices, rows, columns) float32.
    """

    corner: tuple[int, int, int]
    added: np.ndarray


class Site:
    """A chest in which a finding is made: densities, structures, distances, random numbers."""

    def __init__(self, volume: Volume, bone: float, rng: np.random.Generator) -> None:
        self.volume, self.bone, self.rng = volume, bone, rng

    def lung(self, side: str) -> np.ndarray:
        """Return the lung of a side, boolean (slices, rows, columns)."""
        return _lung(self.volume, side)

    def zone(self, side: str, zone: str | None) -> tuple[float, float]:
        """Return where a zone of a lung begins and ends, mm from the middle of the volume."""
        heights = np.flatnonzero(self.lung(side).any((1, 2)))
        # the dome hides what lies below it: zones are those of the lung that is seen in front
        top, bottom = (float(self.volume.axis(0)[heights[at]]) for at in (0, -1))
        bottom -= 55
        first, last = ZONE_ENDS[zone] if zone else (0.1, 0.9)
        return top + first * (bottom - top), top + last * (bottom - top)

    def place(self, side: str, zone: str | None, deep: float, *, clear: bool = False) -> np.ndarray:
        """Return a random point, mm, of a zone, `deep` mm or more below the surface of a lobe.

        It is never behind or before the abdomen; `clear` keeps it off heart and spine as well.
        """
        low, high = self.zone(side, zone)
        inside, thin = _depth(self.volume, side)
        z = self.volume.axis(0)
        rows = (z >= low + 0.15 * (high - low)) & (z <= high - 0.15 * (high - low))
        hidden = _covered(self.volume, "liver", "stomach", "spleen", *(OPAQUE if clear else ()))
        free = rows[:, None] & ~hidden[:, ::thin]
        inside = np.where(free[:, None], inside, 0)
        points = np.argwhere(inside >= min(deep, inside.max() * 0.8))
        at = points[self.rng.integers(len(points))] * (1, thin, thin)
        return self.volume.points(at)

    def box(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, ...]:
        """Return the voxels between two points, mm."""
        ends = (np.stack([low, high]) + self.volume.extent / 2) / self.volume.spacing
        first = np.clip(np.floor(ends[0]).astype(int), 0, np.array(self.volume.shape) - 2)
        last = np.clip(np.ceil(ends[1]).astype(int) + 1, first + 2, self.volume.shape)
        return tuple(slice(a, b) for a, b in zip(first, last, strict=True))

    def axes(self, box: tuple[slice, ...]) -> list[np.ndarray]:
        """Return the coordinates of a box along z, y, x, mm, to be broadcast."""
        found = [self.volume.axis(at)[part] for at, part in enumerate(box)]
        return [found[0][:, None, None], found[1][:, None], found[2]]

    def noise(self, box: tuple[slice, ...], length: float) -> np.ndarray:
        """Return smooth noise of unit spread over a box, of a length in mm."""
        shape = np.array([part.stop - part.start for part in box])
        few = np.maximum((shape * self.volume.spacing / length).astype(int) + 3, 3)
        grids = [np.linspace(0.5, n - 1.5, size) for n, size in zip(few, shape, strict=True)]
        return _read(self.rng.standard_normal(few).astype(np.float32), grids, smooth=True)

    def fill(self, box: tuple[slice, ...], density: float | np.ndarray, share: np.ndarray) -> Patch:
        """Return the patch that brings a share [0, 1] of every voxel to a density, HU."""
        here = self.volume.attenuation(self.bone, box)
        wanted = attenuation(np.asarray(density, np.float32), self.bone)
        return Patch(
            tuple(part.start for part in box), (share * (wanted - here)).astype(np.float32)
        )


def _read(coarse: np.ndarray, grids: Sequence[np.ndarray], *, smooth: bool = False) -> np.ndarray:
    """Return values between those of a coarse array, at places along each of its axes."""
    for axis, grid in enumerate(grids):
        low = np.minimum(np.floor(grid).astype(int), coarse.shape[axis] - 2)
        part = (grid - low).astype(np.float32)
        part = edge(part - 0.5, 0.5) if smooth else part
        part = part.reshape([-1 if at == axis else 1 for at in range(3)])
        coarse = coarse.take(low, axis) * (1 - part) + coarse.take(low + 1, axis) * part
    return coarse


def _distance(inside: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Return how far each place is from the outside, in the unit of `step`."""
    return np.asarray(ndimage.distance_transform_edt(inside, step), np.float32)


@cache
def _lung(volume: Volume, side: str) -> np.ndarray:
    return volume.mask(f"{side} lung")


@cache
def _depth(volume: Volume, side: str) -> tuple[np.ndarray, int]:
    """Return how deep in its lobe each place lies, mm, on every fourth column and row."""
    thin, found = 4, np.zeros(1, np.float32)
    step = volume.spacing * (1, thin, thin)
    for name in LOBES[side]:
        lobe = volume.mask(name)[:, ::thin, ::thin]
        found = np.maximum(found, _distance(lobe, step))
    return found, thin


#: What hides a nodule.
OPAQUE = ("heart", "spine", "aorta", "great vessels")

LOBES = {
    "right": ("right upper lobe", "right middle lobe", "right lower lobe"),
    "left": ("left upper lobe", "left lower lobe"),
}


@cache
def rim_distance(volume: Volume, side: str) -> np.ndarray:
    """Return how far each place is from the side wall and the apex, as seen from the front, mm.

    (slices, 1, columns) float32. Mediastinum and diaphragm are no wall, nor are front and back.
    """
    lung = _covered(volume, f"{side} lung")
    columns, width = np.arange(lung.shape[1]), lung.shape[1]
    first = np.where(lung.any(1), lung.argmax(1), width)[:, None]
    last = np.where(lung.any(1), width - lung[:, ::-1].argmax(1), 0)[:, None]
    outer = columns >= first if side == "right" else columns < last
    free = outer & lung.any(1, keepdims=True) | np.maximum.accumulate(lung, 0)
    return _distance(free, volume.spacing[[0, 2]])[:, None]


@cache
def _covered(volume: Volume, *names: str) -> np.ndarray:
    """Return where a structure lies in front or behind, (slices, columns)."""
    return np.any(volume.mask(*names), axis=1)


def _bounds(mask: np.ndarray) -> tuple[slice, ...]:
    return ndimage.find_objects(mask.astype(np.uint8))[0]


def effusion(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Fluid from the deepest recess up to a level that rises towards the wall: a meniscus."""
    height = {"small": (42, 55), "moderate": (82, 105), "large": (135, 175)}[str(lesion.severity)]
    for side in sides_of(lesion):
        lung = site.lung(side)
        box = _bounds(lung)
        z, _, _ = site.axes(box)
        bottom = z.max()
        level = bottom - site.rng.uniform(*height)
        rise = site.rng.uniform(30, 50) * np.exp(
            -rim_distance(site.volume, side)[box[0], :, box[2]] / 18
        )
        share = edge(z - (level - rise), 2.5) * lung[box]
        yield site.fill(box, FLUID, share)


def pneumothorax(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Air between the wall and a lung that has drawn back, with its pleural line."""
    gap = {"small": (13, 18), "moderate": (24, 33), "large": (42, 60)}[str(lesion.severity)]
    side = str(lesion.side)
    lung = site.lung(side)
    box = _bounds(lung)
    z, _, _ = site.axes(box)
    top, bottom = z.min(), z.max()
    wide = site.rng.uniform(*gap) * (1 - site.rng.uniform(0.45, 0.8) * ((z - top) / (bottom - top)))
    away = rim_distance(site.volume, side)[box[0], :, box[2]]
    inset = away - wide
    air = edge(-inset, 1.2) * lung[box]
    line = np.clip(1 - np.abs(inset - 1.4) / 1.6, 0, 1).astype(np.float32) * lung[box]
    yield site.fill(box, AIR, air)
    yield site.fill(box, 0.0, line * 0.8)


def _ball(site: Site, middle: np.ndarray, reach: float) -> tuple[tuple[slice, ...], np.ndarray]:
    box = site.box(middle - reach, middle + reach)
    away = [axis - at for axis, at in zip(site.axes(box), middle, strict=True)]
    return box, np.sqrt(away[0] ** 2 + away[1] ** 2 + away[2] ** 2)


def consolidation(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Solid lung that ends at its lobe and leaves bronchi open."""
    radius = {"small": (26, 31), "moderate": (35, 43), "large": (48, 60)}[str(lesion.severity)]
    for side in sides_of(lesion):
        wide = site.rng.uniform(*radius)
        middle = site.place(side, lesion.zone, wide * 0.5)
        at = ((middle + site.volume.extent / 2) / site.volume.spacing).round().astype(int)
        lobe = site.volume.structures[tuple(at)]
        box, away = _ball(site, middle, wide * 1.35)
        inside = edge(wide * (1 + 0.22 * site.noise(box, 22)) - away, 7)
        bronchi = edge(0.10 - np.abs(site.noise(box, 16)), 0.05) * edge(
            0.12 - np.abs(site.noise(box, 16)), 0.05
        )
        amount = site.rng.uniform(0.65, 0.9) * (1 + 0.15 * site.noise(box, 12))
        share = inside * np.clip(amount, 0.2, 1) * (1 - 0.9 * bronchi)
        yield site.fill(box, SOLID, share * (site.volume.structures[box] == lobe))


def nodule(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """A ball, smooth, lobulated or with spikes."""
    radius = float(lesion.size_mm or 20.0) / 2
    middle = site.place(str(lesion.side), lesion.zone, radius + 2, clear=True)
    box, away = _ball(site, middle, radius * 1.7)
    rough = site.rng.choice([0.03, 0.10, 0.20])
    shape = radius * (1 + rough * site.noise(box, max(radius * 0.7, 5.0))) - away
    yield site.fill(box, SOLID, edge(shape, 1.6) * (site.volume.density[box] < 0))


def edema(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Haze that is densest around the hila, thickened vessels, and septal lines at the bases."""
    amount = {"small": (0.11, 0.14), "moderate": (0.18, 0.23), "large": (0.28, 0.36)}
    strength = site.rng.uniform(*amount[str(lesion.severity)])
    for side in sides_of(lesion):
        lung = site.lung(side)
        box = _bounds(lung)
        z, y, x = site.axes(box)
        where = np.argwhere(lung[box])[::997]
        middle = site.volume.points(where.mean(0) + [part.start for part in box])
        inward = -18 if side == "left" else 18
        hilum = middle + np.array([-5.0, 0.0, inward])
        away = (
            np.square((z - hilum[0]) / 75)
            + np.square((y - hilum[1]) / 70)
            + np.square((x - hilum[2]) / 55)
        )
        cloud = np.exp(-away) * (1 + 0.45 * site.noise(box, 20)) + 0.25
        density = site.volume.density[box]
        cuffs = np.where(density > -750, 0.25, 0.0) * (strength / 0.3)
        lines = _septa(site, box, side) * min(strength * 2.2, 0.6)
        yield site.fill(box, SOLID, np.clip(strength * cloud + cuffs + lines, 0, 0.85) * lung[box])


def _septa(site: Site, box: tuple[slice, ...], side: str) -> np.ndarray:
    """Return thin horizontal sheets in the outer lower lung: 1 in them, 0 elsewhere."""
    z, _, _ = site.axes(box)
    low, high = site.zone(side, "lower")
    near = rim_distance(site.volume, side)[box[0], :, box[2]]
    rows = np.zeros(z.shape, np.float32)
    inside = np.flatnonzero((z[:, 0, 0] > low - 25) & (z[:, 0, 0] < high + 10))
    rows[site.rng.choice(inside, max(len(inside) // 5, 1), replace=False)] = 1
    return rows * edge(14 + 5 * site.noise(box, 18) - near, 2) * edge(site.noise(box, 18), 0.6)


def atelectasis(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Plates across the lung, or a lobe that has shrunk towards the hilum."""
    for side in sides_of(lesion):
        yield from (_plates if lesion.kind == "linear" else _lobe)(site, lesion, side)


def _plates(site: Site, lesion: Lesion, side: str) -> Iterator[Patch]:
    length = 34 if lesion.severity == "small" else 46
    for _ in range(int(site.rng.integers(2, 4))):
        middle = site.place(side, lesion.zone, 9)
        half = site.rng.uniform(0.8, 1.1) * length
        reach = np.array([25, half, half])
        box = site.box(middle - reach, middle + reach)
        z, y, x = (axis - at for axis, at in zip(site.axes(box), middle, strict=True))
        slope, thick = site.rng.uniform(-0.3, 0.3, 2), site.rng.uniform(2.4, 3.6)
        height = z - slope[0] * x - 0.25 * slope[1] * y + 1.5 * site.noise(box, 30)
        flat = edge(half - np.sqrt(np.square(x) + np.square(y * 1.3)), 6)
        flat = flat * edge(thick - np.abs(height), 1.3)
        yield site.fill(box, SOLID, 0.8 * flat * site.lung(side)[box])


def _lobe(site: Site, lesion: Lesion, side: str) -> Iterator[Patch]:
    name = f"{side} {'upper' if lesion.zone == 'upper' else 'lower'} lobe"
    lobe = site.volume.mask(name)
    box = _bounds(lobe)
    z, _, x = site.axes(box)
    reach = {"small": 0.42, "moderate": 0.52, "large": 0.66}[str(lesion.severity)]
    inward = (x.max() - x) if side == "right" else (x - x.min())
    across = inward / inward.max()
    down = (z - z.min()) / (z.max() - z.min())
    border = reach * (1.15 - 0.5 * down if lesion.zone == "upper" else 0.45 + 0.75 * down)
    share = edge((border - across + 0.03 * site.noise(box, 30)) * inward.max(), 4)
    yield site.fill(box, SOLID, 0.62 * share * lobe[box])


def fracture(site: Site, lesion: Lesion) -> Iterator[Patch]:
    """Gaps through some ribs, with the ends beside each other."""
    side = str(lesion.side)
    first = 92 if side == "left" else 104
    start, count = int(site.rng.integers(4, 7)), int(site.rng.integers(3, 5))
    for rib in range(first + start - 1, first + start - 1 + count):
        bone = site.volume.structures == rib
        x = site.volume.axis(2)
        points = np.argwhere(bone)
        outer = np.abs(x[points[:, 2]])
        lateral = points[outer > outer.max() - site.rng.uniform(10, 40)]
        at = site.volume.points(lateral[site.rng.integers(len(lateral))])
        near = site.box(at - 12, at + 12)
        z, y, x = (axis - m for axis, m in zip(site.axes(near), at, strict=True))
        here = ndimage.binary_dilation(bone[near], iterations=2)
        gap = edge(3.0 - np.abs(y + 0.35 * z), 0.8) * here
        yield site.fill(near, 20.0, gap)
        moved = np.roll(here, 2, axis=0) & (y > 0) & (y < 10)
        yield site.fill(near, 700.0, 0.6 * moved * (site.volume.density[near] < 300))


MAKE: dict[str, Callable[[Site, Lesion], Iterator[Patch]]] = {
    findings.EFFUSION: effusion,
    findings.PNEUMOTHORAX: pneumothorax,
    findings.CONSOLIDATION: consolidation,
    findings.ATELECTASIS: atelectasis,
    findings.NODULE: nodule,
    findings.EDEMA: edema,
    findings.FRACTURE: fracture,
}
