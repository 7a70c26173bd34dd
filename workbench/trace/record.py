"""Record a trace: one forward pass over text that was already written.

The image's keys and values come from the engine's prefix, so that only question and answer are read
again; attention rows are computed layer by layer for the positions that chose a token and reduced
at once. The vision tower runs once more where its rows are wanted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from workbench.backends import Reader
from workbench.errors import InputError, OptionError
from workbench.generation import Generation
from workbench.generation.engine import pixels_sha256
from workbench.radiograph import Radiograph
from workbench.trace.capture import RowRecorder, watch_attention
from workbench.trace.layout import TokenLayout
from workbench.trace.trace import AttentionRows, Trace

#: "auto" keeps every head while the rows of a tower take less than this many bytes.
AUTO_BYTES = 256 << 20

HEADS = ("auto", "each", "mean")
VISION = (*HEADS, "none")

#: Largest difference between a token's log-probability when written and when read again.
TOLERANCE = {"float32": 0.02}
_LOOSE = 1.0


def record_trace(
    model: Reader,
    image: Radiograph,
    pixel_values: torch.Tensor,
    generation: Generation,
    *,
    heads: str = "auto",
    layers: Sequence[int] | None = None,
    vision: str = "auto",
    verify: bool = True,
) -> Trace:
    """Record one run of the model that wrote a generation about an image.

    Args:
        pixel_values: (1, 1, S, S) normalised.
        heads: "each" keeps every head of the language model, "mean" their mean, "auto" every head
            while that takes less than `AUTO_BYTES`.
        layers: language layers to keep, negative ones counted from the last; None keeps all.
        vision: as `heads` for the vision tower, or "none".
        verify: refuse a text whose log-probabilities do not come back; False for a model that was
            changed on purpose.

    Raises:
        InputError: the generation is empty, was written by another model, or about another image.
        OptionError: heads, layers or vision are not allowed.
    """
    _check(model, generation, heads, vision)
    if verify:
        _check_pixels(generation, image, pixel_values)
    sizes = model.sizes
    kept = _layers(layers, sizes.layers)
    layout = token_layout(model, image, generation)
    count = len(generation.token_ids)
    mean = _mean(heads, sizes.heads, len(kept) * count * layout.length)
    recorder = RowRecorder("language", count, kept, mean)
    with model.exclusive():
        model.prefill(pixel_values, generation.prompt_ids)
        with watch_attention(model, recorder):
            logits = model.force(pixel_values, generation.prompt_ids, generation.token_ids)
        seen = _vision_rows(model, pixel_values, vision)
    logprobs = _logprobs(logits, generation.token_ids)
    if verify:
        _check_same_run(generation, image, logprobs)
    rows = recorder.stacked()
    # The last token was chosen but never read, so no row has a key for it.
    rows = torch.nn.functional.pad(rows, (0, layout.length - rows.shape[-1]))
    return Trace(
        layout=layout,
        generation=generation,
        image=image,
        pixel_values=pixel_values[0].detach().to("cpu", torch.float32).numpy(),
        logprobs=logprobs,
        language=AttentionRows(rows.numpy(), kept, mean, sizes.layers, sizes.heads),
        vision=seen,
        model=model,
    )


def token_layout(model: Reader, image: Radiograph, generation: Generation) -> TokenLayout:
    """Return the layout of a generation about an image."""
    head, tail = model.split(generation.prompt_ids)
    before, behind = (tuple(model.tokenizer.pieces(ids)) for ids in (head[:-1], tail))
    return TokenLayout(
        generation.text, generation.tokens, generation.offsets, before, behind,
        grid=model.sizes.grid, geometry=model.geometry(image),
    )  # fmt: skip


def _check(model: Reader, generation: Generation, heads: str, vision: str) -> None:
    for value, allowed, name in ((heads, HEADS, "heads"), (vision, VISION, "vision")):
        if value not in allowed:
            raise OptionError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    if not generation.token_ids:
        raise InputError("the generation holds no token; trace one that was written to its end")
    wrote, here = generation.model, model.identity
    if wrote.sha256 != here.sha256:
        raise InputError(
            f"the text was written by {wrote.id} ({wrote.sha256[:12]}), this model is {here.id} "
            f"({here.sha256[:12]}); trace it with the model that wrote it"
        )


def _layers(layers: Sequence[int] | None, total: int) -> tuple[int, ...]:
    if layers is None:
        return tuple(range(total))
    numbers = {layer + total if layer < 0 else layer for layer in layers}
    if not numbers or not numbers <= set(range(total)):
        raise OptionError(
            f"layers must be numbers from 0 to {total - 1} (or negative, from the last), "
            f"got {list(layers)}"
        )
    return tuple(sorted(numbers))


def _mean(heads: str, count: int, rows: int) -> bool:
    if heads == "auto":
        return count * rows * 4 > AUTO_BYTES
    return heads == "mean"


def _vision_rows(model: Reader, pixel_values: torch.Tensor, vision: str) -> AttentionRows | None:
    if vision == "none":
        return None
    sizes = model.sizes
    count = sizes.grid[0] * sizes.grid[1] + 1  # the class token looks too
    mean = _mean(vision, sizes.vision_heads, sizes.vision_layers * count**2)
    recorder = RowRecorder("vision", mean_heads=mean)
    with torch.inference_mode(), watch_attention(model, recorder):
        model.vision(pixel_values)
    rows = recorder.stacked().numpy()
    return AttentionRows(
        rows, tuple(range(sizes.vision_layers)), mean, sizes.vision_layers, sizes.vision_heads
    )


def _logprobs(logits: torch.Tensor, tokens: Sequence[int]) -> np.ndarray:
    chosen = torch.tensor(tokens, device=logits.device)[:, None]
    return logits.log_softmax(-1).gather(1, chosen)[:, 0].cpu().numpy()


def _check_pixels(generation: Generation, image: Radiograph, pixel_values: torch.Tensor) -> None:
    known = generation.pixels_sha256
    if known and known != pixels_sha256(pixel_values):
        raise _of_another_image(generation, image, "the model would see other pixels")


def _check_same_run(generation: Generation, image: Radiograph, logprobs: np.ndarray) -> None:
    apart = float(np.abs(logprobs - generation.logprobs).max())
    allowed = TOLERANCE.get(generation.model.dtype, _LOOSE)
    if apart > allowed:
        differ = f"log-probabilities differ by up to {apart:.3g} (allowed {allowed:g})"
        raise _of_another_image(generation, image, differ)


def _of_another_image(generation: Generation, image: Radiograph, why: str) -> InputError:
    return InputError(
        f"the text was written about {generation.source!r} and does not come back with "
        f"{image.contract.source!r}: {why}; trace it with the image, and the fit, it was written "
        "about"
    )
