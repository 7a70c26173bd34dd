"""Keys of a config.json: which are obeyed, left out or refused; old names of the `llama` section.

Whatever a config file contains becomes an attribute of a transformers configuration, which obeys
many of them. So keys are sorted before: those that ask for another way to store weights or for
other arithmetic are refused, those that only describe how somebody else ran the model are left out.
Unknown keys stay, as the published file has such.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any, TypeGuard

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaConfig, PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from workbench.errors import OptionError

logger = logging.getLogger(__name__)

#: Largest sizes that a configuration is taken to mean: numbers of layers, and all others.
_MOST_LAYERS, _MOST = 512, 10_000_000

#: Say that the weights are stored in another form.
_STORAGE = ("quantization_config", "compression_config")

#: How a model was run or trained, not what it is; and so every name that ends in "_implementation".
_RUNNING = (
    "auto_map",
    "distributed_config",
    "fusion_config",
    "gradient_checkpointing",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "torchscript",
    "transformers_weights",
    "use_return_dict",
)

#: What every configuration of transformers has; it describes a file and not a network.
_OF_ANY: Mapping[str, Any] = PretrainedConfig().to_dict()

#: Arithmetic that is not computed here: options of open_clip, and those of relatives of LLaMA that
#: `LlamaModel` would pass over in silence. With the values beside None that change nothing.
_OFF: tuple = (False, 0, "", [], {})
OTHER_VISION: Mapping[str, tuple] = dict.fromkeys(
    (
        "act_kwargs",
        "attentional_pool",
        "final_ln_after_pool",
        "global_average_pool",
        "input_patchnorm",
        "ls_init_value",
        "no_ln_pre",
        "norm_kwargs",
        "qk_norm",
        "scale_attn",
        "scale_attn_inner",
        "scale_fc",
        "scale_heads",
        "scaled_cosine_attn",
        "timm_model_name",
    ),
    _OFF,
)
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
    "model_type": ("llama",),
    "partial_rotary_factor": (1,),
    "residual_multiplier": (1,),
    "rotary_pct": (1,),
}


def network_keys(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a config.json that describe the network, not how it was run.

    Raises:
        OptionError: it asks for weights in another form, for another arithmetic, or for sizes that
            no model has.
    """
    found = _without_running("", fields)
    for section in ("clip_vision_cfg", "llama"):
        part = found.get(section)
        if not isinstance(part, Mapping):  # `CxrLlavaConfig` says what it expects
            continue
        for name, value in part.items():
            most = _MOST_LAYERS if name.endswith("layers") else _MOST
            if isinstance(value, int | float) and not abs(value) <= most:
                raise OptionError(
                    f"{section}.{name} is {value!r}, more than the {most:,} that is read here"
                )
        found[section] = _without_running(f"{section}.", part)
    if isinstance(found.get("llama"), Mapping):
        _check_language(found["llama"])
        pad, size = found["llama"].get("pad_token_id"), found["llama"].get("vocab_size")
        if isinstance(pad, int) and isinstance(size, int) and not 0 <= pad < size:
            found["llama"]["pad_token_id"] = None
    return found


def _without_running(prefix: str, part: Mapping[str, Any]) -> dict[str, Any]:
    for name in _STORAGE:
        if part.get(name):
            method = part[name]
            if isinstance(method, Mapping):
                method = method.get("quant_method", "method unknown")
            raise OptionError(
                f"{prefix}{name} says that the weights were saved quantised ({method}), which is "
                "not read here; take the checkpoint as it was before, in 16 or 32 bit, and load it "
                "with quantize='8bit' or '4bit' on a GPU, or 'int8' on a CPU"
            )
    gone = {n for n in part if n in _RUNNING or n in _STORAGE or n.endswith("_implementation")}
    gone |= {n for n in ("torch_dtype", "dtype") if n in part and not _is_dtype(part[n])}
    if gone:
        shown = ", ".join(prefix + name for name in sorted(gone))
        logger.debug("config keys that are not about the network: %s", shown)
    return {name: value for name, value in part.items() if name not in gone}


def _is_dtype(value: object) -> bool:
    return isinstance(value, str) and isinstance(getattr(torch, value, None), torch.dtype)


def refuse_other(section: str, part: Mapping[str, Any], others: Mapping[str, tuple]) -> None:
    """Raise `OptionError` where one of the other arithmetics is asked for."""
    for name, same in others.items():
        if part.get(name) not in (None, *same):
            raise OptionError(
                f"{section} has {name}={part[name]!r}, which this model does not compute; use a "
                "checkpoint with the plain open_clip vision transformer and a plain LLaMA"
            )


def _check_language(llama: Mapping[str, Any]) -> None:
    """Refuse a language model that `LlamaModel` would compute otherwise, or not at all."""
    window, context = llama.get("sliding_window"), llama.get("max_position_embeddings", 2048)
    whole = isinstance(window, int) and window >= context  # it leaves nothing out
    refuse_other("llama", {**llama, "sliding_window": None} if whole else llama, _OTHER_LANGUAGE)
    for name in ("rope_theta", "rms_norm_eps", "max_position_embeddings"):
        value = llama.get(name, 1)
        absent = name == "rope_theta" and value is None
        if not absent and not (is_number(value) and value > 0):
            raise OptionError(f"llama.{name} must be a number above 0, got {value!r}")
    for name in ("rope_scaling", "rope_parameters"):
        if llama.get(name):
            _check_rope(name, llama[name])


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value of a file is a finite number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_rope(name: str, scaling: object) -> None:
    """Refuse a scaling of rotary positions that transformers would not, or not in words."""
    if not isinstance(scaling, Mapping):
        raise OptionError(f"llama.{name} must be an object or null, got {scaling!r}")
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    kinds = sorted({"default", *ROPE_INIT_FUNCTIONS})
    if kind not in kinds:
        raise OptionError(
            f"llama.{name} has the type {kind!r}, which is not computed here; expected one of "
            f"{', '.join(kinds)}"
        )
    factor = scaling.get("factor")
    if factor is not None and not (is_number(factor) and factor >= 1):
        raise OptionError(f"llama.{name}.factor must be a number from 1 up, got {factor!r}")


def llama_config(fields: dict[str, Any]) -> LlamaConfig:
    """Return a `LlamaConfig` from the `llama` section of a config file, old or new."""
    left_out = {*_OF_ANY, "_name_or_path", "auto_map", "torch_dtype"}
    fields = {name: given for name, given in fields.items() if name not in left_out}
    theta, scaling, rope = (
        fields.pop(name, None) for name in ("rope_theta", "rope_scaling", "rope_parameters")
    )
    rope = dict(scaling or rope or {})
    old_type = rope.pop("type", None)
    rope["rope_type"] = rope.get("rope_type") or old_type or "default"
    rope["rope_theta"] = rope.get("rope_theta") or theta or 10_000.0
    try:
        return LlamaConfig(**fields, rope_parameters=rope)
    except (StrictDataclassError, TypeError, ValueError) as error:
        raise OptionError(f"the llama section of config.json is not usable: {error}") from error


def published_llama(config: LlamaConfig) -> dict[str, Any]:
    """Return a `LlamaConfig` as a dict with the keys that transformers 4 reads."""
    given = config.to_dict()
    output = {k: v for k, v in given.items() if k not in _OF_ANY or _OF_ANY[k] != v}
    for name in ("_name_or_path", "dtype"):
        output.pop(name, None)
    rope = dict(output.pop("rope_parameters"))
    output["rope_theta"] = rope.pop("rope_theta")
    rope_type = rope.pop("rope_type", "default")
    output["rope_scaling"] = None if rope_type == "default" else {"type": rope_type, **rope}
    output["model_type"] = "llama"
    return output
