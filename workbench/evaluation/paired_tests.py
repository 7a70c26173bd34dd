"""Paired tests: does one of two systems get it right more often, and over many findings at once?

Sources: McNemar, Psychometrika 1947; Holm, Scand J Stat 1979.
Does not know: what is paired.
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import binomtest


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
    """Return the exact two-sided p-value of McNemar's test; 1 where the systems never disagree."""
    if a_only + b_only == 0:
        return 1.0
    return float(binomtest(a_only, a_only + b_only, 0.5).pvalue)
