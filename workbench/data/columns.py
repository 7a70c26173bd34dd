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

from workbench.findings import ALL_FINDINGS, CODES

#: Findings that public data sets label beyond those of reports; kept apart, never merged silently.
MORE_FINDINGS = (
    "mass",
    "infiltration",
    "pleural thickening",
    "emphysema",
    "pulmonary fibrosis",
    "hernia",
    "interstitial lung disease",
    "aortic enlargement",
    "calcification",
    "tuberculosis",
    "covid-19 pneumonia",
)
#: Every finding column, in the order of the file.
FINDING_COLUMNS = (*ALL_FINDINGS, *MORE_FINDINGS)

VIEWS = ("PA", "AP", "frontal", "lateral", "other", "unknown")
SEXES = ("female", "male", "other", "unknown")
SPLITS = ("train", "validate", "test")
REPORT_SECTIONS = ("indication", "comparison", "technique", "findings", "impression")

#: Where the labels of a row come from.
PROVENANCES = {
    "radiologist": "radiologists who looked at the image, each for himself or by majority",
    "adjudicated": "several radiologists who discussed until they agreed",
    "report-read": "a person who read the report, not the image",
    "report-mined": "a program that read the report",
    "drawn": "known, because the image was drawn from it",
    "unknown": "nobody said",
}

#: Years of age that a person can have.
AGE_RANGE = (0, 120)


@dataclass(frozen=True)
class Column:
    """One column of a manifest.

    Attributes:
        kind: "key" (a text that every row has), "text", "report" (free text that is never printed),
            "category", "code", "integer", "json" or "hash".
        values: what a category may be; empty for the other kinds.
    """

    name: str
    kind: str
    meaning: str
    values: tuple[str, ...] = ()
    required: bool = False


COLUMNS = (
    Column("image_id", "key", "identifies the row within its source", required=True),
    Column("path", "text", "file below the root, with /; empty for a report without an image"),
    Column("patient_id", "key", "the source's own pseudonym of the patient", required=True),
    Column("study_id", "key", "images taken together", required=True),
    Column("view", "category", "projection", VIEWS, required=True),
    Column("sex", "category", "sex as recorded", SEXES, required=True),
    Column("age", "integer", "whole years at the time of the study"),
    Column("split", "category", "official or own split; empty for none", SPLITS),
    *(
        Column(name, "code", f"what is known of {name}", CODES, required=True)
        for name in FINDING_COLUMNS
    ),
    Column("source_labels", "text", "labels as the source wrote them, joined by |"),
    Column("provenance", "category", "who or what labelled", tuple(PROVENANCES), required=True),
    Column("locations", "json", "finding -> places that were named: sides and zones"),
    Column("boxes", "json", "list of {finding, label, x, y, width, height, reader} in pixels"),
    Column("masks", "json", "list of {finding, rle or path}"),
    Column("severity", "json", "scores by zone"),
    *(Column(f"report_{name}", "report", "section of the report") for name in REPORT_SECTIONS),
    Column("report_language", "text", "ISO 639 code"),
    Column("licence", "text", "short name of the licence of the row", required=True),
    Column("source", "text", "key of the data card", required=True),
    Column("sha256", "hash", "of the file, where it was at hand"),
    Column("dhash", "hash", "256-bit difference hash of the pixels, where they were at hand"),
)
BY_NAME = {column.name: column for column in COLUMNS}
COLUMN_NAMES = tuple(BY_NAME)
REPORT_COLUMNS = tuple(column.name for column in COLUMNS if column.kind == "report")

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
