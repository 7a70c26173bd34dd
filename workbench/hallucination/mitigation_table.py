"""The result of the benchmark of mitigations: a row for each, with what it mends and breaks.

F1 is the mean over the six findings of the paper, each domain's phantoms together; false and missed
findings count all that are stated or drawn. Changes are paired: the same phantoms and resamples.

Does not know: how reports came about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench._repr import short_repr
from workbench.evaluation.intervals import Estimate, estimate, stratified_weights
from workbench.evaluation.scorecard_counts import macro_f1
from workbench.findings import PAPER_FINDINGS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Name of the reports without any mitigation.
PLAIN = "none"


@dataclass(frozen=True)
class MitigationRow:
    """One mitigation, over all phantoms or those of one domain.

    Attributes:
        name: what tables call it.
        false: findings stated and not drawn, per report.
        missed: findings drawn and not stated, per report.
        doubted: findings stated as uncertain, per report.
        f1: mean F1 over the six findings of the paper.
        false_change: change of `false` against none, as a share of it (-0.3 is 30 % fewer).
        missed_change: change of `missed`, per report.
        f1_change: change of `f1`.
        time: wall time, as a multiple of none's.
    """

    name: str
    false: Estimate
    missed: Estimate
    doubted: Estimate
    f1: Estimate
    false_change: Estimate
    missed_change: Estimate
    f1_change: Estimate
    time: float

    __repr__ = short_repr

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {
            name: vars(value) if isinstance(value, Estimate) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True, eq=False)
class MitigationTable:
    """All mitigations of one benchmark.

    Attributes:
        rows: none first, then in the order that was asked for.
        by_domain: domain -> rows of its phantoms.
        options: name -> options of each mitigation.
        cases: phantoms.
        seed: of the first phantom.
        provenance: which weights.
    """

    rows: tuple[MitigationRow, ...]
    by_domain: Mapping[str, tuple[MitigationRow, ...]]
    options: Mapping[str, Mapping[str, Any]]
    cases: int
    seed: int
    provenance: Mapping[str, Any]

    __repr__ = short_repr

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {
            "mitigations": [row.to_dict() for row in self.rows],
            "by_domain": {
                name: [row.to_dict() for row in rows] for name, rows in self.by_domain.items()
            },
            "options": {name: dict(values) for name, values in self.options.items()},
            "cases": self.cases,
            "seed": self.seed,
            "model": dict(self.provenance),
        }

    def to_frame(self, domain: str | None = None) -> pd.DataFrame:
        """Return one row per mitigation, of one domain where it is named; intervals as texts."""
        import pandas as pd

        rows = self.rows if domain is None else self.by_domain[domain]
        frame = pd.DataFrame([_cells(row) for row in rows], columns=list(_HEAD))
        return frame.set_index(_HEAD[0])

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw false against missed findings per report, one point for each mitigation."""
        from workbench.figures.estimates import plot_trade_off

        points = [(row.name, row.false, row.missed) for row in self.rows]
        return plot_trade_off(points, ax)

    def _repr_html_(self) -> str:
        from workbench.figures.tables import html_table

        return html_table(_HEAD, [_cells(row) for row in self.rows]) + f"<p>{self._foot()}</p>"

    def _foot(self) -> str:
        return (
            f"{self.cases} phantoms from seed {self.seed:,}; changes against none, 95 % intervals "
            "of paired resamples"
        )

    def __str__(self) -> str:
        parts = [("all", self.rows), *self.by_domain.items()]
        lines = []
        for name, rows in parts:
            lines.append(f"{name}\n" + " | ".join(_HEAD))
            lines += [" | ".join(_cells(row)) for row in rows]
        return "\n".join([*lines, self._foot()])


_HEAD = (
    "mitigation",
    "false per report",
    "missed per report",
    "doubted",
    "F1",
    "false, change",
    "missed, change",
    "F1, change",
    "time",
)


def _cells(row: MitigationRow) -> list[str]:
    changes = (
        ["-"] * 3
        if row.name == PLAIN
        else [_percent(row.false_change), row.missed_change.text(3), row.f1_change.text(3)]
    )
    return [
        row.name,
        row.false.text(3),
        row.missed.text(3),
        row.doubted.text(3),
        row.f1.text(3),
        *changes,
        f"{row.time:.1f}x",
    ]


def _percent(found: Estimate) -> str:
    if found.value is None:
        return "undefined"
    said = f"{100 * found.value:+.0f} %"
    return f"{said} [{100 * found.low:+.0f}, {100 * found.high:+.0f}]" if found.bounded else said


def tabulate(
    cases: Sequence[Any],
    *,
    seed: int,
    options: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, Any],
    resamples: int = 1000,
) -> MitigationTable:
    """Make the table of cases.

    Args:
        cases: `MitigatedCase` of every phantom.
        seed: of the first phantom, and of the resampling.
        options: name -> options of each mitigation.
        provenance: which weights.
        resamples: of the bootstrap; cases are drawn, each domain in itself.
    """
    strata = np.array([case.domain for case in cases])
    rng = np.random.default_rng([seed, len(cases)])
    weights = stratified_weights(strata, rng, resamples=resamples)
    by_domain = {
        str(domain): _rows(
            [case for case in cases if case.domain == domain], weights[:, strata == domain]
        )
        for domain in dict.fromkeys(strata.tolist())
    }
    return MitigationTable(
        rows=_rows(cases, weights),
        by_domain=by_domain,
        options=dict(options),
        cases=len(cases),
        seed=seed,
        provenance=dict(provenance),
    )


def _rows(cases: Sequence[Any], weights: np.ndarray) -> tuple[MitigationRow, ...]:
    """Return a row for every name, none first."""
    plain = _Counts(cases, PLAIN, weights)
    names = list(cases[0].stated)
    return tuple(_row(name, _Counts(cases, name, weights), plain) for name in names)


class _Counts:
    """What one name's reports count up to: a point and its resamples of each number."""

    def __init__(self, cases: Sequence[Any], name: str, weights: np.ndarray) -> None:
        stated = [set(case.stated[name]) for case in cases]
        drawn = [set(case.drawn) for case in cases]
        sizes = [
            (len(said - true), len(true - said), len(case.doubted[name]))
            for said, true, case in zip(stated, drawn, cases, strict=True)
        ]
        self.n = len(cases)
        per_case = np.array(sizes, float)
        self.points = per_case.mean(0)
        self.drawn = weights @ per_case / weights.sum(1, keepdims=True)
        outcomes = np.array(
            [
                [_outcome(finding in said, finding in true) for finding in PAPER_FINDINGS]
                for said, true in zip(stated, drawn, strict=True)
            ],
            float,
        )
        self.f1 = float(macro_f1(outcomes.sum(0)))
        flat = weights @ outcomes.reshape(self.n, -1)
        self.f1_drawn = macro_f1(flat.reshape(len(weights), *outcomes.shape[1:]))
        self.seconds = sum(case.seconds[name] for case in cases)


def _outcome(said: bool, true: bool) -> tuple[bool, bool, bool, bool]:
    """Return true positive, false positive, true negative, false negative."""
    return said and true, said and not true, not (said or true), true and not said


def _row(name: str, own: _Counts, plain: _Counts) -> MitigationRow:
    levels = [estimate(own.points[k], own.drawn[:, k], own.n) for k in range(3)]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.divide(own.points[0], plain.points[0]) - 1
        shares = own.drawn[:, 0] / plain.drawn[:, 0] - 1
    shares[~np.isfinite(shares)] = np.nan
    return MitigationRow(
        name=name,
        false=levels[0],
        missed=levels[1],
        doubted=levels[2],
        f1=estimate(own.f1, own.f1_drawn, own.n),
        false_change=estimate(share if np.isfinite(share) else np.nan, shares, own.n),
        missed_change=estimate(
            own.points[1] - plain.points[1], own.drawn[:, 1] - plain.drawn[:, 1], own.n
        ),
        f1_change=estimate(own.f1 - plain.f1, own.f1_drawn - plain.f1_drawn, own.n),
        time=own.seconds / plain.seconds,
    )
