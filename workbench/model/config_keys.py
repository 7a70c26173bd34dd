"""Keys of a config.json that describe something else than the network that is computed here.

Whatever a config file holds ends up as attributes of a transformers configuration, which obeys
many of them. So keys are sorted before: what another way to store weights or other arithmetic is
asked for in is refused, what only says how somebody else ran the model is left out. Keys that
nobody knows stay, as the published file has such.

Does not know: sizes and whether they fit (`workbench.model.config`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from workbench.errors import OptionError

logger = logging.getLogger(__name__)

#: Where the keys of a network may stand; "" is the file itself.
_SECTIONS = ("", "clip_vision_cfg", "llama")

#: Say that the weights are stored in another form.
_STORAGE = ("quantization_config", "compression_config")

#: How a model was run or trained, not what it is.
_RUNNING = frozenset(
    {
        "_attn_implementation",
        "_experts_implementation",
        "attn_implementation",
        "auto_map",
        "distributed_config",
        "experts_implementation",
        "fusion_config",
        "gradient_checkpointing",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "torchscript",
        "transformers_weights",
        "use_return_dict",
    }
)

#: Arithmetic of relatives of LLaMA that `LlamaModel` would pass over in silence, and the values
#: beside None under which it is LLaMA's own.
_OFF: tuple = (False, 0, [], {})
_OTHER_LANGUAGE: Mapping[str, tuple] = dict.fromkeys(
    (
        "alibi",
        "attn_logit_softcapping",
        "clip_qkv",
        "final_logit_softcapping",
        "layer_types",
        "no_rope_layers",
        "num_experts",
        "num_local_experts",
        "qk_layernorm",
        "rope_interleaved",
        "sliding_window",
        "use_bidirectional_attention",
        "use_parallel_residual",
        "use_qk_norm",
    ),
    _OFF,
) | {
    "attention_multiplier": (),
    "embedding_multiplier": (1,),
    "is_causal": (True,),
    "logit_scale": (1,),
    "logits_scaling": (1,),
    "partial_rotary_factor": (1,),
    "residual_multiplier": (1,),
    "rotary_pct": (1,),
}


def network_keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a config.json says of the network, without how somebody ran it.

    Args:
        fields: content of the file.

    Raises:
        OptionError: it asks for weights in another form, or for another arithmetic.
    """
    found = dict(fields)
    for section in _SECTIONS:
        part = found if not section else found.get(section)
        if not isinstance(part, Mapping):
            continue  # `CxrLlavaConfig` says what it expects
        part = _without_running(section, part)
        found = part if not section else found | {section: part}
    if isinstance(found.get("llama"), Mapping):
        found["llama"] = _language(found["llama"])
    return found


def _without_running(section: str, part: Mapping[str, Any]) -> dict[str, Any]:
    for name in _STORAGE:
        if part.get(name):
            raise OptionError(
                f"{_dotted(section, name)} says that the weights were saved quantised "
                f"({_method(part[name])}), which is not read here; take the checkpoint as it was "
                "before, in 16 or 32 bit, and load it with quantize='8bit' or '4bit' on a GPU, or "
                "'int8' on a CPU"
            )
    gone = {name for name in part if name in _RUNNING or name in _STORAGE}
    gone |= {n for n in ("torch_dtype", "dtype") if not _is_dtype(part.get(n))}
    left_out = sorted(gone & set(part))
    if left_out:
        shown = ", ".join(_dotted(section, name) for name in left_out)
        logger.debug("config keys that are not about the network: %s", shown)
    return {name: value for name, value in part.items() if name not in gone}


def _language(llama: Mapping[str, Any]) -> dict[str, Any]:
    """Check the section of the language model; a padding id beyond the embedding is left out."""
    kind = llama.get("model_type", "llama")
    if kind != "llama":
        raise OptionError(
            f"llama.model_type is {kind!r}, and the language model that is computed here is a "
            "'llama'; use a checkpoint with one"
        )
    for name, same in _OTHER_LANGUAGE.items():
        value = llama.get(name)
        if value not in (None, *same) and not _never_closes(name, value, llama):
            raise OptionError(
                f"llama has {name}={value!r}, which the language model here does not compute; use "
                "a checkpoint with a plain LLaMA"
            )
    _check_positive(llama, "rope_theta", lambda value: value is None or value > 0)
    _check_positive(llama, "rms_norm_eps", lambda value: value > 0)
    _check_positive(llama, "max_position_embeddings", lambda value: value > 0)
    _check_rope(llama)
    pad, size = llama.get("pad_token_id"), llama.get("vocab_size")
    beyond = isinstance(pad, int) and isinstance(size, int) and not 0 <= pad < size
    return dict(llama) | ({"pad_token_id": None} if beyond else {})


def _never_closes(name: str, value: Any, llama: Mapping[str, Any]) -> bool:
    """Tell whether this is about a window of attention that leaves nothing out."""
    context = llama.get("max_position_embeddings", 2048)
    return name == "sliding_window" and isinstance(value, int) and value >= context


def _check_positive(llama: Mapping[str, Any], name: str, holds: Callable[[Any], bool]) -> None:
    if name in llama:
        try:
            fits = not isinstance(llama[name], bool) and holds(llama[name])
        except TypeError:
            fits = False
        if not fits:
            raise OptionError(f"llama.{name} must be a number above 0, got {llama[name]!r}")


def _check_rope(llama: Mapping[str, Any]) -> None:
    """Refuse a scaling of rotary positions that transformers would not, or not in words."""
    for name in ("rope_scaling", "rope_parameters"):
        scaling = llama.get(name)
        if not scaling:
            continue
        if not isinstance(scaling, Mapping):
            raise OptionError(f"llama.{name} must be an object or null, got {scaling!r}")
        kind = scaling.get("rope_type") or scaling.get("type") or "default"
        if kind not in ("default", *ROPE_INIT_FUNCTIONS):
            raise OptionError(
                f"llama.{name} has the type {kind!r}, which is not computed here; expected one of "
                f"{', '.join(sorted({'default', *ROPE_INIT_FUNCTIONS}))}"
            )
        factor = scaling.get("factor")
        number = isinstance(factor, (int, float)) and not isinstance(factor, bool)
        if factor is not None and not (number and 1 <= factor < float("inf")):
            raise OptionError(f"llama.{name}.factor must be a number from 1 up, got {factor!r}")


def _is_dtype(value: Any) -> bool:
    return isinstance(value, str) and isinstance(getattr(torch, value, None), torch.dtype)


def _method(value: Any) -> str:
    """Return how the weights were quantised, as far as the file says it."""
    if not isinstance(value, Mapping):
        return repr(value)
    bits = next((value[name] for name in ("bits", "w_bit", "weight_bits") if name in value), None)
    bits = next((n for n in (4, 8) if bits is None and value.get(f"load_in_{n}bit")), bits)
    name = str(value.get("quant_method", "method unknown"))
    return f"{name}, {bits} bit" if bits else name


def _dotted(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name
