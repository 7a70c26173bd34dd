"""From attenuation along rays to the grey levels of a digital radiograph.

Quanta that pass, scatter behind a grid, blur and noise of the detector, the logarithm, and the
processing of a digital system: slow changes are compressed, fine ones raised, and a sigmoid curve
makes grey levels. What the processing raises, and where its curve begins and ends, is taken from
the chest without lesions: a lesion changes the image where its rays are, and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter

#: Between the widths of structures that are shown differently, mm.
WIDTHS = (30.0, 6.0, 1.5)


@dataclass(frozen=True)
class Exposure:
    """How a radiograph is taken and processed.

    Attributes:
        dose: quanta a pixel of 0.7 mm where nothing attenuates.
        scatter: of what reaches the detector directly.
        blur: of the detector, mm.
        slow, middle, fine, sharp: how strongly structures are shown that are wider than 30 mm, 6 to
            30 mm, 1.5 to 6 mm, and finer.
        half: density at which the curve has done 63 % of its way, and `white` the one that is
            white; 1 is that of the mediastinum.
        gamma: of the grey levels, and `top` the one that is shown as white.
    """

    dose: float = 120_000.0
    scatter: float = 0.15
    blur: float = 0.3
    slow: float = 0.85
    middle: float = 1.1
    fine: float = 1.7
    sharp: float = 3.0
    half: float = 1.0
    white: float = 1.3
    gamma: float = 1.3
    top: float = 0.9

    @property
    def gains(self) -> tuple[float, ...]:
        """How strongly structures are shown, from wide to fine; `WIDTHS` lie between them."""
        return self.slow, self.middle, self.fine, self.sharp

    def gain(self, width: float) -> float:
        """Return how strongly a structure of some mm is shown."""
        return self.gains[sum(width < limit for limit in WIDTHS)]


def expose(
    base: np.ndarray,
    added: np.ndarray,
    exposure: Exposure,
    pixel: float,
    rng: np.random.Generator,
    *,
    gain: np.ndarray | float,
) -> np.ndarray:
    """Return grey levels (size, size) float32 in [0, 1], bright where much attenuates.

    Args:
        base: attenuation along the rays of the chest, without unit.
        added: what lesions add, of the same shape.
        pixel: edge of a pixel, mm.
        rng: of the noise.
        gain: how strongly the processing shows what lesions add; (size, size) or one for all.
    """

    def blur(image: np.ndarray, mm: float) -> np.ndarray:
        return gaussian_filter(image, mm / pixel, mode="nearest", truncate=2.5)

    direct = np.exp(-base)
    scattered = exposure.scatter * blur(direct, 35.0)
    clear = -np.log(direct + scattered)
    quanta = np.exp(-(base + added)) + scattered
    counts = quanta * (exposure.dose * (pixel / 0.7) ** 2)
    noise = rng.standard_normal(base.shape).astype(np.float32) / np.sqrt(np.maximum(counts, 1))
    lesion = -np.log(quanta) - clear
    shown = exposure.sharp * clear
    for width, (wide, finer) in zip(WIDTHS, pairwise(exposure.gains), strict=True):
        shown += (wide - finer) * blur(clear, width)
    black, dense = np.quantile(shown, (0.005, 0.9))
    shown += gain * lesion + exposure.fine * blur(noise, exposure.blur)
    half, white = (share * (dense - black) for share in (exposure.half, exposure.white))
    level = (1 - np.exp(-(shown - black) / half)) / (1 - np.exp(-white / half))
    return np.float32(exposure.top) * np.clip(level, 0, 1).astype(np.float32) ** exposure.gamma
