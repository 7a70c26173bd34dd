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
from dataclasses import dataclass
from importlib.resources import files

import yaml
from pydicom.dataset import Dataset


def _words(words: str | list[str]) -> tuple[str, ...]:
    return tuple(words.split() if isinstance(words, str) else words)


_LISTS = yaml.safe_load((files("workbench.imaging") / "vocabulary.yaml").read_text("utf-8"))

META_KEYWORDS = _words(_LISTS["meta"])
READ_KEYWORDS = META_KEYWORDS + _words(_LISTS["read"])
FRAME_KEYWORDS = _words(_LISTS["frame"])
INTEGERS, NUMBERS = _words(_LISTS["integers"]), _words(_LISTS["numbers"])
NUMBER_PAIRS = _words(_LISTS["number_pairs"])

CHEST, CHEST_STARTS = _words(_LISTS["chest"]), _words(_LISTS["chest_starts"])
CHEST_CODES = _words(_LISTS["chest_codes"])
OTHER_PARTS = {
    word: line.split()[0] for line in _LISTS["other_parts"].splitlines() for word in line.split()
}
NEIGHBOURS = _words(_LISTS["neighbours"])
BODY_TAGS, IMAGE_TAGS = _words(_LISTS["body_tags"]), _words(_LISTS["image_tags"])
STUDY_TAGS, ITEM_TEXTS = _words(_LISTS["study_tags"]), _words(_LISTS["item_texts"])

RADIOGRAPHIC = _words(_LISTS["radiographic"])
SILENT_MODALITIES = _words(_LISTS["silent_modalities"])
VOCABULARY = {keyword: _words(terms) for keyword, terms in _LISTS["terms"].items()}
VOCABULARY["Modality"] = RADIOGRAPHIC + SILENT_MODALITIES + VOCABULARY["Modality"]
MANUFACTURERS = _words(_LISTS["manufacturers"])
PA_CODES, AP_CODES = _words(_LISTS["pa_codes"]), _words(_LISTS["ap_codes"])
LATERAL_CODES, LATERAL_WORDS = _words(_LISTS["lateral_codes"]), _words(_LISTS["lateral_words"])


# ---------------------------------------------------------------- numbers

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
    if isinstance(value, str):
        return value.split("\\")
    return list(value) if hasattr(value, "__iter__") else [value]


def _number(text: str) -> float | None:
    if not _DECIMAL.fullmatch(text):
        return None
    number = float(text.replace(",", "."))
    return number if math.isfinite(number) else None
