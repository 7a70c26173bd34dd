"""How good a model is on cases, before and after: reports, questions, differentials, and why.

A finding counts as stated when the labeler reads it as present; silence and doubt are no statement.
Where the truth is unknown or uncertain nothing is counted. The same rule serves the choice of the
best checkpoint, the ledger and the benchmarks. `explained_rows` asks whether a gain in F1 comes
with maps that point somewhere and with statements that need the image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from workbench._progress import progress as bar
from workbench.cases import Case
from workbench.errors import WorkbenchError
from workbench.evaluation import ScoreCard, compare, score
from workbench.evaluation.intervals import area, bootstrap_weights, estimate, known_mean, ratio
from workbench.findings import ABSENT, ALL_FINDINGS, NO_FINDING, PHANTOM_FINDINGS, PRESENT
from workbench.finetune.ledger import SkillChange
from workbench.hallucination import ground
from workbench.hallucination.polling import question_about, yes_odds
from workbench.interface import ChestXrayModel
from workbench.model.prompt import IGNORE_LABEL
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


def scored_findings(cases: Sequence[Case], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the findings that are known to be present in one case and absent in another."""
    return tuple(
        name
        for name in SCORED
        if (not wanted or name in wanted)
        and {PRESENT, ABSENT} <= {case.code(name) for case in cases}
    )


def macro_f1(texts: Mapping[str, str], cases: Sequence[Case], findings: Sequence[str]) -> float:
    """Return the mean F1 over findings; NaN where there is none."""
    if not findings:
        return math.nan
    value = _report_card(texts, cases, findings, resamples=0).averages["macro"].f1.value
    return math.nan if value is None else value


def f1_changes(
    title: str,
    before: Mapping[str, str],
    after: Mapping[str, str],
    cases: Sequence[Case],
    findings: Sequence[str],
) -> tuple[SkillChange, ...]:
    """Return the macro F1 of findings in reports, under a title, then the F1 of each."""
    was, now = (_report_card(texts, cases, findings) for texts in (before, after))
    found = compare(now, was)
    items = {title: found.averages["macro"]}
    items |= {f"F1 of {name}": item for name, item in found.per_finding.items()}
    return tuple(
        SkillChange(skill, len(cases), item.f1_b, item.f1_a, item.difference)
        for skill, item in items.items()
    )


def _report_card(
    texts: Mapping[str, str], cases: Sequence[Case], findings: Sequence[str], resamples: int = 1000
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
    return score(predictions, references, patients=patients, findings=findings, resamples=resamples)


def forgetting(
    before: ChestXrayModel, after: ChestXrayModel, cases: Sequence[Case]
) -> tuple[SkillChange, ...]:
    """Measure skills that were not trained for, on phantoms without the taught finding.

    Skills: findings in reports (macro F1 of the eight), yes/no questions (share right by the odds
    of yes against no), differentials (share that name exactly the findings drawn).
    """
    if not cases:
        return ()
    findings = scored_findings(cases, PHANTOM_FINDINGS)
    texts = (write_reports(before, cases), write_reports(after, cases))
    questions, differentials = (
        [right(model, cases) for model in (before, after)]
        for right in (_questions_right, _differentials_right)
    )
    return (
        f1_changes("findings in reports, macro F1", *texts, cases, findings)[0],
        _share_change("questions answered right", *questions),
        _share_change("differentials that name what is there", *differentials),
    )


def _share_change(skill: str, before: np.ndarray, after: np.ndarray) -> SkillChange:
    """Return a share of cases before and after, the change with its paired bootstrap interval."""
    n = len(before)
    weights = bootstrap_weights(n, np.random.default_rng([0, 81]))
    change = ratio(after - before, np.ones(n), weights)
    return SkillChange(skill, n, float(before.mean()), float(after.mean()), change)


def _questions_right(model: ChestXrayModel, cases: Sequence[Case]) -> np.ndarray:
    """Return (cases,) share of the eight polling questions answered right."""
    pixels = [model.processor(case.load())[None] for case in cases]
    odds = [yes_odds(model, pixels, question_about(name)) for name in PHANTOM_FINDINGS]
    truth = [[case.code(name) == PRESENT for case in cases] for name in PHANTOM_FINDINGS]
    return np.mean((np.array(odds) > 0) == np.array(truth), axis=0)


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

    Columns: case, when ("before", "after"), finding, drawn, stated, points (None where there is no
    map or no mask), contribution (nats that the image adds to the statement).
    """
    return tuple(
        {"case": case.id, "when": when, **row}
        for case in cases
        for when, model in (("before", before), ("after", after))
        for row in _explained(model, case)
    )


def _explained(model: ChestXrayModel, case: Case) -> Iterator[dict[str, Any]]:
    image, regions = case.load(), case.regions()
    report = model.report(image)
    stated = [name for name in label(report.text).present if name != NO_FINDING]
    drawn = [name for name, code in case.codes.items() if code == PRESENT and name != NO_FINDING]
    points: dict[str, bool | None] = {}
    found: dict[str, float] = {}
    if stated:
        trace = model.trace(image, report)
        grounded = ground(trace, ablations=ABLATIONS).findings()
        best = grounded.groupby("finding")["contribution"].max().astype(float)
        found = {str(name): value for name, value in best.items()}
        points = {name: _points(trace, name, regions) for name in stated}
    for name in dict.fromkeys([*drawn, *stated]):
        yield {"finding": name, "drawn": name in drawn, "stated": name in stated,
               "points": points.get(name), "contribution": found.get(name)}  # fmt: skip


def _points(trace: Trace, finding: str, regions: Mapping[str, np.ndarray]) -> bool | None:
    if finding not in regions or not np.any(regions[finding]):
        return None
    try:
        found = explain(trace, finding=finding, method="relevancy")
        return bool(checks.pointing(found, regions[finding]))
    except WorkbenchError:
        return None


def aurocs(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (F,) area under the ROC curve of each finding over known labels; NaN if undefined."""
    found = np.full(labels.shape[1], np.nan)
    for at, column in enumerate(labels.T):
        known = column != IGNORE_LABEL
        if len(np.unique(column[known])) == 2:
            found[at] = roc_auc_score(column[known], scores[known, at])
    return found


def resampled_means(scores: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Return the mean AUROC of each resample; the same patients are drawn every time.

    A resample without both classes of a finding leaves it out.
    """
    _, owner = np.unique(list(patients), return_inverse=True)
    weights = bootstrap_weights(owner.max() + 1, np.random.default_rng([0, 82]))[:, owner]
    columns = []
    for own, column in zip(scores.T, labels.T, strict=True):
        known = column != IGNORE_LABEL
        columns.append(area(column[known] == 1, own[known], weights[:, known])[1])
    return known_mean(np.stack(columns, 1))


def auroc_rows(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, patients: Sequence[str],
    findings: Sequence[str],
) -> tuple[SkillChange, ...]:  # fmt: skip
    """Return the mean AUROC and that of each finding, before and after, paired by patient."""
    columns = {"mean AUROC": slice(None)}
    columns |= {f"AUROC of {name}": slice(at, at + 1) for at, name in enumerate(findings)}
    rows = []
    for skill, column in columns.items():
        truth, both = labels[:, column], (before[:, column], after[:, column])
        first, second = (float(known_mean(aurocs(scores, truth))) for scores in both)
        drawn = [resampled_means(scores, truth, patients) for scores in both]
        change = estimate(second - first, drawn[1] - drawn[0], len(labels))
        was, now = (None if math.isnan(value) else value for value in (first, second))
        rows.append(SkillChange(skill, len(labels), was, now, change))
    return tuple(row for row in rows if row.after is not None)
