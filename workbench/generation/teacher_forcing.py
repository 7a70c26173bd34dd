"""Read one text with many images: the same tokens, teacher-forced, image after image in one batch.

Every image's keys and values come from the engine's prefix, which is computed alone; the text is
then read once for all of them together. Images that lead to the very same prefix share a row, and
rows are put in an order that depends on their pixels only: so an image that is given twice differs
from itself by exactly 0, and the order in which images are given changes no bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from workbench._repr import short_repr
from workbench.errors import InputError, OptionError
from workbench.generation.engine import Engine, check_finite, pixels_sha256
from workbench.generation.kvcache import ImagePrefix
from workbench.generation.options import DecodingSettings

if TYPE_CHECKING:
    from workbench.generation.responder import Responder


@dataclass(frozen=True, eq=False)
class Reading:
    """What a model made of given tokens, image by image.

    Attributes:
        logprobs: natural log-probability of each token.
        entropies: entropy of what each token was chosen from, nats.
    """

    logprobs: Float[np.ndarray, "images n"]
    entropies: Float[np.ndarray, "images n"]

    __repr__ = short_repr


def read_with(
    responder: Responder,
    pixels: Sequence[torch.Tensor],
    prompt_ids: Sequence[int],
    tokens: Sequence[int],
    *,
    batch_size: int = 16,
) -> Reading:
    """Let a model read the same n >= 1 tokens with each of several images.

    Args:
        pixels: (1, 1, S, S) normalised pixels, one for each image.
        batch_size: images read together; fewer take less memory.

    Raises:
        InputError: there is no image or no token.
        OptionError: batch_size is below 1.
        ContextBudgetError: prompt, image and tokens do not fit the context.
        DeviceError: a log-probability is not finite.
    """
    if not len(pixels) or not len(tokens):
        raise InputError(
            f"expected at least one image and one token, got {len(pixels)} and {len(tokens)}"
        )
    if batch_size < 1:
        raise OptionError(f"batch_size must be a whole number from 1 up, got {batch_size!r}")
    responder.budget.resolve(DecodingSettings(max_new_tokens=len(tokens)), len(prompt_ids))
    by_hash = {pixels_sha256(image): image for image in pixels}
    order = sorted(by_hash)
    rows: dict[str, np.ndarray] = {}
    for start in range(0, len(order), batch_size):
        chunk = order[start : start + batch_size]
        found = _read(responder.engine, [by_hash[key] for key in chunk], prompt_ids, tokens)
        rows.update(zip(chunk, found, strict=True))
    reading = Reading(*np.stack([rows[pixels_sha256(image)] for image in pixels], axis=1))
    check_finite(reading.logprobs, responder.identity.dtype)
    return reading


@torch.inference_mode()
def _read(
    engine: Engine, pixels: Sequence[torch.Tensor], ids: Sequence[int], tokens: Sequence[int]
) -> list[np.ndarray]:
    """Return log-probabilities and entropies (2, n) of each image of one batch."""
    _, tail = engine.split(ids)
    with engine.exclusive():
        prefixes: list[ImagePrefix] = []
        rows = [_row_of(prefixes, engine.prefix(image, ids)) for image in pixels]
        hidden = engine.read(prefixes, tail, tokens)
        found = [_measured(engine.model.lm_head(row).float(), tokens) for row in hidden]
    return [found[row] for row in rows]


def _row_of(prefixes: list[ImagePrefix], prefix: ImagePrefix) -> int:
    """Return the row of a prefix, adding it where no equal one is there."""
    for row, other in enumerate(prefixes):
        pairs = zip(prefix.layers, other.layers, strict=True)
        if all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs):
            return row
    prefixes.append(prefix)
    return len(prefixes) - 1


def _measured(logits: torch.Tensor, tokens: Sequence[int]) -> np.ndarray:
    logs = logits.double().log_softmax(-1)
    chosen = torch.tensor(list(tokens), device=logits.device)[:, None]
    entropy = -logs.exp().mul_(logs).nan_to_num_(0.0).sum(-1)
    return torch.stack((logs.gather(1, chosen)[:, 0], entropy)).cpu().numpy()
