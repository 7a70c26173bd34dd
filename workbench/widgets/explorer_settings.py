"""What is chosen on the explorer's page, and what of it is allowed.

Does not know: pages; what the choices lead to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from workbench.errors import OptionError
from workbench.saliency import METHODS

#: What a new explorer shows.
DEFAULTS: dict[str, Any] = {
    "method": "attention",
    "second": "",
    "layer": None,
    "head": None,
    "sign": "both",
    "opacity": 0.6,
    "smooth": True,
    "overlay": True,
    "truth": False,
    "colour": "none",
    "pick": "word",
    "view": {},
    "chosen": [],
}

_ALLOWED = {
    "sign": ("both", "for", "against"),
    "colour": ("none", "image", "confidence"),
    "pick": ("word", "sentence"),
}
_VIEW_NUMBERS = ("zoom", "x", "y", "centre", "width")
_VIEW_SWITCHES = ("invert", "model", "crop", "hand")


def checked_settings(kept: Mapping[str, Any], given: Any, sides: int) -> dict[str, Any]:
    """Return the settings with those of a page; what the page leaves out stays.

    Args:
        kept: so far.
        given: of the page, which may be anything.
        sides: how many there are.

    Raises:
        OptionError: a value is not allowed; nothing is changed then.
    """
    if not isinstance(given, Mapping):
        raise OptionError(f"expected settings by name, got {type(given).__name__}")
    new = dict(kept)
    for name, value in given.items():
        if name not in DEFAULTS or not _fits(name, value, sides):
            raise OptionError(f"the setting {name!r} cannot be {_short(value)}")
        new[name] = value
    return new


def _fits(name: str, value: Any, sides: int) -> bool:
    if name in ("method", "second"):
        return isinstance(value, str) and (value in METHODS or (name == "second" and not value))
    if name in _ALLOWED:
        return value in _ALLOWED[name]
    if name in ("layer", "head"):
        return value is None or (_number(value) and value == int(value) and value >= 0)
    if name == "opacity":
        return _number(value) and 0 <= value <= 1
    if name == "view":
        return isinstance(value, Mapping) and all(map(_view_fits, value, value.values()))
    if name == "chosen":
        return (
            isinstance(value, list) and len(value) <= sides and all(_choice_fits(v) for v in value)
        )
    return isinstance(value, bool)


def _view_fits(name: Any, value: Any) -> bool:
    if name in _VIEW_NUMBERS:
        return _number(value)
    return name in _VIEW_SWITCHES and isinstance(value, bool)


def _choice_fits(value: Any) -> bool:
    """Whether it is a chosen part of a text, or none."""
    if value is None:
        return True
    if not isinstance(value, Mapping) or len(value) > 6:
        return False
    return all(
        item is None or _number(item) or (isinstance(item, str) and len(item) <= 80)
        for item in value.values()
    )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
