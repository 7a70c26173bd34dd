"""The thorax of a phantom: array tools, its parameters, and the fields that place everything else.

A schematic, not a simulation: boundaries are smooth functions of one coordinate (lateral chest
wall, mediastinal borders, diaphragm), so that lungs, heart and lesions share one exact geometry.

All coordinates are in image widths: x to the right, y down, pixel centres at (i + 0.5) / size.
Arrays are float32; a stray NumPy float64 scalar, which Python's own float is not, doubles the time
of a drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache

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


#: Patient side -> direction of that side in the image (the patient's right is on the image's left).
SIGN = {"right": -1.0, "left": 1.0}
#: Width of the imaged field in millimetres.
FIELD_MM = 380.0
#: (n, 2): x from the midline, and y.
Points = Sequence[Sequence[float]]


def sample_anatomy(rng: np.random.Generator, domain: str) -> dict:
    """Draw the anatomical parameters of one scene, in image widths unless said."""
    external = domain == "external"
    u = rng.uniform
    top = u(0.085, 0.125)
    dome = u(0.66, 0.73) if external else u(0.71, 0.78)
    return {
        "midline": 0.5 + rng.normal(0, 0.014 if external else 0.008),
        "tilt_degrees": rng.normal(0, 3.2 if external else 1.2),
        "patient_rotation": rng.normal(0, 0.016 if external else 0.006),
        "top": top,
        "dome_right": dome,
        "dome_left": dome + u(0.012, 0.03),
        "half_width": u(0.375, 0.41) if external else u(0.36, 0.395),
        "apex_power": u(2.1, 2.6),
        "wall": u(0.045, 0.085),
        "angle_drop": u(0.085, 0.12),
        "mediastinum": u(0.074, 0.092) * (1.12 if external else 1.0),
        "cardiothoracic_ratio": u(0.43, 0.515) if external else u(0.39, 0.475),
        "heart_left_share": u(0.655, 0.70),
        "knob": u(0.018, 0.032),
        "rib_spacing": u(0.066, 0.076),
        "rib_phase": u(0, 1),
        "rib_strength": u(0.15, 0.205),
        "rib_slope": u(0.02, 0.05) if external else u(0.05, 0.09),
        "clavicle_height": u(0.085, 0.115) if external else u(0.125, 0.16),
        "scapula": u(0.05, 0.1) if external else u(0.0, 0.045),
        "spine_strength": u(0.10, 0.16),
        "vessel_strength": u(0.060, 0.085),
        "vessel_seed": int(rng.integers(2**31)),
        "breast": u(0.07, 0.13) if rng.random() < 0.4 else 0.0,
        "breast_height": u(0.60, 0.68),
        "gastric_bubble": u(0.02, 0.05) if rng.random() < 0.75 else 0.0,
        "marker": str(rng.choice(["L", "R"])),
        "texture_seed": int(rng.integers(2**31)),
    }


class Frame:
    """Coordinates and boundaries of one scene at one size.

    Attributes:
        anatomy: parameters from `sample_anatomy`, changed by lesions that move anatomy.
        x, y: (size, size) body coordinates of every pixel, x from the midline.
    """

    def __init__(self, anatomy: dict, size: int) -> None:
        self.anatomy, self.size = anatomy, size
        line = (np.arange(size, dtype=np.float32) + 0.5) / size
        angle = np.deg2rad(anatomy["tilt_degrees"])
        self._tilt = cos, sin = float(np.cos(angle)), float(np.sin(angle))
        dx, dy = line[None, :] - 0.5, line[:, None] - 0.5
        self.x = cos * dx - sin * dy + (0.5 - anatomy["midline"])
        self.y = sin * dx + cos * dy + 0.5
        self._iy = Table.index(self.y)

    def to_image(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn body coordinates (x from the midline, y) into image coordinates."""
        cos, sin = self._tilt
        dx = np.asarray(x, np.float32) - (0.5 - self.anatomy["midline"])
        dy = np.asarray(y, np.float32) - 0.5
        return cos * dx + sin * dy + 0.5, -sin * dx + cos * dy + 0.5

    def lines(self, curves: Sequence[Points], amount: float, sigma: float) -> np.ndarray:
        """Draw curves through points as soft strokes."""
        x, y, step = map(np.concatenate, zip(*map(polyline, curves), strict=True))
        return strokes(self.size, *self.to_image(x, y), step, amount, sigma)

    def by_row(self, table: Table) -> np.ndarray:
        """Look a function of y up for every pixel."""
        return table.values[self._iy]

    # ---- boundaries as functions of one coordinate -------------------------------------------

    @cached_property
    def wall(self) -> Table:
        """Inner chest wall: distance from the midline as a function of y."""
        a, g = self.anatomy, Table.grid
        t = np.clip((g - a["top"]) / (a["dome_right"] - a["top"]), 0, 1.6)
        rise = np.clip(1 - np.abs(1 - t / 0.72) ** a["apex_power"], 0, 1) ** (1 / a["apex_power"])
        shape = np.where(t < 0.72, rise, 1 + 0.03 * (t - 0.72))
        return Table(a["half_width"] * shape)

    def width_at(self, y: float) -> float:
        """Distance from the midline to the inner chest wall at height y."""
        return float(np.interp(y, Table.grid, self.wall.values))

    @cached_property
    def heart_box(self) -> tuple[float, float, float, float]:
        """(right extent, left extent, centre y, half height) of the heart."""
        a = self.anatomy
        base = a["dome_left"]
        width = a["cardiothoracic_ratio"] * 2 * self.width_at(base)
        left = width * a["heart_left_share"]
        centre = base - 0.045 - 0.10 * (width - 0.30)
        return width - left, left, centre, 0.165 + 0.25 * (width - 0.30)

    @staticmethod
    def _profile(y: np.ndarray, centre: float, half: float) -> np.ndarray:
        """Heart border from 0 to 1: a slow shoulder above the widest point, round below it."""
        above = np.clip((centre - y) / (1.5 * half), 0, 1)
        below = np.clip((y - centre) / half, 0, 1)
        return np.where(
            y < centre, (0.5 + 0.5 * np.cos(np.pi * above)) ** 0.85, np.sqrt(1 - 0.75 * below**2)
        ).astype(np.float32)

    @cached_property
    def border(self) -> dict[str, Table]:
        """Mediastinal border of each side: distance from the midline as a function of y."""
        a, g = self.anatomy, Table.grid
        right_extent, left_extent, centre, half = self.heart_box
        m, shift = a["mediastinum"], a["patient_rotation"]
        lower = np.clip((g - a["top"]) / 0.2, 0, 1)
        base = m * (0.70 + 0.12 * lower)
        right = base + (right_extent - base) * self._profile(g, centre - 0.03, half * 0.85)
        right += 0.010 * np.exp(-np.square((g - a["top"] - 0.20) / 0.06))
        left = base + (left_extent - base) * self._profile(g, centre, half)
        left = left + a["knob"] * np.exp(-np.square((g - a["top"] - 0.185) / 0.032))
        left += 0.013 * np.exp(-np.square((g - a["top"] - 0.28) / 0.045))
        return {"right": Table(right - shift), "left": Table(left + shift)}

    def diaphragm(self, side: str) -> Table:
        """Diaphragm height y as a function of the distance from the midline."""
        a, g = self.anatomy, Table.grid
        dome = a[f"dome_{side}"]
        edge_at = self.width_at(dome)
        peak = 0.50 * edge_at
        lateral = np.clip((g - peak) / (edge_at - peak), 0, 1.3)
        medial = np.clip((peak - g) / peak, 0, 1)
        return Table(dome + a["angle_drop"] * lateral**2.4 + 0.03 * medial**2)

    # ---- fields ------------------------------------------------------------------------------

    def lateral(self, side: str) -> np.ndarray:
        """Distance from the midline towards one side, (size, size); negative on the other side."""
        return self.x * SIGN[side]

    @cached_property
    def cavity(self) -> dict[str, np.ndarray]:
        """Each hemithorax between mediastinum and chest wall, above and below the diaphragm."""
        fields = {}
        for side in SIGN:
            u = self.lateral(side)
            inner = edge(u - self.by_row(self.border[side]), 0.006)
            fields[side] = inner * edge(self.by_row(self.wall) - u, 0.006)
        return fields

    @cached_property
    def above(self) -> dict[str, np.ndarray]:
        """1 above the diaphragm of a side, 0 below."""
        return {
            side: edge(self.diaphragm(side)(self.lateral(side)) - self.y, 0.006) for side in SIGN
        }

    @cached_property
    def lung(self) -> dict[str, np.ndarray]:
        """Aerated lung of each side as a soft mask, (size, size) in [0, 1]."""
        return {side: self.cavity[side] * self.above[side] for side in SIGN}

    @cached_property
    def heart(self) -> np.ndarray:
        """Heart silhouette as a soft mask, (size, size) in [0, 1]."""
        _, _, centre, half = self.heart_box
        inside = np.minimum(
            self.by_row(self.border["left"]) - self.x, self.by_row(self.border["right"]) + self.x
        )
        low = np.where(self.x < 0, self.above["right"], self.above["left"])
        return edge(inside, 0.006) * edge(self.y - (centre - 1.15 * half), 0.03) * low

    def zone_height(self, side: str, zone: str | None) -> tuple[float, float]:
        """(top, bottom) y of a lung zone: the lung's height split into thirds."""
        top, bottom = self.anatomy["top"], self.anatomy[f"dome_{side}"]
        k = ("upper", "mid", "lower").index(str(zone))
        step = (bottom - top) / 3
        return top + k * step, top + (k + 1) * step
