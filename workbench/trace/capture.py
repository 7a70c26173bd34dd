"""Watch a model's attention through transformers' registry, and leave nothing behind.

`watch_attention` registers one attention function and its mask function under a name of its own,
points the configurations of the vision tower and of the language model at it, and takes both away
when the block ends, however it ends. The function lets the model's usual implementation compute the
output and hands queries and keys to a watcher, so what the model says does not change.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench._repr import short_repr
from workbench.backends import Reader
from workbench.model.vision import VisionAttention

#: Under which the functions are registered while a block runs; a number follows.
NAME = "workbench-watch"
_numbers = itertools.count()


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one attention layer.

    Attributes:
        layer: its number, from 0.
        tower: "vision" or "language".
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


#: Sees a call; returns the layer's output (B, Q, heads, D) to replace it, or None.
Watcher = Callable[[Call], torch.Tensor | None]


@contextmanager
def watch_attention(model: Reader, watcher: Watcher) -> Iterator[None]:
    """Show every attention call of a model to a watcher while the block runs."""
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
