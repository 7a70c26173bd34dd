"""Join what a model said with what is known, case by case and finding by finding.

What is true of a finding is what its label says; where the label says nothing, what the reference
report says, read by the same reader as the model's. Where both commit themselves and differ, the
finding is *disputed*: one of the two is wrong, and nothing the model said about it is called an
error before a person has looked. What neither speaks of is unknown, and unknown is never absent.

Does not know: which of it is worth looking at (`suspects`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench._repr import short_repr
from workbench.errors import InputError
from workbench.findings import ABSENT, NOT_MENTIONED, PRESENT
from workbench.review.bulk import CODE, FINDINGS
from workbench.review.readings import read_texts
from workbench.review.references import FACTS, References
from workbench.review.sources import RunRows

SILENT, YES, NO = CODE[NOT_MENTIONED], CODE[PRESENT], CODE[ABSENT]
UNKNOWN = "unknown"
#: Upper ends of the age groups, in years.
AGES = {"0-17": 17, "18-39": 39, "40-59": 59, "60-79": 79, "80+": 200}


@dataclass(frozen=True, eq=False)
class Joined:
    """Cases with what was said and what is known.

    Attributes:
        cases: one row for each report: id, source, facts, texts, measures, "age group".
        said: (cases, findings) int8, the model's codes.
        said_sides: (cases, findings) int8.
        labels: (cases, findings) int8, codes of the manifest.
        reported: (cases, findings) int8, codes read out of the reference report.
        true: (cases, findings) int8, labels before reports.
        true_sides: (cases, findings) int8; 0 where unknown.
        disputed: (cases, findings) bool.
        extra: columns of `cases` that a manifest does not know.
        unmatched: cases that no reference was found for.
        read: texts that had to be read now.
    """

    cases: pd.DataFrame
    said: np.ndarray
    said_sides: np.ndarray
    labels: np.ndarray
    reported: np.ndarray
    true: np.ndarray
    true_sides: np.ndarray
    disputed: np.ndarray
    extra: tuple[str, ...]
    unmatched: int
    read: int

    __repr__ = short_repr

    @property
    def known(self) -> np.ndarray:
        """(cases, findings) bool: present or absent for certain, and not disputed."""
        return np.isin(self.true, (YES, NO)) & ~self.disputed


def join(
    rows: RunRows, references: References | None, *, folder: Path | None = None, show: bool = False
) -> Joined:
    """Join the rows of a run with its references.

    Args:
        rows: of the run.
        references: what is known; None where nothing is.
        folder: where readings of texts are kept.
        show: whether a bar may appear.

    Raises:
        InputError: no row of the run has a reference, though references are given.
    """
    frame = rows.frame
    at = np.full(len(frame), -1) if references is None else match_rows(frame, references.frame)
    if references is not None and len(frame) and (at < 0).all():
        raise InputError(
            f"references for 0 of {len(frame):,} reports: no id of the run is in the manifest; "
            "expected the manifest that the run was made of, or one with its ids"
        )
    facts = _facts(at, references)
    reports = facts.pop("report")
    texts = pd.concat([frame["text"], reports], ignore_index=True)
    readings = read_texts(texts, folder=folder, show=show)
    count = len(frame)
    said, reported = readings.codes[:count], readings.codes[count:]
    labels = _taken(None if references is None else references.codes, at, SILENT)
    places = _taken(None if references is None else references.sides, at, 0)
    definite = np.isin(labels, (YES, NO)) & np.isin(reported, (YES, NO))
    cases = frame.drop(columns=["view", "status", "error"]).assign(reference=reports, **facts)
    cases["view"] = _view(facts["view"], frame["view"])
    cases["age group"] = _age_groups(facts["age"])
    return Joined(
        cases,
        said,
        readings.sides[:count],
        labels,
        reported,
        np.where(labels == SILENT, reported, labels),
        np.where(places == 0, readings.sides[count:], places),
        definite & (labels != reported),
        () if references is None else references.extra,
        int((at < 0).sum()),
        readings.read,
    )


def match_rows(rows: pd.DataFrame, known: pd.DataFrame) -> np.ndarray:
    """Return (rows,) the place of each row in the references, -1 where there is none.

    Rows are matched by source and id; by id alone where either side names no source, and then ids
    that stand twice match nothing.
    """
    names = ["source", "id"]
    if not rows["source"].astype(bool).any() or not known["source"].astype(bool).any():
        names = ["id"]
    if len(names) == 1 and known["id"].duplicated().any():
        known = known[~known["id"].duplicated(keep=False)]
    left = pd.MultiIndex.from_frame(rows[names])
    right = pd.MultiIndex.from_frame(known[names])
    places = right.get_indexer(left)
    return np.where(places < 0, -1, known.index.to_numpy()[places])


def _facts(at: np.ndarray, references: References | None) -> dict[str, pd.Series]:
    names = [*FACTS, "report", *(() if references is None else references.extra)]
    if references is None:
        empty = pd.Series([None] * len(at), dtype=object)
        return {name: empty.astype("float64") if name == "age" else empty for name in names}
    picked = references.frame.reindex(at)[names].reset_index(drop=True)
    return {name: picked[name].where(picked[name].notna(), None) for name in names}


def _taken(table: np.ndarray | None, at: np.ndarray, fill: int) -> np.ndarray:
    """Return the rows of a table; `fill` where there is none."""
    found = np.full((len(at), len(FINDINGS)), fill, dtype=np.int8)
    if table is not None:
        found[at >= 0] = table[at[at >= 0]]
    return found


def _view(known: pd.Series, seen: pd.Series) -> pd.Series:
    """Return the view of the manifest; where that does not say, the one of the file."""
    says = known.notna() & (known != UNKNOWN)
    return known.where(says, seen).fillna(UNKNOWN).astype(object)


def _age_groups(ages: pd.Series) -> pd.Series:
    bins = [-1, *AGES.values()]
    groups = pd.cut(pd.to_numeric(ages, errors="coerce"), bins, labels=list(AGES))
    return groups.astype(object).where(groups.notna(), UNKNOWN)
