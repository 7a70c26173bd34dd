"""Two sides paired by id; every row that went in, with its status; and what a reader must know.

    scored              both sides are there and the policy could score at least one finding
    nothing to score    both sides are there, and no finding is definite enough for the policy
    no text             an id of both sides whose text is empty on one side or on both
    no prediction       an id of the references only
    no reference        an id of the predictions only

An empty text is not a report that mentions nothing: it is left out of every count, and said so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from workbench._progress import progress
from workbench._tables import neutral
from workbench.errors import InputError
from workbench.evaluation.counts import NOT_SCORED, OUTCOMES, FindingRow, Pairs, Policy
from workbench.evaluation.report_set import ReportSet
from workbench.findings import CODES, NOT_MENTIONED, PRESENT

SCORED, NOTHING, NO_TEXT = "scored", "nothing to score", "no text"
NO_PREDICTION, NO_REFERENCE = "no prediction", "no reference"
STATUSES = (SCORED, NOTHING, NO_TEXT, NO_PREDICTION, NO_REFERENCE)


def pair_up(
    predicted: ReportSet,
    expected: ReportSet,
    names: tuple[str, ...],
    patients: Mapping[Any, Any] | str | None,
) -> Pairs:
    """Return the codes of every id that has a text or labels on both sides."""
    common = [key for key in expected.entries if key in predicted.entries]
    if not common:
        raise InputError(
            f"no id of the predictions ({_first(predicted)}) occurs in the references "
            f"({_first(expected)}); check that both use the same identifiers (--id-column)"
        )
    ids = [key for key in common if None not in (predicted.entries[key], expected.entries[key])]
    sides = [_codes(side, ids, names) for side in (expected, predicted)]
    return Pairs(tuple(ids), _patients(ids, patients, expected, predicted), names, *sides)


def _codes(side: ReportSet, ids: list[str], names: tuple[str, ...]) -> np.ndarray:
    """Return (pairs, findings) int8 indices of `CODES`."""
    index = {code: at for at, code in enumerate(CODES)}
    silent = index[NOT_MENTIONED]
    table = np.full((len(ids), len(names)), silent, dtype=np.int8)
    for row, key in enumerate(progress(ids, label=f"reading {side.role}")):
        codes = side.codes(key)
        table[row] = [index.get(codes.get(name, ""), silent) for name in names]
    return table


def _patients(
    ids: list[str], given: Mapping[Any, Any] | str | None, *sides: ReportSet
) -> tuple[str, ...]:
    if given is None:
        return tuple(ids)
    if isinstance(given, str):
        tables = [side.patients for side in sides if side.patients is not None]
        if not tables:
            raise InputError(f"neither side has a column {given!r} of patients (--patient-column)")
        known = {key: who for table in reversed(tables) for key, who in table.items()}
    else:
        known = {str(key).strip(): str(value) for key, value in given.items()}
    lost = [key for key in ids if key not in known]
    if lost:
        raise InputError(
            f"{len(lost)} ids have no patient ({', '.join(map(repr, lost[:5]))}); "
            "give every paired id one"
        )
    return tuple(known[key] for key in ids)


def _first(side: ReportSet) -> str:
    return ", ".join(repr(key) for key in list(side.entries)[:3]) or "none"


def status_rows(
    predicted: ReportSet, expected: ReportSet, pairs: Pairs, policy: Policy
) -> pd.DataFrame:
    """Return one row per id: references in their order, then ids of the predictions only.

    Columns: id, patient, status, detail, findings_scored, tp, fp, tn, fn, omitted.
    """
    outcomes = policy.outcomes()[pairs.reference, pairs.prediction]
    silent = pairs.prediction == CODES.index(NOT_MENTIONED)
    counts = {"findings_scored": (outcomes != NOT_SCORED).sum(1)}
    counts |= {name: (outcomes == at).sum(1) for at, name in enumerate(OUTCOMES)}
    counts["omitted"] = ((pairs.reference == CODES.index(PRESENT)) & silent).sum(1)
    ids = list(dict.fromkeys([*expected.entries, *predicted.entries]))
    frame = pd.DataFrame(counts, index=list(pairs.ids), dtype="Int64").reindex(ids)
    scored = dict(zip(pairs.ids, counts["findings_scored"], strict=True))
    said = [_status(key, predicted, expected, scored) for key in ids]
    patients = dict(zip(pairs.ids, pairs.patients, strict=True))
    frame.insert(0, "patient", [patients.get(key) for key in ids])
    frame.insert(1, "status", [status for status, _ in said])
    frame.insert(2, "detail", [detail for _, detail in said])
    return frame.rename_axis("id").reset_index()


def _status(
    key: str, predicted: ReportSet, expected: ReportSet, scored: Mapping[str, int]
) -> tuple[str, str]:
    """Return the status of an id, and what more there is to say about it."""
    if key not in predicted.entries:
        return NO_PREDICTION, ""
    if key not in expected.entries:
        return NO_REFERENCE, ""
    if key not in scored:
        empty = [side.role for side in (predicted, expected) if side.entries[key] is None]
        return NO_TEXT, f"empty in {' and '.join(empty)}"
    return (SCORED if scored[key] else NOTHING), ""


def row_notes(rows: pd.DataFrame) -> list[str]:
    """Return what to know about ids that are in no count."""
    counts = rows["status"].value_counts()
    empty = rows.loc[rows["status"] == NO_TEXT, "detail"]
    silent = int(empty.str.contains("predictions").sum())
    said = [
        (silent, "prediction", "text", "; a system is not punished here for staying silent"),
        (len(empty) - silent, "reference", "text", ""),
        (counts.get(NO_PREDICTION, 0), "id", "a prediction", ""),
        (counts.get(NO_REFERENCE, 0), "id", "a reference", ""),
    ]
    return [
        f"{number:,} {noun}{'' if number == 1 else 's'} without {what}: in no count{more}."
        for number, noun, what, more in said
        if number
    ]


def finding_notes(rows: Sequence[FindingRow], resamples: int) -> list[str]:
    """Return what to know about single findings: unmentioned, undefined, without any error."""
    notes = []
    never = [row.finding for row in rows if not row.mentioned]
    if never:
        notes.append(f"Never mentioned on either side, and not scored: {', '.join(never)}.")
    undefined = [row.finding for row in rows if row.f1.value is None and row.mentioned]
    if undefined:
        notes.append(
            f"F1 is undefined (no case scored as positive on either side) for "
            f"{', '.join(undefined)}; averages are over the other findings."
        )
    perfect = [row.finding for row in rows if row.f1.value == 1 and row.f1.low == 1]
    if perfect:
        notes.append(
            f"No error was seen for {', '.join(perfect)}: resampling cannot widen the interval of "
            "such an F1; read the intervals of precision and recall."
        )
    shaky = [
        f"{row.finding} ({row.f1.undefined})"
        for row in rows
        if row.f1.undefined and row.f1.low is not None
    ]
    if shaky:
        notes.append(
            f"F1 was undefined in some of {resamples} resamples, which its interval leaves "
            f"out: {', '.join(shaky)}."
        )
    return notes


def neutral_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ids and patients safe for a spreadsheet."""
    safe = rows.copy()
    for column in ("id", "patient"):
        safe[column] = [neutral(v) if isinstance(v, str) else v for v in safe[column]]
    return safe
