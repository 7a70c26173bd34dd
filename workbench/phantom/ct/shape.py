"""Other chests from one: smooth changes of shape that carry every structure along.

A shape says, for a point of the new chest, which point of the scan is there. It is made of a body
habitus (width, depth, height), a lean and slow waves, a breath that moves the diaphragm but not the
wall, and a heart that grows or shrinks in its place. Every part is smooth and none folds: the
Jacobian stays positive (tested).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from scipy import ndimage

from workbench.phantom.anatomy import edge
from workbench.phantom.ct.projection import Beam, cast, lattice, project
from workbench.phantom.ct.volume import Volume

#: How far the place in which the heart grows reaches from its middle, mm (z, y, x), and where that
#: middle is beside the middle of the heart: growth goes to the left and down.
_REACH, _BESIDE = np.array([115.0, 80.0, 128.0]), np.array([-12.0, -6.0, -14.0])
#: From how many mm along a ray on an organ counts as seen.
_SEEN = 6.0
#: mm on either side of a point over which it is told how the scan is stretched there.
_NEAR = 10.0
#: Least and most growth of the heart.
GROWTH = (-0.28, 0.46)


@dataclass(frozen=True)
class Shape:
    """How a chest differs from the scan; lengths in mm.

    Attributes:
        scale: of (height, depth, width).
        breath: by how much the diaphragm is lower.
        rise: by how much its (right, left) half is higher than that.
        heart: growth of the heart, within `GROWTH`; 0 leaves it.
        lean: side bend of the spine.
        waves: (amplitude, length, phase) of slow waves along (z, y, x) each.
    """

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    breath: float = 0.0
    rise: tuple[float, float] = (0.0, 0.0)
    heart: float = 0.0
    lean: float = 0.0
    waves: tuple[tuple[float, float, float], ...] = ()

    def to_scan(self, points: np.ndarray, volume: Volume) -> np.ndarray:
        """Return the points of the scan at points (N, 3) of this chest, both (z, y, x) in mm."""
        at = points / self.scale
        at[:, 2] += self.lean * np.sin(at[:, 0] * (np.pi / 180))
        for axis, (amplitude, length, phase) in enumerate(self.waves):
            across = at[:, (axis + 1) % 3] + 0.6 * at[:, (axis + 2) % 3]
            at[:, axis] += amplitude * np.sin(across * (2 * np.pi / length) + phase)
        if self.breath or any(self.rise):
            apex, base = _span(volume)
            ramp = edge(at[:, 0] - (apex + base) / 2, (base - apex) / 2)
            right, left = self.rise
            lower = self.breath - right + (right - left) * edge(at[:, 2], 35.0)
            at[:, 0] -= lower * ramp * _inner(volume, at)
        if self.heart:
            middle = heart_middle(volume) + _BESIDE
            away = at - middle
            near = edge(0.75 - np.sqrt(np.square(away / _REACH).sum(1)), 0.25)
            at = middle + away * (1 - self.heart * near)[:, None]
        return at

    def to_chest(self, points: np.ndarray, volume: Volume) -> np.ndarray:
        """Return where points (N, 3) of the scan are in this chest; undoes `to_scan`."""
        found = points * self.scale
        for _ in range(40):
            found = found - 0.6 * (self.to_scan(found, volume) - points)
        return found

    def stretch(self, point: np.ndarray, volume: Volume) -> np.ndarray:
        """Return the matrix (3, 3) from steps at a point of the scan to those of this chest."""
        ends = _NEAR * np.concatenate([np.eye(3), -np.eye(3)])
        ahead, behind = np.split(self.to_chest(point + ends, volume), 2)
        return (ahead - behind).T / (2 * _NEAR)


def _inner(volume: Volume, points: np.ndarray) -> np.ndarray:
    values, step = volume.inner
    at = ((points + volume.extent / 2) / step).T
    return ndimage.map_coordinates(values, at, order=1, mode="nearest")


@cache
def heart_middle(volume: Volume) -> np.ndarray:
    """Return the middle of the heart, (z, y, x) in mm."""
    return volume.points(np.argwhere(volume.mask("heart")).mean(0))


@cache
def _span(volume: Volume) -> tuple[float, float]:
    """Return the heights of the tops of lungs and of the domes of the diaphragm, mm."""
    lungs = np.argwhere(volume.mask("left lung", "right lung").any((1, 2)))[:, 0]
    liver = np.argwhere(volume.mask("liver").any((1, 2)))[:, 0]
    return float(volume.axis(0)[lungs.min()]), float(volume.axis(0)[liver.min()])


def cardiothoracic_ratio(heart: np.ndarray, lungs: np.ndarray) -> float:
    """Return the width of the heart over the inner width of the chest, of masks (H, W)."""
    wide, chest = (np.flatnonzero(mask.any(0)) for mask in (heart, lungs))
    return float((np.ptp(wide) + 1) / (np.ptp(chest) + 1))


@cache
def _rim(volume: Volume, name: str) -> np.ndarray:
    """Return points (N, 3), mm, at both ends of a structure that is seen, every 7 mm or so."""
    mask = volume.mask(name)
    mask &= mask.sum(1, keepdims=True) * volume.spacing[1] >= _SEEN
    mask = mask[::5, ::5]
    ends = mask & (np.cumsum(mask, 2) == 1) | mask & (np.cumsum(mask[..., ::-1], 2) == 1)[..., ::-1]
    return volume.points(np.argwhere(ends) * (5, 5, 1))


def with_ratio(shape: Shape, volume: Volume, beam: Beam, ratio: float) -> Shape:
    """Return the shape whose heart has about this cardiothoracic ratio in a frontal radiograph."""

    def width(growth: float, *names: str) -> float:
        grown = replace(shape, heart=growth)
        points = grown.to_chest(np.concatenate([_rim(volume, name) for name in names]), volume)
        return float(np.ptp(cast(points, volume, beam, 256)[:, 1]))

    chest, growths = width(0.0, "right lung", "left lung"), np.linspace(*GROWTH, 4)
    ratios = [width(growth, "heart") / chest for growth in growths]
    found = np.polyval(np.polyfit(ratios, growths, 2), ratio)
    return replace(shape, heart=float(np.clip(found, *GROWTH)))


#: What `silhouettes` draws.
ANATOMY = ("heart", "right lung", "left lung")


@cache
def _coarse(volume: Volume, names: tuple[str, ...]) -> np.ndarray:
    thin = (slice(None), slice(None, None, 3), slice(None, None, 3))
    return np.stack([volume.mask(name)[thin] for name in names]).astype(np.float32)


def depths(
    shape: Shape, volume: Volume, beam: Beam, size: int, names: tuple[str, ...]
) -> np.ndarray:
    """Return how many mm of each structure the rays pass, (structures, size, size) float32."""
    where = lattice(volume, beam, size, partial(shape.to_scan, volume=volume))
    depth = beam.depth(volume)
    return project(_coarse(volume, names), where, beam, size, depth, edges="zeros", step=5.0)


def silhouettes(shape: Shape, volume: Volume, beam: Beam, size: int) -> np.ndarray:
    """Return where heart, right and left lung are seen: boolean (3, size, size)."""
    return depths(shape, volume, beam, size, ANATOMY) >= _SEEN
