"""Score reports against references, finding by finding: `wb.evaluation.score`.

    card = wb.evaluation.score("run.csv", "references.csv", policy="joint-definite")

Both sides are read by `workbench.reports` (or come as labels), paired by id, and counted under one
policy (`policies`). Rates have Wilson's intervals; F1 and the averages have percentile intervals
of a bootstrap over patients, stratified by whether a patient has any finding in the references:
patients are drawn, not pairs, because reports of one patient are alike.

Does not know: images, models, or how a report is read. A finding that neither side mentions is
unknown, and no number here turns it into a negative unless the policy is named for that.
Source: Lee et al., Eur Radiol 2025, arXiv 2310.18341 (labels on both texts, 1,000 resamples).
Deviation: the paper does not say that it resampled patients, or how.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench._progress import progress
from workbench._version import __version__
from workbench.errors import InputError, OptionError
from workbench.evaluation.policies import find_policy
from workbench.evaluation.report_set import ReportSet, read_reports
from workbench.evaluation.scorecard_counts import build_card
from workbench.evaluation.scorecard_result import Pairs, ScoreCard
from workbench.evaluation.scorecard_rows import status_rows, warnings_of
from workbench.findings import ALL_FINDINGS, CODES, NO_FINDING, NOT_MENTIONED, standard_name

#: Findings that are scored unless others are asked for: "no finding" follows from the others.
SCORED_FINDINGS = tuple(name for name in ALL_FINDINGS if name != NO_FINDING)


def score(
    predictions: Any,
    references: Any,
    *,
    policy: str = "joint-definite",
    patients: Mapping[Any, Any] | str | None = None,
    findings: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    text_metrics: bool = False,
    name: str | None = None,
    id_column: str = "id",
    text_column: str = "text",
) -> ScoreCard:
    """Score predictions against references.

    Args:
        predictions: reports or labels by id; see `report_set` for what is accepted.
        references: the same; labels are as good as reports.
        policy: one of `POLICIES`; omission is counted under every one.
        patients: id -> patient, or the name of a column of either table; every id is its own
            patient when None, and the card says so.
        findings: what to score; all but "no finding" when None, and only those that a label table
            has columns for.
        resamples: bootstrap resamples; 0 leaves out the intervals of F1.
        seed: of the resampling.
        text_metrics: measure the wording too (BLEU, ROUGE-L and the rest), where both are texts.
        name: of the predictions, in tables.
        id_column: column of the identifiers, in tables.
        text_column: column of the texts, in tables.

    Raises:
        InputError: an input cannot be read (see `report_set`), no id occurs on both sides, or a
            paired id has no patient.
        OptionError: unknown policy or finding, or a number out of range.
    """
    chosen = find_policy(policy)
    if resamples < 0:
        raise OptionError(f"resamples must be 0 or more; got {resamples}")
    column = patients if isinstance(patients, str) else None
    options = {"id_column": id_column, "text_column": text_column, "patient_column": column}
    predicted = read_reports(predictions, role="predictions", name=name, **options)
    expected = read_reports(references, role="references", **options)
    names = _findings(findings, predicted, expected)
    pairs = _pairs(predicted, expected, names, patients)
    card = build_card(pairs, chosen, resamples=resamples, seed=seed, name=predicted.name)
    rows = status_rows(predicted, expected, pairs, chosen)
    provenance = {
        "predictions": f"{predicted.name} ({predicted.kind})",
        "references": f"{expected.name} ({expected.kind})",
        "patients": "one for each id" if patients is None else "given",
        "workbench": __version__,
        "numpy": np.__version__,
    }
    notes = warnings_of(card, rows, patients_given=patients is not None)
    texts = _measure(predicted, expected, pairs) if text_metrics else None
    return card.with_rows(rows, provenance=provenance, warnings=notes, texts=texts)


def _findings(
    wished: Sequence[str] | None, predicted: ReportSet, expected: ReportSet
) -> tuple[str, ...]:
    if wished is not None:
        names = [wished] if isinstance(wished, str) else list(wished)
        if not names:
            raise OptionError("findings is empty; name at least one, or leave it out for all")
        return tuple(dict.fromkeys(standard_name(name) for name in names))
    names = SCORED_FINDINGS
    for side in (predicted, expected):
        if side.findings is not None:
            names = tuple(name for name in names if name in side.findings)
    if not names:
        raise InputError(
            "no finding has a column on both sides besides 'no finding'; name what to score "
            "with findings="
        )
    return names


def _pairs(
    predicted: ReportSet, expected: ReportSet, names: tuple[str, ...], patients: Any
) -> Pairs:
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


def _patients(ids: list[str], given: Any, *sides: ReportSet) -> tuple[str, ...]:
    if given is None:
        return tuple(ids)
    if isinstance(given, str):
        tables = [side.patients for side in sides if side.patients is not None]
        if not tables:
            raise InputError(f"neither side has a column {given!r} of patients (--patient-column)")
        known: dict[str, str] = {}
        for table in reversed(tables):
            known.update(table)
    else:
        known = {str(key).strip(): str(value) for key, value in given.items()}
    lost = [key for key in ids if key not in known]
    if lost:
        raise InputError(
            f"{len(lost)} ids have no patient ({', '.join(map(repr, lost[:5]))}); "
            "give every paired id one"
        )
    return tuple(known[key] for key in ids)


def _measure(predicted: ReportSet, expected: ReportSet, pairs: Pairs):
    from workbench.reports.text_metrics import measure_texts

    if "labels" in (predicted.kind, expected.kind):
        return None
    sides = [{key: side.entries[key] for key in pairs.ids} for side in (predicted, expected)]
    return measure_texts(*sides)


def _first(side: ReportSet) -> str:
    return ", ".join(repr(key) for key in list(side.entries)[:3]) or "none"


__all__ = ["SCORED_FINDINGS", "score"]
