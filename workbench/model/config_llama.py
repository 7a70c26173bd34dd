"""The `llama` section of a config file: from transformers 4 keys to `LlamaConfig` and back.

Does not know: the vision tower and the projector (`workbench.model.config`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaConfig, PretrainedConfig

from workbench.errors import OptionError

#: Keys of an old `llama` dict that describe a file and not a network.
_LLAMA_BOOKKEEPING = (
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "model_type",
    "torch_dtype",
    "transformers_version",
)


def llama_config(value: Any) -> LlamaConfig:
    """Return a `LlamaConfig` from the `llama` section of a config file, old or new.

    Raises:
        OptionError: not an object, or sizes that do not fit each other.
    """
    if isinstance(value, LlamaConfig):
        return value
    fields = section("llama", value)
    for name in _LLAMA_BOOKKEEPING:
        fields.pop(name, None)
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
    plain = PretrainedConfig().to_dict()
    output = {
        key: value
        for key, value in config.to_dict().items()
        if key not in plain or plain[key] != value
    }
    for name in ("_name_or_path", "dtype", "rope_parameters"):
        output.pop(name, None)
    rope = dict(config.rope_parameters)
    output["rope_theta"] = rope.pop("rope_theta")
    rope_type = rope.pop("rope_type", "default")
    output["rope_scaling"] = None if rope_type == "default" else {"type": rope_type, **rope}
    output["model_type"] = "llama"
    return output


def section(name: str, value: Any) -> dict[str, Any]:
    """Return one section of a config file as a new dict; None becomes an empty one.

    Raises:
        OptionError: the section is not an object.
    """
    if value is None:
        return {}
    if isinstance(value, PretrainedConfig):
        return value.to_dict()
    if not isinstance(value, Mapping):
        raise OptionError(f"{name} in config.json must be an object, got {type(value).__name__}")
    return dict(value)
