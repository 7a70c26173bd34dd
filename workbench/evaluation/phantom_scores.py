"""Scores of reports about phantoms: what was drawn against what is stated.

Policies:
- a finding is stated when the report's label is "present"; "uncertain", "absent" and not
  mentioned are not stated, because the truth of a phantom is never uncertain;
- side and zone are scored among true positives whose truth has one, and must match exactly
  (left, right, bilateral; a finding in two zones must name both);
- edema is always on both sides, so laterality is given with and without it;
- a false finding of a normal phantom is any finding stated, also one that phantoms cannot have.

Does not know: models, pixels, or how a report is read (`workbench.reports`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from workbench._repr import short_repr
from workbench.evaluation.intervals import Estimate, bootstrap_weights, mean_ratio, ratio
from workbench.findings import EDEMA, NO_FINDING, PAPER_FINDINGS, PHANTOM_FINDINGS, PRESENT, ZONES
from workbench.phantom.scene import Lesion
from workbench.phantom.wording.mentions import mentions, merged_side
from workbench.reports import label


class Place(NamedTuple):
    """Where a finding is: side, and zones joined by ", " (None where it has none)."""

    side: str | None
    zone: str | None


@dataclass(frozen=True)
class ExamCase:
    """One phantom and the report about it.

    Attributes:
        domain: "internal" or "external".
        seed: the phantom's seed.
        text: the report.
        truth: finding -> place, for what is drawn.
        stated: finding -> place, for what the report states as present ("no finding" left out).
    """

    domain: str
    seed: int
    text: str
    truth: dict[str, Place]
    stated: dict[str, Place]

    @property
    def missed(self) -> tuple[str, ...]:
        """Findings drawn and not stated."""
        return tuple(name for name in self.truth if name not in self.stated)

    @property
    def invented(self) -> tuple[str, ...]:
        """Findings stated and not drawn."""
        return tuple(name for name in self.stated if name not in self.truth)


@dataclass(frozen=True)
class FindingScore:
    """How well one finding is reported.

    Attributes:
        finding: standard name.
        precision: share of statements that are true; `n` statements.
        recall: share of drawn findings that are stated; `n` drawn.
        f1: harmonic mean, 2 TP / (2 TP + FP + FN).
        laterality: share of true positives with the right side.
        zone: share of true positives with the right zone.
        n: phantoms with the finding.
    """

    finding: str
    precision: Estimate
    recall: Estimate
    f1: Estimate
    laterality: Estimate
    zone: Estimate
    n: int

    __repr__ = short_repr


@dataclass(frozen=True)
class DomainScore:
    """All scores of one domain.

    Attributes:
        domain: "internal" or "external".
        seeds: first seed and one past the last.
        n: phantoms.
        macro_f1: mean F1 over the six findings of the paper; findings neither drawn nor stated
            are left out.
        macro_f1_all: the same over all eight.
        per_finding: finding -> score, in the order of `PHANTOM_FINDINGS`.
        laterality: right side among true positives that have one.
        laterality_focal: the same without edema.
        zone: right zone among true positives that have one.
        false_per_normal: findings stated per phantom without any finding.
        normals: how many phantoms without any finding there were.
        seconds_per_report: wall time of the model alone.
    """

    domain: str
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

    __repr__ = short_repr


def true_places(lesions: Iterable[Lesion]) -> dict[str, Place]:
    """Return finding -> place of what is drawn, several lesions of a finding taken together."""
    return {
        finding: Place(
            merged_side(item.side for item in group),
            ", ".join(zone for zone in ZONES if any(item.zone == zone for item in group)) or None,
        )
        for finding, group in mentions(lesions).items()
    }


def stated_places(text: str) -> dict[str, Place]:
    """Return finding -> place of what a report states as present."""
    return {
        row.finding: Place(row.side, row.zone)
        for row in label(text).rows
        if row.code == PRESENT and row.finding != NO_FINDING
    }


def score_cases(
    cases: Sequence[ExamCase],
    *,
    domain: str,
    seeds: tuple[int, int],
    seconds: float | None = None,
    bootstrap_seed: int = 0,
) -> DomainScore:
    """Score the reports of one domain.

    Args:
        cases: the phantoms and their reports.
        domain: name of the domain.
        seeds: first seed and one past the last.
        seconds: wall time of all reports together.
        bootstrap_seed: seed of the resampling.
    """
    weights = bootstrap_weights(len(cases), np.random.default_rng([bootstrap_seed, *seeds]))
    table = _Table(cases)
    paper = [PHANTOM_FINDINGS.index(name) for name in PAPER_FINDINGS]
    focal = [at for at, name in enumerate(PHANTOM_FINDINGS) if name != EDEMA]
    f1_above, f1_below = 2 * table.hits, table.truth + table.stated
    return DomainScore(
        domain=domain,
        seeds=seeds,
        n=len(cases),
        macro_f1=mean_ratio(f1_above[:, paper], f1_below[:, paper], weights),
        macro_f1_all=mean_ratio(f1_above, f1_below, weights),
        per_finding={
            name: _finding_score(name, at, table, weights)
            for at, name in enumerate(PHANTOM_FINDINGS)
        },
        laterality=ratio(table.side_right.sum(1), table.sided.sum(1), weights),
        laterality_focal=ratio(
            table.side_right[:, focal].sum(1), table.sided[:, focal].sum(1), weights
        ),
        zone=ratio(table.zone_right.sum(1), table.zoned.sum(1), weights),
        false_per_normal=ratio(table.false_of_normal, table.normal, weights),
        normals=int(table.normal.sum()),
        seconds_per_report=None if seconds is None or not cases else seconds / len(cases),
    )


class _Table:
    """Counts per case, (cases, findings) int64 in the order of `PHANTOM_FINDINGS`."""

    def __init__(self, cases: Sequence[ExamCase]) -> None:
        shape = (len(cases), len(PHANTOM_FINDINGS))
        names = ("truth", "stated", "sided", "side_right", "zoned", "zone_right")
        tables = {name: np.zeros(shape, dtype=np.int64) for name in names}
        for row, case in enumerate(cases):
            for column, finding in enumerate(PHANTOM_FINDINGS):
                truth, stated = case.truth.get(finding), case.stated.get(finding)
                tables["truth"][row, column] = truth is not None
                tables["stated"][row, column] = stated is not None
                if truth is None or stated is None:
                    continue
                tables["sided"][row, column] = truth.side is not None
                tables["side_right"][row, column] = truth.side is not None and (
                    truth.side == stated.side
                )
                tables["zoned"][row, column] = truth.zone is not None
                tables["zone_right"][row, column] = truth.zone is not None and (
                    truth.zone == stated.zone
                )
        self.truth, self.stated = tables["truth"], tables["stated"]
        self.sided, self.side_right = tables["sided"], tables["side_right"]
        self.zoned, self.zone_right = tables["zoned"], tables["zone_right"]
        self.hits = self.truth * self.stated
        self.normal = np.array([not case.truth for case in cases], dtype=np.int64)
        self.false_of_normal = self.normal * np.array([len(case.stated) for case in cases], int)


def _finding_score(name: str, at: int, table: _Table, weights: np.ndarray) -> FindingScore:
    truth, stated, hits = table.truth[:, at], table.stated[:, at], table.hits[:, at]
    return FindingScore(
        finding=name,
        precision=ratio(hits, stated, weights),
        recall=ratio(hits, truth, weights),
        f1=ratio(2 * hits, truth + stated, weights),
        laterality=ratio(table.side_right[:, at], table.sided[:, at], weights),
        zone=ratio(table.zone_right[:, at], table.zoned[:, at], weights),
        n=int(truth.sum()),
    )
