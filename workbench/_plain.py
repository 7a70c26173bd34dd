"""Plain values: what JSON can hold, of results that hold arrays, paths and undefined numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


def plain(value: object) -> Any:
    """Return a value as JSON holds it: arrays as lists, paths as text, undefined numbers as None.

    Mappings, sequences, dataclasses, numpy arrays and scalars are taken apart; other objects stay
    as they are.
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


def to_json(value: object, *, ascii_only: bool = False, indent: int | None = 2) -> str:
    """Return strict JSON (no NaN) of plain values, dataclasses and numpy values included."""
    return json.dumps(plain(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False)
