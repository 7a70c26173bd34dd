"""Nudges: films that differ from one by less than a reader would notice.

A finding that is there survives a shift by two per cent of the side, a little blur, a little grain
and another exposure; one that was read into the film often does not. So a statement is judged by
its mean over nudged films.

Does not know: texts. Made at the model's input, (S, S), like ablations.
Source: test-time augmentation as a measure of uncertainty, Wang et al., Neurocomputing 2019, arXiv
1807.07356; we nudge a text's score and not a segmentation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, shift

#: Name -> shift down and right as parts of the side.
_SHIFTS = {
    "shifted down": (0.023, 0.0),
    "shifted up": (-0.023, 0.0),
    "shifted right": (0.0, 0.023),
    "shifted left": (0.0, -0.023),
    "shifted aslant": (0.016, 0.016),
}
_GAMMAS = {"darker": 1.15, "brighter": 0.87}
_BLUR = 0.0047
_GRAIN = 0.03

#: Every nudge, in order.
NUDGES = (*_SHIFTS, *_GAMMAS, "softer", "grainier")


def nudged_images(model: Any, pixels: np.ndarray, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return all nudges of one film by name.

    Args:
        model: a `ChestXrayModel`; its processor says what mean and spread are.
        pixels: (1, S, S) float32, normalised.
        seed: of the grain.

    Returns:
        name -> (1, 1, S, S) float32, normalised.
    """
    processor = model.loaded.processor
    film = processor.restore(pixels[0])
    side = len(film)
    found = {
        name: shift(film, (down * side, right * side), order=1, mode="nearest")
        for name, (down, right) in _SHIFTS.items()
    }
    found |= {name: film**gamma for name, gamma in _GAMMAS.items()}
    found["softer"] = gaussian_filter(film, _BLUR * side)
    noise = np.random.default_rng([seed, 2]).standard_normal(film.shape)
    found["grainier"] = film + _GRAIN * noise
    return {
        name: torch.from_numpy(processor.normalise(np.clip(changed, 0, 1)))[None, None]
        for name, changed in found.items()
    }
