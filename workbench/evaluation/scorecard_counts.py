"""Counts, averages and intervals of pairs of codes: what a score card is made of.

One weight matrix over patients serves every number: the counts of a resample are one matrix
product of weights (resamples, patients) and counts per patient (patients, findings * 4).

Does not know: texts, files or status; pairs come as codes (`scorecard_result.Pairs`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from workbench.evaluation.intervals import estimate, stratified_weights, wilson
from workbench.evaluation.policies import OUTCOMES, Policy, confusion, count_outcomes, omissions
from workbench.evaluation.scorecard_result import Average, FindingRow, Pairs, ScoreCard
from workbench.findings import CODES, PAPER_FINDINGS, PRESENT

#: Resamples are drawn in blocks of at most so many numbers (160 MB).
_BLOCK = 20_000_000
_TP, _FP, _TN, _FN = range(len(OUTCOMES))


def build_card(
    pairs: Pairs, policy: Policy, *, resamples: int, seed: int, name: str = "predictions"
) -> ScoreCard:
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
    return ScoreCard(
        name=name,
        policy=policy,
        per_finding=rows,
        averages=_averages(pairs.findings, counts, drawn),
        pairs=pairs,
        resamples=resamples,
        seed=seed,
    )


def resampled_counts(pairs: Pairs, policy: Policy, *, resamples: int, seed: int) -> np.ndarray:
    """Return (resamples, findings, 4) float64: TP, FP, TN, FN of each resample of patients."""
    totals = per_patient(policy.outcomes()[pairs.reference, pairs.prediction], pairs)
    drawn = resampled_totals(totals, pairs, resamples=resamples, seed=seed)
    return drawn.reshape(-1, len(pairs.findings), len(OUTCOMES))


def resampled_totals(totals: np.ndarray, pairs: Pairs, *, resamples: int, seed: int) -> np.ndarray:
    """Return (resamples, columns) sums over the patients of each resample.

    Args:
        totals: (patients, columns), patients in sorted order; see `per_patient`.
        pairs, resamples, seed: see `patient_weights`.
    """
    blocks = [
        weights @ totals for weights in patient_weights(pairs, resamples=resamples, seed=seed)
    ]
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
    return _divided(above, above + counts[..., _FP] + counts[..., _FN])


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 over findings (second axis from the end) for which it is defined."""
    f1 = f1_of(counts)
    known = ~np.isnan(f1)
    return _divided(np.where(known, f1, 0.0).sum(-1), known.sum(-1))


def micro_f1(counts: np.ndarray) -> np.ndarray:
    """Return the F1 of the counts of all findings together."""
    return f1_of(np.asarray(counts, dtype=float).sum(-2))


def weighted_f1(counts: np.ndarray) -> np.ndarray:
    """Return the mean F1 over findings, each weighted with its support (TP + FN)."""
    counts = np.asarray(counts, dtype=float)
    support = counts[..., _TP] + counts[..., _FN]
    f1 = np.nan_to_num(f1_of(counts))  # undefined only where the support is 0
    return _divided((f1 * support).sum(-1), support.sum(-1))


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
        n = int(chosen[:, [_TP, _FP, _TN, _FN]].sum())
        found[name] = Average(
            name=name,
            f1=estimate(float(average(chosen)), average(resampled), n),
            members=tuple(member for member, ok in zip(members, known, strict=True) if ok),
            undefined=tuple(member for member, ok in zip(members, known, strict=True) if not ok),
            fewer=int(fewer.sum()),
        )
    return found


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    above, below = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
