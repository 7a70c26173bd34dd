"""What differs between families of transformers models and cannot be read from a checkpoint.

Keys are `config.model_type`. A family that is not here works where the checks of
`workbench.backends.checks` pass. What models are asked with stands in `prompts.yaml`, how they
write boxes in `boxes.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from workbench.errors import OptionError, did_you_mean, unknown_name
from workbench.model.prompt import PUBLISHED_PROMPTS, Prompts
from workbench.radiograph import Radiograph
from workbench.reports.boxes import BoxConvention, Processed, WrittenBoxes, read_boxes

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
def _registry(name: str = "prompts.yaml") -> Mapping[str, Mapping[str, Any]]:
    return yaml.safe_load((files("workbench.backends") / name).read_text("utf-8"))


def _entry_of(registry: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> str | None:
    """Return the entry that names the nearest of a model's hub ids; None where none does."""
    by_model = {
        one.lower(): entry for entry in registry for one in registry[entry].get("models", ())
    }
    return next((by_model[name.lower()] for name in names if name.lower() in by_model), None)


@cache
def box_conventions() -> Mapping[str, BoxConvention]:
    """Return how models write boxes: name -> convention."""
    found = {}
    for name, entry in _registry("boxes.yaml").items():
        fields = {k: v for k, v in entry.items() if k in BoxConvention.__dataclass_fields__}
        if "source" in entry:
            fields["source"] = f"{entry['source']}, read {entry['read']}"
        found[name] = BoxConvention(name, **fields)
    return found


def find_boxes(
    given: str | BoxConvention | None, *names: str, family: str = ""
) -> BoxConvention | None:
    """Return how a model writes boxes: as said, else as known of its hub ids, else of its family.

    Args:
        given: a name of `boxes.yaml`, or a convention.
        names: hub ids of the model and of what it was made from, the nearest first.
        family: `config.model_type`.

    Raises:
        OptionError: there is no such name.
    """
    known = box_conventions()
    if isinstance(given, BoxConvention):
        return given
    if given is not None:
        if given not in known:
            raise OptionError(unknown_name("convention of boxes", given, known))
        return known[given]
    registry = _registry("boxes.yaml")
    of_family = (key for key, entry in registry.items() if family in entry.get("families", ()))
    name = _entry_of(registry, names) or next(of_family, None)
    return None if name is None else known[name]


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
    found = _entry_of(_registry(), names) or PUBLISHED_PROMPTS.name
    name = found if given is None else given
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


def boxes_in(
    text: str,
    image: Radiograph,
    convention: BoxConvention | None,
    processed: Processed | None,
    *,
    name: str,
) -> WrittenBoxes:
    """Read the boxes of a text by a model; see `ChestXrayModel.boxes`."""
    every = [*box_conventions().values()]
    known = convention or next((one for one in every if one.marks and one.marks in text), None)
    found = read_boxes(text, image, known, processed)
    if known is None and len(found.raw):
        high = np.nanmax(np.where(np.isfinite(found.raw), found.raw, 0))
        allowed = [one.name for one in every if one.full is None or high <= one.full]
        raise OptionError(
            f"the text holds {len(found.raw):,} boxes, and how {name} writes boxes is not known; "
            f"say it with convention=, which may by these numbers be one of {', '.join(allowed)}"
        )
    return found
