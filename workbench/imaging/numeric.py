"""Numbers of a DICOM header, also those that break the standard's rules.

pydicom refuses a whole element where one of its numbers is none. Here each number is read on its
own: a decimal comma is read as a point, and what is no number is known to be there and unreadable.

Does not know: which tags are numbers (`vocabulary`), or what is said about them (`header`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from pydicom.dataset import Dataset

_DECIMAL = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?")
#: What surrounds a number, padding of every kind included.
_BLANKS = " \0\t\r\n"


@dataclass(frozen=True)
class Numbers:
    """The numbers of one element.

    Attributes:
        values: one for each that is written, None where it cannot be read; empty where the element
            is absent or empty.
        commas: whether one of them was written with a decimal comma.
    """

    values: tuple[float | None, ...] = ()
    commas: bool = False


def read_numbers(ds: Dataset, keyword: str) -> Numbers:
    """Read every number of an element, each on its own."""
    parts = [str(part).strip(_BLANKS) for part in _parts(ds, keyword)]
    if not any(parts):
        return Numbers()
    values = tuple(map(_number, parts))
    read = zip(parts, values, strict=True)
    return Numbers(values, any("," in part for part, value in read if value is not None))


def first_number(ds: Dataset, keyword: str) -> float | None:
    """Return the first number of an element, None where absent, empty or unreadable."""
    values = read_numbers(ds, keyword).values
    return values[0] if values else None


def _parts(ds: Dataset, keyword: str) -> list:
    try:
        value = ds.get(keyword)
    except (ValueError, TypeError, OverflowError):
        value = ds.get_item(keyword).value  # as it stands in the file
    if value is None:
        return []
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return value.split("\\") if isinstance(value, str) else _listed(value)


def _listed(value) -> list:
    return list(value) if hasattr(value, "__iter__") else [value]


def _number(text: str) -> float | None:
    if not _DECIMAL.fullmatch(text):
        return None
    number = float(text.replace(",", "."))
    return number if math.isfinite(number) else None
