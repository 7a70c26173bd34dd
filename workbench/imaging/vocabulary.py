"""The closed lists of the DICOM reader: which tags are read, and which words may come out of them.

Texts of a file are never passed on: each is matched against a list here and replaced by the
matching term, because people type names into any field. Dates, UIDs, names, ages, comments and
private tags have no way through. The lists stand in `vocabulary.yaml`.

Numbers are read one by one, because pydicom refuses a whole element where one of its numbers is
none: a decimal comma is read as a point, and what is no number is known to be there and unreadable.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from pydicom.dataset import Dataset

from workbench._store import read_yaml


def _words(words: str | list[str]) -> tuple[str, ...]:
    return tuple(words.split() if isinstance(words, str) else words)


_FILE = read_yaml("workbench.imaging", "vocabulary.yaml")

#: Part of the body, as a text may name it -> the standard's word.
OTHER_PARTS = {
    word: line.split()[0] for line in _FILE.pop("other_parts").splitlines() for word in line.split()
}
#: Keyword -> the terms that may come out of it.
VOCABULARY = {keyword: _words(terms) for keyword, terms in _FILE.pop("terms").items()}
#: ViewPosition -> view.
POSITIONS = _FILE.pop("positions")
#: First bytes of files that are no image -> what to say.
OTHER_FILES = _FILE.pop("other_files")
#: Every other list, by its name in the file.
LISTS = {name: _words(words) for name, words in _FILE.items()}
VOCABULARY["Modality"] += LISTS["radiographic"] + LISTS["silent_modalities"]
META_KEYWORDS = LISTS["meta"]
READ_KEYWORDS = META_KEYWORDS + LISTS["read"]


# ---------------------------------------------------------------- numbers

_DECIMAL = re.compile(r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?")
#: What surrounds a number, padding of every kind included.
_BLANKS = " \0\t\r\n"


class Numbers(NamedTuple):
    """The numbers of one element, None for one that cannot be read, and whether commas were."""

    values: tuple[float | None, ...] = ()
    commas: bool = False


def read_numbers(ds: Dataset, keyword: str) -> Numbers:
    """Read every number of an element, each on its own."""
    parts = [str(part).strip(_BLANKS) for part in written_parts(ds, keyword)]
    if not any(parts):
        return Numbers()
    values = tuple(map(_number, parts))
    read = zip(parts, values, strict=True)
    return Numbers(values, any("," in part for part, value in read if value is not None))


def first_number(ds: Dataset, keyword: str) -> float | None:
    """Return the first number of an element, None where absent, empty or unreadable."""
    values = read_numbers(ds, keyword).values
    return values[0] if values else None


def written_parts(ds: Dataset, keyword: str) -> list:
    """Return the values of an element, as they stand in the file where pydicom refuses one."""
    try:
        value = ds.get(keyword)
    except (ValueError, TypeError, OverflowError):
        value = ds.get_item(keyword).value
    if value is None:
        return []
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        return value.split("\\")
    return list(value) if hasattr(value, "__iter__") else [value]


def _number(text: str) -> float | None:
    if not _DECIMAL.fullmatch(text):
        return None
    number = float(text.replace(",", "."))
    return number if math.isfinite(number) else None
