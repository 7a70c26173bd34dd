"""Watch a model's attention through transformers' registry, and leave nothing behind.

`watch_attention` registers one attention function and its mask function under a name of its own,
points the configurations of the vision tower and of the language model at it, and takes both away
again when the block ends, however it ends. The function lets the model's usual implementation
compute the output and hands queries and keys to a watcher, so what the model says does not change.

`RowRecorder` is a watcher that computes softmax rows of the last queries of each layer and reduces
them at once (mean over heads where asked), so that no full attention matrix outlives its layer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn
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
        module: the attention layer; `module.layer_idx` is its number.
        tower: "vision" or "language".
        query: (B, heads, Q, D).
        key: (B, key heads, K, D); fewer key heads than heads with grouped queries.
        value: (B, key heads, K, D).
        mask: additive or boolean mask broadcastable to (B, heads, Q, K), or None.
        scaling: factor on the scores.
        causal: whether query i of Q may look at keys up to K - Q + i only.
    """

    module: nn.Module
    tower: str
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    scaling: float
    causal: bool

    __repr__ = short_repr

    @property
    def layer(self) -> int:
        """Number of the layer, from 0."""
        return cast(int, self.module.layer_idx)


#: Sees a call; returns the layer's output (B, Q, heads, D) to replace it, or None.
Watcher = Callable[[Call], torch.Tensor | None]


@contextmanager
def watch_attention(model: Reader, watcher: Watcher) -> Iterator[None]:
    """Show every attention call of a model to a watcher while the block runs.

    Args:
        model: the model that is watched.
        watcher: is called for every layer; what it returns, if not None, becomes the output.
    """
    name = f"{NAME}-{next(_numbers)}"
    configs = (model.vision.config, model.decoder.config)
    before = [config._attn_implementation for config in configs]
    # "eager" is no registered function; sdpa computes the same output.
    usual = {id(c): _known(b) for c, b in zip(configs, before, strict=True)}

    def attend(module, query, key, value, attention_mask, **options):
        vision = isinstance(module, VisionAttention)
        causal = not vision and query.shape[2] > 1
        scaling = options.get("scaling") or query.shape[-1] ** -0.5
        tower = "vision" if vision else "language"
        call = Call(module, tower, query, key, value, attention_mask, scaling, causal)
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


def _known(implementation: str | None) -> str:
    return "sdpa" if implementation in (None, "eager") else implementation


def attention_rows(call: Call, last: int | None = None) -> torch.Tensor:
    """Return softmax rows of a call, as eager attention computes them.

    Args:
        call: one layer's queries and keys.
        last: only the last so many queries; all when None.

    Returns:
        (B, heads, last, K) float32; every row sums to 1, and the causal mask is applied before the
        softmax. A row that may look nowhere (padding) is uniform. Differentiable.
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


class RowRecorder:
    """A watcher that keeps reduced rows of one tower.

    Args:
        tower: "vision" or "language".
        last: queries to keep, counted from the end; None keeps all.
        layers: numbers of the layers to keep; None keeps all.
        mean_heads: keep the mean over heads instead of every head.

    Attributes:
        rows: layer -> (heads or 1, queries, keys) float32 on the CPU.
    """

    def __init__(
        self,
        tower: str,
        *,
        last: int | None = None,
        layers: Sequence[int] | None = None,
        mean_heads: bool = False,
    ) -> None:
        self.tower = tower
        self.last = last
        self.layers = None if layers is None else frozenset(layers)
        self.mean_heads = mean_heads
        self.rows: dict[int, torch.Tensor] = {}

    def __call__(self, call: Call) -> None:
        """Keep the rows of a call where they are wanted; never changes the output."""
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
