"""How each finding changes the attenuation of a phantom, and where: one function a finding.

Every function takes the frame and the lesion, adds to the canvas and returns the exact mask
(size, size) in [0, 1] of what it drew; 0.5 is the border.
"""

from __future__ import annotations

import numpy as np

import workbench.findings as findings
from workbench.phantom.anatomy import SIGN, Frame, Points, Table, bump, edge, smooth_noise
from workbench.phantom.scene import Lesion

LUNG_DEPTH = 0.74


class Canvas:
    """What lesions may change.

    Attributes:
        attenuation: (size, size) path attenuation.
        vessel_gain: (size, size) factor on lung vessels.
        vessel_blur: width of the blur over vessels, in image widths.
    """

    def __init__(self, attenuation: np.ndarray) -> None:
        self.attenuation = attenuation
        self.vessel_gain = np.ones_like(attenuation)
        self.vessel_blur = 0.0


def sides_of(lesion: Lesion) -> tuple[str, ...]:
    """Return the one side or the two that a lesion is drawn on."""
    return ("right", "left") if lesion.side == "bilateral" else (str(lesion.side),)


def draw_effusion(frame: Frame, lesion: Lesion, canvas: Canvas) -> np.ndarray:
    """Fill the base of the pleural space up to a meniscus that rises to the chest wall."""
    return np.maximum.reduce(
        [_fluid(frame, side, lesion.params[side], canvas) for side in sides_of(lesion)]
    )


def _fluid(frame: Frame, side: str, p: dict, canvas: Canvas) -> np.ndarray:
    u = frame.lateral(side)
    dome = frame.anatomy[f"dome_{side}"]
    lowest = dome + frame.anatomy["angle_drop"]
    width = frame.width_at(dome)
    g = Table.grid
    across = np.clip((g - 0.45 * width) / (0.55 * width), 0, 1.2)
    level = Table(lowest - p["height"] - p["tilt"] * across**4 + 0.015 * (1 - across))
    fluid = frame.cavity[side] * edge(frame.y - level(u), 0.010)
    filled = fluid * frame.above[side]
    canvas.attenuation += filled * (LUNG_DEPTH * 0.93)
    canvas.vessel_gain *= 1 - filled
    return fluid * edge(lowest + 0.01 - frame.y, 0.006) * _near_dome(frame, side)


def _near_dome(frame: Frame, side: str) -> np.ndarray:
    """1 above a line a little under the diaphragm, where fluid stops being seen."""
    under = frame.diaphragm(side)(frame.lateral(side)) + 0.012
    return edge(under - frame.y, 0.006)


def draw_pneumothorax(frame: Frame, lesion: Lesion, canvas: Canvas) -> np.ndarray:
    """Draw air between chest wall and a thin visceral pleural line; no vessels in it."""
    p, side = lesion.params, str(lesion.side)
    u, g = frame.lateral(side), Table.grid
    top, bottom = frame.anatomy["top"], frame.anatomy[f"dome_{side}"]
    t = np.clip((g - top) / (bottom - top), 0, 1)
    gap = p["gap"] * (1 - (1 - p["taper"]) * t**1.5)
    shifted = np.interp(g - 1.15 * p["gap"], g, frame.wall.values)
    line = frame.by_row(Table(shifted - gap))
    inset = u - line
    air = frame.lung[side] * edge(inset, 0.0035)
    rim = frame.lung[side] * bump(inset, 0.0075)
    collapsed = frame.lung[side] * (1 - air)
    canvas.attenuation += rim * 0.20 - air * 0.115
    canvas.attenuation += collapsed * (0.03 + 0.45 * p["gap"])
    canvas.vessel_gain *= 1 - air
    return air


def draw_consolidation(frame: Frame, lesion: Lesion, canvas: Canvas) -> np.ndarray:
    """Draw an ill-defined homogeneous opacity with air bronchograms."""
    masks = []
    for side in sides_of(lesion):
        p = lesion.params[side]
        cx, cy = _place(frame, side, lesion.zone, p["across"], p["down"], p["radius"] * 0.6)
        rng = np.random.default_rng(p["noise_seed"])
        noise = smooth_noise(rng, frame.size, 18)
        u = frame.lateral(side)
        dx = (u - cx) * (1 / p["radius"])
        dy = (frame.y - cy) * (p["aspect"] / p["radius"])
        shape = 1 - dx * dx - dy * dy + 0.30 * noise
        mask = edge(shape, 0.55) * frame.lung[side]
        bronchi = _bronchograms(frame, side, cx, cy, p["radius"], rng)
        patch = 1 + 0.10 * smooth_noise(rng, frame.size, 40)
        canvas.attenuation += mask * (p["amount"] * patch) - bronchi * mask
        canvas.vessel_gain *= 1 - 0.8 * mask
        masks.append(mask)
    return np.maximum.reduce(masks)


def _bronchograms(
    frame: Frame, side: str, cx: float, cy: float, radius: float, rng: np.random.Generator
) -> np.ndarray:
    curves, sign = [], SIGN[side]
    for _ in range(4):
        angle = rng.uniform(0, 2 * np.pi)
        ends = radius * rng.uniform(0.5, 0.95)
        root = [sign * (cx - 0.5 * radius), cy - 0.2 * radius]
        end = [sign * (cx + ends * np.cos(angle)), cy + ends * np.sin(angle)]
        curves.append([root, [sign * cx, cy], end])
    return np.minimum(frame.lines(curves, 0.11, 0.0028), 0.16)


def _place(
    frame: Frame, side: str, zone: str | None, across: float, down: float, margin: float
) -> tuple[float, float]:
    """Return (u, y) of a point inside a zone, at least `margin` from wall and mediastinum."""
    top, bottom = frame.zone_height(side, zone)
    if zone == "upper":
        top += 0.055
    y = top + margin * 0.5 + (bottom - top - margin) * down
    inner = float(np.interp(y, Table.grid, frame.border[side].values)) + margin + 0.012
    outer = frame.width_at(y) - frame.anatomy.get(f"air_{side}", 0.0) - margin - 0.012
    if outer < inner:
        return (outer + inner) / 2, y
    return inner + (outer - inner) * across, y


def draw_atelectasis(frame: Frame, lesion: Lesion, canvas: Canvas) -> np.ndarray:
    """Draw plate-like bands (linear) or a sharp-edged wedge of collapsed lobe (lobar)."""
    draw = _bands if lesion.kind == "linear" else _wedge
    return np.maximum.reduce(
        [draw(frame, side, lesion.zone, lesion.params[side], canvas) for side in sides_of(lesion)]
    )


def _bands(frame: Frame, side: str, zone: str | None, p: dict, canvas: Canvas) -> np.ndarray:
    top, bottom = frame.zone_height(side, zone)
    u, total = frame.lateral(side), np.zeros_like(frame.x)
    for k in range(p["bands"]):
        y0 = top + (bottom - top) * p["down"][k]
        inner = float(np.interp(y0, Table.grid, frame.border[side].values))
        room = frame.width_at(y0) - inner
        start = inner + room * p["start"][k] * 0.8
        length = min(p["length"][k], room * 0.75)
        middle = start + length / 2
        along = (u - middle) * (2 / length)
        line = frame.y - y0 - (u - middle) * p["tilt"][k]
        total = np.maximum(total, bump(line, 2.2 * p["thick"][k]) * edge(1 - np.abs(along), 0.25))
    mask = total * frame.lung[side]
    canvas.attenuation += mask * p["amount"]
    return edge(mask - 0.35, 0.2)


def _wedge(frame: Frame, side: str, zone: str | None, p: dict, canvas: Canvas) -> np.ndarray:
    u, y = frame.lateral(side), frame.y
    top, bottom = frame.zone_height(side, zone)
    lung = frame.lung[side]
    if zone == "upper":
        low = top + (bottom - top) * (0.55 + 0.45 * p["reach"])
        outer = frame.width_at(low)
        line = low - 0.10 * edge(u - 0.6 * outer, outer)
        inside = edge(line - y - 0.10 * u, 0.004)
    else:
        start = top - 0.03
        inner = float(np.interp(start, Table.grid, frame.border[side].values)) + 0.01
        reach = inner + (frame.width_at(bottom) - inner) * p["reach"]
        slope = (reach - inner) / (bottom + 0.03 - start)
        inside = edge(inner - slope * start + slope * y - u, 0.004)
        inside = inside * edge(y - start, 0.01)
    mask = inside * lung
    canvas.attenuation += mask * (p["amount"] + 0.10)
    canvas.vessel_gain *= 1 - 0.85 * mask
    return mask


def draw_edema(frame: Frame, lesion: Lesion, canvas: Canvas) -> np.ndarray:
    """Draw perihilar haze on both sides, blurred vessels and septal lines at the bases."""
    p = lesion.params
    noise = smooth_noise(np.random.default_rng(p["noise_seed"]), frame.size, 30)
    total = np.zeros_like(frame.x)
    for side in SIGN:
        u = frame.lateral(side)
        hilum = frame.anatomy["top"] + 0.55 * (frame.anatomy[f"dome_{side}"] - frame.anatomy["top"])
        du = (u - 0.14) * (1 / (p["spread"] * 1.05))
        dy = (frame.y - (hilum + 0.01)) * (1 / (p["spread"] * 1.55))
        total += np.exp(-0.5 * (du * du + dy * dy)) * frame.lung[side]
    haze = total * np.clip(1 + 0.22 * noise, 0.3, None)
    canvas.attenuation += haze * p["amount"]
    canvas.attenuation += (frame.lung["right"] + frame.lung["left"]) * (0.12 * p["amount"])
    canvas.attenuation += _septal_lines(frame, p)
    canvas.vessel_gain *= 1 + 0.15 * total
    canvas.vessel_blur = 0.0045
    return edge(total - 0.45, 0.12)


def _septal_lines(frame: Frame, p: dict) -> np.ndarray:
    rng = np.random.default_rng(p["noise_seed"] + 1)
    curves = []
    for side, sign in SIGN.items():
        bottom = frame.anatomy[f"dome_{side}"]
        for y in np.linspace(bottom - 0.13, bottom - 0.005, 7):
            outer = frame.width_at(y) - 0.006
            end = [sign * (outer - rng.uniform(0.03, 0.045)), y + 0.003]
            curves.append([[sign * outer, y], [sign * (outer - 0.018), y + 0.001], end])
    return frame.lines(curves, 0.35 * p["amount"], 0.0022)


def draw_nodule(frame: Frame, lesion: Lesion, canvas: Canvas) -> np.ndarray:
    """Draw one round, well-defined opacity with the profile of a sphere."""
    p, side = lesion.params, str(lesion.side)
    cx, cy = _place(frame, side, lesion.zone, p["across"], p["down"], p["radius"] + 0.006)
    dx, dy = frame.lateral(side) - cx, frame.y - cy
    distance = np.sqrt(dx * dx + dy * dy)
    sphere = np.sqrt(np.clip(1 - np.square(distance * (1 / (p["radius"] * 1.06))), 0, 1))
    canvas.attenuation += np.minimum(sphere * 1.25, 1) * p["amount"]
    return edge(p["radius"] - distance, 0.002)


def draw_cardiomegaly(frame: Frame, lesion: Lesion, canvas: Canvas) -> np.ndarray:
    """The heart is drawn with the anatomy; the mask is its silhouette."""
    return frame.heart


def draw_device(frame: Frame, lesion: Lesion, canvas: Canvas) -> np.ndarray:
    """Draw a pacemaker with its lead, a central venous catheter or an endotracheal tube."""
    kinds = {"pacemaker": _pacemaker, "central venous catheter": _catheter}
    dense = kinds.get(str(lesion.kind), _tube)(frame, lesion)
    canvas.attenuation += dense
    return edge(dense - 0.12, 0.08)


def _line(frame: Frame, points: Points, amount: float, sigma: float) -> np.ndarray:
    return np.minimum(frame.lines([points], amount, sigma), amount * 1.3)


def _pacemaker(frame: Frame, lesion: Lesion) -> np.ndarray:
    p, side = lesion.params, str(lesion.side)
    sign = SIGN[side]
    top = frame.anatomy["top"]
    cx, cy = 0.27 + 0.03 * p["across"], top + 0.15 + 0.04 * p["down"]
    dx = (frame.lateral(side) - cx) * (1 / 0.042)
    dy = (frame.y - cy) * (1 / 0.034)
    box = edge(1 - (dx**4 + dy**4), 0.35) * 0.55
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


def _catheter(frame: Frame, lesion: Lesion) -> np.ndarray:
    p, sign = lesion.params, SIGN[str(lesion.side)]
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


def _tube(frame: Frame, lesion: Lesion) -> np.ndarray:
    p = lesion.params
    tip = frame.anatomy["top"] + 0.10 + 0.04 * p["tip"]
    bend = 0.012 * (p["wave"] - 0.5)
    walls = [
        _line(frame, [[off + bend, -0.03], [off, tip * 0.5], [off, tip]], 0.30, 0.0024)
        for off in (-0.0085, 0.0085)
    ]
    stripe = _line(frame, [[bend, -0.03], [0.0, tip * 0.5], [0.0, tip - 0.004]], 0.16, 0.004)
    return np.maximum(np.maximum(*walls), stripe)


def _rib_height(frame: Frame, number: int, share: float) -> float:
    """Return y of the middle of a posterior rib at a share of the way to the chest wall."""
    a = frame.anatomy
    first = a["top"] - 0.03 + 0.3 * a["rib_spacing"] * a["rib_phase"]
    centre = first + number * a["rib_spacing"] * (1 + 0.012 * number)
    return centre - 0.099 * (share - share**2) + a["rib_slope"] * share**3


def draw_fracture(frame: Frame, lesion: Lesion, canvas: Canvas) -> np.ndarray:
    """Draw healing rib fractures: calluses in a row and displaced ends; the mask is the calluses.

    Three or four neighbouring ribs each carry a dense, round callus at about the same distance from
    the midline, and the outer end of the bone is a step higher than the inner one.
    """
    p, u = lesion.params, frame.lateral(str(lesion.side))
    mask = np.zeros_like(frame.x)
    for k, share in enumerate(p["lateral"]):
        y = _rib_height(frame, p["first"] + k, share)
        x = share * (frame.width_at(y) + 0.01)
        dx, dy = u - x, frame.y - y
        radius = p["radius"][k]
        distance = np.sqrt(dx * dx + 1.25 * dy * dy)
        ball = np.sqrt(np.clip(1 - np.square(distance * (1 / radius)), 0, 1))
        end = bump(dy + p["step"][k], 0.007) * edge(dx, 0.006)
        end = end * edge(0.03 - dx, 0.006)
        canvas.attenuation += ball * p["amount"][k] + end * 0.16
        mask = np.maximum(mask, edge(radius - distance, 0.002))
    return mask


#: Drawn in this order: air and fluid first, then lung lesions, then what lies in front.
DRAW = {
    findings.EDEMA: draw_edema,
    findings.PNEUMOTHORAX: draw_pneumothorax,
    findings.CONSOLIDATION: draw_consolidation,
    findings.ATELECTASIS: draw_atelectasis,
    findings.EFFUSION: draw_effusion,
    findings.NODULE: draw_nodule,
    findings.CARDIOMEGALY: draw_cardiomegaly,
    findings.DEVICE: draw_device,
    findings.FRACTURE: draw_fracture,
}


_GLYPHS = {
    "L": ("1000", "1000", "1000", "1000", "1000", "1000", "1111"),
    "R": ("1110", "1001", "1001", "1110", "1010", "1001", "1001"),
}


def lead_marker(letter: str, size: int) -> np.ndarray:
    """Draw "L" or "R" in the upper corner of its side: (size, size), 1 where lead is."""
    rows = _GLYPHS[letter]
    glyph = np.array([[int(c) for c in row] for row in rows], np.float32)
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    left = 0.93 if letter == "L" else 0.035
    column = ((line - left) / 0.0085).astype(np.int32)
    row = ((line - 0.05) / 0.0085).astype(np.int32)
    ok_c = (line >= left) & (column < 4)
    ok_r = (line >= 0.05) & (row < 7)
    drawn = glyph[np.clip(row, 0, 6)][:, np.clip(column, 0, 3)]
    return drawn * ok_r[:, None] * ok_c[None, :]
