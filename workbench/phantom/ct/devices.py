"""Support devices of a CT phantom: tubes, lines and a pacemaker along the patient's own anatomy.

Their course is a curve through landmarks of the scan. It is taken to the chest that is drawn and
cast onto the detector point by point; what a ray meets of a round wire is known exactly, so that
fine wires stay fine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.interpolate import make_interp_spline
from scipy.spatial import KDTree

from workbench.phantom.ct.volume import Volume

#: From what is drawn in the scan, (N, 3) in mm, to (row, column) in the image, in pixels.
Cast = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Wire:
    """A round wire or tube: its course (N, 3) in mm, radii in mm, attenuation per mm."""

    course: np.ndarray
    radius: float
    inner: float
    strength: float

    @property
    def width(self) -> float:
        """What is seen of it as one line, mm: a wire, or the wall of a tube."""
        return self.radius - self.inner if self.inner > 1 else 2 * self.radius


@cache
def centres(volume: Volume, *numbers: int) -> np.ndarray:
    """Return the middle of a structure in every slice that has it, (N, 3) in mm, from above."""
    inside = np.isin(volume.structures, numbers)
    slices = [(z, np.argwhere(inside[z]).mean(0)) for z in np.flatnonzero(inside.any((1, 2)))]
    return volume.points(np.array([(z, *at) for z, at in slices]))


def _curve(points: np.ndarray, rng: np.random.Generator, wave: float = 1.5) -> np.ndarray:
    """Return a smooth curve through points, moved a little, as (300, 3)."""
    moved = points + rng.normal(0, wave, points.shape) * (np.arange(len(points)) > 0)[:, None]
    steps = np.r_[0, np.cumsum(np.linalg.norm(np.diff(moved, axis=0), axis=1))]
    return make_interp_spline(steps, moved, k=2)(np.linspace(0, steps[-1], 300))


def _vein(volume: Volume, side: str) -> np.ndarray:
    """Return points from below the outer clavicle to the superior vena cava, (N, 3) in mm."""
    clavicle = np.argwhere(np.isin(volume.structures, (74,) if side == "right" else (73,)))
    middle = volume.points(np.median(clavicle, 0))
    out = -1 if side == "right" else 1
    cava = centres(volume, 62)
    start = middle + np.array([10.0, 6.0, out * 38.0])
    under = middle + np.array([7.0, -2.0, out * 6.0])
    inner = np.array([cava[0][0] - 14, cava[0][1] + 4, middle[2] * 0.35])
    return np.stack([start, under, inner, cava[2], cava[-1]])


def tracheal_tube(volume: Volume, side: str | None, rng: np.random.Generator) -> Iterator[Wire]:
    """A tube whose tip lies 25 to 60 mm above the carina."""
    way = centres(volume, 16)
    tip = way[:, 0] < way[-1, 0] - rng.uniform(25, 60)
    course = _curve(np.concatenate([way[:1] - (60, 0, 0), way[tip][::4]]), rng, 0.6)
    yield Wire(course, 5.0, 4.0, 0.022)
    yield Wire(course + np.array([0, 0, 4.4]), 0.7, 0.0, 0.25)


def venous_line(volume: Volume, side: str | None, rng: np.random.Generator) -> Iterator[Wire]:
    """A central venous catheter, its tip in the superior vena cava or where the atrium begins."""
    points = _vein(volume, str(side))
    end = points[-2] + rng.uniform(0.55, 1.15) * (points[-1] - points[-2])
    yield Wire(_curve(np.vstack([points[:-1], end]), rng), 1.25, 0.4, 0.16)


def pacemaker(volume: Volume, side: str | None, rng: np.random.Generator) -> Iterator[Wire]:
    """A can below the clavicle, and a lead or two to the right atrium and ventricle."""
    points = _vein(volume, str(side))
    out = -1 if side == "right" else 1
    can = points[0] + (38 + rng.uniform(-6, 10), 22, -out * rng.uniform(0, 14))
    heart = volume.points(np.argwhere(np.isin(volume.structures, (51,))))
    low, left = np.quantile(heart[:, 0], 0.9), np.quantile(heart[:, 2], 0.72)
    apex = np.array([low, np.quantile(heart[:, 1], 0.75), left])
    turn = np.array([points[-1][0] + 34, points[-1][1] + 8, points[-1][2] + 6])
    middle = (turn + apex) / 2 + (14, 6, 0)
    half = rng.uniform(17, 20)
    line = np.linspace(-half * 0.3, half * 0.3, 60)[:, None] * (0, 0, 1) + can
    yield Wire(line, half, 0.0, 0.075)
    start = can - (half * 0.9, 0, 0)
    yield Wire(_curve(np.vstack([start, points[1:], turn, middle, apex]), rng), 1.0, 0.0, 0.55)
    if rng.random() < 0.6:
        atrium = points[-1] + np.array([26.0, 22.0, 4.0])
        hook = atrium + np.array([-14.0, 8.0, 8.0])
        yield Wire(_curve(np.vstack([start, points[1:], atrium, hook]), rng), 1.0, 0.0, 0.55)


KINDS = {
    "endotracheal tube": tracheal_tube,
    "central venous catheter": venous_line,
    "pacemaker": pacemaker,
}


def path_of(wire: Wire, cast: Cast, size: int, pixel: float) -> np.ndarray:
    """Return the attenuation (size, size) that a wire adds; `pixel` is the edge of one, mm."""
    added = np.zeros((size, size), np.float32)
    course = cast(wire.course)
    reach = int(np.ceil(wire.radius / pixel)) + 2
    (top, left), (bottom, right) = (
        np.clip(end, 0, size).astype(int)
        for end in (course.min(0) - reach, course.max(0) + reach + 1)
    )
    if bottom <= top or right <= left:
        return added
    rows, columns = np.mgrid[top:bottom, left:right]
    steps = np.linspace(0, len(course) - 1, 6 * len(course))
    dense = np.stack([np.interp(steps, np.arange(len(course)), at) for at in course.T], 1)
    away, _ = KDTree(dense).query(
        np.stack([rows.ravel(), columns.ravel()], 1), distance_upper_bound=reach
    )
    away = np.minimum(away, reach).reshape(rows.shape) * pixel
    # a pixel sees the mean over its width: the chord of a disc, softened by a third of it
    soft = (pixel / 3) ** 2
    chord = 2 * np.sqrt(np.maximum(wire.radius**2 - away**2 + soft, 0))
    hollow = 2 * np.sqrt(np.maximum(wire.inner**2 - away**2, 0))
    added[top:bottom, left:right] = np.where(away < wire.radius + pixel, chord - hollow, 0)
    return added * wire.strength
