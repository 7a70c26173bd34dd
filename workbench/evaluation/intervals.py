"""Estimates with intervals: ratios of sums over cases, rates, areas under ROC curves, paired tests.

Cases are resampled, not findings, so that everything one case contributes stays together
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). One weight matrix
serves every number of a domain, and the resampling is one matrix product.

The area under a ROC curve is the share of pairs (one false statement, one true) in which the false
one scores higher, ties counting half; so a resample of cases is a weighting of pairs, and all
resamples are two matrix products (Bamber, J Math Psych 1975).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from workbench.figures.numbers import Estimate

RESAMPLES = 1000
LEVEL = 0.95


def bootstrap_weights(
    cases: int, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> np.ndarray:
    """Return (resamples, cases) float64: how often each case is drawn in each resample."""
    if cases == 0:
        return np.zeros((resamples, 0))
    draws = rng.multinomial(cases, np.full(cases, 1.0 / cases), size=resamples)
    return draws.astype(np.float64)


def stratified_weights(
    strata: np.ndarray, rng: np.random.Generator, *, resamples: int = RESAMPLES
) -> np.ndarray:
    """Return (resamples, units) float64: how often each unit is drawn, each stratum in itself.

    Every resample keeps the size of every stratum; `strata` are (units,).

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.2.
    """
    strata = np.asarray(strata)
    weights = np.zeros((resamples, len(strata)))
    for stratum in np.unique(strata):
        at = np.flatnonzero(strata == stratum)
        weights[:, at] = bootstrap_weights(len(at), rng, resamples=resamples)
    return weights


def alone(groups: Sequence[str]) -> list[str]:
    """Return the groups of cases; a case without one, "", becomes a group of its own."""
    return [name or f"case {at}" for at, name in enumerate(groups)]


def grouped_weights(
    groups: Sequence[str],
    rng: np.random.Generator,
    *,
    strata: Sequence[str] | np.ndarray | None = None,
    resamples: int = RESAMPLES,
) -> np.ndarray:
    """Return (resamples, cases) float64: how often each case is drawn where groups are drawn.

    All cases of a group, those of a patient, come together; each stratum is drawn in itself. A
    case without a group is one of its own.
    """
    groups = alone(groups)
    first = {name: at for at, name in reversed(list(enumerate(groups)))}
    names = sorted(first, key=first.__getitem__)
    own = ["" if strata is None else strata[first[name]] for name in names]
    number = {name: at for at, name in enumerate(names)}
    weights = stratified_weights(np.array(own), rng, resamples=resamples)
    return weights[:, [number[name] for name in groups]]


def wilson(successes: int, n: int) -> Estimate:
    """Estimate a rate of single trials, with Wilson's score interval; undefined without a trial.

    It stays honest where resampling cannot: 16 of 16 is not "1 at least".
    Source: Wilson, J Am Stat Assoc 1927; by scipy.
    """
    from scipy.stats import binomtest  # takes a second

    if n == 0:
        return Estimate(None, None, None, 0)
    found = binomtest(int(successes), int(n)).proportion_ci(LEVEL, method="wilson")
    return Estimate(float(successes / n), float(found.low), float(found.high), int(n))


def ratio(numerator: np.ndarray, denominator: np.ndarray, weights: np.ndarray) -> Estimate:
    """Estimate sum(numerator) / sum(denominator) over cases.

    Both are (cases,); weights are (resamples, cases), from `bootstrap_weights`.
    """
    point = float(divided(np.sum(numerator), np.sum(denominator)))
    return estimate(point, _resampled(numerator, denominator, weights), int(np.sum(denominator)))


def mean_ratio(numerator: np.ndarray, denominator: np.ndarray, weights: np.ndarray) -> Estimate:
    """Estimate the mean over columns of sum(numerator) / sum(denominator).

    Columns without a denominator are left out, in the data and in each resample alike. Both are
    (cases, columns), and weights are (resamples, cases).
    """
    columns = divided(np.sum(numerator, axis=0), np.sum(denominator, axis=0))
    replicates = _resampled(numerator, denominator, weights)
    return estimate(float(known_mean(columns)), known_mean(replicates), len(numerator))


def estimate(point: float, replicates: np.ndarray, n: int) -> Estimate:
    """Put a point estimate and its resampled values together; NaN means undefined.

    `n` is what the estimate is a share of.
    """
    defined = replicates[~np.isnan(replicates)]
    undefined = len(replicates) - len(defined)
    if np.isnan(point) or defined.size == 0:
        value = None if np.isnan(point) else float(point)
        return Estimate(value, None, None, n, undefined)
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Estimate(float(point), float(low), float(high), n, undefined)


def _resampled(numerator: np.ndarray, denominator: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return divided(weights @ np.asarray(numerator, float), weights @ np.asarray(denominator, float))


def divided(above: ArrayLike, below: ArrayLike) -> np.ndarray:
    """Return above / below as float64; NaN where below is 0."""
    above, below = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    return np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)


def known_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the last axis without NaN; NaN where nothing is left."""
    known = ~np.isnan(values)
    return divided(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def area(
    false: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "resamples n"],
) -> tuple[float, Float[np.ndarray, " resamples"]]:
    """Return the area for "is false" and its value on each resample; NaN where a class is missing.

    Greater scores are more suspect; NaN among them makes the area NaN.
    """
    from sklearn.metrics import roc_auc_score  # takes a second

    if np.isnan(scores).any() or false.all() or not false.any():
        return float("nan"), np.full(len(weights), np.nan)
    above, below = scores[false][:, None], scores[~false][None, :]
    pairs = (above > below) + 0.5 * (above == below)
    own, other = weights[:, false], weights[:, ~false]
    wins = np.einsum("rn,rn->r", own @ pairs, other)
    total = own.sum(1) * other.sum(1)
    return float(roc_auc_score(false, scores)), divided(wins, total)


def area_estimate(
    false: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "resamples n"],
    *,
    minus: Float[np.ndarray, " n"] | None = None,
) -> Estimate:
    """Return the area with its 95 % interval, or how much greater it is than that of `minus`."""
    value, drawn = area(false, scores, weights)
    if minus is not None:
        other, drawn_other = area(false, minus, weights)
        value, drawn = value - other, drawn - drawn_other
    return estimate(value, drawn, len(false))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return p-values after Holm's step-down correction; None stays None and is not counted.

    Source: Holm, Scand J Stat 1979: sorted p times the number of hypotheses left, never falling.
    """
    order = sorted((value, at) for at, value in enumerate(p) if value is not None)
    adjusted: list[float | None] = [None] * len(p)
    highest = 0.0
    for rank, (value, at) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * value))
        adjusted[at] = highest
    return adjusted


def mcnemar(a_only: int, b_only: int) -> float:
    """Return the exact two-sided p-value of McNemar's test; 1 where the systems never disagree.

    Source: McNemar, Psychometrika 1947.
    """
    from scipy.stats import binomtest

    if a_only + b_only == 0:
        return 1.0
    return float(binomtest(a_only, a_only + b_only, 0.5).pvalue)
