"""A manifest: one table of images, patients, labels and reports that every part consumes.

`schema()` states in pandera what a column may hold; `workbench.data.check` runs it together with
the rules that need more than one cell, and says what is wrong without quoting a report.

Does not know: where the rows came from (`workbench.data.build`) or whether they are right.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from workbench._store import parse_json
from workbench.data.boxes import count_items
from workbench.data.columns import (
    AGE_RANGE,
    COLUMNS,
    FINDING_COLUMNS,
    REPORT_COLUMNS,
    SPLITS,
    Column,
)
from workbench.data.frames import sort_rows
from workbench.data.paths import OUTSIDE, Root
from workbench.errors import InputError
from workbench.findings import ABSENT, PRESENT, UNCERTAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandera.pandas import DataFrameSchema

    from workbench.data.checking import CheckResult

#: Codes that are counted; the rest is not mentioned.
COUNTED = (PRESENT, ABSENT, UNCERTAIN)


@dataclass(frozen=True, eq=False)
class Manifest:
    """Rows of images, and the folder that their paths are relative to.

    Attributes:
        frame: one row for each image, columns as in `workbench.data.columns`, in fixed order.
        root: what the paths are relative to; None where no image is at hand. It is not part of the
            file: a manifest can be moved, and says nothing of the machine it was made on.
        notes: what a person should know about how it was made.
        expected: rows of {"what", "expected", "found", "ok"}: counts that the card promises.
    """

    frame: pd.DataFrame
    root: Path | None = None
    notes: tuple[str, ...] = ()
    expected: tuple[dict, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.frame)

    def to_frame(self) -> pd.DataFrame:
        """Return a copy of the table; changing it leaves the manifest as it is."""
        return self.frame.copy()

    def select(self, rows, *, notes: tuple[str, ...] = ()) -> Manifest:
        """Return some rows as a manifest.

        Args:
            rows: (n,) bool, or row numbers.
            notes: added to those of the manifest.
        """
        rows = np.asarray(rows)
        picked = self.frame[rows] if rows.dtype == bool else self.frame.iloc[rows]
        return self.with_frame(picked.reset_index(drop=True), notes=notes)

    def with_frame(self, frame: pd.DataFrame, *, notes: tuple[str, ...] = ()) -> Manifest:
        """Return the same manifest with another table, without the counts its card promised."""
        return replace(self, frame=frame, notes=(*self.notes, *notes), expected=())

    def path(self, row: int) -> Path:
        """Return the image file of a row.

        Raises:
            InputError: the manifest has no root, the row no image, or its path leaves the root.
        """
        return self._root().resolve(self.frame["path"].iloc[row])

    def check(self, **options) -> CheckResult:
        """Check the manifest; options as in `workbench.data.check`."""
        from workbench.data.checking import check

        return check(self, **options)

    def save(self, path: str | Path) -> Path:
        """Write the manifest as .parquet or .csv and return the path."""
        from workbench.data.files import write_table

        write_table(self.frame, Path(path))
        return Path(path)

    def digest(self) -> str:
        """Return the SHA-256 of the content, 64 hexadecimal digits; the file format is no part."""
        parts = column_digests(self.frame)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def summary(self) -> dict:
        """Return counts as plain values; no text of a report is among them."""
        frame = self.frame
        sources = frame["source"].fillna("")
        findings = {name: _code_counts(frame[name]) for name in FINDING_COLUMNS}
        reports = frame[list(REPORT_COLUMNS)].notna().any(axis=1)
        return {
            "rows": len(frame),
            "images": int(frame["path"].notna().sum()),
            "patients": _different(sources, frame["patient_id"]),
            "studies": _different(sources, frame["study_id"]),
            "boxes": count_items(frame["boxes"]),
            "masks": count_items(frame["masks"]),
            "report_texts": _different(sources[reports], frame.loc[reports, "study_id"]),
            "findings": findings,
            "splits": {name: int((frame["split"] == name).sum()) for name in SPLITS},
            "views": {str(k): int(n) for k, n in frame["view"].value_counts().items() if n},
            "sources": {str(k): int(n) for k, n in sources.value_counts().sort_index().items()},
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how often each finding is present, absent and uncertain."""
        from workbench.data.figure import plot_findings

        return plot_findings(self, ax=ax)

    def __repr__(self) -> str:
        sources = ", ".join(sorted(self.frame["source"].dropna().unique()))
        patients = self.frame["patient_id"].nunique()
        return f"<Manifest {len(self):,} rows, {patients:,} patients, source {sources or 'none'}>"

    def _repr_html_(self) -> str:
        from workbench.figures.tables import html_table

        counts = self.summary()
        head = ", ".join(
            f"{counts[name]:,} {name}" for name in ("rows", "patients", "studies", "boxes")
        )
        rows = [
            (name, *(f"{n[code]:,}" for code in COUNTED))
            for name, n in counts["findings"].items()
            if any(n[code] for code in COUNTED)
        ]
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return (
            f"<p><b>Manifest</b>: {head}</p>{html_table(('finding', *COUNTED), rows)}"
            f"<ul>{notes}</ul>"
        )

    def _root(self) -> Root:
        if self.root is None:
            raise InputError(
                "the manifest does not know where its images are; load it with root= (the folder "
                "that its paths are relative to)"
            )
        return _root(self.root)


@cache
def schema() -> DataFrameSchema:
    """Return the pandera schema of a manifest: what each cell may hold.

    Rules that compare rows (patients in two splits, duplicates, labels of a source) are in
    `workbench.data.rules`.
    """
    import pandera.pandas as pa

    columns = {
        column.name: pa.Column(
            checks=[pa.Check(test, name=rule, error=rule) for rule, test in _tests(column)],
            nullable=not column.required,
            title=column.meaning,
        )
        for column in COLUMNS
    }
    return pa.DataFrameSchema(columns, name="manifest", strict=False)


def column_digests(frame: pd.DataFrame) -> dict[str, str]:
    """Return the SHA-256 of each column, in the order of `sort_rows`."""
    frame = sort_rows(frame)
    return {name: _digest(frame[name]) for name in sorted(frame.columns)}


def _digest(column: pd.Series) -> str:
    try:
        values = column.astype("string").fillna("\x01").to_numpy(dtype=object)
    except UnicodeEncodeError:
        raise InputError(
            f"a value of the column {column.name!r} holds half a character (a byte that is not "
            "UTF-8), which no file of results can take; rename the file, or write the value in "
            "UTF-8, and build the manifest again"
        ) from None
    return hashlib.sha256("\x00".join(values).encode("utf-8", "surrogatepass")).hexdigest()


def _tests(column: Column):
    """Yield (rule, vectorised test) for a column."""
    if column.kind in ("category", "code"):
        allowed = set(column.values)
        rule = "unknown-code" if column.kind == "code" else "unknown-value"
        yield rule, lambda cells: _isin(cells, allowed)
    elif column.kind == "integer":
        yield "age-range", _is_age
    elif column.kind == "hash":
        yield "hash", lambda cells: cells.str.fullmatch(r"[0-9a-f]{64}").astype(bool)
    elif column.kind == "json":
        yield "json", _is_json
    if column.name == "path":
        yield "path-outside-root", lambda cells: ~cells.str.contains(OUTSIDE).astype(bool)


def _isin(cells: pd.Series, allowed: set[str]) -> pd.Series:
    if isinstance(cells.dtype, pd.CategoricalDtype):
        good = np.array([value in allowed for value in cells.cat.categories], dtype=bool)
        return pd.Series(good[cells.cat.codes.to_numpy()], index=cells.index)
    return cells.isin(allowed)


def _is_age(cells: pd.Series) -> pd.Series:
    years = pd.to_numeric(cells, errors="coerce").astype("Float64")
    good = years.between(*AGE_RANGE) & (years % 1 == 0)
    return good.fillna(False).astype(bool)


def _is_json(cells: pd.Series) -> pd.Series:
    return pd.Series([_parses(cell) for cell in cells], index=cells.index, dtype=bool)


def _parses(cell: object) -> bool:
    try:
        return isinstance(parse_json(cell), (list, dict))
    except (TypeError, ValueError):
        return False


def _code_counts(column: pd.Series) -> dict[str, int]:
    counts = column.value_counts()
    found = {code: int(counts.get(code, 0)) for code in COUNTED}
    return found | {"not mentioned": int(len(column) - sum(found.values()))}


def _different(sources: pd.Series, keys: pd.Series) -> int:
    return int((sources.astype(str) + "\x00" + keys.fillna("").astype(str)).nunique())


@cache
def _root(folder: Path) -> Root:
    return Root(folder)
