"""Watch, or replace, attention and states of any transformers model, and leave nothing behind.

One attention function and its mask function are registered under a name of their own, every
configuration of the model is pointed at it, and both are taken away when the block ends, however it
ends. The function lets the implementation that was there compute the output, so what the model
writes does not change.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from workbench._repr import short_repr
from workbench.errors import CheckpointError

#: Under which the functions are registered while a block runs; a number follows.
NAME = "workbench-watch"
_numbers = itertools.count()


@dataclass(frozen=True, eq=False)
class Call:
    """One call of one attention layer.

    Attributes:
        layer: its number within the tower, "vision" or "language", from 0.
        query: (B, heads, Q, D).
        key, value: (B, key heads, K, D); fewer key heads than heads with grouped queries.
        mask: additive or boolean, broadcastable to (B, heads, Q, K).
        scaling: factor on the scores.
        causal: whether query i of Q may look at keys up to K - Q + i only.
        softcap: scores s become softcap * tanh(s / softcap); None where they stay.
        start: place of the first query in the decoder's sequence; what was read before is kept.
        usual: computes the output (B, Q, heads, D) that the layer would have by itself.
    """

    layer: int
    tower: str
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None
    scaling: float
    causal: bool
    softcap: float | None = None
    start: int = 0
    usual: Callable[[], torch.Tensor] = torch.Tensor

    __repr__ = short_repr


class Watched(Protocol):
    """A network, or a reader of one, that knows its decoder."""

    @property
    def decoder(self) -> PreTrainedModel: ...


#: Sees a call; returns the layer's output (B, Q, heads, D) to replace it, or None.
Watcher = Callable[[Call], torch.Tensor | None]

#: Sees the number of a layer of the decoder, the place of the first position in the sequence, and
#: the states (B, Q, H) that enter the layer; returns states to put in their stead, or None.
StateWatcher = Callable[[int, int, torch.Tensor], torch.Tensor | None]


@contextmanager
def watch_attention(model: Watched, watcher: Watcher) -> Iterator[None]:
    """Show every attention call of a model to a watcher while the block runs.

    Layers of its decoder are the tower "language", all others "vision".
    """
    network: Any = getattr(model, "network", model)
    decoder = model.decoder
    name = f"{NAME}-{next(_numbers)}"
    usual: dict[int, str] = {}
    inside = {id(part) for part in decoder.modules()}
    numbers: dict[str, dict[int, int]] = {"vision": {}, "language": {}}

    def attend(module, query, key, value, attention_mask=None, **options):
        tower = "language" if id(module) in inside else "vision"
        own, seen = getattr(module, "layer_idx", None), numbers[tower]
        layer = own if own is not None else seen.setdefault(id(module), len(seen))

        def plain():
            base = _function(usual.get(id(module.config), "sdpa"), module)
            return base(module, query, key, value, attention_mask, **options)

        causal = options.get("is_causal")
        if causal is None:
            causal = getattr(module, "is_causal", tower == "language")
        call = Call(
            layer, tower, query, key, value, attention_mask,
            scaling=options.get("scaling") or query.shape[-1] ** -0.5,
            causal=bool(causal) and query.shape[2] > 1,
            softcap=options.get("softcap"),
            start=start[0] if tower == "language" else 0,
            usual=lambda: plain()[0],
        )  # fmt: skip
        output = watcher(call)
        return plain() if output is None else (output, None)

    # An implementation without a mask function of its own gets masks as the caller gave them.
    masks = ALL_MASK_ATTENTION_FUNCTIONS.get(decoder.config._attn_implementation or "sdpa")
    try:
        AttentionInterface.register(name, attend)
        if masks is not None:
            AttentionMaskInterface.register(name, masks)
        with attention_put_back(network) as configs:
            usual.update((id(one), one._attn_implementation or "sdpa") for one in configs)
            for config in configs:
                config._attn_implementation = name
            with _places(decoder) as start:
                yield
    finally:
        AttentionInterface._global_mapping.pop(name, None)
        AttentionMaskInterface._global_mapping.pop(name, None)


@contextmanager
def attention_put_back(network: nn.Module) -> Iterator[list[Any]]:
    """Show every configuration in a network that names an implementation of attention.

    After the block each names its own again; setting one sets those inside it.
    """
    every = (getattr(part, "config", None) for part in network.modules())
    found: dict[int, Any] = {id(one): one for one in every if hasattr(one, "_attn_implementation")}
    before = [(config, config._attn_implementation) for config in found.values()]
    try:
        yield list(found.values())
    finally:
        for config, own in before:
            config._attn_implementation = own


@contextmanager
def watch_states(model: Watched, watcher: StateWatcher) -> Iterator[None]:
    """Show what enters each layer of a model's decoder to a watcher while the block runs.

    transformers' own `output_hidden_states` hangs hooks on the model that it never takes off.
    """

    def see(layer: int, module: nn.Module, args: tuple, options: dict[str, Any]):
        states = watcher(layer, start[0], args[0] if args else options["hidden_states"])
        if states is None:
            return None
        return ((states, *args[1:]), options) if args else ((), options | {"hidden_states": states})

    with _places(model.decoder) as start, ExitStack() as hooks:
        for number, layer in enumerate(cast(nn.ModuleList, model.decoder.layers)):
            hook = layer.register_forward_pre_hook(partial(see, number), with_kwargs=True)
            hooks.enter_context(hook)
        yield


@contextmanager
def checkpointed(network: nn.Module) -> Iterator[None]:
    """Keep of each layer only what enters it, and compute the rest again on the way back.

    Numbers stay the same. transformers' own checkpointing would ask for training mode.
    """
    layers = [part for part in network.modules() if isinstance(part, GradientCheckpointingLayer)]
    before = [vars(layer).get("forward") for layer in layers]  # accelerate puts its own there
    try:
        for layer in layers:
            layer.forward = partial(
                checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False
            )
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is not None:
                layer.forward = own
            else:
                vars(layer).pop("forward", None)


@contextmanager
def _places(decoder: PreTrainedModel) -> Iterator[list[int]]:
    """Hold, in a list of one, how many positions were read before those that a decoder reads."""
    start = [0]

    def count(module: nn.Module, args: tuple, options: dict[str, Any]) -> None:
        cache = options.get("past_key_values")
        start[0] = 0 if cache is None else int(cache.get_seq_length())

    with decoder.register_forward_pre_hook(count, with_kwargs=True):
        yield start


def _function(name: str, module: nn.Module) -> Callable:
    """Return an implementation; "eager" is no registered one but stands beside the layer."""
    if name != "eager":
        return ALL_ATTENTION_FUNCTIONS[name]
    return sys.modules[type(module).__module__].eager_attention_forward


def attention_rows(
    call: Call, last: int | None = None, *, hidden: torch.Tensor | None = None
) -> torch.Tensor:
    """Return softmax rows (B, heads, last, K) of a call, as eager attention computes them.

    float32 and differentiable. Every row sums to 1, the causal mask is applied before the softmax,
    and a row that may look nowhere (padding) is uniform. `last` queries are read; all when None.
    Keys that are `hidden` (last, K) from a query get exactly nothing.
    """
    query = call.query if last is None else call.query[:, :, -last:]
    batch, heads, rows, width = query.shape
    # Heads that share a key stand together; the scale goes to the smaller factor.
    grouped = (query.float() * call.scaling).reshape(batch, call.key.shape[1], -1, width)
    scores = (grouped @ call.key.float().transpose(-1, -2)).view(batch, heads, rows, -1)
    if call.softcap is not None:
        scores = torch.tanh(scores / call.softcap) * call.softcap
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
    return (scores if hidden is None else scores.masked_fill(hidden, lowest)).softmax(-1)


def own_value(call: Call) -> torch.Tensor:
    """Let every position look at itself only; a watcher that finds what depends on what.

    Raises:
        CheckpointError: the layer's queries and keys are not the same positions.
    """
    if call.query.shape[2] != call.key.shape[2]:
        raise CheckpointError(
            "an attention layer reads other positions than its own (a resampler), so that an image "
            "token has no place in the image"
        )
    groups = call.query.shape[1] // call.value.shape[1]
    return call.value.repeat_interleave(groups, 1).transpose(1, 2)
