"""Every row that went in, with what became of it; and what a reader must know before quoting.

    scored              both sides are there and the policy could score at least one finding
    nothing to score    both sides are there, and no finding is definite enough for the policy
    no text             an id of both sides whose text is empty on one side or on both
    no prediction       an id of the references only
    no reference        an id of the predictions only

An empty text is not a report that mentions nothing: it is left out of every count, and said so.
Does not know: how anything is counted (`scorecard_counts`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.evaluation.policies import NOT_SCORED, OUTCOMES, Policy
from workbench.evaluation.report_set import ReportSet
from workbench.findings import CODES, NOT_MENTIONED, PRESENT
from workbench.spreadsheet import neutral

if TYPE_CHECKING:
    import pandas as pd

    from workbench.evaluation.scorecard_result import Pairs, ScoreCard

SCORED, NOTHING, NO_TEXT = "scored", "nothing to score", "no text"
NO_PREDICTION, NO_REFERENCE = "no prediction", "no reference"
STATUSES = (SCORED, NOTHING, NO_TEXT, NO_PREDICTION, NO_REFERENCE)

#: A coverage below this is said in words.
_LOW_COVERAGE = 0.5


def status_rows(
    predicted: ReportSet, expected: ReportSet, pairs: Pairs, policy: Policy
) -> pd.DataFrame:
    """Return one row per id: references in their order, then ids of the predictions only.

    Columns: id, patient, status, detail, findings_scored, tp, fp, tn, fn, omitted.
    """
    import pandas as pd

    numbers = _numbers(pairs, policy)
    rows = []
    for key in dict.fromkeys([*expected.entries, *predicted.entries]):
        row = {"id": key, "patient": None, "status": "", "detail": ""}
        if key not in predicted.entries:
            row["status"] = NO_PREDICTION
        elif key not in expected.entries:
            row["status"] = NO_REFERENCE
        elif key not in numbers:
            empty = [s.role for s in (predicted, expected) if s.entries[key] is None]
            row |= {"status": NO_TEXT, "detail": f"empty in {' and '.join(empty)}"}
        else:
            row |= numbers[key]
            row["status"] = SCORED if row["findings_scored"] else NOTHING
        rows.append(row)
    counts = ["findings_scored", *OUTCOMES, "omitted"]
    frame = pd.DataFrame(rows, columns=["id", "patient", "status", "detail", *counts])
    return frame.astype(dict.fromkeys(counts, "Int64"))


def _numbers(pairs: Pairs, policy: Policy) -> dict[str, dict]:
    outcomes = policy.outcomes()[pairs.reference, pairs.prediction]
    omitted = (pairs.reference == CODES.index(PRESENT)) & (
        pairs.prediction == CODES.index(NOT_MENTIONED)
    )
    columns = {
        "findings_scored": (outcomes != NOT_SCORED).sum(1),
        **{name: (outcomes == at).sum(1) for at, name in enumerate(OUTCOMES)},
        "omitted": omitted.sum(1),
    }
    return {
        key: {"patient": who} | {name: int(values[at]) for name, values in columns.items()}
        for at, (key, who) in enumerate(zip(pairs.ids, pairs.patients, strict=True))
    }


def warnings_of(card: ScoreCard, rows: pd.DataFrame, *, patients_given: bool) -> tuple[str, ...]:
    """Return what a reader must know before quoting the numbers."""
    return tuple(filter(None, [*_row_notes(rows), *_card_notes(card, patients_given)]))


def _row_notes(rows: pd.DataFrame) -> list[str]:
    counts = rows["status"].value_counts()
    empty = rows.loc[rows["status"] == NO_TEXT, "detail"]
    predictions = int(empty.str.contains("predictions").sum())
    notes = []
    if predictions:
        notes.append(
            f"{_plural(predictions, 'prediction')} without text: in no count; a system is not "
            "punished here for staying silent."
        )
    if len(empty) - predictions:
        number = _plural(len(empty) - predictions, "reference")
        notes.append(f"{number} without text: in no count.")
    for status, said in ((NO_PREDICTION, "prediction"), (NO_REFERENCE, "reference")):
        if counts.get(status, 0):
            number = _plural(int(counts[status]), "id")
            notes.append(f"{number} without a {said}: in no count.")
    return notes


def _card_notes(card: ScoreCard, patients_given: bool) -> list[str]:
    rows = card.per_finding.values()
    notes = []
    if card.pairs.ids and card.coverage is not None and card.coverage < _LOW_COVERAGE:
        notes.append(
            f"Under {card.policy.name}, {100 * card.coverage:.0f} % of all pairs of a report and a "
            "finding could be scored; the scores say nothing about the others."
        )
    never = card.never_mentioned
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
            f"F1 was undefined in some of {card.resamples} resamples, which its interval leaves "
            f"out: {', '.join(shaky)}."
        )
    if not patients_given:
        notes.append(
            "Every id was taken as its own patient; with several reports of a patient the "
            "intervals are too narrow (give patients)."
        )
    return notes


def _plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def neutral_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with ids and patients safe for a spreadsheet."""
    safe = rows.copy()
    for column in ("id", "patient"):
        safe[column] = [neutral(v) if isinstance(v, str) else v for v in safe[column]]
    return safe
