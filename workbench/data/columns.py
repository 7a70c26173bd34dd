"""The columns of a manifest: names, allowed values and meanings; one row is one image.

A finding column holds one of four codes. "not mentioned" stands for everything that nobody said:
a label that a data set does not have, a report that is silent, a reader who was not asked. It is
never turned into "absent" (torchxrayvision, `datasets.py`: "NaN represents no information";
Cohen et al., MIDL 2022, arXiv 2111.00595).

A cell can hold anything, a report in the wrong column included, so `shown` decides what of a faulty
value may be printed.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from workbench._store import read_yaml
from workbench.findings import ALL_FINDINGS

VOCABULARY = read_yaml("workbench.data", "vocabulary.yaml")
#: Every finding column, in the order of the file.
FINDING_COLUMNS = (*ALL_FINDINGS, *VOCABULARY["findings"])
#: Years of age that a person can have.
AGE_RANGE = (0, 120)


@dataclass(frozen=True)
class Column:
    """One column of a manifest."""

    name: str
    kind: str  # text, report (never printed), category, code, integer, json or hash
    meaning: str
    values: tuple[str, ...] = ()  # what a category or code may be
    required: bool = False


COLUMNS = tuple(
    Column(name, **facts | {"values": tuple(facts.get("values", ()))})
    for key, facts in VOCABULARY["columns"].items()
    for name in (FINDING_COLUMNS if key == "findings" else (key,))
)
BY_NAME = {column.name: column for column in COLUMNS}
COLUMN_NAMES = tuple(BY_NAME)
REPORT_COLUMNS = tuple(column.name for column in COLUMNS if column.kind == "report")
REPORT_SECTIONS = tuple(name.removeprefix("report_") for name in REPORT_COLUMNS)
SPLITS, PROVENANCES = BY_NAME["split"].values, BY_NAME["provenance"].values

_LONGEST_WORD, _LONGEST_PATH = 80, 200
#: Words that a label may have; "central venous catheter via jugular vein" has six.
_LABEL_WORDS = 6
_SENTENCE = re.compile(r"[.!?;:,]\s|[.!?;:,]$|[\n\r\t]|\s\s")


def shown(column: str | None, value: object) -> str | None:
    """Return a value as it may be printed: enough to find the fault, never the text of a report.

    One word is shown when it is short; several only in the columns of labels and paths, or where
    they are nearly what the column allows, and never when they read like a sentence.

    The column is None for the name of one. None is returned for a missing value.
    """
    text = "" if value is None else str(value)
    if text in ("", "<NA>", "nan", "None"):
        return None
    return text if _may_be_shown(column, text) else f"({len(text)} characters, not shown)"


def _may_be_shown(column: str | None, text: str) -> bool:
    known = BY_NAME.get(column or "")
    if known is not None and known.kind in ("report", "json"):
        return False
    if column == "path":
        return len(text) <= _LONGEST_PATH and not re.search(r"[.!?;,]\s|[\n\r]", text)
    words = text.split()
    if len(text) > _LONGEST_WORD or _SENTENCE.search(text):
        return False
    if len(words) == 1:
        return True
    if column == "source_labels":
        return len(words) <= _LABEL_WORDS
    allowed = known.values if known is not None else tuple(BY_NAME)
    return bool(difflib.get_close_matches(text.lower(), [w.lower() for w in allowed], 1, 0.75))
