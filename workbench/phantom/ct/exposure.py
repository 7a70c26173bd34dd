"""From attenuation along rays to the grey levels of a digital radiograph.

Quanta that pass, scatter behind a grid, blur and noise of the detector, the logarithm, and the
processing of a digital system: slow changes are compressed, fine ones raised, and a sigmoid curve
makes grey levels. What the processing raises, and where its curve begins and ends, is taken from
the chest without lesions: a lesion changes the image where its rays are, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True)
class Exposure:
    """How a radiograph is taken and processed.

    Attributes:
        dose: quanta a pixel of 0.7 mm where nothing attenuates.
        scatter: of what reaches the detector directly.
        blur: of the detector, mm.
        slow, middle, fine: how strongly structures wider than 25 mm, of 4 to 25 mm, and finer ones
            are shown.
        ends: quantiles of the chest that become black and white.
        curve: steepness of the sigmoid.
        gamma: of the grey levels.
    """

    dose: float = 40_000.0
    scatter: float = 0.35
    blur: float = 0.35
    slow: float = 0.55
    middle: float = 1.4
    fine: float = 1.9
    ends: tuple[float, float] = (0.02, 0.98)
    curve: float = 4.2
    gamma: float = 1.0


def expose(
    base: np.ndarray, added: np.ndarray, exposure: Exposure, pixel: float, rng: np.random.Generator
) -> np.ndarray:
    """Return grey levels (size, size) float32 in [0, 1], bright where much attenuates.

    Args:
        base: attenuation along the rays of the chest, without unit.
        added: what lesions add, of the same shape.
        pixel: edge of a pixel, mm.
        rng: of the noise.
    """
    def blur(image: np.ndarray, mm: float) -> np.ndarray:
        return gaussian_filter(image, mm / pixel, mode="nearest", truncate=2.5)

    direct = np.exp(-base)
    scattered = exposure.scatter * blur(direct, 35.0)
    clear = -np.log(direct + scattered)
    quanta = np.exp(-(base + added)) + scattered
    counts = quanta * (exposure.dose * (pixel / 0.7) ** 2)
    noise = rng.standard_normal(base.shape).astype(np.float32) / np.sqrt(np.maximum(counts, 1))
    density = blur(-np.log(quanta) + noise, exposure.blur)
    slow, middle = blur(clear, 25.0), blur(clear, 4.0)
    raised = (exposure.slow - exposure.middle) * slow + (exposure.middle - exposure.fine) * middle
    shown = raised + exposure.fine * density
    edge = len(base) // 10
    inner = (raised + exposure.fine * clear)[edge:-edge, edge:-edge]
    low, high = np.quantile(inner, exposure.ends)
    level = np.clip((shown - low) / (high - low), -0.1, 1.2) - 0.5
    ends = np.array([-0.5, 0.62])
    grey, (black, white) = (1 / (1 + np.exp(-exposure.curve * x)) for x in (level, ends))
    return np.clip((grey - black) / (white - black), 0, 1).astype(np.float32) ** exposure.gamma
