"""Healing rib fractures of a phantom: a row of callus along the lateral chest wall.

Three or four neighbouring ribs each carry a dense, round callus at about the same distance from the
midline, and the outer end of the bone is a step higher than the inner one. A finding that phantoms
draw only when asked for it (`workbench.findings.ON_REQUEST`).

Does not know: other findings (`drawing`), the unbroken ribs (`tissue`).
"""

from __future__ import annotations

import numpy as np

from workbench.phantom.anatomy import Frame
from workbench.phantom.field import bump, edge
from workbench.phantom.scene import Lesion


def rib_height(frame: Frame, number: int, share: float) -> float:
    """Return y of the middle of a posterior rib.

    Args:
        frame: the scene's geometry.
        number: 0 for the uppermost.
        share: distance from the midline as a share of that to the chest wall.
    """
    a = frame.anatomy
    first = a["top"] - 0.03 + 0.3 * a["rib_spacing"] * a["rib_phase"]
    centre = first + number * a["rib_spacing"] * (1 + 0.012 * number)
    return centre - 0.099 * (share - share**2) + a["rib_slope"] * share**3


def draw_fracture(frame: Frame, lesion: Lesion, canvas) -> np.ndarray:
    """Draw the calluses and the displaced ends; return the mask of the calluses."""
    p, u = lesion.params, frame.lateral(lesion.side)
    mask = np.zeros_like(frame.x)
    for k, share in enumerate(p["lateral"]):
        y = rib_height(frame, p["first"] + k, share)
        x = share * (frame.width_at(y) + 0.01)
        dx, dy = u - np.float32(x), frame.y - np.float32(y)
        radius = p["radius"][k]
        distance = np.sqrt(dx * dx + np.float32(1.25) * dy * dy)
        ball = np.sqrt(np.clip(1 - np.square(distance * np.float32(1 / radius)), 0, 1))
        end = bump(dy + np.float32(p["step"][k]), 0.007) * edge(dx, 0.006)
        end = end * edge(np.float32(0.03) - dx, 0.006)
        canvas.attenuation += ball * np.float32(p["amount"][k]) + end * np.float32(0.16)
        mask = np.maximum(mask, edge(np.float32(radius) - distance, 0.002))
    return mask
