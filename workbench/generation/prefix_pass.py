"""Keys and values of a prompt up to an image's last token, without computing outputs.

What is kept of a prefix are keys and values. Those of the last layer need that layer's input and
nothing behind it: its attention, its MLP and the final norm are left out. Of 32 layers one is
little; of the 4 of a small model it is a quarter.
"""

from __future__ import annotations

import torch
from transformers import Cache, LlamaModel
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    apply_rotary_pos_emb,
)

from workbench.generation.token_step import GLOBAL_HOOKS, HOOKS, layers_of, own


def fill(llama: LlamaModel, embeds: torch.Tensor, cache: Cache) -> None:
    """Fill an empty cache with the keys and values of a prompt.

    Args:
        llama: the language model; where it is watched or not the usual one, it runs as it is.
        embeds: (R, T, H) input embeddings of rows without gaps.
        cache: empty; holds T positions of every layer afterwards.
    """
    if not _usual(llama):
        llama(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        return
    positions = torch.arange(embeds.shape[1], device=embeds.device)[None]
    turn = llama.rotary_emb(embeds, position_ids=positions)
    hidden = embeds
    *inner, last = layers_of(llama)
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


def _usual(llama: LlamaModel) -> bool:
    """Tell whether leaving out the end of the last layer changes nothing that anyone sees."""
    last = layers_of(llama)[-1]
    known = (llama, LlamaModel), (last, LlamaDecoderLayer), (last.self_attn, LlamaAttention)
    if llama.config._attn_implementation != "sdpa" or any(GLOBAL_HOOKS):
        return False
    if not all(own(module, kind) for module, kind in known):
        return False
    modules = (llama, llama.norm, *last.modules())
    return not any(getattr(module, name) for module in modules for name in HOOKS)
