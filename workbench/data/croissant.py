"""Manifests described as Croissant, the JSON-LD that data catalogues and loaders read.

    workbench manifest croissant nih.parquet --out nih.croissant.json
    mlcroissant validate --jsonld nih.croissant.json

The description names the file with its SHA-256, and what each column means. It contains no row and
no path of this machine. Keep both files together: the one refers to the other by a relative path.

Source: Akhtar et al., Croissant, NeurIPS 2024 (datasets and benchmarks), arXiv 2403.19546.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pandas as pd

from workbench._store import file_sha256, whole_file
from workbench.data.cards import SOURCES, DataCard, card
from workbench.data.columns import BY_NAME, REPORT_COLUMNS
from workbench.data.frames import read_table
from workbench.errors import InputError, need_package

if TYPE_CHECKING:
    from mlcroissant import Field

_FORMATS = {".parquet": "application/x-parquet", ".csv": "text/csv"}
_RECORDS = "images"
_KEY = ("source", "image_id")


def save_croissant(
    table: str | os.PathLike[str], out: str | os.PathLike[str], *, name: str | None = None
) -> Path:
    """Describe the file of a manifest in a JSON-LD file that mlcroissant's validator accepts.

    Args:
        table: the manifest, .parquet or .csv; it is referred to and not copied.
        out: the JSON-LD file, on the same drive.
        name: of the data set; the name of the file when None.

    Returns:
        The path of the JSON-LD file.

    Raises:
        MissingDependencyError: mlcroissant is not installed.
        InputError: the manifest cannot be read, or `out` does not end in .json.

    >>> wb.data.save_croissant("m.parquet", "m.json").name
    'm.json'
    """
    mlc = _mlcroissant()
    table, out = Path(table), Path(out)
    if out.suffix.lower() != ".json":
        raise InputError(f"{out.name}: a Croissant description is written as .json")
    frame = read_table(table)
    cards = [card(key) for key in sorted(frame["source"].dropna().unique()) if key in SOURCES]
    file = mlc.FileObject(
        id=table.name,
        name=table.name,
        content_url=Path(os.path.relpath(table, out.parent)).as_posix(),
        encoding_formats=[_FORMATS[table.suffix.lower()]],
        sha256=file_sha256(table),
    )
    records = mlc.RecordSet(
        id=_RECORDS,
        name=_RECORDS,
        description="One row for each image.",
        key=[_identifier(column) for column in _KEY],
        fields=[_field(column, table.name) for column in frame.columns],
    )
    title = name or table.stem
    described = mlc.Metadata(
        name=title,
        description=_description(frame, cards),
        license=sorted(frame["licence"].dropna().unique()) or None,
        url=next((one.url for one in cards if one.url.startswith("http")), None),
        cite_as=" ".join(one.citation for one in cards) or None,
        distribution=[file],
        record_sets=[records],
        personal_sensitive_information=_sensitive(frame),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(described.to_json(), indent=1, ensure_ascii=False, default=str)
    with whole_file(out) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")
    return out


def _field(column: str, file: str) -> Field:
    mlc = _mlcroissant()
    known = BY_NAME.get(column)
    words = f"; one of {', '.join(known.values)}" if known and known.values else ""
    integer = known is not None and known.kind == "integer"
    return mlc.Field(
        id=_identifier(column),
        name=column,
        description=f"{known.meaning}{words}" if known else "A column of the manifest's own.",
        data_types=[mlc.DataType.INTEGER if integer else mlc.DataType.TEXT],
        source=mlc.Source(file_object=file, extract=mlc.Extract(column=column)),
    )


def _identifier(column: str) -> str:
    return f"{_RECORDS}/{column.replace(' ', '_')}"


def _description(frame: pd.DataFrame, cards: list[DataCard]) -> str:
    patients = frame["patient_id"].nunique()
    said = f"A manifest of {len(frame):,} chest radiographs of {patients:,} patients. "
    said += "A finding is present, absent, uncertain or not mentioned; unknown is never absent."
    return " ".join([said, *(f"{one.title}: {one.about}" for one in cards)])


def _sensitive(frame: pd.DataFrame) -> list[str]:
    """Return what a row may tell of a patient."""
    told = [name for name in ("age", "sex") if frame[name].notna().any()]
    told += ["report texts"] if frame[list(REPORT_COLUMNS)].notna().any(axis=None) else []
    return ["pseudonyms of patients", *told]


def _mlcroissant() -> ModuleType:
    return need_package("mlcroissant", "croissant", what="a Croissant description")
