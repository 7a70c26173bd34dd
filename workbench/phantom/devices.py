"""Support devices of a phantom: pacemaker, central venous catheter, endotracheal tube.

Does not know: other findings (`drawing`).
"""

from __future__ import annotations

import numpy as np

from workbench.phantom.anatomy import SIGN, Frame
from workbench.phantom.field import edge, polyline, strokes
from workbench.phantom.scene import Lesion


def draw_device(frame: Frame, lesion: Lesion, canvas) -> np.ndarray:
    """Draw a pacemaker with its lead, a central venous catheter or an endotracheal tube."""
    from_kind = {
        "pacemaker": _pacemaker,
        "central venous catheter": _catheter,
        "endotracheal tube": _tube,
    }
    dense = from_kind[lesion.kind](frame, lesion)
    canvas.attenuation += dense
    return edge(dense - np.float32(0.12), 0.08)


def _line(frame, points, amount, sigma) -> np.ndarray:
    x, y, step = polyline(points)
    ix, iy = frame.to_image(x, y)
    drawn = strokes(frame.size, ix, iy, np.full_like(x, amount), step, sigma)
    return np.minimum(drawn, np.float32(amount * 1.3))


def _pacemaker(frame, lesion) -> np.ndarray:
    p, sign = lesion.params, SIGN[lesion.side]
    top = frame.anatomy["top"]
    cx, cy = 0.27 + 0.03 * p["across"], top + 0.15 + 0.04 * p["down"]
    dx = (frame.lateral(lesion.side) - np.float32(cx)) * np.float32(1 / 0.042)
    dy = (frame.y - np.float32(cy)) * np.float32(1 / 0.034)
    box = edge(1 - (dx**4 + dy**4), 0.35) * np.float32(0.55)
    base = frame.anatomy["dome_left"]
    lead = [
        [sign * (cx - 0.01), cy - 0.03],
        [sign * 0.13, top + 0.055],
        [-0.03, top + 0.14],
        [-0.055, base - 0.22],
        [-0.03, base - 0.07],
        [0.06 + 0.03 * p["tip"], base - 0.035],
    ]
    return np.maximum(box, _line(frame, lead, 0.42, 0.0032))


def _catheter(frame, lesion) -> np.ndarray:
    p, sign = lesion.params, SIGN[lesion.side]
    top = frame.anatomy["top"]
    start = [[sign * (0.26 + 0.03 * p["across"]), top + 0.03], [sign * 0.15, top + 0.045]]
    if p["wave"] < 0.5:
        start = [[sign * (0.075 + 0.02 * p["across"]), -0.02], [sign * 0.06, top - 0.01]]
    path = [
        *start,
        [-0.03 + 0.005 * p["wave"], top + 0.13],
        [-0.048, top + 0.22],
        [-0.05, top + 0.28 + 0.05 * p["tip"]],
    ]
    return _line(frame, path, 0.36, 0.0030)


def _tube(frame, lesion) -> np.ndarray:
    p = lesion.params
    tip = frame.anatomy["top"] + 0.10 + 0.04 * p["tip"]
    bend = 0.012 * (p["wave"] - 0.5)
    walls = [
        _line(frame, [[off + bend, -0.03], [off, tip * 0.5], [off, tip]], 0.30, 0.0024)
        for off in (-0.0085, 0.0085)
    ]
    stripe = _line(frame, [[bend, -0.03], [0.0, tip * 0.5], [0.0, tip - 0.004]], 0.16, 0.004)
    return np.maximum(np.maximum(*walls), stripe)
