"""Changes of training images that keep what is true of them, sides above all.

Exposure, contrast, blur and noise as `mini` was trained with; never a mirror, unless the text is
mirrored too (`mirrored`). Each change is a pure function of seed, pass and case, so that a resumed
run and a run on two processes see the same images.

Does not know: reports.
"""

from __future__ import annotations

import re

import numpy as np
import torch

from workbench.errors import InputError
from workbench.finetune.mini.encoder import augment

_SIDES = {"left": "right", "right": "left", "Left": "Right", "Right": "Left",
          "LEFT": "RIGHT", "RIGHT": "LEFT"}  # fmt: skip
_SIDE = re.compile(rf"\b({'|'.join(_SIDES)})\b")
#: Anatomy that has one side only: a mirrored chest would be another patient.
_FIXED = re.compile(r"\b(?:ventric\w+|atri\w+|aort\w+|gastric|stomach|liver|spleen|middle lobe|"
                    r"lingula\w*|dextrocardia|situs)\b", re.IGNORECASE)  # fmt: skip


def augmented(pixels: torch.Tensor, *, seed: int, epoch: int, case: int) -> torch.Tensor:
    """Return one image with another exposure, contrast, blur and noise.

    Args:
        pixels: (S, S) in [0, 1].
        seed, epoch, case: decide the change.
    """
    number = int(np.random.SeedSequence([seed, 75, epoch, case]).generate_state(1)[0])
    generator = torch.Generator().manual_seed(number)
    return augment(pixels[None], generator)[0]


def mirrored(pixels: np.ndarray, text: str) -> tuple[np.ndarray, str]:
    """Return an image turned left to right together with its text.

    A mirrored heart is still a heart on the wrong side: use it where sides are all that matters.

    Args:
        pixels: (H, W).
        text: every left becomes right and the reverse.

    Raises:
        InputError: the text speaks of anatomy that has one side only.
    """
    if found := _FIXED.search(text):
        raise InputError(
            f"the text speaks of {found[0]!r}, which has one side only; it cannot be mirrored"
        )
    return pixels[:, ::-1].copy(), _SIDE.sub(lambda match: _SIDES[match[0]], text)
