"""Counts, averages and intervals of pairs of codes: what a score card is made of.

One weight matrix over patients serves every number: the counts of a resample are one matrix
product of weights (resamples, patients) and counts per patient (patients, findings * 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from workbench._repr import short_repr
from workbench.evaluation.intervals import (
    Estimate,
    divided,
    estimate,
    known_mean,
    stratified_weights,
    wilson,
)
from workbench.evaluation.policies import OUTCOMES, Policy, confusion, count_outcomes, omissions
from workbench.findings import CODES, PAPER_FINDINGS, PRESENT

#: Resamples are drawn in blocks of at most so many numbers (160 MB).
_BLOCK = 20_000_000
_TP, _FP, _, _FN = range(len(OUTCOMES))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Codes of both sides, paired by id.

    Attributes:
        ids: those that have a text or labels on both sides.
        reference, prediction: indices of `findings.CODES`, int8.
    """

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    findings: tuple[str, ...]
    reference: Int[np.ndarray, "pairs findings"]
    prediction: Int[np.ndarray, "pairs findings"]

    __repr__ = short_repr

    def take(self, rows: Sequence[int]) -> Pairs:
        """Return some of the pairs, in the order given."""
        ids, patients = (tuple(side[at] for at in rows) for side in (self.ids, self.patients))
        at = list(rows)
        return Pairs(ids, patients, self.findings, self.reference[at], self.prediction[at])


@dataclass(frozen=True, eq=False)
class FindingRow:
    """One finding.

    Attributes:
        pairs: pairs of reports, scored or not.
        precision, recall, specificity: with Wilson's intervals.
        f1: with its bootstrap interval over patients.
        omission: share of findings present in the reference that the prediction does not mention.
        confusion: (4, 4) int64, reference code by prediction code, in the order of `CODES`.
    """

    finding: str
    pairs: int
    tp: int
    fp: int
    tn: int
    fn: int
    precision: Estimate
    recall: Estimate
    specificity: Estimate
    f1: Estimate
    omission: Estimate
    omitted: int
    confusion: np.ndarray = field(repr=False)

    __repr__ = short_repr

    @property
    def n(self) -> int:
        """Pairs that the policy could score."""
        return self.tp + self.fp + self.tn + self.fn

    @property
    def mentioned(self) -> bool:
        """Whether any side of any pair mentions the finding."""
        return bool(self.confusion.sum() > self.confusion[-1, -1])

    @property
    def support(self) -> int:
        """Scored pairs that are positive in the reference."""
        return self.tp + self.fn

    @property
    def coverage(self) -> float | None:
        """Share of pairs that the policy could score."""
        return self.n / self.pairs if self.pairs else None

    def to_dict(self) -> dict:
        """Return plain values for JSON; `low` and `high` belong to `f1`."""
        row: dict[str, Any] = {"n": self.n, "pairs": self.pairs, "coverage": self.coverage}
        row["support"] = self.support
        row |= {name: getattr(self, name) for name in OUTCOMES}
        for name in ("precision", "recall", "specificity"):
            row |= getattr(self, name).flat(name)
        row |= {"f1": self.f1.value, "low": self.f1.low, "high": self.f1.high}
        row["undefined_resamples"] = self.f1.undefined
        row |= {"omitted": self.omitted, "omission_of": self.omission.n}
        return row | self.omission.flat("omission")


@dataclass(frozen=True)
class Average:
    """An F1 over several findings.

    Attributes:
        name: "macro" (mean over findings), "micro" (all counts together), "weighted" (mean over
            findings, each with its support) or "macro of six" (the findings of the paper).
        members: findings it is over.
        undefined: findings left out because their F1 is undefined.
        fewer: resamples in which a member was undefined, so that the average was over fewer.
    """

    name: str
    f1: Estimate
    members: tuple[str, ...]
    undefined: tuple[str, ...]
    fewer: int

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        found = {"f1": self.f1.value, "low": self.f1.low, "high": self.f1.high}
        found |= {"findings": list(self.members), "undefined": list(self.undefined)}
        return found | {
            "undefined_resamples": self.f1.undefined,
            "resamples_over_fewer": self.fewer,
        }


def count_pairs(
    pairs: Pairs, policy: Policy, *, resamples: int, seed: int
) -> tuple[dict[str, FindingRow], dict[str, Average]]:
    """Count and estimate everything that pairs of codes determine."""
    tables = confusion(pairs.reference, pairs.prediction)
    counts = count_outcomes(tables, policy)
    drawn = resampled_counts(pairs, policy, resamples=resamples, seed=seed)
    f1, drawn_f1 = f1_of(counts), f1_of(drawn)
    omitted, of = omissions(tables)
    rows = {}
    for at, finding in enumerate(pairs.findings):
        tp, fp, tn, fn = (int(value) for value in counts[at])
        rows[finding] = FindingRow(
            finding=finding,
            pairs=len(pairs.ids),
            **{"tp": tp, "fp": fp, "tn": tn, "fn": fn},
            precision=wilson(tp, tp + fp),
            recall=wilson(tp, tp + fn),
            specificity=wilson(tn, tn + fp),
            f1=estimate(f1[at], drawn_f1[:, at], 2 * tp + fp + fn),
            omission=wilson(int(omitted[at]), int(of[at])),
            omitted=int(omitted[at]),
            confusion=tables[at],
        )
    return rows, _averages(pairs.findings, counts, drawn)


def resampled_counts(pairs: Pairs, policy: Policy, *, resamples: int, seed: int) -> np.ndarray:
    """Return (resamples, findings, 4) float64: TP, FP, TN, FN of each resample of patients."""
    totals = per_patient(policy.outcomes()[pairs.reference, pairs.prediction], pairs)
    drawn = resampled_totals(totals, pairs, resamples=resamples, seed=seed)
    return drawn.reshape(-1, len(pairs.findings), len(OUTCOMES))


def resampled_totals(totals: np.ndarray, pairs: Pairs, *, resamples: int, seed: int) -> np.ndarray:
    """Return (resamples, columns) sums of `per_patient` over the patients of each resample."""
    drawn = patient_weights(pairs, resamples=resamples, seed=seed)
    blocks = [weights @ totals for weights in drawn]
    return np.concatenate(blocks or [np.zeros((0, totals.shape[1]))])


def per_patient(scored: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Return (patients, findings * 4) float64 counts of outcomes (pairs, findings)."""
    width = scored.shape[1] * len(OUTCOMES)
    ones = (scored[..., None] == np.arange(len(OUTCOMES))).reshape(len(scored), width)
    _, who = np.unique(pairs.patients, return_inverse=True)
    totals = np.zeros((int(who.max(initial=-1)) + 1, width))
    np.add.at(totals, who, ones)
    return totals


def patient_weights(pairs: Pairs, *, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield blocks of (resamples, patients) weights; the same pairs and seed give the same.

    Patients are in sorted order. Strata: with and without a finding present in the references.
    """
    _, who = np.unique(pairs.patients, return_inverse=True)
    present = (pairs.reference == CODES.index(PRESENT)).any(axis=1)
    strata = np.zeros(int(who.max(initial=-1)) + 1, dtype=bool)
    np.logical_or.at(strata, who, present)
    rng = np.random.default_rng([seed, 31])
    block = max(1, _BLOCK // max(1, len(strata)))
    for start in range(0, resamples, block):
        yield stratified_weights(strata, rng, resamples=min(block, resamples - start))


def f1_of(counts: np.ndarray) -> np.ndarray:
    """Return F1, NaN where undefined, of TP, FP, TN, FN on the last axis."""
    counts = np.asarray(counts, dtype=float)
    above = 2 * counts[..., _TP]
    return divided(above, above + counts[..., _FP] + counts[..., _FN])


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 over findings (second axis from the end) for which it is defined."""
    return known_mean(f1_of(counts))


def micro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the F1 of the counts of all findings together."""
    return f1_of(np.asarray(counts, dtype=float).sum(-2))


def weighted_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 over findings, each weighted with its support (TP + FN)."""
    counts = np.asarray(counts, dtype=float)
    support = counts[..., _TP] + counts[..., _FN]
    f1 = np.nan_to_num(f1_of(counts))  # undefined only where the support is 0
    return divided((f1 * support).sum(-1), support.sum(-1))


def _averages(names: tuple[str, ...], counts: np.ndarray, drawn: np.ndarray) -> dict[str, Average]:
    """Return every average by name; that over the paper's findings where others are scored too."""
    wanted = {"macro": (macro_f1, names), "micro": (micro_f1, names)}
    wanted["weighted"] = (weighted_f1, names)
    if set(PAPER_FINDINGS) < set(names):
        wanted["macro of six"] = (macro_f1, PAPER_FINDINGS)
    found = {}
    for name, (average, members) in wanted.items():
        at = [names.index(member) for member in members]
        chosen, resampled = counts[at], drawn[:, at]
        known = ~np.isnan(f1_of(chosen))
        fewer = np.isnan(f1_of(resampled))[:, known].any(axis=1)
        found[name] = Average(
            name=name,
            f1=estimate(float(average(chosen)), average(resampled), int(chosen.sum())),
            members=tuple(np.array(members)[known].tolist()),
            undefined=tuple(np.array(members)[~known].tolist()),
            fewer=int(fewer.sum()),
        )
    return found
