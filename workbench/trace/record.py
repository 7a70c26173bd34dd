"""Record a trace: one forward pass over text that was already written; and watch attention.

The image's keys and values come from the engine's prefix, so that only question and answer are read
again; attention rows are computed layer by layer for the positions that chose a token and reduced
at once. The vision tower runs once more where its rows are wanted.

`watch_attention` registers one attention function and its mask function with transformers under a
name of its own, points the configurations of the vision tower and of the language model at it, and
takes both away when the block ends, however it ends. The function lets the model's usual
implementation compute the output and hands queries and keys to a watcher, so what the model says
does not change.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench._repr import short_repr
from workbench.backends import Reader
from workbench.errors import InputError, OptionError, check_one_of
from workbench.generation import Generation
from workbench.generation.engine import pixels_sha256
from workbench.model.vision import VisionAttention
from workbench.radiograph import Radiograph
from workbench.trace.layout import TokenLayout
from workbench.trace.trace import AttentionRows, Trace, check_weights

#: Under which the functions are registered while a block runs; a number follows.
NAME = "workbench-watch"
_numbers = itertools.count()


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one attention layer.

    Attributes:
        layer: its number, from 0, of `tower` "vision" or "language".
        query: (B, heads, Q, D).
        key, value: (B, key heads, K, D); fewer key heads than heads with grouped queries.
        mask: additive or boolean mask broadcastable to (B, heads, Q, K), or None.
        scaling: factor on the scores.
        causal: whether query i of Q may look at keys up to K - Q + i only.
    """

    layer: int
    tower: str
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    scaling: float
    causal: bool

    __repr__ = short_repr


@contextmanager
def watch_attention(
    model: Reader, watcher: Callable[[Call], torch.Tensor | None]
) -> Iterator[None]:
    """Show every attention call of a model to a watcher while the block runs.

    It returns the layer's output (B, Q, heads, D) to replace it, or None.
    """
    name = f"{NAME}-{next(_numbers)}"
    configs = (model.vision.config, model.decoder.config)
    before = [config._attn_implementation for config in configs]
    # "eager" is no registered function; sdpa computes the same output.
    usual = {
        id(config): "sdpa" if own in (None, "eager") else own
        for config, own in zip(configs, before, strict=True)
    }

    def attend(module, query, key, value, attention_mask, **options):
        vision = isinstance(module, VisionAttention)
        causal = not vision and query.shape[2] > 1
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        tower = "vision" if vision else "language"
        call = Call(module.layer_idx, tower, query, key, value, attention_mask, scaling, causal)
        output = watcher(call)
        if output is not None:
            return output, None
        base = ALL_ATTENTION_FUNCTIONS[usual[id(module.config)]]
        return base(module, query, key, value, attention_mask, **options)

    # An implementation without a mask function of its own gets masks as the caller gave them.
    mask = ALL_MASK_ATTENTION_FUNCTIONS.get(usual[id(model.decoder.config)])
    try:
        AttentionInterface.register(name, attend)
        if mask is not None:
            AttentionMaskInterface.register(name, mask)
        for config in configs:
            config._attn_implementation = name
        yield
    finally:
        for config, implementation in zip(configs, before, strict=True):
            config._attn_implementation = implementation
        AttentionInterface._global_mapping.pop(name, None)
        AttentionMaskInterface._global_mapping.pop(name, None)


def attention_rows(call: Call, last: int | None = None) -> torch.Tensor:
    """Return softmax rows (B, heads, last, K) of a call, as eager attention computes them.

    float32 and differentiable. Every row sums to 1, the causal mask is applied before the softmax,
    and a row that may look nowhere (padding) is uniform. `last` queries are read; all when None.
    """
    query = call.query if last is None else call.query[:, :, -last:]
    batch, heads, rows, width = query.shape
    # Heads that share a key stand together; the scale goes to the smaller factor.
    grouped = (query.float() * call.scaling).reshape(batch, call.key.shape[1], -1, width)
    scores = (grouped @ call.key.float().transpose(-1, -2)).view(batch, heads, rows, -1)
    length, lowest = scores.shape[-1], torch.finfo(torch.float32).min
    if call.mask is not None:
        mask = call.mask[..., -rows:, :length]
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, lowest)
        else:
            scores = scores + mask.float()
    elif call.causal:
        keys_at = torch.arange(length, device=scores.device)
        queries_at = keys_at[length - rows :]
        scores = scores.masked_fill(keys_at[None] > queries_at[:, None], lowest)
    return scores.softmax(-1)


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

    def stacked(self) -> torch.Tensor:
        """Return (layers, heads or 1, queries, keys), layers in order."""
        return torch.stack([self.rows[layer] for layer in sorted(self.rows)])


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
    check_one_of("heads", heads, HEADS)
    check_one_of("vision", vision, VISION)
    if not generation.token_ids:
        raise InputError("the generation holds no token; trace one that was written to its end")
    do = "trace it with the model that wrote it"
    check_weights("the text was written by", generation.model, model.identity, do)
    if verify and generation.pixels_sha256 not in ("", pixels_sha256(pixel_values)):
        raise _of_another_image(generation, image, "the model would see other pixels")
    sizes = model.sizes
    kept = _layers(layers, sizes.layers)
    head, tail = model.split(generation.prompt_ids)
    before, behind = (tuple(model.tokenizer.pieces(ids)) for ids in (head[:-1], tail))
    layout = TokenLayout(
        generation.text, generation.tokens, generation.offsets, before, behind,
        grid=sizes.grid, geometry=model.geometry(image),
    )  # fmt: skip
    count = len(generation.token_ids)
    mean = _mean(heads, sizes.heads, len(kept) * count * layout.length)
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
