"""Recipes from plain values: every field has one sentence, and an error repairs.

A mistake is said with the path of the field, what was expected, what came, and the nearest name.

Does not know: which fields a recipe has (`recipe`).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from workbench.errors import OptionError, did_you_mean

T = TypeVar("T")


def said(
    default: Any,
    sentence: str,
    *,
    choices: Sequence[str] = (),
    least: float | None = None,
    most: float | None = None,
) -> Any:
    """Return a dataclass field with its sentence and what it may hold.

    Args:
        default: its value; a callable makes a fresh one.
        sentence: one sentence for readers.
        choices: the only values allowed, for texts.
        least, most: bounds of a number, both allowed.
    """
    metadata = {"says": sentence, "choices": tuple(choices), "least": least, "most": most}
    if callable(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def build(kind: type[T], values: Any, *, path: str = "") -> T:
    """Make a recipe, or a section of one, from a mapping.

    Args:
        kind: a dataclass whose fields come from `said`.
        values: what a YAML file holds.
        path: where this section stands, for messages.

    Raises:
        OptionError: an unknown field, or a value of another kind or out of its range.
    """
    if not isinstance(values, Mapping):
        raise OptionError(f"{path or 'a recipe'} must be a section of named fields, got {values!r}")
    known = {item.name: item for item in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    made = {}
    for name, value in values.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in known:
            raise OptionError(_unknown(where, str(name), list(known)))
        made[name] = checked(value, hints[name], known[name].metadata, where)
    return kind(**made)


def checked(value: Any, hint: Any, metadata: Mapping[str, Any], where: str) -> Any:
    """Return a value as the field holds it.

    Raises:
        OptionError: it is of another kind, or out of its range.
    """
    if get_origin(hint) in (typing.Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, path=where)
    if get_origin(hint) is tuple:
        items = [value] if isinstance(value, (str, int, float)) else value
        if not isinstance(items, Sequence):
            raise OptionError(f"{where} must be a list, got {value!r}")
        kind = get_args(hint)[0]
        return tuple(checked(item, kind, metadata, where) for item in items)
    if get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise OptionError(f"{where} must be a section of names and numbers, got {value!r}")
        kind = get_args(hint)[1]
        return {str(key): checked(item, kind, metadata, f"{where}.{key}") for key, item in
                value.items()}  # fmt: skip
    return _in_range(_of_kind(value, hint, where), metadata, where)


def _of_kind(value: Any, kind: type, where: str) -> Any:
    """Return a number, text or flag; YAML reads 1e-3 as a text, which is meant as a number."""
    if kind is float and isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise OptionError(f"{where} must be a number, got {value!r}") from None
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        names = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
        raise OptionError(f"{where} must be {names.get(kind, kind.__name__)}, got {value!r}")
    return float(value) if kind is float else value


def _in_range(value: Any, metadata: Mapping[str, Any], where: str) -> Any:
    choices, least, most = (metadata.get(key) for key in ("choices", "least", "most"))
    if choices and value not in choices:
        raise OptionError(
            f"{where} must be one of {', '.join(choices)}, got {value!r}"
            f"{did_you_mean(value, choices)}"
        )
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and least is not None and value < least:
        raise OptionError(f"{where} must be at least {least:g}, got {value!r}")
    if number and most is not None and value > most:
        raise OptionError(f"{where} must be at most {most:g}, got {value!r}")
    return value


def check_values(section: Any, path: str) -> None:
    """Check a section that was made in Python as one that was read.

    Raises:
        OptionError: as `checked`.
    """
    hints = get_type_hints(type(section))
    for item in dataclasses.fields(section):
        where = f"{path}.{item.name}" if path else item.name
        checked(getattr(section, item.name), hints[item.name], item.metadata, where)


def explained(kind: type, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield (path, sentence, default) of every field of a recipe, sections opened."""
    hints = get_type_hints(kind)
    for item in dataclasses.fields(kind):
        where = f"{path}.{item.name}" if path else item.name
        hint = next((h for h in get_args(hints[item.name]) if dataclasses.is_dataclass(h)), None)
        hint = hints[item.name] if dataclasses.is_dataclass(hints[item.name]) else hint
        default = None if hint or item.default is dataclasses.MISSING else item.default
        yield where, item.metadata["says"], default
        if hint:
            yield from explained(hint, where)


def _unknown(where: str, name: str, known: list[str]) -> str:
    near = did_you_mean(name, known)
    return f"{where}: unknown field{near or '; expected one of ' + ', '.join(known)}"
