"""Changes of training images that keep what is true of them, sides above all.

Exposure, contrast, blur and noise as `mini` was trained with; never a mirror, unless the text is
mirrored too (`mirrored`). Each change is a pure function of seed, pass and case, so that a resumed
run and a run on two processes see the same images.
"""

from __future__ import annotations

import re

import numpy as np
import torch
import torch.nn.functional as F

from workbench.errors import InputError

_SIDES = {"left": "right", "right": "left", "Left": "Right", "Right": "Left",
          "LEFT": "RIGHT", "RIGHT": "LEFT"}  # fmt: skip
_SIDE = re.compile(rf"\b({'|'.join(_SIDES)})\b")
#: Anatomy that has one side only: a mirrored chest would be another patient.
_FIXED = re.compile(r"\b(?:ventric\w+|atri\w+|aort\w+|gastric|stomach|liver|spleen|middle lobe|"
                    r"lingula\w*|dextrocardia|situs)\b", re.IGNORECASE)  # fmt: skip


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change exposure, contrast, blur and noise; never the geometry, so sides stay sides.

    Args:
        pixels: (B, S, S) in [0, 1].
        generator: source of all randomness.
    """
    batch = len(pixels)

    def draw(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(batch, 1, 1, generator=generator)

    changed = pixels.clamp_min(1e-4) ** torch.exp(draw(-0.5, 0.45))
    changed = 0.5 + (changed - 0.5) * draw(0.65, 1.12) + draw(-0.10, 0.08)
    soft = F.avg_pool2d(changed[:, None], 3, 1, 1, count_include_pad=False)[:, 0]
    changed = torch.lerp(changed, soft, draw(-0.3, 0.9).clamp_min(0))
    noise = torch.randn(pixels.shape, generator=generator)
    changed = changed + noise * draw(0.0, 0.045) * (0.4 + 0.8 * changed)
    plain = (draw(0, 1) < 0.25).float()
    return (plain * pixels + (1 - plain) * changed).clamp(0, 1)


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
