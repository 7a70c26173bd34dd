"""What differs between families of transformers models and cannot be read from a checkpoint.

Keys are `config.model_type`. A family that is not here works where the checks of
`workbench.backends.checks` pass. What models are asked with stands in `prompts.yaml`, how they
write boxes in `boxes.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np

from workbench._store import read_yaml
from workbench.errors import OptionError, did_you_mean, unknown_name
from workbench.model.prompt import PUBLISHED_PROMPTS, Prompts
from workbench.radiograph import Radiograph
from workbench.reports.boxes import BoxConvention, Processed, WrittenBoxes, read_boxes

#: Token type of text that the model writes, where it is not that of the prompt's text. Paligemma's
#: prompt looks both ways (type 0); what it writes must not, or logits are wrong in silence.
WRITTEN_TOKEN_TYPE = {"paligemma": 1}

#: Kinds of decoder layers, as `config.layer_types` names them, that have no attention.
WITHOUT_ATTENTION = frozenset({"linear_attention", "conv", "moe"})

#: Families that the tests prove, with the kinds of decoder and of vision tower that they prove
#: them with; others have to pass the checks when they are loaded.
TESTED = {
    "aya_vision": ("cohere2", "siglip_vision_model"),
    "gemma3": ("gemma3_text", "siglip_vision_model"),
    "idefics3": ("llama", "idefics3_vision"),
    "internvl": ("qwen2", "internvl_vision"),
    "llava": ("llama", "clip_vision_model"),
    "llava_next": ("mistral", "clip_vision_model"),
    "llava_onevision": ("qwen2", "siglip_vision_model"),
    "paligemma": ("gemma2", "siglip_vision_model"),
    "qwen2_5_vl": ("qwen2_5_vl_text", "qwen2_5_vl_vision"),
    "qwen2_vl": ("qwen2_vl_text", "qwen2_vl_vision"),
    "qwen3_vl": ("qwen3_vl_text", "qwen3_vl_vision"),
}

_Kind = TypeVar("_Kind", Prompts, BoxConvention)


@cache
def _registry(name: str = "prompts.yaml") -> Mapping[str, Mapping[str, Any]]:
    return read_yaml("workbench.backends", name)


def _entry_of(registry: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> str | None:
    """Return the entry that names the nearest of a model's hub ids; None where none does."""
    by_model = {
        one.lower(): entry for entry in registry for one in registry[entry].get("models", ())
    }
    return next((by_model[name.lower()] for name in names if name.lower() in by_model), None)


def _made(kind: type[_Kind], file: str = "prompts.yaml") -> dict[str, _Kind]:
    """Return what the entries of a registry describe, by name."""
    found = {}
    for name, entry in _registry(file).items():
        stated = {k: v for k, v in entry.items() if k in kind.__dataclass_fields__}
        if "source" in entry:
            stated["source"] = f"{entry['source']}, read {entry['read']}"
        found[name] = kind(name, **stated)
    return found


@cache
def box_conventions() -> Mapping[str, BoxConvention]:
    """Return how models write boxes: name -> convention."""
    return _made(BoxConvention, "boxes.yaml")


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
    return known.get(_entry_of(registry, names) or next(of_family, ""))


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
    allowed = {PUBLISHED_PROMPTS.name: PUBLISHED_PROMPTS, **_made(Prompts)}
    if given is not None and given not in allowed:
        raise OptionError(
            f"prompts must be one of {', '.join(allowed)} or a workbench.model.Prompts, got "
            f"{given!r}{did_you_mean(str(given), allowed)}"
        )
    return allowed[given or _entry_of(_registry(), names) or PUBLISHED_PROMPTS.name]


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
