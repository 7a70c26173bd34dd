"""What differs between families of transformers models and cannot be read from a checkpoint.

Keys are `config.model_type`. A family that is not here works where the checks of
`workbench.backends.checks` pass. What models are asked with stands in `prompts.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from workbench.errors import OptionError, did_you_mean
from workbench.model.prompt import PUBLISHED_PROMPTS, Prompts

#: Token type of text that the model writes, where it is not that of the prompt's text. Paligemma's
#: prompt looks both ways (type 0); what it writes must not, or logits are wrong in silence.
WRITTEN_TOKEN_TYPE = {"paligemma": 1}

#: Kinds of decoder layers, as `config.layer_types` names them, that have no attention.
WITHOUT_ATTENTION = frozenset({"linear_attention", "conv", "moe"})

#: Families that the tests prove; others have to pass the checks when they are loaded.
TESTED = frozenset(
    {
        "aya_vision", "gemma3", "idefics3", "internvl", "llava", "llava_next", "llava_onevision",
        "paligemma", "qwen2_5_vl", "qwen2_vl", "qwen3_vl",
    }
)  # fmt: skip


@cache
def _registry() -> Mapping[str, Mapping[str, Any]]:
    return yaml.safe_load((files("workbench.backends") / "prompts.yaml").read_text("utf-8"))


def find_prompts(given: str | Prompts | None, *names: str) -> Prompts:
    """Return the prompts that are asked for, else those that the registry has for a model.

    Args:
        given: a name of the registry, "cxr-llava", or prompts.
        names: hub ids of the model and of what it was made from, the nearest first.

    Raises:
        OptionError: the registry has no such name.
    """
    if isinstance(given, Prompts):
        return given
    by_model = {one.lower(): name for name, entry in _registry().items() for one in entry["models"]}
    known = (by_model[name.lower()] for name in names if name.lower() in by_model)
    name = next(known, PUBLISHED_PROMPTS.name) if given is None else given
    if name == PUBLISHED_PROMPTS.name:
        return PUBLISHED_PROMPTS
    if name not in _registry():
        allowed = (PUBLISHED_PROMPTS.name, *_registry())
        raise OptionError(
            f"prompts must be one of {', '.join(allowed)} or a workbench.model.Prompts, got "
            f"{given!r}{did_you_mean(str(given), allowed)}"
        )
    entry = dict(_registry()[name])
    del entry["models"]
    source = f"{entry.pop('source')}, read {entry.pop('read')}"
    return Prompts(name, source, **entry)
