"""Draw cases for review so that every stratum has its turn, and say what each drawn one stands for.

Does not know: what the strata mean.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.errors import OptionError


def stratified(
    frame: pd.DataFrame, n: int, *, by: tuple[str, ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw rows, as evenly over the strata as they allow.

    Small strata are taken whole, and what they leave over goes to the larger ones.

    Args:
        frame: what is drawn from, with the columns `by`.
        n: rows; all where there are fewer.
        by: columns whose values make the strata.
        seed: of the draw; the same seed and rows give the same sample.

    Returns:
        (n,) int row numbers, ascending, and (n,) float weights: how many rows of its stratum each
        stands for. With them, shares in the sample become shares in the whole.

    Raises:
        OptionError: n is below 1, or a column is not there.
    """
    if n < 1:
        raise OptionError(f"n must be 1 or more, got {n}")
    lost = [name for name in by if name not in frame.columns]
    if lost:
        raise OptionError(f"no column {lost[0]!r}; there is: {', '.join(map(str, frame.columns))}")
    if frame.empty:
        return np.zeros(0, dtype=int), np.zeros(0)
    groups = frame.groupby(list(by), sort=True, observed=True, dropna=False).indices
    strata = [np.asarray(rows) for rows in groups.values()]
    sizes = np.array([len(rows) for rows in strata])
    rng = np.random.default_rng(seed)
    taken = _shares(sizes, min(n, len(frame)), rng)
    picked = [rng.choice(rows, k, replace=False) for rows, k in zip(strata, taken, strict=True)]
    weights = np.repeat(sizes / np.maximum(taken, 1), taken)
    rows = np.concatenate(picked)
    order = np.argsort(rows, kind="stable")
    return rows[order], weights[order]


def _shares(sizes: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return (strata,) how many rows each gives; who gets one more is drawn."""
    taken = np.zeros(len(sizes), dtype=int)
    while (left := n - int(taken.sum())) > 0:
        open_ = np.flatnonzero(taken < sizes)
        if left < len(open_):
            taken[rng.choice(open_, left, replace=False)] += 1
        else:
            taken[open_] += np.minimum(left // len(open_), sizes[open_] - taken[open_])
    return taken
