"""From a scene to pixels: attenuation, scatter, exposure, noise and the film curve.

The model is two-dimensional: path attenuations add, transmitted intensity is exp(-attenuation),
scatter is a blurred share of it, quantum noise grows where little light arrives, and the film
shows the logarithm. No spectrum, no geometry of the beam, no detector physics beyond that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from workbench.findings import ATELECTASIS, CARDIOMEGALY, PNEUMOTHORAX
from workbench.phantom.anatomy import Frame
from workbench.phantom.drawing import DRAW, Canvas, sides_of
from workbench.phantom.field import grain, smooth_noise
from workbench.phantom.scene import Scene
from workbench.phantom.tissue import bones, soft_tissue, vessels


@dataclass(frozen=True)
class Exposure:
    """How a scene is exposed and developed (all without unit).

    Attributes:
        contrast: factor on attenuation.
        scatter: share of scattered light.
        noise: standard deviation of quantum noise at full exposure.
        low, high: film densities shown as black and white.
        gamma: exponent of the film curve.
    """

    contrast: float
    scatter: float
    noise: float
    low: float
    high: float
    gamma: float


def sample_exposure(rng: np.random.Generator, domain: str) -> Exposure:
    """Draw the exposure of a scene; the external domain is flatter, noisier and more varied."""
    u = rng.uniform
    if domain == "external":
        return Exposure(
            u(0.95, 1.2), u(0.16, 0.26), u(0.010, 0.018), u(0.02, 0.20), u(1.35, 1.6), u(0.8, 1.3)
        )
    return Exposure(
        u(1.15, 1.3), u(0.06, 0.12), u(0.005, 0.010), u(0.08, 0.16), u(1.52, 1.70), u(0.92, 1.1)
    )


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


def render(scene: Scene, size: int) -> tuple[np.ndarray, dict[str, np.ndarray], Frame]:
    """Draw a scene.

    Args:
        scene: what to draw.
        size: pixels along each edge.

    Returns:
        pixels (size, size) float32 in [0, 1] on a grid of 1/255; boolean masks by finding; the
        frame with the anatomy fields.
    """
    frame = Frame(effective_anatomy(scene), size)
    canvas = Canvas(soft_tissue(frame), np.ones((size, size), np.float32))
    masks = {}
    by_name = {lesion.finding: lesion for lesion in scene.lesions}
    for name, draw in DRAW.items():
        if name in by_name:
            masks[name] = draw(frame, by_name[name], canvas)
    attenuation = canvas.attenuation + bones(frame) + vessels(frame, canvas)
    pixels = _expose(scene, frame, attenuation)
    order = [lesion.finding for lesion in scene.lesions]
    return pixels, {name: masks[name] > 0.5 for name in order}, frame


_GLYPHS = {
    "L": ("1000", "1000", "1000", "1000", "1000", "1000", "1111"),
    "R": ("1110", "1001", "1001", "1110", "1010", "1001", "1001"),
}


def _marker(frame: Frame) -> np.ndarray:
    """Draw the lead side marker in the upper corner of its side, in image coordinates."""
    rows = _GLYPHS[frame.anatomy["marker"]]
    glyph = np.array([[int(c) for c in row] for row in rows], np.float32)
    line = (np.arange(frame.size, dtype=np.float32) + 0.5) / frame.size
    left = 0.93 if frame.anatomy["marker"] == "L" else 0.035
    column = ((line - np.float32(left)) / np.float32(0.0085)).astype(np.int32)
    row = ((line - np.float32(0.05)) / np.float32(0.0085)).astype(np.int32)
    ok_c = (line >= left) & (column < 4)
    ok_r = (line >= 0.05) & (row < 7)
    drawn = glyph[np.clip(row, 0, 6)][:, np.clip(column, 0, 3)]
    return drawn * ok_r[:, None] * ok_c[None, :]


def _expose(scene: Scene, frame: Frame, attenuation: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([scene.seed, 4])
    e = sample_exposure(rng, scene.domain)
    size = frame.size
    texture = np.random.default_rng(frame.anatomy["texture_seed"])
    uneven = smooth_noise(texture, size, 7) * np.float32(0.02)
    fine = smooth_noise(texture, size, 90) * np.float32(0.012)
    blurred = gaussian_filter(attenuation, 0.0016 * size, truncate=3.0)
    mu = (blurred + uneven + fine) * np.float32(e.contrast)
    light = np.exp(-np.maximum(mu, 0))
    coarse = light[:: max(size // 64, 1), :: max(size // 64, 1)]
    haze = gaussian_filter(coarse, 0.09 * coarse.shape[0], mode="nearest")
    light = light * np.float32(1 - e.scatter) + np.float32(e.scatter) * _upsample(haze, size)
    light += grain(rng, size) * (np.sqrt(light) * np.float32(e.noise))
    film = -np.log(np.maximum(light, np.float32(0.02)))
    film = (film - np.float32(e.low)) * np.float32(1 / (e.high - e.low))
    film = np.clip(film, 0, 1) ** np.float32(e.gamma)
    film = np.maximum(film, _marker(frame) * np.float32(0.96))
    return np.round(film * np.float32(255)).astype(np.uint8).astype(np.float32) / np.float32(255)


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
