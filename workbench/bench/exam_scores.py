"""Scores of reports about cases whose truth is complete: what is there against what is stated.

Policies:
- a finding is stated when the report's label is "present"; "uncertain", "absent" and not
  mentioned are not stated, because the truth of a phantom is never uncertain;
- what is not known of a radiograph is left out: a finding stated there is neither right nor wrong;
- side and zone are scored among true positives whose truth has one, and must match exactly
  (left, right, bilateral; a finding in two zones must name both), lobes as in
  `findings.same_zone`;
- edema is always on both sides, so laterality is given with and without it;
- a false finding of a normal phantom is any finding stated, also one that phantoms cannot have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench._repr import result
from workbench.bench.keys import Place
from workbench.evaluation.intervals import Estimate, grouped_weights, mean_ratio, ratio
from workbench.findings import (
    EDEMA,
    NO_FINDING,
    PAPER_FINDINGS,
    PHANTOM_FINDINGS,
    PRESENT,
    same_zone,
)
from workbench.reports import label


@dataclass(frozen=True)
class ExamCase:
    """One case and the report about it.

    Attributes:
        truth: finding -> place, for what is there.
        stated: finding -> place, for what the report states as present ("no finding" left out).
        known: findings that are known to be there or not; None where all are.
        doubtful: findings stated as present of which nothing is known; not in `stated`.
    """

    domain: str
    seed: int
    text: str
    truth: dict[str, Place]
    stated: dict[str, Place]
    patient: str = ""
    known: tuple[str, ...] | None = None
    doubtful: int = 0


@result(eq=True)
class FindingScore:
    """How well one finding is reported.

    Side and zone are shares of the true positives that have one; `n` are cases with the finding,
    `left_out` those of which it is not known.

    >>> exam.scores["internal"].per_finding["nodule"].finding
    'nodule'
    """

    finding: str
    precision: Estimate
    recall: Estimate
    f1: Estimate
    laterality: Estimate
    zone: Estimate
    n: int
    left_out: int = 0


@result(eq=True)
class DomainScore:
    """All scores of one domain.

    Attributes:
        seeds: first seed and one past the last.
        macro_f1: mean F1 over the six findings of the paper; findings neither present nor stated
            are left out.
        macro_f1_all: the same over all findings; a phantom can have eight.
        laterality_focal: laterality without edema.
        false_per_normal: findings stated per case without any finding (`normals` of them).
        seconds_per_report: wall time of the model alone.
        doubtful: findings stated of which nothing is known; they are in no score.

    >>> exam.scores["internal"].n
    1
    """

    seeds: tuple[int, int]
    n: int
    macro_f1: Estimate
    macro_f1_all: Estimate
    per_finding: dict[str, FindingScore]
    laterality: Estimate
    laterality_focal: Estimate
    zone: Estimate
    false_per_normal: Estimate
    normals: int
    seconds_per_report: float | None
    doubtful: int = 0


def stated_places(text: str) -> dict[str, Place]:
    """Return finding -> place of what a report states as present."""
    return {
        row.finding: Place(row.side, row.zone, row.lobe)
        for row in label(text).rows
        if row.code == PRESENT and row.finding != NO_FINDING
    }


def score_cases(
    cases: Sequence[ExamCase],
    *,
    seeds: tuple[int, int],
    seconds: float,
    findings: Sequence[str] = PHANTOM_FINDINGS,
) -> DomainScore:
    """Score reports of one domain, which took `seconds` together, on findings; `DomainScore`.

    Patients are resampled; a case without one is on its own.
    """
    weights = grouped_weights([one.patient for one in cases], np.random.default_rng([0, *seeds]))
    truth, stated, sided, side, zoned, zone = _marks(cases, findings)
    paper = [at for at, name in enumerate(findings) if name in PAPER_FINDINGS]
    focal = [at for at, name in enumerate(findings) if name != EDEMA]
    f1_above, f1_below = 2 * truth * stated, truth + stated
    shares = {
        "precision": (truth * stated, stated),
        "recall": (truth * stated, truth),
        "f1": (f1_above, f1_below),
        "laterality": (side, sided),
        "zone": (zone, zoned),
    }
    per_finding = {}
    for at, name in enumerate(findings):
        found = {key: ratio(a[:, at], b[:, at], weights) for key, (a, b) in shares.items()}
        unknown = sum(case.known is not None and name not in case.known for case in cases)
        n = int(truth[:, at].sum())
        per_finding[name] = FindingScore(name, **found, n=n, left_out=unknown)
    normal = np.array([not case.truth for case in cases], dtype=np.int64)
    return DomainScore(
        seeds=seeds,
        n=len(cases),
        macro_f1=mean_ratio(f1_above[:, paper], f1_below[:, paper], weights),
        macro_f1_all=mean_ratio(f1_above, f1_below, weights),
        per_finding=per_finding,
        laterality=ratio(side.sum(1), sided.sum(1), weights),
        laterality_focal=ratio(side[:, focal].sum(1), sided[:, focal].sum(1), weights),
        zone=ratio(zone.sum(1), zoned.sum(1), weights),
        false_per_normal=ratio(
            normal * np.array([len(case.stated) for case in cases], int), normal, weights
        ),
        normals=int(normal.sum()),
        seconds_per_report=seconds / len(cases) if cases else None,
        doubtful=sum(case.doubtful for case in cases),
    )


def _marks(cases: Sequence[ExamCase], findings: Sequence[str]) -> np.ndarray:
    """Return (6, cases, findings) int64 of 0 and 1.

    First axis: present, stated, has a side, side correct, has a zone, zone correct; the last four
    among true positives.
    """
    rows = [_mark(case.truth.get(name), case.stated.get(name))
            for case in cases for name in findings]  # fmt: skip
    return np.array(rows, dtype=np.int64).reshape(-1, len(findings), 6).transpose(2, 0, 1)


def _mark(truth: Place | None, stated: Place | None) -> tuple[bool, ...]:
    if truth is None or stated is None:
        return truth is not None, stated is not None, False, False, False, False
    sided, zoned = truth.side is not None, truth.zone is not None
    return (
        True, True,
        sided, sided and truth.side == stated.side,
        zoned, zoned and same_zone(*truth[1:], *stated[1:]),
    )  # fmt: skip
