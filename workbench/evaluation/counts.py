"""What counts as right and wrong, and counts, averages and intervals: what a score card is made of.

Each policy of `POLICIES` says how two codes of a finding become TP, FP, TN, FN or nothing, and
changes one thing about `joint-definite`, so that a difference between two score cards has one
cause. Omission - present in the reference, not mentioned by the prediction - is no policy: it is
counted under every one of them, beside the scores. One weight matrix over patients serves every
number: the counts of a resample are one matrix product.

Sources: joint-definite, Lee et al., Eur Radiol 2025, arXiv 2310.18341; uncertain as positive
(U-Ones) and as negative (U-Zeros), Irvin et al., AAAI 2019, arXiv 1901.07031, section 3 (stated
there for training). Counting blanks as negative is the habit of label files in which a blank and a
zero were merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from workbench._repr import result
from workbench.errors import OptionError, unknown_name
from workbench.evaluation.intervals import (
    Estimate,
    divided,
    estimate,
    known_mean,
    stratified_weights,
    wilson,
)
from workbench.findings import CODES, NOT_MENTIONED, PAPER_FINDINGS, PRESENT

OUTCOMES = ("tp", "fp", "tn", "fn")
NOT_SCORED = len(OUTCOMES)


@dataclass(frozen=True)
class Policy:
    """How codes become positive, negative or nothing, on both sides alike.

    Attributes:
        values: positive (True), negative (False) or not scored (None), in the order of `CODES`.
    """

    name: str
    says: str
    values: tuple[bool | None, bool | None, bool | None, bool | None]

    @property
    def present(self) -> dict[str, bool | None]:
        """Code -> positive, negative or not scored."""
        return dict(zip(CODES, self.values, strict=True))

    def outcomes(self) -> np.ndarray:
        """Return (4, 4) int8, reference code by prediction code: an index of `OUTCOMES`, or 4."""
        table = np.full((len(CODES), len(CODES)), NOT_SCORED, dtype=np.int8)
        for row, truth in enumerate(self.values):
            for column, stated in enumerate(self.values):
                if truth is not None and stated is not None:
                    name = ("t" if truth == stated else "f") + ("p" if stated else "n")
                    table[row, column] = OUTCOMES.index(name)
        return table


POLICIES = {
    policy.name: policy
    for policy in (
        Policy(
            "joint-definite",
            "Only pairs in which both sides say present or absent are scored; uncertain and not "
            "mentioned are left out. This is the policy of the CXR-LLaVA paper.",
            (True, False, None, None),
        ),
        Policy(
            "uncertain-as-positive",
            "Uncertain counts as present on both sides; pairs in which a side does not mention "
            "the finding are left out.",
            (True, False, True, None),
        ),
        Policy(
            "uncertain-as-negative",
            "Uncertain counts as absent on both sides; pairs in which a side does not mention "
            "the finding are left out.",
            (True, False, False, None),
        ),
        Policy(
            "blank-as-negative",
            "Not mentioned (blank) counts as absent on both sides; pairs in which a side is "
            "uncertain are left out.",
            (True, False, None, False),
        ),
    )
}


def find_policy(name: str) -> Policy:
    """Return a policy by name, or raise `OptionError`."""
    if name not in POLICIES:
        also = "; omission is counted under every policy" if name == "omission" else ""
        raise OptionError(unknown_name("policy", name, POLICIES) + also)
    return POLICIES[name]


def confusion(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Count codes against codes: (findings, 4, 4) int64, reference code by prediction code.

    Both sides are (pairs, findings) indices of `CODES`.
    """
    size = len(CODES)
    cells = reference.astype(np.int64) * size + prediction
    counts = [np.bincount(column, minlength=size * size) for column in cells.T]
    return np.array(counts, dtype=np.int64).reshape(-1, size, size)


def count_outcomes(table: np.ndarray, policy: Policy) -> np.ndarray:
    """Return (..., 4) int64, TP, FP, TN, FN of confusion tables (..., 4, 4)."""
    outcomes = policy.outcomes()
    return np.stack([table[..., outcomes == at].sum(-1) for at in range(len(OUTCOMES))], axis=-1)


#: Why a pair is not scored, in the order of `why_not_scored`.
REASONS = (
    "uncertain",
    "only the reference mentions it",
    "only the prediction mentions it",
    "neither mentions it",
)


def why_not_scored(table: np.ndarray, policy: Policy) -> np.ndarray:
    """Return (findings, 4) int64, pairs that the policy leaves out, by `REASONS`."""
    left_out = policy.outcomes() == NOT_SCORED
    silent = np.arange(len(CODES)) == CODES.index(NOT_MENTIONED)
    reason = 2 * silent[:, None] + silent  # which of the four it is, by who is silent
    masks = [left_out & (reason == at) for at in range(len(REASONS))]
    return np.stack([table[:, mask].sum(-1) for mask in masks], axis=-1)


#: Resamples are drawn in blocks of at most so many numbers (160 MB).
_BLOCK = 20_000_000
_TP, _FP, _, _FN = range(len(OUTCOMES))


@result()
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

    def take(self, rows: Sequence[int]) -> Pairs:
        """Return some of the pairs, in the order given."""
        ids, patients = (tuple(side[at] for at in rows) for side in (self.ids, self.patients))
        at = list(rows)
        return Pairs(ids, patients, self.findings, self.reference[at], self.prediction[at])


@result()
class FindingRow:
    """One finding.

    Attributes:
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
    present = tables[:, CODES.index(PRESENT)]
    omitted, of = present[:, CODES.index(NOT_MENTIONED)], present.sum(-1)
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


#: What averages are called.
AVERAGE_NAMES = {
    "macro": "macro F1 (mean of findings)",
    "micro": "micro F1 (all counts together)",
    "weighted": "weighted F1 (by support)",
    "macro of six": "macro F1 of the paper's six",
}
AVERAGES = {"macro": macro_f1, "micro": micro_f1, "weighted": weighted_f1}


def _averages(names: tuple[str, ...], counts: np.ndarray, drawn: np.ndarray) -> dict[str, Average]:
    """Return every average by name; that over the paper's findings where others are scored too."""
    wanted = {name: (average, names) for name, average in AVERAGES.items()}
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
