"""How good a model is on cases, before and after: reports, questions, differentials, and why.

A finding counts as stated when the labeler reads it as present; silence and doubt are no statement.
Where the truth is unknown or uncertain nothing is counted. The same rule serves the choice of the
best checkpoint, the score cards of the ledger and the benchmarks.

A gain in F1 with maps that point nowhere, or with statements that need no image, is a gain in
habit. `explained_rows` asks both of the same few cases before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench._progress import progress as bar
from workbench.errors import WorkbenchError
from workbench.evaluation import ScoreCard, compare, score
from workbench.evaluation.intervals import Estimate, bootstrap_weights, estimate
from workbench.findings import ABSENT, ALL_FINDINGS, NO_FINDING, PHANTOM_FINDINGS, PRESENT
from workbench.finetune.cases import Case
from workbench.finetune.ledger import SkillChange
from workbench.hallucination import ground
from workbench.hallucination.polling import question_about, yes_odds
from workbench.interface import ChestXrayModel
from workbench.reports import label
from workbench.saliency import checks, explain
from workbench.trace import Trace

#: Findings that reports can state.
SCORED = tuple(name for name in ALL_FINDINGS if name != NO_FINDING)
BATCH = 16

#: What is put in the place of the image; two, for the time of many would be that of training.
ABLATIONS = ("blank", "noise")


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


def macro_f1(texts: Mapping[str, str], cases: Sequence[Case], findings: Sequence[str]) -> float:
    """Return the mean F1 over findings; NaN where there is none."""
    if not findings:
        return float("nan")
    card = _report_card(texts, cases, findings, name="now", resamples=0)
    value = card.averages["macro"].f1.value
    return float("nan") if value is None else value


def f1_changes(
    title: str,
    before: Mapping[str, str],
    after: Mapping[str, str],
    cases: Sequence[Case],
    findings: Sequence[str],
) -> tuple[SkillChange, ...]:
    """Return the macro F1 of findings in reports, under a title, then the F1 of each."""
    cards = [_report_card(texts, cases, findings, name=name)
             for name, texts in (("after", after), ("before", before))]  # fmt: skip
    found = compare(*cards)
    items = {title: found.averages["macro"]}
    items |= {f"F1 of {name}": item for name, item in found.per_finding.items()}
    return tuple(
        SkillChange(skill, len(cases), item.f1_b, item.f1_a, item.difference)
        for skill, item in items.items()
    )


def _report_card(
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


def forgetting(
    before: ChestXrayModel, after: ChestXrayModel, cases: Sequence[Case]
) -> tuple[SkillChange, ...]:
    """Measure skills on phantoms that were not what was trained for.

    Skills: findings in reports (macro F1 of the eight), yes/no questions (share right by the odds
    of yes against no), differentials (share that name exactly the findings drawn).

    Args:
        before, after: the two models.
        cases: phantoms without the taught finding; none measures nothing.
    """
    if not cases:
        return ()
    findings = scored_findings(cases, PHANTOM_FINDINGS)
    texts = (write_reports(before, cases), write_reports(after, cases))
    shares = {
        "questions answered right": _questions_right,
        "differentials that name what is there": _differentials_right,
    }
    return (
        f1_changes("findings in reports, macro F1", *texts, cases, findings)[0],
        *(_share_change(skill, before, after, cases, how) for skill, how in shares.items()),
    )


def _paired_change(before: np.ndarray, after: np.ndarray) -> Estimate:
    """Return the mean of after minus before over cases with its paired bootstrap interval."""
    weights = bootstrap_weights(len(before), np.random.default_rng([0, 81]))
    difference = np.asarray(after, float) - np.asarray(before, float)
    return estimate(float(difference.mean()), weights @ difference / len(before), len(before))


def _share_change(
    skill: str,
    before: ChestXrayModel,
    after: ChestXrayModel,
    cases: Sequence[Case],
    right: Callable[[ChestXrayModel, Sequence[Case]], np.ndarray],
) -> SkillChange:
    first, second = right(before, cases), right(after, cases)
    change = _paired_change(first, second)
    return SkillChange(skill, len(cases), float(first.mean()), float(second.mean()), change)


def _questions_right(model: ChestXrayModel, cases: Sequence[Case]) -> np.ndarray:
    """Return (cases,) share of the eight polling questions answered right."""
    processor = model.processor
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
        truth = case.phantom.differential.lower()
        found.append(all((name in text) == (name in truth) for name in PHANTOM_FINDINGS))
    return np.array(found, float)


def explained_rows(
    before: ChestXrayModel, after: ChestXrayModel, cases: Sequence[Case]
) -> tuple[dict[str, Any], ...]:
    """Return one row per case, model and finding that is there or stated.

    Columns: case, when ("before", "after"), finding, drawn, stated, points (True, False or None
    where there is no map or no mask), contribution (nats that the image adds to the statement).
    """
    rows = []
    for case in cases:
        for when, model in (("before", before), ("after", after)):
            rows += _explained(model, case, when)
    return tuple(rows)


def _explained(model: ChestXrayModel, case: Case, when: str) -> list[dict[str, Any]]:
    image = case.load()
    report = model.report(image)
    stated = label(report.text).present
    truth = [name for name, code in case.codes.items() if code == PRESENT]
    names = [name for name in dict.fromkeys([*truth, *stated]) if name != NO_FINDING]
    trace = model.trace(image, report) if set(stated) & set(names) else None
    contributions = _contributions(trace) if trace is not None else {}
    regions = case.regions()
    return [
        {
            "case": case.id,
            "when": when,
            "finding": name,
            "drawn": name in truth,
            "stated": name in stated,
            "points": _points(trace, name, regions)
            if trace is not None and name in stated
            else None,
            "contribution": contributions.get(name),
        }
        for name in names
    ]


def _points(trace: Trace, finding: str, regions: Mapping[str, np.ndarray]) -> bool | None:
    if finding not in regions or not np.any(regions[finding]):
        return None
    try:
        found = explain(trace, finding=finding, method="relevancy")
        return bool(checks.pointing(found, regions[finding]))
    except WorkbenchError:
        return None


def _contributions(trace: Trace) -> dict[str, float]:
    frame = ground(trace, ablations=ABLATIONS).findings()
    found = frame.groupby("finding")["contribution"].max()
    return {str(name): float(value) for name, value in found.items()}
