"""How far people agree beyond chance, with intervals.

    two raters             Cohen's kappa (Educ Psychol Meas 1960), weighted for grades (1968)
    more, all rated all    Fleiss' kappa (Psychol Bull 1971)
    more, with gaps        Krippendorff's alpha (Content Analysis, 2nd ed. 2004, chapter 11)

Intervals are percentiles over resampled items. All three are written for many tables at once, which
a bootstrap needs; on one table Cohen's kappa is that of scikit-learn's `cohen_kappa_score`. Where
everybody always says the same, chance explains all of it and kappa is undefined, not 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from html import escape
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench._repr import plain, result
from workbench.errors import InputError, check_one_of
from workbench.evaluation.intervals import RESAMPLES, Estimate, bootstrap_weights, divided, estimate
from workbench.figures.estimates import plot_rates
from workbench.figures.tables import html_table

#: How bad it is to differ by some grades.
WEIGHTS = ("nominal", "linear", "quadratic")
MISSING = -1


@result()
class Agreement:
    """Agreement of raters over items; for the input see `agreement`.

    Attributes:
        measure: name of what `kappa` is.
        kappa: of all raters together.
        alpha: Krippendorff's, over items that two raters or more have rated.
        same: share of pairs of ratings that are equal.
        pairs: (rater, rater) -> Cohen's kappa over the items that both rated.
    """

    raters: tuple[str, ...]
    categories: tuple[str, ...]
    weights: str
    table: np.ndarray = field(repr=False)
    measure: str
    kappa: Estimate
    alpha: Estimate
    same: Estimate
    pairs: dict[tuple[str, str], Estimate]

    @property
    def items(self) -> int:
        """Items that two raters or more have rated."""
        return self.alpha.n

    @property
    def measures(self) -> tuple[tuple[str, Estimate], ...]:
        """Name and estimate of every measure; each pair's too where raters are more than two."""
        rows = {self.measure: self.kappa, ALPHA: self.alpha, "equal pairs": self.same}
        rows |= {f"Cohen's kappa, {a} and {b}": found for (a, b), found in self._others()}
        return tuple(rows.items())

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each measure: measure, value, low, high, items."""
        names = ["value", "low", "high"]
        rows = {name: (item.value, item.low, item.high) for name, item in self.measures}
        frame = pd.DataFrame.from_dict(rows, "index", float, names).rename_axis("measure")
        return frame.assign(n=[item.n for _, item in self.measures])

    def to_dict(self) -> dict:
        """Return plain values; what is undefined is None."""
        rows = plain(self.to_frame().reset_index().to_dict("records"))
        head = {"raters": list(self.raters), "items": self.items, "weights": self.weights}
        return head | {"measures": rows}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the agreement of all and of each pair with intervals."""
        rows = [(self.measure, self.kappa)]
        rows += [(f"{a} and {b}", found) for (a, b), found in self._others()]
        ax = plot_rates(rows, ax, xlabel="agreement beyond chance")
        ax.axvline(0, color="#9a9a9a", lw=1, ls="--")
        return ax

    def _others(self) -> Iterable[tuple[tuple[str, str], Estimate]]:
        return self.pairs.items() if len(self.raters) > 2 else ()

    def _repr_html_(self) -> str:
        rows = [[name, found.text(), f"{found.n:,}"] for name, found in self.measures]
        who = f"{', '.join(self.raters)}: {self.items:,} items, {self.weights} weights"
        return f"<p>{escape(who)}</p>" + html_table(["agreement", "value [95 %]", "n"], rows)


ALPHA = "Krippendorff's alpha"


def agreement(
    table: np.ndarray,
    *,
    categories: Sequence[str],
    raters: Sequence[str] | None = None,
    weights: str = "nominal",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Measure agreement.

    Args:
        table: (items, raters) int, index of `categories`; -1 where an item was not rated.
        categories: names; in order where weights are not nominal.
        raters: names; "1", "2" and so on when None.
        weights: how bad it is to differ, one of `WEIGHTS`, in the distance.
        resamples, seed: of the bootstrap over items.

    Raises:
        InputError: fewer than two raters, or a number that is no category.
        OptionError: unknown weights.

    >>> grades = np.array([[0, 0], [1, 1], [0, 1], [1, 1]])
    >>> wb.review.agreement(grades, categories=["A", "B"]).same.value
    0.75
    """
    table = np.asarray(table, dtype=int)
    count = len(categories)
    if table.ndim != 2 or table.shape[1] < 2:
        raise InputError(
            f"expected (items, raters) with two raters or more, got shape {table.shape}; "
            "agreement needs somebody to agree with"
        )
    if table.size and (table.min() < MISSING or table.max() >= count):
        raise InputError(f"ratings must be from 0 to {count - 1}, or -1 for none")
    distances = _disagreement(count, weights)
    names = tuple(raters or (str(n + 1) for n in range(table.shape[1])))
    rng = np.random.default_rng([seed, len(table)])
    weighed = bootstrap_weights(len(table), rng, resamples=resamples)
    drawn = np.vstack([np.ones(len(table)), weighed])
    pairs = {
        (names[a], names[b]): _cohen(table[:, [a, b]], count, distances, drawn)
        for a, b in combinations(range(len(names)), 2)
    }
    counts = np.stack([(table == c).sum(axis=1) for c in range(count)], axis=1)
    alpha, same = _alpha(counts, distances, drawn), _same(counts, drawn)
    measure, kappa = ALPHA, alpha
    if len(names) == 2:
        measure, kappa = "Cohen's kappa", next(iter(pairs.values()))
    elif weights == "nominal" and (table != MISSING).all():
        measure, kappa = "Fleiss' kappa", _fleiss(counts, drawn)
    return Agreement(names, tuple(categories), weights, table, measure, kappa, alpha, same, pairs)


def _disagreement(count: int, weights: str) -> np.ndarray:
    """Return (count, count) float: 0 for equal categories, 1 for the most different ones."""
    check_one_of("weights", weights, WEIGHTS)
    if weights == "nominal":
        return 1.0 - np.eye(count)
    away = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) / max(1, count - 1)
    return away if weights == "linear" else away**2


def _cohen(pair: np.ndarray, count: int, distances: np.ndarray, drawn: np.ndarray) -> Estimate:
    """Return the weighted kappa of (items, 2) ratings, over the items that both have rated."""
    both = np.flatnonzero((pair != MISSING).all(axis=1))
    cells = np.zeros((len(pair), count * count))
    cells[both, pair[both, 0] * count + pair[both, 1]] = 1
    tables = (drawn @ cells).reshape(-1, count, count)
    expected = tables.sum(axis=2)[:, :, None] * tables.sum(axis=1)[:, None, :]
    above = (tables * distances).sum(axis=(1, 2)) * tables.sum(axis=(1, 2))
    found = 1 - _divided(above, (expected * distances).sum(axis=(1, 2)))
    return estimate(found[0], found[1:], len(both))


def _alpha(counts: np.ndarray, distances: np.ndarray, drawn: np.ndarray) -> Estimate:
    """Return Krippendorff's alpha out of (items, categories) counts of ratings."""
    size = counts.sum(axis=1)
    usable = size > 1
    pairs = counts[:, :, None] * counts[:, None, :] - _diagonals(counts)
    seen = np.where(usable[:, None, None], pairs / np.maximum(size - 1, 1)[:, None, None], 0.0)
    observed = (drawn @ seen.reshape(len(seen), -1)).reshape(-1, *distances.shape)
    totals = observed.sum(axis=2)
    all_ = totals.sum(axis=1)
    chance = totals[:, :, None] * totals[:, None, :] - _diagonals(totals)
    above = (observed * distances).sum(axis=(1, 2)) * (all_ - 1)
    found = 1 - _divided(above, (chance * distances).sum(axis=(1, 2)))
    return estimate(found[0], found[1:], int(usable.sum()))


def _fleiss(counts: np.ndarray, drawn: np.ndarray) -> Estimate:
    raters = int(counts[0].sum()) if len(counts) else 0
    each = ((counts**2).sum(axis=1) - raters) / max(1, raters * (raters - 1))
    items = drawn.sum(axis=1)
    agreed = _divided(drawn @ each, items)
    shares = _divided(drawn @ counts, (items * raters)[:, None])
    chance = (shares**2).sum(axis=1)
    found = _divided(agreed - chance, 1 - chance)
    return estimate(found[0], found[1:], len(counts))


def _same(counts: np.ndarray, drawn: np.ndarray) -> Estimate:
    size = counts.sum(axis=1)
    pairs = size * (size - 1) / 2
    equal = (counts * (counts - 1) / 2).sum(axis=1)
    found = _divided(drawn @ equal, drawn @ pairs)
    return estimate(found[0], found[1:], int(pairs.sum()))


def _diagonals(rows: np.ndarray) -> np.ndarray:
    return rows[:, :, None] * np.eye(rows.shape[1])


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    below = np.broadcast_to(below, above.shape)
    return divided(above, np.where(below > 1e-12, below, 0.0))  # what rounding leaves is 0
