"""What recipes are made of: pydantic models whose errors repair.

A mistake is said with the path of the field, what was expected, what came, and the nearest name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from workbench.errors import OptionError, did_you_mean

#: Fields that had another name once.
RENAMED = {"words": "embeddings", "words_rate": "embeddings_rate"}

#: What pydantic's types of errors ask for.
_WANTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "string_type": "a text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a section of named fields",
    "finite_number": "a finite number",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
}


class Section(BaseModel):
    """A part of a recipe; unknown fields and values of another kind are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def __repr_args__(self) -> Iterator[tuple[str | None, object]]:
        """Yield what differs from the defaults."""
        return ((name, value) for name, value in super().__repr_args__()
                if value != type(self).model_fields[str(name)].get_default())  # fmt: skip


def _number(value: object) -> object:
    """Return the number that a text means: YAML reads 1e-3 as a text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _listed(value: object) -> object:
    """Return several values as a tuple; one alone stands for a list of it."""
    if isinstance(value, str | int | float):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


Numeric = BeforeValidator(_number)
Factor = Annotated[float, Field(ge=0), Numeric]
Share = Annotated[float, Field(ge=0, le=1), Numeric]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Listed = BeforeValidator(_listed)


def one_of(*names: str) -> AfterValidator:
    """Return a check that a text is one of these, for lists that are too long for a `Literal`."""

    def check(value: str) -> str:
        if value not in names:
            raise ValueError(f"must be {_choice(value, names)}")
        return value

    return AfterValidator(check)


def repairing(error: ValidationError, kind: type[BaseModel]) -> OptionError:
    """Return pydantic's error as one that says what to write instead."""
    return OptionError("; and ".join(_said(one, kind) for one in error.errors()))


def _said(error: Mapping[str, Any], kind: type[BaseModel]) -> str:
    path = [str(step) for step in error["loc"] if not isinstance(step, int)]
    where, value, context = ".".join(path), error["input"], error.get("ctx", {})
    problem = error["type"]
    if problem in ("extra_forbidden", "invalid_key"):
        sections, name = path[: len(error["loc"]) - 1], str(error["loc"][-1])
        return f"{'.'.join([*sections, name])}: {_unknown(sections, name, kind)}"
    if problem == "value_error":
        return f"{where} {context['error']}"
    if problem == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        return f"{where} must be {_choice(value, names)}"
    if wanted := _WANTED.get(problem):
        return f"{where} must be {wanted.format(**context)}, got {value!r}"
    return f"{where}: {error['msg']}, got {value!r}"


def _choice(value: object, names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}, got {value!r}{did_you_mean(value, names)}"


def _unknown(sections: list[str], name: str, kind: type[BaseModel]) -> str:
    for section in sections:
        kind = section_of(kind, section) or kind
    if new := RENAMED.get(name):
        return f"this field is called {new} now; write {'.'.join([*sections, new])}"
    near = did_you_mean(name, kind.model_fields)
    return f"unknown field{near or '; expected one of ' + ', '.join(kind.model_fields)}"


def section_of(kind: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the model of a field that is a section; None where it is a value."""
    hint = kind.model_fields[name].annotation
    kinds = (hint, *get_args(hint))
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, Section)), None)


def explained(kind: type[BaseModel], path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield (path, sentence with what is allowed, default) of every field, sections opened."""
    schemas = kind.model_json_schema()["properties"]
    for name, field in kind.model_fields.items():
        section, sentence = section_of(kind, name), field.description or ""
        if allowed := _allowed(schemas[name]):
            sentence = f"{sentence[:-1]} ({allowed})."
        yield f"{path}{name}", sentence, None if section else field.default
        if section:
            yield from explained(section, f"{path}{name}.")


def _allowed(schema: Mapping[str, Any]) -> str:
    """Return the bounds or choices of a field from its JSON schema; "" where it has none."""
    schema = schema.get("anyOf", [schema])[0]
    schema = schema.get("items", schema)
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(choices)
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None:
        return ""
    return f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
