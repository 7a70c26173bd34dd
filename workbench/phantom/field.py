"""Small array tools of the phantom renderer: soft edges, tables, strokes and smooth noise.

All coordinates are in image widths: x to the right, y down, pixel centres at (i + 0.5) / size.
Arrays are float32; a stray NumPy float64 scalar, which Python's own float is not, doubles the time
of a drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.ndimage import gaussian_filter

TABLE = 2048
_ROOT_TAU = np.float32(np.sqrt(2 * np.pi))


def edge(distance: np.ndarray, width: float) -> np.ndarray:
    """Return a smooth step: 0 below -width, 1 above +width, 0.5 at distance 0."""
    t = np.clip(distance * (0.5 / width) + 0.5, 0, 1)
    return (3 - 2 * t) * t * t


def bump(distance: np.ndarray, width: float) -> np.ndarray:
    """Return a compact bell: 1 at distance 0, 0 beyond width, smooth between."""
    return np.square(np.maximum(1 - np.square(distance * (1 / width)), 0))


class Table:
    """A function of one coordinate in [-0.25, 1.25], sampled once and looked up per pixel."""

    LOW, HIGH = -0.25, 1.25
    grid = np.linspace(LOW, HIGH, TABLE, dtype=np.float32)

    def __init__(self, values: np.ndarray) -> None:
        self.values = np.asarray(values, dtype=np.float32)

    def __call__(self, coordinate: np.ndarray) -> np.ndarray:
        return self.values[self.index(coordinate)]

    @staticmethod
    def index(coordinate: np.ndarray) -> np.ndarray:
        """Return the table index of each coordinate (shared between tables of one axis)."""
        scale = (TABLE - 1) / (Table.HIGH - Table.LOW)
        index = (coordinate - Table.LOW) * scale + 0.5
        return np.clip(index, 0, TABLE - 1).astype(np.int32)


@lru_cache(maxsize=32)
def _interpolator(size: int, knots: int) -> np.ndarray:
    """Return the (size, knots) Catmull-Rom matrix from a coarse grid to pixels."""
    position = (np.arange(size) + 0.5) / size * (knots - 3) + 1
    base = np.floor(position).astype(int)
    t = position - base
    weights = np.stack(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ],
        axis=1,
    )
    matrix = np.zeros((size, knots), dtype=np.float32)
    for k in range(4):
        matrix[np.arange(size), np.clip(base - 1 + k, 0, knots - 1)] += weights[:, k]
    return matrix


def smooth_noise(rng: np.random.Generator, size: int, knots: int) -> np.ndarray:
    """Return (size, size) smooth unit-variance noise; the same scene at every size."""
    grid = rng.standard_normal((knots, knots), dtype=np.float32)
    matrix = _interpolator(size, knots)
    return (matrix @ grid @ matrix.T) * 1.35


def grain(rng: np.random.Generator, size: int, base: int = 256) -> np.ndarray:
    """Return (size, size) unit-variance detector noise drawn on a fixed `base` grid."""
    noise = rng.standard_normal((base, base), dtype=np.float32)
    if size == base:
        return noise
    matrix = _box(size, base)
    return matrix @ noise @ matrix.T


@lru_cache(maxsize=8)
def _box(size: int, base: int) -> np.ndarray:
    """Return the (size, base) resampling matrix, linear up and area average down, of unit norm."""
    centre = (np.arange(size) + 0.5) * base / size - 0.5
    reach = max(1.0, base / size)
    distance = np.abs(np.arange(base)[None, :] - centre[:, None])
    matrix = np.clip(1 - distance / reach, 0, None)
    matrix /= matrix.sum(1, keepdims=True)
    matrix /= np.sqrt((matrix**2).sum(1).mean())
    return matrix.astype(np.float32)


def strokes(
    size: int, x: np.ndarray, y: np.ndarray, step: np.ndarray, height: float, sigma: float
) -> np.ndarray:
    """Draw points along lines as soft strokes, (size, size) float32.

    Args:
        x, y: (n,) positions; points outside are dropped.
        step: (n,) arc length that each point stands for.
        height, sigma: height and half-width of the strokes.
    """
    px, py = x * size - 0.5, y * size - 0.5
    keep = (px >= 0) & (py >= 0) & (px < size - 1) & (py < size - 1)
    px, py = px[keep], py[keep]
    sigma_px = max(sigma * size, 0.35)
    mass = (height * step)[keep] * (size * _ROOT_TAU * sigma_px)
    column, row = px.astype(np.int32), py.astype(np.int32)
    fx, fy = px - column, py - row
    flat = row * size + column
    where = np.concatenate([flat, flat + 1, flat + size, flat + size + 1])
    low, high = mass * (1 - fy), mass * fy
    share = np.concatenate([low * (1 - fx), low * fx, high * (1 - fx), high * fx])
    total = np.bincount(where, share, minlength=size * size)
    image = total.reshape(size, size).astype(np.float32)
    return gaussian_filter(image, sigma_px, truncate=3.0)


def polyline(
    points: Sequence[Sequence[float]], spacing: float = 0.0012
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (x, y, step) of a densely sampled Catmull-Rom curve through (n, 2) points."""
    knots = np.asarray(points, dtype=np.float64)
    padded = np.vstack([2 * knots[0] - knots[1], knots, 2 * knots[-1] - knots[-2]])
    curves = []
    for k in range(1, len(padded) - 2):
        p0, p1, p2, p3 = padded[k - 1 : k + 3]
        n = max(int(np.hypot(*(p2 - p1)) / spacing), 2)
        t = (np.arange(n) / n)[:, None]
        square, cube = 2 * p0 - 5 * p1 + 4 * p2 - p3, 3 * p1 - p0 - 3 * p2 + p3
        curves.append(0.5 * (2 * p1 + (p2 - p0) * t + square * t**2 + cube * t**3))
    x, y = np.concatenate(curves).T
    step = np.hypot(np.gradient(x), np.gradient(y))
    return x.astype(np.float32), y.astype(np.float32), step.astype(np.float32)
