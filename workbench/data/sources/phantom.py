"""Phantoms that `workbench phantom` drew into a folder: everything about them is known.

It is read from the JSON file beside each image.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from workbench._progress import progress
from workbench._store import read_json
from workbench.data.download import Download
from workbench.data.mapping import sections, to_cell
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


def read(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each phantom."""
    paths = sorted(files.folder.rglob("phantom_*.json"))
    if not paths:
        raise InputError(
            f"no phantom_*.json in {files.folder.name}; draw some first: "
            f"workbench phantom --count 24 --out {files.folder.name}"
        )
    rows = []
    for path in progress(paths, label="phantoms", show=files.show):
        record = _record(path)
        codes = _codes(record["labels"], path.name)
        prefix = path.parent.relative_to(files.folder).as_posix()
        prefix = "" if prefix == "." else prefix + "/"
        rows.append(_row(record, codes, prefix, files.reports))
    return pd.DataFrame(rows), []


def _record(path: Path) -> dict:
    try:
        record = read_json(path)
        missing = [key for key in NEEDED if key not in record]
    except (OSError, TypeError, ValueError):
        record, missing = {}, ["JSON"]
    if missing:
        raise InputError(
            f"{path.name}: no {', '.join(missing)}; expected a file that "
            "`workbench phantom` wrote, draw it again"
        )
    return record


def _codes(labels: object, said: str) -> dict[str, str]:
    """Return finding -> code, by standard names; a code that is none stays."""
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


def _row(record: dict, codes: dict[str, str], prefix: str, reports: bool) -> dict:
    name = f"phantom-{record['domain']}-{record['seed']}"
    present = [name for name, code in codes.items() if code == PRESENT and name != NO_FINDING]
    masks = record.get("masks", {}).items()
    clear = all(code == ABSENT for code in codes.values())
    row = {
        "image_id": name,
        "path": prefix + record["image"],
        "view": "AP" if record["domain"] == "external" else "PA",
        "source_labels": "|".join(present),
        "locations": _places(record.get("lesions", [])),
        "masks": to_cell([{"finding": finding, "path": prefix + path} for finding, path in masks]),
        NO_FINDING: ABSENT if present else PRESENT if clear else NOT_MENTIONED,
    }
    if reports and record.get("report"):
        parts = sections(record["report"])
        row |= {f"report_{section}": text for section, text in parts.items()}
        row["report_language"] = "en"
    return row | codes


def _places(lesions: list[dict]) -> str | None:
    places: dict[str, set[str]] = {}
    for lesion in lesions:
        words = {lesion[name] for name in ("side", "zone") if isinstance(lesion.get(name), str)}
        words -= {""}
        if words:
            places.setdefault(lesion["finding"], set()).update(words)
    return to_cell({finding: sorted(words) for finding, words in places.items()})
