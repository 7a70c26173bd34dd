"""Maps as the explorer's page takes them: any part of a text, any method, and what is said of it.

Does not know: how a map is made (`workbench.saliency`, `workbench.attention`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.errors import OptionError, unknown_name
from workbench.figures.names import method_name
from workbench.saliency import METHODS, Method, explain, explain_target, make_target
from workbench.saliency.cautions import caution_of
from workbench.trace import ImageMap, Trace
from workbench.widgets._film import grid_of
from workbench.widgets.explorer_text import selection_of

#: Methods that take about one pass of the model: computed as soon as a word is chosen.
PROMPT = ("attention", "rollout", "relevancy", "input_x_gradient", "grad_cam")


def method_list(sha256: str) -> list[dict[str, Any]]:
    """Return every method with what a menu has to say of it for these weights."""
    return [
        {
            "name": method.name,
            "label": method_name(method.name),
            "recorded": method.recorded,
            "prompt": method.name in PROMPT,
            "signed": method.signed,
            "layers": "layer" in method.defaults,
            "heads": "head" in method.defaults,
            "paper": method.paper,
            "caution": caution_of(method.name, sha256),
        }
        for method in METHODS.values()
    ]


def map_for(trace: Trace, message: Mapping[str, Any]) -> ImageMap:
    """Return the map that a page asks for.

    Args:
        trace: the run.
        message: method, choice (`selection_of`), layer and head where the method has them.

    Raises:
        OptionError: an unknown method, or a layer or head that is none.
        InputError: see `workbench.saliency.explain`.
    """
    method = method_of(message.get("method"))
    parts = {name: part_in(message, name) for name in ("layer", "head") if name in method.defaults}
    options = {name: value for name, value in parts.items() if value is not None}
    choice = message.get("choice") or {}
    if not isinstance(choice, Mapping):
        raise OptionError(f"expected a choice with start and end, or a finding; got {choice!r}")
    chosen = selection_of(trace, choice)
    if isinstance(chosen, str):
        return explain(trace, finding=chosen, method=method.name, **options)
    if chosen.kind == "text":
        return explain(trace, method=method.name, **options)
    return explain_target(trace, make_target(trace, chosen), method=method.name, **options)


def method_of(name: Any) -> Method:
    """Return a method by name.

    Raises:
        OptionError: there is none.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise OptionError(unknown_name("method", name, METHODS))
    return METHODS[name]


def expected_images(method: Method, image_size: int, patch: int) -> int | None:
    """Return how many images a method will read; None where it decides that as it goes."""
    defaults = method.defaults
    if method.name == "occlusion":
        stride = patch if patch % 2 else patch // 2
        return (image_size // stride) ** 2 + 1
    return defaults.get("budget") or defaults.get("samples")


def map_dict(image_map: ImageMap) -> dict[str, Any]:
    """Return a map for a page: numbers as a packed grid, and everything that is said about it."""
    return {"grid": grid_of(image_map.values), **said_of(image_map)}


def said_of(image_map: ImageMap) -> dict[str, Any]:
    """Return what is said about a map, without its numbers."""
    share = image_map.scores.get("image_share")
    return {
        "title": image_map.title,
        "target": image_map.target,
        "details": image_map.details,
        "signed": image_map.signed,
        "unit": image_map.unit,
        "caution": image_map.caution,
        "share": share,
        "seconds": image_map.seconds,
        "largest": float(abs(image_map.values).max()),
    }


def part_in(message: Mapping[str, Any], name: str) -> int | None:
    """Return the layer or head of a message; None for the mean of all.

    Raises:
        OptionError: it is no whole number.
    """
    value = message.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise OptionError(f"{name} must be a whole number, or nothing for the mean; got {value!r}")
    return value
