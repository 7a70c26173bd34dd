"""Check a manifest: what is wrong, in which row and column, by which rule, and how to repair it.

A cell can be the report of a patient, so values are shown as `columns.shown` allows. A manifest
without problems can still be wrong about its patients. Rules work on whole columns, because a
manifest can have 600,000 rows.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from html import escape
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from workbench._repr import result
from workbench._store import parse_json
from workbench.data.cards import SOURCES, card
from workbench.data.columns import (
    AGE_RANGE,
    BY_NAME,
    COLUMN_NAMES,
    COLUMNS,
    VOCABULARY,
    Column,
    shown,
)
from workbench.data.frames import map_unique, within_source
from workbench.data.images import OUTSIDE, Root, near_pairs
from workbench.errors import OptionError

#: Every rule, and what to do about it.
REPAIRS = VOCABULARY["repairs"]


class HasFrame(Protocol):
    """A manifest."""

    @property
    def frame(self) -> pd.DataFrame: ...


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, by a rule of `REPAIRS`.

    >>> odd = manifest.to_frame().assign(sex="X")
    >>> wb.data.check(odd).problems[0].value
    'X'
    """

    row: int | None  # from 0; None for the whole file
    column: str
    rule: str
    value: str | None  # what stands there, as far as it may be shown
    repair: str
    image_id: str | None = None

    def sentence(self) -> str:
        """Return the problem in a few words."""
        where = "" if self.row is None else f"row {self.row}, "
        value = "" if self.value is None else f" ({self.value})"
        return f"{where}{self.column}: {self.rule}{value}"


@result()
class CheckResult:
    """What a check of rows found."""

    rows: int
    problems: tuple[Problem, ...]  # at most `limit` of each rule, in the order of rows
    counts: dict[str, int]  # rule -> how many there are in all

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.counts

    @property
    def total(self) -> int:
        """How many problems there are in all, those not listed included."""
        return sum(self.counts.values())

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each listed problem."""
        names = [field.name for field in fields(Problem)]
        return pd.DataFrame([asdict(problem) for problem in self.problems], columns=names)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        problems = [asdict(problem) for problem in self.problems]
        return {"ok": self.ok, "rows": self.rows, "counts": self.counts, "problems": problems}

    def __str__(self) -> str:
        if self.ok:
            return f"{self.rows:,} rows, no problem"
        counts = ", ".join(f"{n:,} {rule}" for rule, n in self.counts.items())
        return f"{self.rows:,} rows, {self.total:,} problems: {counts}"

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        table = self.to_frame().drop(columns="image_id")
        return f"<p>{escape(str(self))}</p>" + ("" if self.ok else frame_table(table))


def check(
    manifest: HasFrame | pd.DataFrame,
    *,
    root: str | os.PathLike | None = None,
    against: HasFrame | pd.DataFrame | None = None,
    rules: Sequence[str] | None = None,
    limit: int = 100,
) -> CheckResult:
    """Check a manifest, or a table as it is.

    Args:
        root: folder to look for the files in; None leaves the disk alone.
        against: another manifest, e.g. the one that a model was trained on, to look for patients
            and images that are in both.
        rules: names of rules to apply; None for all.
        limit: problems of each rule that are listed; all are counted.

    Raises:
        OptionError: a rule is not known, or limit is not positive.
        InputError: root is not a folder.

    >>> wb.data.check(manifest, root="images").ok
    True
    """
    unknown = set(rules or ()) - set(REPAIRS)
    if unknown or limit < 1:
        raise OptionError(
            f"rules must be of {', '.join(REPAIRS)} and limit at least 1, got "
            f"{', '.join(sorted(unknown)) or limit}"
        )
    wanted = set(rules or REPAIRS)
    frame = _frame(manifest).reset_index(drop=True)
    counts: Counter[str] = Counter()
    problems: list[Problem] = []
    for fault in _faults(frame, root, against, wanted):
        if fault.rule in wanted and len(fault.rows):
            room = max(0, limit - counts[fault.rule])
            counts[fault.rule] += len(fault.rows)
            problems += [_problem(frame, fault, at) for at in range(len(fault.rows))[:room]]
    problems.sort(key=lambda p: (-1 if p.row is None else p.row, p.column, p.rule))
    return CheckResult(len(frame), tuple(problems), dict(counts))


def _frame(manifest: HasFrame | pd.DataFrame) -> pd.DataFrame:
    return manifest if isinstance(manifest, pd.DataFrame) else manifest.frame


class Fault(NamedTuple):
    """One kind of fault, and where it is."""

    rule: str
    column: str
    rows: np.ndarray  # -1 for the whole file
    values: list | None = None  # one for each row; None for what stands in the cells
    details: list[str] | None = None  # one remark for each row, never a text of the manifest


def _faults(
    frame: pd.DataFrame,
    root: str | os.PathLike | None,
    against: HasFrame | pd.DataFrame | None,
    wanted: set[str],
) -> Iterator[Fault]:
    columns = list(_column_faults(list(frame.columns)))
    yield from columns
    if any(fault.rule == "missing-column" for fault in columns):
        return
    yield from _cell_faults(frame)
    yield from _identity_faults(frame)
    yield from _split_faults(frame)
    if "unmapped-label" in wanted:
        yield from _label_faults(frame)
    if "duplicate-image" in wanted:
        yield from _duplicate_faults(frame)
    if root is not None:
        yield from _file_faults(frame, Root(root))
    if against is not None:
        yield from _leak_faults(frame, _frame(against))


def _problem(frame: pd.DataFrame, fault: Fault, at: int) -> Problem:
    row = int(fault.rows[at])
    whole = row < 0
    value = fault.values[at] if fault.values else None
    if fault.values is None and not whole:
        value = frame[fault.column].iloc[row]
    remark = fault.details[at] if fault.details else _suggestion(fault.column, value)
    repair = REPAIRS[fault.rule] + (f"; {remark}" if remark else "")
    text = shown(None if whole else fault.column, value)
    image = None if whole else shown("image_id", frame["image_id"].iloc[row])
    return Problem(None if whole else row, fault.column, fault.rule, text, repair, image)


def _suggestion(column: str, value: object) -> str:
    """Return what was probably meant: a word spelled nearly so; numbers are not guessed at."""
    known = BY_NAME[column]
    if not known.values or not isinstance(value, str):
        return ""
    text = value.strip().lower()
    if known.kind == "code" and text in ("0", "1", "-1", "0.0", "1.0", "-1.0"):
        return "a number does not say whether 0 is absent or unknown"
    close = difflib.get_close_matches(text, [word.lower() for word in known.values], n=1)
    if close:
        return f"{next(word for word in known.values if word.lower() == close[0])!r} was meant?"
    return f"allowed: {', '.join(known.values)}"


# ---------------------------------------------------------------- rules


def _column_faults(names: list[str]) -> Iterator[Fault]:
    """Find columns that are missing, and columns that are nearly called like one."""
    for name in COLUMN_NAMES:
        if name not in names:
            yield Fault("missing-column", name, np.array([-1]))
    for name in (name for name in names if name not in COLUMN_NAMES):
        close = difflib.get_close_matches(str(name).lower(), COLUMN_NAMES, n=1, cutoff=0.82)
        if close:
            yield Fault("column-name", close[0], np.array([-1]), [name], [f"meant {close[0]}?"])


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


def _cell_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Find cells that are empty, or hold what their column may not hold."""
    for column in COLUMNS:
        filled = frame[column.name].notna().to_numpy(bool)
        if column.required:
            yield Fault("missing-value", column.name, np.flatnonzero(~filled))
        known = np.flatnonzero(filled)
        for rule, test in _tests(column):
            good = test(frame[column.name].iloc[known]).to_numpy(bool)
            yield Fault(rule, column.name, known[~good])


def _identity_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Find ids and paths that stand twice, and studies of two patients."""
    again = within_source(frame, "image_id").duplicated() & frame["image_id"].notna()
    yield Fault("duplicate-id", "image_id", np.flatnonzero(again))
    again = frame["path"].duplicated() & frame["path"].notna()
    yield Fault("duplicate-path", "path", np.flatnonzero(again))
    rows, _ = _second_value(within_source(frame, "study_id"), within_source(frame, "patient_id"))
    yield Fault("study-of-two-patients", "study_id", rows)


def _split_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Find patients that are in two splits: one row for each patient."""
    known = np.flatnonzero(frame["split"].notna().to_numpy())
    part = frame.iloc[known]
    splits = part["split"].astype(str)
    rows, first = _second_value(within_source(part, "patient_id"), splits)
    details = [f"in {first.iloc[row]} and in {splits.iloc[row]}" for row in rows]
    values = part["patient_id"].iloc[rows].tolist()
    yield Fault("patient-in-two-splits", "split", known[rows], values, details)


def _second_value(groups: pd.Series, values: pd.Series) -> tuple[np.ndarray, pd.Series]:
    """Return for each group the first row that differs from its first value; and (n,) those."""
    first = values.groupby(groups).transform("first")
    differs = values != first
    return np.flatnonzero(differs & ~groups.where(differs).duplicated()), first


def _label_faults(frame: pd.DataFrame) -> Iterator[Fault]:
    """Find labels of a source that its card does not map."""
    for source in frame["source"].dropna().unique():
        if source not in SOURCES or source == "folder":
            continue
        rows = np.flatnonzero((frame["source"] == source).fillna(False).to_numpy(bool))
        labels = frame["source_labels"].iloc[rows]
        unknown = map_unique(labels, partial(_unknown_label, source))
        bad = pd.notna(unknown)
        yield Fault("unmapped-label", "source_labels", rows[bad], unknown[bad].tolist())


def _unknown_label(source: str, text: str) -> str | None:
    labels = (label for label in text.split("|") if label)
    return next((label for label in labels if card(source).findings_of(label) is None), None)


def _duplicate_faults(frame: pd.DataFrame) -> Iterator[Fault]:
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


def _file_faults(frame: pd.DataFrame, root: Root) -> Iterator[Fault]:
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


def _leak_faults(frame: pd.DataFrame, other: pd.DataFrame) -> Iterator[Fault]:
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
