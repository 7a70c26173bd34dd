"""What every probe shares: its answers and its result.

A finding that a case does not know of is unknown, and is neither asked about nor counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from workbench._repr import result
from workbench.cases import Case
from workbench.evaluation.intervals import Estimate, grouped_weights, ratio, wilson
from workbench.figures.estimates import plot_rates
from workbench.figures.tables import html_table
from workbench.interface import ChestXrayModel
from workbench.phantom.case import Phantom, phantom


def phantom_cases(
    n: int, *, seed: int, domain: str = "internal", size: int = 512
) -> tuple[Phantom, ...]:
    """Draw `n` phantoms with the seeds seed .. seed + n - 1, as cases.

    >>> [one.seed for one in wb.hallucination.phantom_cases(2, seed=100, size=128)]
    [100, 101]
    """
    return tuple(phantom(seed + at, domain=domain, size=size) for at in range(n))


@dataclass(frozen=True)
class Asked:
    """One question, or one reading, behind a rate.

    Attributes:
        group: what it counts for: a strategy, a wording, a suggestion.
        truth: "present" or "absent".
        reading: "yes", "no", "unclear", or what else the probe reads.
    """

    case: str
    group: str
    finding: str
    truth: str
    question: str
    answer: str
    reading: str


@result()
class ProbeTable:
    """What a probe found.

    Intervals of rates are Wilson's, which take answers for independent; for means and F1 patients
    are resampled.

    Attributes:
        rows: (group, what is measured of it) -> number.
        answers: everything behind them.
        cases: how many there were.
        settings: what the probe was run with, the model's identity among it.
    """

    probe: str
    rows: Mapping[tuple[str, str], Estimate]
    answers: tuple[Asked, ...]
    cases: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: tuple[str, str]) -> Estimate:
        """Return the number of a (group, measure); a `KeyError` lists those there are."""
        if key not in self.rows:
            raise KeyError(f"no {key}; there is: {', '.join(map(str, self.rows))}")
        return self.rows[key]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per number: group, measure, value, low, high, n."""
        rows = [(*key, one.value, one.low, one.high, one.n) for key, one in self.rows.items()]
        return pd.DataFrame(rows, columns=["group", "measure", "value", "low", "high", "n"])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every number with its interval."""
        named = {f"{group}: {measure}": one for (group, measure), one in self.rows.items()}
        ax = plot_rates(list(named.items()), ax, xlabel="value with 95 % interval")
        ax.set_title(f"{self.probe}, {self.cases} cases", loc="left", fontsize="medium")
        return ax

    def _repr_html_(self) -> str:
        rows = [(*key, estimate, estimate.n) for key, estimate in self.rows.items()]
        return html_table([self.probe, "measure", "value [95 %]", "n"], rows)


def tabulate(
    probe: str,
    model: ChestXrayModel,
    rows: Mapping[tuple[str, str], Estimate],
    answers: Sequence[Asked],
    cases: Sequence[Case],
    **settings: Any,
) -> ProbeTable:
    settings["model"] = asdict(model.identity)
    return ProbeTable(probe, rows, tuple(answers), len(cases), settings)


def rate(hits: Iterable[bool]) -> Estimate:
    """Return the share of hits, with Wilson's interval."""
    counted = list(hits)
    return wilson(sum(counted), len(counted))


def share(answers: Sequence[Asked], reading: str) -> Estimate:
    """Return the share of answers that are read as one thing."""
    return rate(item.reading == reading for item in answers)


def resampled(
    owner: Sequence[str], above: ArrayLike, below: ArrayLike | None = None, *, seed: int
) -> Estimate:
    """Estimate sum(above) / sum(below) over items, resampling the patients that own them.

    Without `below` it is the mean.
    """
    weights = grouped_weights(owner, np.random.default_rng([seed, len(set(owner))]))
    below = np.ones(len(owner)) if below is None else np.asarray(below)
    return ratio(np.asarray(above), below, weights)
