"""Area under the ROC curve of scores in cases, with a bootstrap that keeps cases together.

The area is the share of pairs (one false statement, one true) in which the false one scores
higher, ties counting half; so a resample of cases is a weighting of pairs, and all resamples are
two matrix products (`pairs`).

Does not know: what is scored.
Source: Bamber, J Math Psych 1975 (the area as a share of pairs); Efron and Tibshirani, An
Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals of clustered resamples).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from sklearn.metrics import roc_auc_score

from workbench.evaluation.intervals import Estimate, estimate


def area(
    false: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "resamples n"],
) -> tuple[float, Float[np.ndarray, " resamples"]]:
    """Return the area and its value on each resample; NaN where a class is missing.

    Args:
        false: which statements are false.
        scores: greater is more suspect; NaN anywhere makes the area NaN.
        weights: how often each statement's case was drawn in each resample.
    """
    known = not np.isnan(scores).any()
    if not known or false.all() or not false.any():
        return float("nan"), np.full(len(weights), np.nan)
    above, below = scores[false][:, None], scores[~false][None, :]
    pairs = (above > below) + 0.5 * (above == below)
    own, other = weights[:, false], weights[:, ~false]
    wins = np.einsum("rn,rn->r", own @ pairs, other)
    total = own.sum(1) * other.sum(1)
    found = np.divide(wins, total, out=np.full(len(weights), np.nan), where=total > 0)
    return float(roc_auc_score(false, scores)), found


def area_estimate(
    false: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "resamples n"],
) -> Estimate:
    """Return the area with its 95 % percentile interval."""
    return estimate(*area(false, scores, weights), len(false))


def area_difference(
    false: Bool[np.ndarray, " n"],
    scores: Float[np.ndarray, " n"],
    others: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, "resamples n"],
) -> Estimate:
    """Return the area of `scores` minus that of `others` on the same resamples."""
    (first, many), (second, others_many) = (
        area(false, scores, weights),
        area(false, others, weights),
    )
    return estimate(first - second, many - others_many, len(false))
