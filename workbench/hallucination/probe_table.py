"""The result of a probe: rates with intervals, and every answer behind them.

Does not know: which probe it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench._repr import short_repr
from workbench.evaluation.intervals import Estimate, bootstrap_weights, ratio

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Asked:
    """One question, or one reading, behind a rate.

    Attributes:
        case: name of the case.
        group: what it counts for: a strategy, a wording, a suggestion.
        finding: what was asked about; empty where it is about a whole report.
        truth: "present", "absent", or empty where that is not the matter.
        question: what was asked.
        answer: what came.
        reading: "yes", "no", "unclear", or what else the probe reads.
    """

    case: str
    group: str
    finding: str
    truth: str
    question: str
    answer: str
    reading: str


@dataclass(frozen=True)
class ProbeRow:
    """One number.

    Attributes:
        group: of what.
        measure: which number.
        estimate: with its 95 % interval: Wilson's for rates, which takes answers for independent;
            for means and F1 cases are resampled.
    """

    group: str
    measure: str
    estimate: Estimate


@dataclass(frozen=True, eq=False)
class ProbeTable:
    """What a probe found.

    Attributes:
        probe: its name.
        rows: the numbers.
        answers: everything behind them.
        cases: how many there were.
        settings: what the probe was run with, the model's identity among it.
    """

    probe: str
    rows: tuple[ProbeRow, ...]
    answers: tuple[Asked, ...]
    cases: int
    settings: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = short_repr

    def __getitem__(self, key: tuple[str, str]) -> Estimate:
        """Return the number of a (group, measure).

        Raises:
            KeyError: there is none; the message lists those there are.
        """
        for row in self.rows:
            if (row.group, row.measure) == key:
                return row.estimate
        there = ", ".join(f"({row.group!r}, {row.measure!r})" for row in self.rows)
        raise KeyError(f"no {key}; there is: {there}")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per number: group, measure, value, low, high, n."""
        import pandas as pd

        return pd.DataFrame(
            [
                (
                    r.group,
                    r.measure,
                    r.estimate.value,
                    r.estimate.low,
                    r.estimate.high,
                    r.estimate.n,
                )
                for r in self.rows
            ],
            columns=["group", "measure", "value", "low", "high", "n"],
        )

    def answers_frame(self) -> pd.DataFrame:
        """Return one row per question: case, group, finding, truth, question, answer, reading."""
        import pandas as pd

        return pd.DataFrame([asdict(item) for item in self.answers])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every number with its interval."""
        from workbench.figures.estimates import plot_rates

        named = [(f"{row.group}: {row.measure}", row.estimate) for row in self.rows]
        ax = plot_rates(named, ax, xlabel="value with 95 % interval")
        ax.set_title(f"{self.probe}, {self.cases} cases", loc="left", fontsize="medium")
        return ax

    def _repr_html_(self) -> str:
        from workbench.figures.tables import html_table

        rows = [
            [row.group, row.measure, str(row.estimate), str(row.estimate.n)] for row in self.rows
        ]
        return html_table([self.probe, "measure", "value [95 %]", "n"], rows)

    def __str__(self) -> str:
        lines = [f"{self.probe}, {self.cases} cases"]
        lines += [
            f"  {r.group:26} {r.measure:28} {r.estimate}  n={r.estimate.n}" for r in self.rows
        ]
        return "\n".join(lines)


def resampled(
    owner: Sequence[str], above: Sequence[float], below: Sequence[float], *, seed: int
) -> Estimate:
    """Estimate sum(above) / sum(below), resampling the cases that the items belong to.

    Args:
        owner: case of each item.
        above: what each item adds above the line.
        below: what it adds below.
        seed: of the resampling.
    """
    names = list(dict.fromkeys(owner))
    at = np.array([names.index(name) for name in owner], int)
    numerator = np.bincount(at, weights=np.asarray(above, float), minlength=len(names))
    denominator = np.bincount(at, weights=np.asarray(below, float), minlength=len(names))
    weights = bootstrap_weights(len(names), np.random.default_rng([seed, len(names)]))
    return ratio(numerator, denominator, weights)
