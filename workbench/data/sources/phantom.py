"""Phantoms that `workbench phantom` drew into a folder: everything about them is known.

Does not know: how they are drawn. It reads the JSON file beside each image.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench._progress import progress
from workbench._store import read_json
from workbench.data.boxes import to_cell
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.sections import sections
from workbench.errors import InputError, OptionError
from workbench.findings import (
    ABSENT,
    CODE_CELLS,
    NO_FINDING,
    NOT_MENTIONED,
    PRESENT,
    read_cell,
    standard_name,
)

NEEDED = ("image", "seed", "domain", "labels")


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each phantom, and notes.

    Args:
        files: the folder.
        card: data card "phantom".
        labels: not used; there is one set.
        reports: whether the reference report is kept.
        show: whether a bar may appear.

    Raises:
        InputError: no phantoms are there, or a file is not one of theirs.
    """
    paths = sorted(files.folder.rglob("phantom_*.json"))
    if not paths:
        raise InputError(
            f"no phantom_*.json in {files.folder.name}; draw some first: "
            f"workbench phantom --count 24 --out {files.folder.name}"
        )
    rows = []
    for path in progress(paths, label="phantoms", show=show):
        try:
            record = read_json(path)
            missing = [key for key in NEEDED if key not in record]
        except (OSError, TypeError, ValueError):
            missing = ["JSON"]
        if missing:
            raise InputError(
                f"{path.name}: no {', '.join(missing)}; expected a file that "
                "`workbench phantom` wrote, draw it again"
            )
        labels_of = _labels(record["labels"], path.name)
        prefix = path.parent.relative_to(files.folder).as_posix()
        rows.append(
            _row(record | {"labels": labels_of}, "" if prefix == "." else prefix + "/", reports)
        )
    return pd.DataFrame(rows), []


def _labels(labels: object, said: str) -> dict[str, str]:
    """Return finding -> code, by standard names; a code that is none stays, for the check to name.

    Raises:
        InputError: a name is no finding, or two stand for one.
    """
    found: dict[str, str] = {}
    for name, code in labels.items() if isinstance(labels, dict) else [(str(labels), "")]:
        try:
            finding = standard_name(name)
        except OptionError as error:
            raise InputError(f"{said}, labels: {error}") from None
        if finding in found:
            raise InputError(f"{said}: two labels stand for {finding}: {name!r} is one; keep one")
        read = read_cell(code, CODE_CELLS)
        found[finding] = str(code) if read is None else read or NOT_MENTIONED
    return found


def _row(record: dict, prefix: str, reports: bool) -> dict:
    name = f"phantom-{record['domain']}-{record['seed']}"
    codes = record["labels"]
    present = [name for name, code in codes.items() if code == PRESENT and name != NO_FINDING]
    masks = [
        {"finding": finding, "path": prefix + path}
        for finding, path in record.get("masks", {}).items()
    ]
    row = {
        "image_id": name,
        "path": prefix + record["image"],
        "patient_id": name,
        "study_id": name,
        "view": "AP" if record["domain"] == "external" else "PA",
        "source_labels": "|".join(present),
        "provenance": "drawn",
        "locations": _places(record.get("lesions", [])),
        "masks": to_cell(masks),
    }
    row |= codes
    if NO_FINDING not in codes:
        clear = all(code == ABSENT for code in codes.values())
        row[NO_FINDING] = ABSENT if present else PRESENT if clear else NOT_MENTIONED
    if reports and record.get("report"):
        parts = sections(record["report"])
        row |= {f"report_{section}": text for section, text in parts.items()}
        row["report_language"] = "en"
    return row


def _places(lesions: list[dict]) -> str | None:
    places: dict[str, set[str]] = {}
    for lesion in lesions:
        words = {lesion.get("side"), lesion.get("zone")} - {None, np.nan, ""}
        if words:
            places.setdefault(lesion["finding"], set()).update(words)
    return to_cell({finding: sorted(words) for finding, words in places.items()})
