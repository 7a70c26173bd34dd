"""One token for every row, through the language model's layers without their Python.

A decoding step does little arithmetic for each call: transformers' layers spend, for a small model,
most of a step on building masks, positions and calls. `TokenStep` applies the same operations in
the same order to the same weights, with all that does not depend on the token hoisted to the start
of a text. Weights that are applied to the same rows are put together for the time of a text: of
small models at once; of middle-sized ones on a CPU after some tokens, and then packed
(`model.packed`), which takes about as long as four tokens save. Of large ones, and on a GPU, no
weight is copied. Rows that begin with the same prefix read its keys and values from one place.

`TokenStep.of` gives None for whatever it does not know exactly: other classes, a dynamic rotary
rule, another attention than sdpa, layers with hooks or on several devices. A projection that was
replaced (an adapter, a quantised layer) or is watched is called as the module that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules import module as torch_module
from transformers import Cache, LlamaModel
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaMLP,
    LlamaRMSNorm,
    apply_rotary_pos_emb,
)

from workbench.generation.kvcache import KeyValueBuffer
from workbench.model.llava import CxrLlavaForConditionalGeneration, Float32RotaryEmbedding
from workbench.model.packed import (
    SMALL,
    PackedProduct,
    RowProduct,
    can_pack,
    layer_bytes,
    worth_blocks,
    worth_packing,
)
from workbench.model.placement import on_cpu

#: Rotary rules whose frequencies do not depend on how long the text has become.
_FIXED_ROTARY = ("default", "linear", "llama3")

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_GLOBAL_HOOKS = (torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks)
#: Tokens, of all rows together, after which weights are packed: a short answer is not worth it.
_PATIENCE = 8
#: Positions are added to the rotary tables in blocks of this many.
_BLOCK = 512

Apply = Callable[[torch.Tensor], torch.Tensor]
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class _Layer:
    """The parts of one layer as functions of (R, width) rows.

    `packed` gives queries, keys and values side by side, head after head.
    """

    norm: Apply
    packed: Apply
    out: Apply
    mlp_norm: Apply
    gate_up: Callable[[torch.Tensor], Sequence[torch.Tensor]]
    act: Apply
    down: Apply
    scaling: float


#: All layers from the first to the last, and the head.
Parts = tuple[list[_Layer], Apply]


class TokenStep:
    """Steps of one language model; make it with `of`, for one text or one batch of texts."""

    def __init__(self, model: CxrLlavaForConditionalGeneration) -> None:
        llama = model.llama
        self._llama = llama
        self._embed = llama.embed_tokens
        #: modules whose own call is left out here, so that their hooks would be missed
        self._passed = [one for one in llama.modules() if not isinstance(one, nn.Linear)]
        self._copies = layer_bytes(model) <= SMALL
        self._packing = False
        self._wait = _PATIENCE if worth_packing(model) else None
        self._blocks = worth_blocks(model)
        self._lm_head = model.lm_head
        self._plain = self._bind()
        self._packed: Parts | None = None
        self._norm = _norm(llama.norm)
        self._heads = llama.config.num_attention_heads
        self._key_heads = llama.config.num_key_value_heads or self._heads
        self._width = _layers_of(llama)[0].self_attn.head_dim
        self._tables: tuple[torch.Tensor, torch.Tensor] | None = None
        self._hooks = _hooks_of(*self._passed)
        self._fields = [vars(module) for module in self._passed]

    @classmethod
    @torch.inference_mode()
    def of(cls, model: CxrLlavaForConditionalGeneration) -> TokenStep | None:
        """Return the steps of a model, or None where only its own forward pass is certain."""
        step = cls(model) if hasattr(model, "llama") and _knows(model.llama) else None
        return step if step is not None and step.ready() else None

    def ready(self) -> bool:
        """Tell whether the attention is the usual one, and nothing was put on a module."""
        replaced = any("forward" in fields for fields in self._fields)
        return not replaced and _unwatched(self._llama, self._hooks)

    def __call__(
        self,
        buffer: KeyValueBuffer,
        tokens: Sequence[int],
        lengths: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Append one token to each of R rows; return (R, V) float32 logits behind them.

        `lengths` are those of the rows after this step; None when no row has a gap in front.
        """
        layers, head = self._parts(len(tokens))
        table = self._embed.weight
        hidden = table.index_select(0, torch.tensor(tokens, device=table.device))
        end = buffer.length + 1
        turn, mask = self._places(hidden, end, lengths)
        begun = self._begun(buffer, len(tokens))
        for layer, kept, prefix in zip(layers, buffer.layers, begun, strict=True):
            hidden = hidden + self._attend(layer, layer.norm(hidden), kept, turn, mask, prefix)
            gate, up = layer.gate_up(layer.mlp_norm(hidden))
            hidden = hidden + layer.down(layer.act(gate) * up)
        return head(self._norm(hidden)).float()

    def _parts(self, rows: int) -> Parts:
        """Return what multiplies so many rows fastest; packs when enough tokens have come."""
        if rows == 1 and self._blocks:
            return self._plain
        if self._wait is not None:
            self._wait -= rows
            if self._wait < 0:
                self._wait, self._copies, self._packing = None, True, True
                self._packed = self._bind()
        return self._packed or self._plain

    def _begun(self, buffer: KeyValueBuffer, rows: int) -> Sequence[Pair | None]:
        """Return keys and values that all rows begin with, layer by layer, or None each.

        Where queries share heads, and on a GPU, where it was not measured, there are none.
        """
        alike = rows > 1 and self._heads == self._key_heads
        if not alike or buffer.shared is None or not on_cpu(self._embed.weight):
            return [None] * len(buffer.layers)
        return buffer.shared.layers

    def _attend(self, layer: _Layer, hidden, kept, turn, mask, prefix) -> torch.Tensor:
        """Return (R, H): what one layer's attention adds; keys and values go into the buffer."""
        rows = hidden.shape[0]
        packed = layer.packed(hidden).view(rows, -1, 1, self._width)
        both, value = packed.split((self._heads + self._key_heads, self._key_heads), 1)
        cosine, sine = turn
        both = both * cosine + both.roll(self._width // 2, -1) * sine
        query, key = both.split((self._heads, self._key_heads), 1)
        keys, values = kept.update(key, value)
        if prefix is not None:
            output = _attend_behind(prefix, query, keys, values, layer.scaling)
            return layer.out(output.reshape(rows, -1))
        if rows > 1 and query.dtype == torch.bfloat16 and on_cpu(query):
            room = kept.keys, kept.values
            output = _attend_narrow(query, *room, keys.shape[2], mask, layer.scaling)
            return layer.out(output.view(rows, -1))
        output = F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=mask,
            scale=layer.scaling,
            enable_gqa=self._heads != self._key_heads,
        )
        return layer.out(output.view(rows, -1))

    def _places(self, hidden: torch.Tensor, end: int, lengths: Sequence[int] | None):
        """Return the rotation of the new positions, and the mask over gaps (or None)."""
        cosine, sine = self._table(end, hidden)
        if lengths is None or min(lengths) == end:
            return (cosine[end - 1], sine[end - 1]), None
        size = torch.tensor(lengths, device=hidden.device)
        turn = (cosine[size - 1, None, None], sine[size - 1, None, None])
        mask = torch.arange(end, device=hidden.device) >= (end - size)[:, None]
        return turn, mask[:, None, None]

    def _table(self, length: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and signed sines of at least `length` positions, each (n, D).

        x turned is x * cos + (-second half, first half) * sin; the sign goes to the table.
        """
        if self._tables is None or len(self._tables[0]) < length:
            count = -(-length // _BLOCK) * _BLOCK
            positions = torch.arange(count, device=like.device)[None]
            cosine, sine = self._llama.rotary_emb(like, positions)
            signed = torch.cat(
                (-sine[0, :, : self._width // 2], sine[0, :, self._width // 2 :]), -1
            )
            self._tables = (cosine[0], signed)
        return self._tables

    def _bind(self) -> Parts:
        layers = [self._layer(layer) for layer in _layers_of(self._llama)]
        return layers, self._linear(self._lm_head)

    def _layer(self, layer: LlamaDecoderLayer) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return _Layer(
            norm=_norm(layer.input_layernorm),
            packed=self._together(attention.q_proj, attention.k_proj, attention.v_proj),
            out=self._linear(attention.o_proj),
            mlp_norm=_norm(layer.post_attention_layernorm),
            gate_up=self._both(mlp.gate_proj, mlp.up_proj),
            act=F.silu if mlp.config.hidden_act == "silu" else mlp.act_fn,
            down=self._linear(mlp.down_proj),
            scaling=attention.scaling,
        )

    def _both(self, *modules: nn.Module) -> Callable[[torch.Tensor], Sequence[torch.Tensor]]:
        """Return the products of two layers of one width, from one product where it is a copy."""
        if self._copies and all(map(_plain, modules)):
            packed = self._together(*modules)
            return lambda rows: packed(rows).chunk(2, -1)
        parts = [self._linear(module) for module in modules]
        return lambda rows: [part(rows) for part in parts]

    def _together(self, *modules: nn.Module) -> Apply:
        """Return the products of several layers side by side; where weights are copied, in one."""
        alike = all(map(_plain, modules)) and len({one.bias is None for one in modules}) == 1
        if self._copies and alike:
            return self._product(*modules)
        parts = [self._linear(module) for module in modules]
        return lambda rows: torch.cat([part(rows) for part in parts], dim=-1)

    def _linear(self, module: nn.Module) -> Apply:
        """Return the product of a plain linear layer; anything else is called as it is."""
        return self._product(module) if _plain(module) else module

    def _product(self, *modules: nn.Module) -> Apply:
        """Return the product with the weights of plain linear layers side by side."""
        self._passed += modules
        weights, biases = zip(*((one.weight, one.bias) for one in modules), strict=True)
        if self._packing and can_pack(*weights):
            return PackedProduct(weights, biases)
        weight, bias = weights[0], biases[0]
        if len(modules) > 1:
            weight = torch.cat(weights)
            bias = None if bias is None else torch.cat(biases)
        if self._blocks and can_pack(weight):
            return RowProduct(weight, bias)
        return partial(F.linear, weight=weight, bias=bias)


def _attend_behind(
    prefix: Pair, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float
) -> torch.Tensor:
    """Return (R, heads, D): what rows of one length that begin alike attend to.

    `prefix` are (1, heads, P, D) keys and values of the beginning, `query` (R, heads, 1, D); of
    `keys` and `values`, (R, heads, T, D), the first P positions are not read.
    """
    first_keys, first_values = prefix[0][0], prefix[1][0]
    size = first_keys.shape[1]
    together = query.squeeze(2).transpose(0, 1)  # (heads, R, D)
    first = together @ first_keys.transpose(1, 2)
    own = (query @ keys[:, :, size:].transpose(2, 3)).squeeze(2).transpose(0, 1)
    scores = torch.cat((first, own), -1).mul_(scaling)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    first, own = weights.split((size, weights.shape[-1] - size), -1)
    behind = own.transpose(0, 1).unsqueeze(2) @ values[:, :, size:]
    return (first @ first_values).transpose(0, 1) + behind.squeeze(2)


def _attend_narrow(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    end: int,
    mask: torch.Tensor | None,
    scaling: float,
) -> torch.Tensor:
    """Return (R, kv heads, group, D): what bfloat16 tokens of several rows attend to, on a CPU.

    `keys` and `values`, (R, kv heads, capacity, D), are read with the room behind the `end`
    positions that are filled: products of whole arrays take a third of the time of torch's own
    attention there (LOG.md), and round the scores. `mask`, (R, 1, 1, end), is False in a gap.
    """
    rows, heads, capacity, width = keys.shape
    asked = query.reshape(rows * heads, -1, width)
    scores = torch.bmm(asked, keys.flatten(0, 1).transpose(1, 2)).float().mul_(scaling)
    scores = scores.view(rows, heads, -1, capacity)
    scores[..., end:] = -torch.inf
    if mask is not None:
        scores[..., :end].masked_fill_(~mask, -torch.inf)
    weights = scores.softmax(-1).to(query.dtype).flatten(0, 1)
    return torch.bmm(weights, values.flatten(0, 1)).view(rows, heads, -1, width)


def _plain(module: nn.Module) -> bool:
    """Tell whether a module is a linear layer without hooks."""
    return _own(module, nn.Linear) and not any(_hooks_of(module))


def _hooks_of(*modules: nn.Module) -> list[dict]:
    return [getattr(module, name) for module in modules for name in _HOOKS]


def _unwatched(llama: LlamaModel, hooks: list[dict]) -> bool:
    """Tell whether the attention is the usual one, and there is no hook."""
    usual = llama.config._attn_implementation == "sdpa"
    return usual and not any(hooks) and not any(_GLOBAL_HOOKS)


def _knows(llama: LlamaModel) -> bool:
    """Tell whether every part of the language model is of the classes that are known here."""
    layers = _layers_of(llama)
    norms = [(layer.input_layernorm, layer.post_attention_layernorm) for layer in layers]
    kinds: dict[type, list[nn.Module]] = {
        LlamaModel: [llama],
        LlamaDecoderLayer: [*layers],
        LlamaAttention: [layer.self_attn for layer in layers],
        LlamaMLP: [layer.mlp for layer in layers],
        LlamaRMSNorm: [llama.norm, *chain.from_iterable(norms)],
        Float32RotaryEmbedding: [llama.rotary_emb],
        nn.Embedding: [llama.embed_tokens],
    }
    known = all(_own(module, kind) for kind, modules in kinds.items() for module in modules)
    return known and not llama.training and llama.rotary_emb.rope_type in _FIXED_ROTARY


def _own(module: nn.Module, kind: type) -> bool:
    """Tell whether a module is of exactly this class, its forward pass not exchanged."""
    return type(module) is kind and "forward" not in vars(module)


def _layers_of(llama: LlamaModel) -> list[LlamaDecoderLayer]:
    return cast("list[LlamaDecoderLayer]", list(llama.layers))


def _norm(module: LlamaRMSNorm) -> Apply:
    weight, epsilon = module.weight, module.variance_epsilon
    if weight.dtype != torch.float32:
        return module

    def norm(rows: torch.Tensor) -> torch.Tensor:
        # F.rms_norm does the same in three times the time: on a CPU it is made of parts as well
        scale = rows.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()
        return (rows * scale).mul_(weight)

    return norm


def fill(llama: LlamaModel, embeds: torch.Tensor, cache: Cache) -> None:
    """Fill an empty cache with the keys and values of a prompt, without computing outputs.

    Those of the last layer need that layer's input and nothing behind it: its attention, its MLP
    and the final norm are left out. Of 32 layers one is little; of the 4 of a small model a
    quarter. A language model that is watched or not the usual one runs as it is. `embeds` are
    (R, T, H), rows without gaps.
    """
    if not (_knows(llama) and _unwatched(llama, _hooks_of(*llama.modules()))):
        llama(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        return
    positions = torch.arange(embeds.shape[1], device=embeds.device)[None]
    turn = llama.rotary_emb(embeds, position_ids=positions)
    hidden = embeds
    *inner, last = _layers_of(llama)
    for layer in inner:
        hidden = layer(
            hidden,
            attention_mask=None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            position_embeddings=turn,
        )
    attention = last.self_attn
    normed = last.input_layernorm(hidden)
    shape = (*normed.shape[:-1], -1, attention.head_dim)
    keys = attention.k_proj(normed).view(shape).transpose(1, 2)
    values = attention.v_proj(normed).view(shape).transpose(1, 2)
    keys, _ = apply_rotary_pos_emb(keys, keys, *turn)
    cache.update(keys, values, attention.layer_idx)
