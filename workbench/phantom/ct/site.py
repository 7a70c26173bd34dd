"""The chest in which findings are made: its structures, zones and distances, and free places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from workbench.phantom.anatomy import edge
from workbench.phantom.ct.shape import Shape
from workbench.phantom.ct.volume import Volume, attenuation

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

    def __init__(
        self, volume: Volume, rng: np.random.Generator, *, shape: Shape | None = None,
        bone: float = 1.0, supine: bool = False,
    ) -> None:  # fmt: skip
        self.volume, self.rng, self.bone, self.supine = volume, rng, bone, supine
        self.shape = shape or Shape()

    def lung(self, side: str) -> np.ndarray:
        """Return the lung of a side, boolean (slices, rows, columns)."""
        return _lung(self.volume, side)

    def zone(self, side: str, zone: str | None) -> tuple[float, float]:
        """Return where a zone of a lung begins and ends, mm from the middle of the volume."""
        heights = np.flatnonzero(self.lung(side).any((1, 2)))
        # the dome hides what lies below it: zones are those of the lung that is seen in front
        top, bottom = float(self.volume.axis(0)[heights[0]]), dome(self.volume, side) + 15
        first, last = ZONE_ENDS[zone] if zone else (0.1, 0.9)
        return top + first * (bottom - top), top + last * (bottom - top)

    def place(self, side: str, zone: str | None, deep: float, *, clear: bool = False) -> np.ndarray:
        """Return a random point, mm, of a zone, `deep` mm or more below the surface of a lobe.

        It is never behind or before abdomen and spine; `clear` keeps it off the heart as well.
        """
        low, high = self.zone(side, zone)
        inside, thin = _depth(self.volume, side)
        z = self.volume.axis(0)
        rows = (z >= low + 0.15 * (high - low)) & (z <= high - 0.15 * (high - low))
        hidden = covered(self.volume, *ABDOMEN, "spine", *(OPAQUE if clear else ()))
        free = rows[:, None] & ~hidden[:, ::thin]
        inside = np.where(free[:, None], inside, 0)
        points = np.argwhere(inside >= min(deep, inside.max() * 0.8)) * (1, thin, thin)
        lobes = self.volume.structures[tuple(points.T)]
        names, counts = np.unique(lobes, return_counts=True)
        points = points[lobes == self.rng.choice(names[counts >= 0.04 * len(points)])]
        return self.volume.points(points[self.rng.integers(len(points))])

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


def distance(inside: np.ndarray, step: np.ndarray) -> np.ndarray:
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
        found = np.maximum(found, distance(lobe, step))
    return found, thin


#: What hides a lesion, and a nodule.
ABDOMEN = ("liver", "stomach", "spleen")
OPAQUE = ("heart", "aorta", "great vessels")

LOBES = {
    "right": ("right upper lobe", "right middle lobe", "right lower lobe"),
    "left": ("left upper lobe", "left lower lobe"),
}


@cache
def rim_distance(volume: Volume, side: str) -> np.ndarray:
    """Return how far each place is from the side wall and the apex, as seen from the front, mm.

    (slices, 1, columns) float32. Mediastinum and diaphragm are no wall, nor are front and back.
    """
    lung = covered(volume, f"{side} lung")
    columns, width = np.arange(lung.shape[1]), lung.shape[1]
    first, last = lung.argmax(1)[:, None], width - lung[:, ::-1].argmax(1)[:, None]
    outer = columns >= first if side == "right" else columns < last
    below = np.maximum.accumulate(lung.any(1, keepdims=True), 0)
    free = outer & below | np.maximum.accumulate(lung, 0)
    return distance(free, volume.spacing[[0, 2]])[:, None]


@cache
def dome(volume: Volume, side: str) -> float:
    """Return the height of a hemidiaphragm, mm."""
    below = covered(volume, *ABDOMEN)
    part = volume.axis(2) < -20 if side == "right" else volume.axis(2) > 20
    return float(volume.axis(0)[np.flatnonzero(below[:, part].any(1))[0]])


@cache
def covered(volume: Volume, *names: str) -> np.ndarray:
    """Return where a structure lies in front or behind, (slices, columns)."""
    return np.any(volume.mask(*names), axis=1)
