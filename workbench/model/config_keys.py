"""Keys of a config.json: which are obeyed, left out or refused; old names of the `llama` section.

Whatever a config file contains becomes an attribute of a transformers configuration, which obeys
many of them. So keys are sorted before: those that ask for another way to store weights or for
other arithmetic are refused, those that only describe how somebody else ran the model are left out.
Unknown keys stay, as the published file has such.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from numbers import Real
from typing import Any, TypeGuard

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaConfig, PretrainedConfig
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

#: Keys of an old `llama` section that describe a file and not a network.
_BOOKKEEPING = (
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "model_type",
    "torch_dtype",
    "transformers_version",
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
    """Return the keys of a config.json that describe the network, not how it was run.

    Raises:
        OptionError: it asks for weights in another form, or for another arithmetic.
    """
    found = dict(fields)
    for name in _SECTIONS:
        part = found.get(name) if name else found
        if isinstance(part, Mapping):  # else `CxrLlavaConfig` says what it expects
            part = _without_running(name, part)
            found = found | {name: part} if name else part
    if isinstance(found.get("llama"), Mapping):
        found["llama"] = _language(found["llama"])
    return found


def _without_running(section: str, part: Mapping[str, Any]) -> dict[str, Any]:
    dotted = f"{section}." if section else ""
    for name in _STORAGE:
        if part.get(name):
            raise OptionError(
                f"{dotted}{name} says that the weights were saved quantised "
                f"({_method(part[name])}), which is not read here; take the checkpoint as it was "
                "before, in 16 or 32 bit, and load it with quantize='8bit' or '4bit' on a GPU, or "
                "'int8' on a CPU"
            )
    gone = {name for name in part if name in _RUNNING or name in _STORAGE}
    gone |= {n for n in ("torch_dtype", "dtype") if n in part and not _is_dtype(part[n])}
    if gone:
        shown = ", ".join(f"{dotted}{name}" for name in sorted(gone))
        logger.debug("config keys that are not about the network: %s", shown)
    return {name: value for name, value in part.items() if name not in gone}


def _is_dtype(value: object) -> bool:
    return isinstance(value, str) and isinstance(getattr(torch, value, None), torch.dtype)


def _method(value: object) -> str:
    if not isinstance(value, Mapping):
        return repr(value)
    given = [value[name] for name in ("bits", "w_bit", "weight_bits") if name in value]
    bits = [*given, *(n for n in (4, 8) if value.get(f"load_in_{n}bit"))]
    name = str(value.get("quant_method", "method unknown"))
    return f"{name}, {bits[0]} bit" if bits and bits[0] else name


def _language(llama: Mapping[str, Any]) -> dict[str, Any]:
    """Check the section of the language model; a padding id beyond the embedding is left out."""
    kind = llama.get("model_type", "llama")
    if kind != "llama":
        raise OptionError(
            f"llama.model_type is {kind!r}, and the language model that is computed here is a "
            "'llama'; use a checkpoint with one"
        )
    window, context = llama.get("sliding_window"), llama.get("max_position_embeddings", 2048)
    for name, same in _OTHER_LANGUAGE.items():
        value = llama.get(name)
        if name == "sliding_window" and isinstance(window, int) and window >= context:
            continue  # it leaves nothing out
        if value not in (None, *same):
            raise OptionError(
                f"llama has {name}={value!r}, which the language model here does not compute; use "
                "a checkpoint with a plain LLaMA"
            )
    for name in ("rope_theta", "rms_norm_eps", "max_position_embeddings"):
        value = llama.get(name, 1)
        absent = name == "rope_theta" and value is None
        if not absent and not (_is_number(value) and value > 0):
            raise OptionError(f"llama.{name} must be a number above 0, got {value!r}")
    for name in ("rope_scaling", "rope_parameters"):
        if llama.get(name):
            _check_rope(name, llama[name])
    pad, size = llama.get("pad_token_id"), llama.get("vocab_size")
    beyond = isinstance(pad, int) and isinstance(size, int) and not 0 <= pad < size
    return dict(llama) | ({"pad_token_id": None} if beyond else {})


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _check_rope(name: str, scaling: object) -> None:
    """Refuse a scaling of rotary positions that transformers would not, or not in words."""
    if not isinstance(scaling, Mapping):
        raise OptionError(f"llama.{name} must be an object or null, got {scaling!r}")
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ("default", *ROPE_INIT_FUNCTIONS):
        raise OptionError(
            f"llama.{name} has the type {kind!r}, which is not computed here; expected one of "
            f"{', '.join(sorted({'default', *ROPE_INIT_FUNCTIONS}))}"
        )
    factor = scaling.get("factor")
    if factor is not None and not (_is_number(factor) and 1 <= factor < float("inf")):
        raise OptionError(f"llama.{name}.factor must be a number from 1 up, got {factor!r}")


def llama_config(value: object) -> LlamaConfig:
    """Return a `LlamaConfig` from the `llama` section of a config file, old or new.

    Raises:
        OptionError: not an object, or sizes that do not fit each other.
    """
    if isinstance(value, LlamaConfig):
        return value
    fields = section("llama", value)
    fields = {name: given for name, given in fields.items() if name not in _BOOKKEEPING}
    fields["rope_parameters"] = _rope_parameters(fields)
    try:
        return LlamaConfig(**fields)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise OptionError(f"the llama section of config.json is not usable: {error}") from error


def _rope_parameters(fields: dict[str, Any]) -> dict[str, Any]:
    """Translate `rope_theta` and `rope_scaling` of transformers 4 into `rope_parameters`."""
    theta = fields.pop("rope_theta", None)
    scaling = dict(fields.pop("rope_scaling", None) or fields.pop("rope_parameters", None) or {})
    fields.pop("rope_parameters", None)
    old_type = scaling.pop("type", None)
    rope_type = scaling.pop("rope_type", None) or old_type or "default"
    theta = scaling.pop("rope_theta", None) or theta or 10_000.0
    return {"rope_type": rope_type, "rope_theta": theta, **scaling}


def published_llama(config: LlamaConfig) -> dict[str, Any]:
    """Return a `LlamaConfig` as a dict with the keys that transformers 4 reads."""
    plain, given = PretrainedConfig().to_dict(), config.to_dict()
    output = {key: value for key, value in given.items() if key not in plain or plain[key] != value}
    for name in ("_name_or_path", "dtype", "rope_parameters"):
        output.pop(name, None)
    rope = dict(given["rope_parameters"])
    output["rope_theta"] = rope.pop("rope_theta")
    rope_type = rope.pop("rope_type", "default")
    output["rope_scaling"] = None if rope_type == "default" else {"type": rope_type, **rope}
    output["model_type"] = "llama"
    return output


def section(name: str, value: object) -> dict[str, Any]:
    """Return one section of a config file as a new dict; None becomes an empty one."""
    if value is None:
        return {}
    if isinstance(value, PretrainedConfig):
        return value.to_dict()
    if not isinstance(value, Mapping):
        raise OptionError(f"{name} in config.json must be an object, got {type(value).__name__}")
    return dict(value)
