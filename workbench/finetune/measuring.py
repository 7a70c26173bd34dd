"""How good a model is on cases: findings read off what it writes, before and after.

A finding counts as stated when the labeler reads it as present; silence and doubt are no statement.
Where the truth is unknown or uncertain nothing is counted. The same rule serves the choice of the
best checkpoint, the score cards of the ledger and the benchmarks.

Does not know: how the model was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from workbench._progress import progress as bar
from workbench.evaluation import Comparison, ScoreCard, compare, score
from workbench.evaluation.intervals import Estimate, bootstrap_weights, estimate
from workbench.findings import ABSENT, ALL_FINDINGS, NO_FINDING, PHANTOM_FINDINGS, PRESENT
from workbench.finetune.cases import Case
from workbench.hallucination.polling import question_about, yes_odds
from workbench.interface import ChestXrayModel
from workbench.model.load import LoadedCheckpoint
from workbench.reports import label

#: Findings that reports can state.
SCORED = tuple(name for name in ALL_FINDINGS if name != NO_FINDING)
BATCH = 16


@dataclass(frozen=True)
class ProbeRow:
    """One skill, before and after.

    Attributes:
        skill: what was measured.
        n: cases.
        before, after: values in [0, 1]; None where undefined.
        change: after minus before, with a paired bootstrap interval over cases.
    """

    skill: str
    n: int
    before: float | None
    after: float | None
    change: Estimate


def facade(loaded: LoadedCheckpoint, *, name: str | None = None) -> ChestXrayModel:
    """Return the model that users call, around weights as they are now."""
    card = replace(loaded.card, name=name) if name else loaded.card
    return ChestXrayModel(replace(loaded, card=card))


def write_reports(
    model: ChestXrayModel, cases: Sequence[Case], *, new_tokens: int = 256, show: bool = False
) -> dict[str, str]:
    """Return id -> report, greedily decoded, of at most `new_tokens` tokens."""
    images = [case.load() for case in bar(cases, label="images", show=show)]
    answers = model.report_many(images, batch_size=BATCH, max_new_tokens=new_tokens)
    return {case.id: answer.text for case, answer in zip(cases, answers, strict=True)}


def scored_findings(cases: Iterable[Case], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the findings that are known to be present in one case and absent in another."""
    cases = list(cases)
    return tuple(
        name
        for name in SCORED
        if (not wanted or name in wanted)
        and {PRESENT, ABSENT} <= {case.code(name) for case in cases}
    )


def report_card(
    texts: Mapping[str, str],
    cases: Sequence[Case],
    findings: Sequence[str],
    *,
    name: str,
    resamples: int = 1000,
) -> ScoreCard:
    """Score what reports state against what is known of their cases."""
    references: dict[str, dict[str, str]] = {}
    predictions: dict[str, dict[str, str]] = {}
    for case in cases:
        stated = set(label(texts[case.id]).present)
        known = [name for name in findings if case.code(name) in (PRESENT, ABSENT)]
        references[case.id] = {name: case.code(name) for name in known}
        predictions[case.id] = {name: PRESENT if name in stated else ABSENT for name in known}
    patients = {case.id: case.patient for case in cases}
    return score(
        predictions, references, patients=patients, findings=list(findings),
        resamples=resamples, name=name,
    )  # fmt: skip


def macro_f1(texts: Mapping[str, str], cases: Sequence[Case], findings: Sequence[str]) -> float:
    """Return the mean F1 of findings over cases; NaN where nothing is known."""
    values = list(finding_f1(texts, cases, findings).values())
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def finding_f1(
    texts: Mapping[str, str], cases: Sequence[Case], findings: Sequence[str]
) -> dict[str, float | None]:
    """Return finding -> F1 of what reports state; None where it is undefined."""
    stated = {case.id: set(label(texts[case.id]).present) for case in cases}
    found = {}
    for name in findings:
        known = [case for case in cases if case.code(name) in (PRESENT, ABSENT)]
        truth = np.array([case.code(name) == PRESENT for case in known], bool)
        said = np.array([name in stated[case.id] for case in known], bool)
        below = truth.sum() + said.sum()
        found[name] = float(2 * (truth & said).sum() / below) if below else None
    return found


def card_difference(before: ScoreCard, after: ScoreCard) -> Comparison:
    """Return after minus before, paired by case."""
    return compare(after, before)


def forgetting(
    before: ChestXrayModel, after: ChestXrayModel, cases: Sequence[Case]
) -> tuple[ProbeRow, ...]:
    """Measure skills on drawn chests that were not what was trained for.

    Skills: findings in reports (macro F1 of the eight), yes/no questions (share right by the odds
    of yes against no), differentials (share that name exactly the findings drawn).

    Args:
        before, after: the two models.
        cases: phantoms without the taught finding.
    """
    rows = [_report_row(before, after, cases)]
    rows.append(_share_row("questions answered right", before, after, cases, _questions_right))
    rows.append(_share_row("differentials that name what is there", before, after, cases,
                           _differentials_right))  # fmt: skip
    return tuple(rows)


def paired_change(before: np.ndarray, after: np.ndarray, *, seed: int = 0) -> Estimate:
    """Return the mean of after minus before over cases with its paired bootstrap interval."""
    weights = bootstrap_weights(len(before), np.random.default_rng([seed, 81]))
    difference = np.asarray(after, float) - np.asarray(before, float)
    return estimate(float(difference.mean()), weights @ difference / len(before), len(before))


def _report_row(before: ChestXrayModel, after: ChestXrayModel, cases: Sequence[Case]) -> ProbeRow:
    findings = scored_findings(cases, PHANTOM_FINDINGS)
    cards = [
        report_card(write_reports(model, cases), cases, findings, name=name)
        for name, model in (("before", before), ("after", after))
    ]
    macro = card_difference(*cards).averages["macro"]
    return ProbeRow("findings in reports, macro F1", len(cases), macro.f1_b, macro.f1_a,
                    macro.difference)  # fmt: skip


def _share_row(
    skill: str,
    before: ChestXrayModel,
    after: ChestXrayModel,
    cases: Sequence[Case],
    right: Callable[[ChestXrayModel, Sequence[Case]], np.ndarray],
) -> ProbeRow:
    first, second = right(before, cases), right(after, cases)
    change = paired_change(first, second)
    return ProbeRow(skill, len(cases), float(first.mean()), float(second.mean()), change)


def _questions_right(model: ChestXrayModel, cases: Sequence[Case]) -> np.ndarray:
    """Return (cases,) share of the eight polling questions answered right."""
    processor = model.loaded.processor
    pixels = [processor(case.load())[None] for case in cases]
    right = []
    for name in PHANTOM_FINDINGS:
        odds = yes_odds(model, pixels, question_about(name))
        right.append((odds > 0) == np.array([case.code(name) == PRESENT for case in cases]))
    return np.mean(right, axis=0)


def _differentials_right(model: ChestXrayModel, cases: Sequence[Case]) -> np.ndarray:
    """Return (cases,) 1 where a differential names the findings that the reference names."""
    found = []
    for case in cases:
        text = model.differential(case.load()).text.lower()
        truth = case.drawn().differential.lower()
        found.append(all((name in text) == (name in truth) for name in PHANTOM_FINDINGS))
    return np.array(found, float)
