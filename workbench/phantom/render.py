"""From a scene to pixels: the normal chest, attenuation, scatter, exposure, noise and grey levels.

The model is two-dimensional: path attenuations of soft tissue, bones, vessels and lesions add,
transmitted intensity is exp(-attenuation), scatter is a blurred share of it, quantum noise grows
where little light arrives, and the image shows the logarithm. No spectrum, no geometry of the beam,
no detector physics beyond that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import gaussian_filter

from workbench.findings import ATELECTASIS, CARDIOMEGALY, PNEUMOTHORAX
from workbench.phantom.anatomy import SIGN, Frame, Table, bump, edge, grain, smooth_noise, strokes
from workbench.phantom.drawing import DRAW, LUNG_DEPTH, Canvas, lead_marker, sides_of
from workbench.phantom.scene import LUNGS, Drawn, Scene

#: How a scene of each domain is exposed and developed, without unit: the ranges of contrast,
#: scatter, noise, the ends of the density scale, and gamma.
EXPOSURES = {
    "internal": ((1.15, 1.3), (0.06, 0.12), (0.005, 0.01), (0.08, 0.16), (1.52, 1.7), (0.92, 1.1)),
    "external": ((0.95, 1.2), (0.16, 0.26), (0.01, 0.018), (0.02, 0.2), (1.35, 1.6), (0.8, 1.3)),
}


def effective_anatomy(scene: Scene) -> dict:
    """Return the anatomy with the changes that lesions make to it (heart size, raised dome)."""
    anatomy = dict(scene.anatomy)
    for lesion in scene.lesions:
        if lesion.finding == CARDIOMEGALY:
            anatomy["cardiothoracic_ratio"] = lesion.params["ratio"]
        if lesion.finding == PNEUMOTHORAX:
            anatomy[f"air_{lesion.side}"] = 1.1 * lesion.params["gap"]
        if lesion.finding == ATELECTASIS and lesion.zone == "lower":
            for side in sides_of(lesion):
                share = 1.0 if lesion.kind == "lobar" else 0.55
                anatomy[f"dome_{side}"] -= share * lesion.params[side]["raise"]
    return anatomy


def render(scene: Scene, size: int) -> Drawn:
    """Draw a scene at `size` pixels along each edge."""
    frame = Frame(effective_anatomy(scene), size)
    canvas = Canvas(soft_tissue(frame))
    masks = {}
    by_name = {lesion.finding: lesion for lesion in scene.lesions}
    for name, draw in DRAW.items():
        if name in by_name:
            masks[name] = draw(frame, by_name[name], canvas)
    attenuation = canvas.attenuation + bones(frame) + vessels(frame, canvas)
    pixels = _expose(scene, frame, attenuation)
    order = [lesion.finding for lesion in scene.lesions]
    anatomy = {f"{side} lung": frame.lung[side] > 0.5 for side in LUNGS}
    anatomy["heart"] = frame.heart > 0.5
    return Drawn(pixels, {name: masks[name] > 0.5 for name in order}, anatomy, {})


def _expose(scene: Scene, frame: Frame, attenuation: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([scene.seed, 4])
    ranges = EXPOSURES[scene.domain]
    contrast, scatter, noise, low, high, gamma = (rng.uniform(*limits) for limits in ranges)
    size = frame.size
    texture = np.random.default_rng(frame.anatomy["texture_seed"])
    uneven = smooth_noise(texture, size, 7) * 0.02
    fine = smooth_noise(texture, size, 90) * 0.012
    blurred = gaussian_filter(attenuation, 0.0016 * size, truncate=3.0)
    mu = (blurred + uneven + fine) * contrast
    light = np.exp(-np.maximum(mu, 0))
    coarse = light[:: max(size // 64, 1), :: max(size // 64, 1)]
    haze = gaussian_filter(coarse, 0.09 * coarse.shape[0], mode="nearest")
    light = light * (1 - scatter) + scatter * _upsample(haze, size)
    light += grain(rng, size) * (np.sqrt(light) * noise)
    density = -np.log(np.maximum(light, 0.02))
    density = (density - low) * (1 / (high - low))
    density = np.clip(density, 0, 1) ** gamma
    density = np.maximum(density, lead_marker(frame.anatomy["marker"], size) * 0.96)
    return np.round(density * 255).astype(np.uint8).astype(np.float32) / 255


def _upsample(coarse: np.ndarray, size: int) -> np.ndarray:
    """Bilinear enlargement of a small square array."""
    n = coarse.shape[0]
    position = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    low = np.minimum(position.astype(int), n - 2)
    t = (position - low).astype(np.float32)
    matrix = np.zeros((size, n), np.float32)
    matrix[np.arange(size), low] = 1 - t
    matrix[np.arange(size), low + 1] = t
    return matrix @ coarse @ matrix.T


# ---------------------------------------------------------------- the normal chest


def soft_tissue(frame: Frame) -> np.ndarray:
    """Return body, lungs, heart and mediastinum, (size, size)."""
    a, y = frame.anatomy, frame.y
    u = np.abs(frame.x)
    g = Table.grid
    shoulder = Table(0.015 + 0.34 * np.clip(g - 0.10, 0, 1) ** 1.25)
    axilla = np.clip((0.40 - g) / 0.22, 0, 1) ** 1.5
    widest = frame.wall.values.max() + a["wall"]
    outline = Table(widest + 0.16 * axilla + 0.05 * np.clip(g - 0.5, 0, 1))
    skin = np.minimum(y - shoulder(u), frame.by_row(outline) - u)
    body = edge(skin, 0.008) * (0.35 + 0.65 * np.clip(skin * 14, 0, 1))
    total = body.copy()
    for side in SIGN:
        lung = frame.lung[side]
        depth = np.clip((frame.by_row(frame.wall) - frame.lateral(side)) * 7, 0, 1)
        total -= lung * (LUNG_DEPTH * 0.84 + LUNG_DEPTH * 0.16 * depth)
        total += (1 - frame.above[side]) * (frame.lateral(side) > 0) * body * 0.12
    total += frame.heart * 0.10
    total += _mediastinum(frame, body)
    if a["breast"]:
        for side in SIGN:
            du = (frame.lateral(side) - 0.21) * (1 / 0.15)
            dy = (y - a["breast_height"]) * (1 / 0.12)
            total += edge(1 - du * du - dy * dy, 0.25) * a["breast"]
    return total + _bubble(frame)


def _mediastinum(frame: Frame, body: np.ndarray) -> np.ndarray:
    a = frame.anatomy
    x, y = frame.x, frame.y
    lobes = Table(1 + 0.22 * np.cos(2 * np.pi * Table.grid / 0.052))
    spine = edge(0.036 - np.abs(x), 0.008) * a["spine_strength"]
    spine = spine * frame.by_row(lobes) * body
    spine *= 1 - 0.45 * frame.heart
    trachea = edge(0.019 - np.abs(x + 0.004), 0.006)
    trachea = trachea * edge(a["top"] + 0.185 - y, 0.01) * 0.20
    main = np.zeros_like(x)
    for side, slope in (("right", 1.1), ("left", 0.75)):
        u = frame.lateral(side)
        line = y - (a["top"] + 0.175) - u * slope
        main = np.maximum(main, bump(line, 0.018) * edge(0.075 - u, 0.01) * (u > 0))
    return spine - (trachea + main * 0.11) * body


def _bubble(frame: Frame) -> np.ndarray:
    a = frame.anatomy
    if not a["gastric_bubble"]:
        return np.zeros_like(frame.x)
    du = (frame.x - 0.17) * (1 / 0.085)
    dy = frame.y - (a["dome_left"] + 0.065)
    dy = dy * (1 / (0.02 + a["gastric_bubble"]))
    return -edge(1 - du * du - dy * dy, 0.6) * (1 - frame.above["left"]) * 0.22


def _rib_table(frame: Frame, first: float, spacing: float, count: int, half: float) -> Table:
    g, total = Table.grid, np.zeros_like(Table.grid)
    for k in range(count):
        d = (g - (first + k * spacing * (1 + 0.012 * k))) / half
        solid = np.clip(1 - d * d, 0, 1)
        cortex = np.exp(-np.square((np.abs(d) - 0.85) / 0.22))
        total = np.maximum(total, 0.62 * np.sqrt(solid) + 0.38 * cortex)
    return Table(total)


def bones(frame: Frame) -> np.ndarray:
    """Return ribs, clavicles and scapulae, (size, size)."""
    a, y = frame.anatomy, frame.y
    top, spacing = a["top"], a["rib_spacing"]
    wall = np.maximum(frame.by_row(frame.wall), 0.06)
    total = np.zeros_like(y)
    back = _rib_table(frame, top - 0.03 + 0.3 * spacing * a["rib_phase"], spacing, 10, 0.0125)
    front = _rib_table(frame, top + 0.02 + 0.3 * spacing * a["rib_phase"], spacing * 1.2, 7, 0.014)
    for side in SIGN:
        u = frame.lateral(side)
        s = u / (wall + 0.01)
        inside = edge(wall + 0.022 - u, 0.008) * edge(u - 0.03, 0.006)
        inside = inside * edge(y - (top - 0.035), 0.02)
        inside = inside * edge(a["dome_right"] + 0.15 - y, 0.08)
        s2 = s * s
        arc = y + 0.045 * (s - s2) * 4 * 0.55
        arc = arc - a["rib_slope"] * s2 * s
        total += back(arc) * inside * a["rib_strength"]
        rise = y - 0.16 * np.clip(1 - s, 0, 1)
        fade = edge(s - 0.52, 0.12)
        total += front(rise) * inside * fade * (a["rib_strength"] * 0.62)
        total += _clavicle(frame, side, u) + _scapula(frame, side, u)
    return total


def _clavicle(frame: Frame, side: str, u: np.ndarray) -> np.ndarray:
    a, g = frame.anatomy, Table.grid
    s = np.clip((g - 0.03) / 0.32, 0, 1)
    curve = Table(a["clavicle_height"] + 0.05 - 0.075 * s + 0.018 * np.sin(2 * np.pi * s))
    half = Table(0.0135 + 0.004 * (1 - s))
    d = (frame.y - curve(u)) / half(u)
    bone = np.sqrt(np.clip(1 - d * d, 0, 1)) * 0.7
    bone += bump(np.abs(d) - 0.8, 0.35) * 0.35
    bone *= edge(u - 0.03, 0.012) * edge(0.36 - u, 0.03)
    return bone * 0.26


def _scapula(frame: Frame, side: str, u: np.ndarray) -> np.ndarray:
    a = frame.anatomy
    if not a["scapula"]:
        return np.zeros_like(u)
    line = u - 0.36 + (frame.y - 0.25) * 0.25
    blade = edge(line, 0.008) * edge(0.10 - line, 0.03)
    blade = blade * edge(frame.y - 0.16, 0.03) * edge(0.43 - frame.y, 0.04)
    return blade * a["scapula"]


def vessels(frame: Frame, canvas: Canvas) -> np.ndarray:
    """Draw the pulmonary vessels of both lungs as branching strokes that thin outwards."""
    a = frame.anatomy
    rng = np.random.default_rng(a["vessel_seed"])
    branches = []
    for side in SIGN:
        height = a[f"dome_{side}"] - a["top"]
        root = np.array([0.075, a["top"] + (0.53 if side == "right" else 0.49) * height])
        for x, y, step, level in _tree(rng, root, height):
            branches.append((*frame.to_image(x * SIGN[side], y), step, level))
    x, y, step, level = map(np.concatenate, zip(*branches, strict=True))
    total = np.zeros_like(frame.x)
    for k, (sigma, strength) in enumerate(((0.0080, 2.6), (0.0050, 1.5), (0.0032, 0.9))):
        pick = level == k
        if canvas.vessel_blur:
            sigma = float(np.hypot(sigma, canvas.vessel_blur))
        height = strength * a["vessel_strength"]
        total += strokes(frame.size, x[pick], y[pick], step[pick], height, sigma)
    lung = frame.lung["right"] + frame.lung["left"]
    return np.minimum(total, 0.42) * lung * canvas.vessel_gain


def _tree(
    rng: np.random.Generator, root: np.ndarray, height: float
) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield (x, y, step, level) arrays of three generations of branches."""
    n = 9
    angles = np.linspace(-1.25, 1.35, n) + rng.uniform(-0.1, 0.1, n)
    start = np.tile(root, (n, 1)) + np.c_[np.zeros(n), np.linspace(-0.04, 0.05, n)]
    length = height * rng.uniform(0.24, 0.36, n) * (0.75 + 0.35 * np.abs(np.sin(angles)))
    for level in range(3):
        t = np.linspace(0, 1, (96, 56, 40)[level], dtype=np.float32)[None, :]
        bend = rng.uniform(-0.75, 0.75, len(angles)).astype(np.float32)[:, None]
        heading = angles.astype(np.float32)[:, None] + bend * t
        step = (length / t.shape[1]).astype(np.float32)[:, None] * np.ones_like(t)
        x = start[:, :1].astype(np.float32) + np.cumsum(np.cos(heading) * step, 1)
        y = start[:, 1:].astype(np.float32) + np.cumsum(np.sin(heading) * step, 1)
        thin = np.zeros_like(x, dtype=np.int8) + level
        if level == 0:
            thin += (t > 0.45).astype(np.int8)
        yield x.ravel(), y.ravel(), step.ravel(), thin.ravel()
        children = 3 if level == 0 else 2
        parent = np.repeat(np.arange(len(angles)), children)
        where = rng.uniform(0.3, 0.95, len(parent))
        index = (where * (t.shape[1] - 1)).astype(int)
        start = np.c_[x[parent, index], y[parent, index]]
        turn = rng.choice([-1, 1], len(parent)) * rng.uniform(0.35, 0.75, len(parent))
        angles = heading[parent, index] + turn
        length = length[parent] * rng.uniform(0.45, 0.65, len(parent))
