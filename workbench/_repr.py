"""How a result writes itself: in one or two lines, and as plain values for JSON.

    @result()
    class Map:
        values: np.ndarray           # Map(values=<512 x 512 float32>)

Of arrays, tables and collections the size stands there.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from io import BytesIO
from pathlib import Path, PurePath
from typing import Any, TypeVar, dataclass_transform

#: Characters of a whole result, and of one of its fields.
LONGEST, _FIELD = 300, 60
_PLAIN = (bool, int, float, complex, type(None))
_Result = TypeVar("_Result")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def result(*, eq: bool = False) -> Callable[[type[_Result]], type[_Result]]:
    """Return what makes a class a frozen dataclass that writes itself by `short_repr`."""

    def declare(kind: type[_Result]) -> type[_Result]:
        kind.__repr__ = short_repr
        return dataclass(frozen=True, eq=eq)(kind)

    return declare


def short_repr(self: Any) -> str:
    """Return a dataclass as its name and fields, in at most `LONGEST` characters."""
    said = [f"{field.name}={_short(getattr(self, field.name))}"
            for field in fields(self) if field.repr]  # fmt: skip
    name, shown = type(self).__name__, []
    for one in said:
        if len(f"{name}({', '.join([*shown, one])}, ...)") > LONGEST:
            shown.append("...")
            break
        shown.append(one)
    return f"{name}({', '.join(shown)})"


def _short(value: object) -> str:
    """Return a value, or what there is of it where it is long."""
    if isinstance(value, (*_PLAIN, str, bytes, PurePath)):
        said = repr(value)
        return said if len(said) <= _FIELD else f"{said[: _FIELD - 4]}...{said[-1]}"
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape:
        kind = getattr(value, "dtype", None)
        sizes = " x ".join(f"{size}" for size in shape)
        return f"<{sizes} {str(kind).removeprefix('torch.') if kind is not None else 'table'}>"
    if isinstance(value, dict | list | tuple | set | frozenset | Mapping):
        return _collection(value)
    said = repr(value)
    return said if len(said) <= _FIELD and "\n" not in said else f"<{type(value).__name__}>"


def _collection(value: Collection) -> str:
    parts = [*value, *(value.values() if isinstance(value, Mapping) else ())]
    if len(parts) <= 12 and all(isinstance(part, (*_PLAIN, str)) for part in parts):
        said = repr(value)
        if len(said) <= _FIELD:
            return said
    return f"<{len(value):,} {'item' if len(value) == 1 else 'items'}>"


def plain(value: object) -> Any:
    """Return a value as JSON holds it: arrays as lists, paths as text, undefined numbers as None.

    Other objects than mappings, sequences, dataclasses and those of numpy stay as they are.
    """
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return value.as_posix()
    to_list = getattr(value, "tolist", None)
    return plain(to_list()) if callable(to_list) else value


def png_text(save: Callable[[BytesIO], object]) -> str:
    """Return as base64 the PNG that a function writes to a file: `lambda to: fig.savefig(to)`."""
    buffer = BytesIO()
    save(buffer)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def to_json(value: object, *, ascii_only: bool = False) -> str:
    """Return strict JSON (no NaN) of plain values, dataclasses and numpy values included."""
    return json.dumps(plain(value), indent=2, ensure_ascii=ascii_only, allow_nan=False)
