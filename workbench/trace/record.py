"""Record a trace: one forward pass over text that was already written.

The image's keys and values come from the engine's prefix where the model keeps one, so that only
question and answer are read again; attention rows are computed layer by layer for the positions
that chose a token and reduced at once. The vision tower runs once more where its rows are wanted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from workbench.backends.attending import Call, attention_rows, watch_attention
from workbench.backends.reader import Reader, Sizes
from workbench.errors import InputError, OptionError, check_one_of
from workbench.generation import Generation
from workbench.generation.engine import pixels_sha256
from workbench.model.costs import keeps_each
from workbench.model.placement import need_room
from workbench.model.sizes import tower
from workbench.radiograph import Radiograph
from workbench.trace.layout import TokenLayout
from workbench.trace.trace import AttentionRows, Trace, check_weights


@dataclass(eq=False)
class RowRecorder:
    """A watcher that keeps softmax rows of one tower, each reduced at once; it changes no output.

    Attributes:
        last: queries to keep, counted from the end; None keeps all.
        layers: numbers of the layers to keep; None keeps all.
        mean_heads: keep the mean over heads instead of every head.
        rows: layer -> (heads or 1, queries, keys) float32 on the CPU.
    """

    tower: str
    last: int | None = None
    layers: Collection[int] | None = None
    mean_heads: bool = False
    rows: dict[int, torch.Tensor] = field(default_factory=dict, repr=False)

    def __call__(self, call: Call) -> None:
        """Keep the rows of a call where they are wanted."""
        if call.tower != self.tower or (self.layers is not None and call.layer not in self.layers):
            return
        with torch.no_grad():
            rows = attention_rows(call, self.last)[0]
            if self.mean_heads:
                rows = rows.mean(0, keepdim=True)
            self.rows[call.layer] = rows.cpu()

    def stacked(self, keys: int = 0) -> torch.Tensor:
        """Return (layers, heads or 1, queries, keys), layers in order, at least so many keys.

        A layer with a sliding window may keep the last keys only; those before them got nothing.
        """
        longest = max(keys, *(rows.shape[-1] for rows in self.rows.values()))
        kept = (self.rows[layer] for layer in sorted(self.rows))
        return torch.stack([F.pad(rows, (longest - rows.shape[-1], 0)) for rows in kept])


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
            while that takes less than `workbench.model.costs.AUTO_BYTES`.
        layers: language layers to keep, negative ones counted from the last; None keeps all.
        vision: as `heads` for the vision tower, or "none".
        verify: refuse a text whose log-probabilities do not come back; False for a model that was
            changed on purpose.

    Raises:
        InputError: the generation is empty, was written by another model, or about another image.
        OptionError: heads, layers or vision are not allowed.
        DeviceError: there is not the memory for the rows.
    """
    check_one_of("heads", heads, HEADS)
    check_one_of("vision", vision, VISION)
    if not generation.token_ids:
        raise InputError("the generation holds no token; trace one that was written to its end")
    do = "trace it with the model that wrote it"
    check_weights("the text was written by", generation.model, model.identity, do)
    if verify and generation.pixels_sha256 not in ("", pixels_sha256(pixel_values)):
        raise _of_another_image(generation, image, "the model would see other pixels")
    sizes = model.sizes
    kept = _layers(layers, sizes)
    tokens = model.image_tokens(image, generation.prompt_ids)
    before, behind = (tuple(model.tokenizer.pieces(ids)) for ids in tokens.words)
    layout = TokenLayout(
        generation.text, generation.tokens, generation.offsets, before, behind,
        grid=tokens.grid, geometry=tokens.geometry,
    )  # fmt: skip
    count = len(generation.token_ids)
    size = 4 * len(kept) * count * layout.length
    mean = not keeps_each(heads, sizes.heads, size)
    size *= 1 if mean else sizes.heads
    need_room(torch.device("cpu"), size, f"a trace of {count} tokens", "give heads='mean'")
    recorder = RowRecorder("language", count, kept, mean)
    with model.exclusive():
        model.prefill(pixel_values, generation.prompt_ids)
        with watch_attention(model, recorder):
            logits = model.force(pixel_values, generation.prompt_ids, generation.token_ids)
        seen = _vision_rows(model, pixel_values, vision)
    chosen = torch.tensor(generation.token_ids, device=logits.device)[:, None]
    logprobs = logits.log_softmax(-1).gather(1, chosen)[:, 0].cpu().numpy()
    if verify:
        _check_same_run(generation, image, logprobs)
    rows = tokens.fold(recorder.stacked(int(tokens.behind[-1]) + count))
    # The last token was chosen but never read, so no row has a key for it.
    rows = F.pad(rows, (0, layout.length - rows.shape[-1]))
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


def _layers(layers: Sequence[int] | None, sizes: Sizes) -> tuple[int, ...]:
    if layers is None:
        return sizes.attending
    total = sizes.layers
    numbers = {layer + total if layer < 0 else layer for layer in layers}
    if not numbers or not numbers <= set(range(total)):
        raise OptionError(
            f"layers must be numbers from 0 to {total - 1} (or negative, from the last), "
            f"got {list(layers)}"
        )
    if not numbers <= set(sizes.attending):
        raise OptionError(
            f"layers {sorted(numbers - set(sizes.attending))} of this model have no attention; "
            f"choose from {', '.join(map(str, sizes.attending))}"
        )
    return tuple(sorted(numbers))


def _vision_rows(model: Reader, pixel_values: torch.Tensor, vision: str) -> AttentionRows | None:
    if vision == "none" or (vision == "auto" and not model.patchwise):
        return None
    if not model.patchwise:
        raise OptionError(
            f"{model.identity.id} has no vision tower of one stack over the patches of the whole "
            "image, so its rows are not recorded; leave vision out"
        )
    count, _, _, layers, heads = tower(model.network.config, 0)  # the class token looks too
    mean = not keeps_each(vision, heads, 4 * layers * count**2)
    recorder = RowRecorder("vision", mean_heads=mean)
    with torch.inference_mode(), watch_attention(model, recorder):
        model.vision(pixel_values)
    rows = recorder.stacked().numpy()
    return AttentionRows(rows, tuple(range(layers)), mean, layers, heads)


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
