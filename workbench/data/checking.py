"""Check a manifest: what is wrong, in which row and column, by which rule, and how to repair it.

A cell can be the report of a patient, so values are shown as `columns.shown` allows. A manifest
without problems can still be wrong about its patients.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Protocol

import pandas as pd

from workbench._repr import short_repr
from workbench.data import rules as row_rules
from workbench.data.columns import BY_NAME, VOCABULARY, shown
from workbench.data.images import Root
from workbench.data.rules import Fault
from workbench.errors import OptionError

#: Every rule, and what to do about it.
REPAIRS = VOCABULARY["repairs"]
_CELL_RULES = (
    "missing-value", "unknown-code", "unknown-value", "age-range", "hash", "json",
    "path-outside-root",
)  # fmt: skip


class HasFrame(Protocol):
    """A manifest."""

    @property
    def frame(self) -> pd.DataFrame: ...


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, by a rule of `REPAIRS`.

    Attributes:
        row: from 0; None for the whole file.
        value: what stands there, as far as it may be shown.
    """

    row: int | None
    column: str
    rule: str
    value: str | None
    repair: str
    image_id: str | None = None

    def sentence(self) -> str:
        """Return the problem in a few words."""
        where = "" if self.row is None else f"row {self.row}, "
        value = "" if self.value is None else f" ({self.value})"
        return f"{where}{self.column}: {self.rule}{value}"


@dataclass(frozen=True, eq=False)
class CheckResult:
    """What a check of rows found.

    Attributes:
        problems: at most `limit` of each rule, in the order of rows.
        counts: rule -> how many there are in all.
    """

    rows: int
    problems: tuple[Problem, ...]
    counts: dict[str, int]

    __repr__ = short_repr

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
        names = ["row", "column", "rule", "value", "repair", "image_id"]
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

        table = self.to_frame()[["row", "column", "rule", "value", "repair"]]
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
    """
    unknown = set(rules or ()) - set(REPAIRS)
    if unknown or limit < 1:
        raise OptionError(
            f"rules must be of {', '.join(REPAIRS)} and limit at least 1, got "
            f"{', '.join(sorted(unknown)) or limit}"
        )
    wanted = set(rules or REPAIRS)
    frame = _frame(manifest).reset_index(drop=True)
    other = None if against is None else _frame(against)
    counts: Counter[str] = Counter()
    problems: list[Problem] = []
    for fault in _faults(frame, root, other, wanted):
        if fault.rule in wanted and len(fault.rows):
            room = max(0, limit - counts[fault.rule])
            counts[fault.rule] += len(fault.rows)
            problems += [_problem(frame, fault, at) for at in range(len(fault.rows))[:room]]
    problems.sort(key=lambda p: (-1 if p.row is None else p.row, p.column, p.rule))
    return CheckResult(len(frame), tuple(problems), dict(counts))


def _frame(manifest: HasFrame | pd.DataFrame) -> pd.DataFrame:
    return manifest if isinstance(manifest, pd.DataFrame) else manifest.frame


def _faults(
    frame: pd.DataFrame,
    root: str | os.PathLike | None,
    other: pd.DataFrame | None,
    wanted: set[str],
) -> Iterator[Fault]:
    columns = list(row_rules.column_faults(list(frame.columns)))
    yield from columns
    if any(fault.rule == "missing-column" for fault in columns):
        return
    groups = (
        (_CELL_RULES, row_rules.cell_faults),
        (("duplicate-id", "duplicate-path", "study-of-two-patients"), row_rules.identity_faults),
        (("patient-in-two-splits",), row_rules.split_faults),
        (("unmapped-label",), row_rules.label_faults),
        (("duplicate-image",), row_rules.duplicate_faults),
    )
    for names, find in groups:
        if wanted & set(names):
            yield from find(frame)
    if root is not None and wanted & {"missing-file", "path-outside-root"}:
        yield from row_rules.file_faults(frame, Root(root))
    if other is not None:
        yield from row_rules.leak_faults(frame, other)


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
