"""Rules of a manifest: what each cell may hold, and what only several cells or files show.

Each yields `Fault`s: which rows, which column, what stands there. They work on whole columns,
because a manifest can have 600,000 rows.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from workbench._repr import short_repr
from workbench._store import parse_json
from workbench.data.cards import SOURCES, card
from workbench.data.columns import AGE_RANGE, COLUMN_NAMES, COLUMNS, Column
from workbench.data.frames import within_source
from workbench.data.images import OUTSIDE, Root, near_pairs


@dataclass(frozen=True)
class Fault:
    """One kind of fault, and where it is.

    Attributes:
        rows: row numbers; -1 for the whole file.
        values: one value for each row, or None for "what stands in the cell".
        details: one remark for each row, or None; never a text of the manifest.
    """

    rule: str
    column: str
    rows: np.ndarray
    values: list | None = None
    details: list[str] | None = None

    __repr__ = short_repr


def _tests(column: Column) -> Iterator[tuple[str, Callable[[pd.Series], pd.Series]]]:
    """Yield (rule, vectorised test) for a column."""
    if column.kind in ("category", "code"):
        rule = "unknown-code" if column.kind == "code" else "unknown-value"
        yield rule, lambda cells: cells.isin(column.values)
    elif column.kind == "integer":
        yield "age-range", _is_age
    elif column.kind == "hash":
        yield "hash", lambda cells: cells.str.fullmatch(r"[0-9a-f]{64}").astype(bool)
    elif column.kind == "json":
        yield "json", lambda cells: cells.astype(object).map(_is_json).astype(bool)
    if column.name == "path":
        yield "path-outside-root", lambda cells: ~cells.str.contains(OUTSIDE).astype(bool)


def _is_age(cells: pd.Series) -> pd.Series:
    years = pd.to_numeric(cells, errors="coerce").astype("Float64")
    good = years.between(*AGE_RANGE) & (years % 1 == 0)
    return good.fillna(False).astype(bool)


def _is_json(cell: object) -> bool:
    try:
        return isinstance(parse_json(cell), (list, dict)) if isinstance(cell, str) else False
    except ValueError:
        return False


def column_faults(names: list[str]) -> Iterator[Fault]:
    """Find columns that are missing, and columns that are nearly called like one."""
    for name in COLUMN_NAMES:
        if name not in names:
            yield Fault("missing-column", name, np.array([-1]))
    for name in (name for name in names if name not in COLUMN_NAMES):
        close = difflib.get_close_matches(str(name).lower(), COLUMN_NAMES, n=1, cutoff=0.82)
        if close:
            yield Fault("column-name", close[0], np.array([-1]), [name], [f"meant {close[0]}?"])


def cell_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Find cells that are empty, or hold what their column may not hold."""
    for column in COLUMNS:
        known = np.flatnonzero(frame[column.name].notna())
        if column.required and len(known) < len(frame):
            empty = np.setdiff1d(np.arange(len(frame)), known)
            yield Fault("missing-value", column.name, empty)
        for rule, test in _tests(column):
            good = test(frame[column.name].iloc[known]).to_numpy(bool)
            yield Fault(rule, column.name, known[~good])


def identity_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Find ids and paths that stand twice, and studies of two patients."""
    again = within_source(frame, "image_id").duplicated() & frame["image_id"].notna()
    yield Fault("duplicate-id", "image_id", np.flatnonzero(again))
    again = frame["path"].duplicated() & frame["path"].notna()
    yield Fault("duplicate-path", "path", np.flatnonzero(again))
    rows, _ = _second_value(within_source(frame, "study_id"), within_source(frame, "patient_id"))
    yield Fault("study-of-two-patients", "study_id", rows)


def split_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Find patients that are in two splits: one row for each patient."""
    known = np.flatnonzero(frame["split"].notna().to_numpy())
    part = frame.iloc[known]
    splits = part["split"].astype(str)
    rows, first = _second_value(within_source(part, "patient_id"), splits)
    details = [f"in {first.iloc[row]} and in {splits.iloc[row]}" for row in rows]
    values = part["patient_id"].iloc[rows].tolist()
    yield Fault("patient-in-two-splits", "split", known[rows], values, details)


def label_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Find labels of a source that its card does not map."""
    for source in frame["source"].dropna().unique():
        if source not in SOURCES or source == "folder":
            continue
        rows = np.flatnonzero((frame["source"] == source).fillna(False).to_numpy(bool))
        codes, unique = pd.factorize(frame["source_labels"].iloc[rows])
        unknown = [_unknown_label(source, text) for text in unique]
        bad = np.array([label is not None for label in unknown] + [False], dtype=bool)[codes]
        values = [unknown[code] for code in codes[bad]]
        yield Fault("unmapped-label", "source_labels", rows[bad], values)


def duplicate_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Find images that stand twice under different names, by bytes or by what is seen."""
    names = frame["image_id"].astype("string").fillna("").to_numpy(object)
    split = frame["split"].astype("string").fillna("").to_numpy(object)
    digest = frame["sha256"]
    known = np.flatnonzero(digest.notna().to_numpy())
    first = pd.Series(known).groupby(digest.iloc[known].to_numpy()).transform("first")
    pairs = zip(known.tolist(), first.tolist(), strict=True)
    twins = {row: (one, "same bytes as ") for row, one in pairs if row != one}
    for one, two, bits in near_pairs(frame["dhash"]):
        twins.setdefault(two, (one, f"{bits} of 256 bits from "))
    rows = sorted(twins)
    details = []
    for row in rows:
        one, how = twins[row]
        parts = f", in {split[one]} and in {split[row]}" if split[one] != split[row] else ""
        details.append(how + names[one] + parts)
    yield Fault("duplicate-image", "image_id", np.array(rows), names[rows].tolist(), details)


def file_faults(frame: pd.DataFrame, root: Root) -> Iterator[Fault]:
    """Find files that are not there, and links that lead out of the root."""
    missing, climbing = [], []
    for row, path in enumerate(frame["path"]):
        if not isinstance(path, str) or re.search(OUTSIDE, path):
            continue
        if not root.contains(path):
            climbing.append(row)
        elif not (root.folder / path).is_file():
            missing.append(row)
    yield Fault("path-outside-root", "path", np.array(climbing))
    yield Fault("missing-file", "path", np.array(missing))


def leak_faults(frame: pd.DataFrame, other: pd.DataFrame) -> Iterator[Fault]:
    """Find patients and images of a manifest that are in another one too.

    Patients are compared within one source: two sources may both call a patient 17.
    """
    patients = within_source(frame, "patient_id")
    shared = patients.isin(within_source(other, "patient_id")) & ~patients.duplicated()
    yield Fault("patient-in-both", "patient_id", np.flatnonzero(shared))
    known = frame["sha256"].isin(other["sha256"].dropna())
    found = dict.fromkeys(np.flatnonzero(known).tolist(), "same bytes")
    both = pd.concat([frame["dhash"], other["dhash"]], ignore_index=True)
    for one, two, bits in near_pairs(both):
        if one < len(frame) <= two:
            found.setdefault(one, f"{bits} of 256 bits")
    rows = sorted(found)
    yield Fault("image-in-both", "image_id", np.array(rows), None, [found[row] for row in rows])


def _second_value(groups: pd.Series, values: pd.Series) -> tuple[np.ndarray, pd.Series]:
    """Return for each group the first row that differs from its first value; and (n,) those."""
    first = values.groupby(groups).transform("first")
    differs = values != first
    return np.flatnonzero(differs & ~groups.where(differs).duplicated()), first


def _unknown_label(source: str, text: str) -> str | None:
    labels = (label for label in text.split("|") if label)
    return next((label for label in labels if card(source).findings_of(label) is None), None)
