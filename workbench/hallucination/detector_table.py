"""The result of the benchmark of detectors: a row for each, with intervals, and their combination.

The combination is a logistic regression over detectors: the calibration that is shipped for these
weights, fitted on other seeds (`calibration`), or else a cross-fitted one, where the probability of
each statement comes from a fit on other cases. Either way it never saw the case that it judges.

Does not know: how scores came about.
Source: cross-fitting by case, scikit-learn's `GroupKFold`; average precision as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import average_precision_score

from workbench._repr import short_repr
from workbench.evaluation.auroc import area_difference, area_estimate
from workbench.evaluation.intervals import Estimate, stratified_weights
from workbench.hallucination.calibration import Calibration, cross_fitted, reliability
from workbench.hallucination.detectors import DETECTORS, FREQUENCY, LOGPROB, NUDGED_POLLING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CROSS_FITTED = "combination (cross-fitted)"
CALIBRATED = "combination (fitted on other seeds)"

#: Baselines that a detector must beat.
BASELINES = (LOGPROB, "token log-prob (mean)", "token log-prob (words)", FREQUENCY)

#: The detector that was chosen on other seeds, before the reserved ones were looked at.
CHOSEN = NUDGED_POLLING


@dataclass(frozen=True)
class DetectorRow:
    """One detector over all statements.

    Attributes:
        detector: its name.
        auroc: area under the ROC curve for "this statement is false", cases resampled.
        average_precision: area under precision and recall; chance is the share that is false.
        by_domain: domain -> area.
    """

    detector: str
    auroc: Estimate
    average_precision: float | None
    by_domain: Mapping[str, Estimate]

    __repr__ = short_repr

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {
            "detector": self.detector,
            "auroc": self.auroc.value,
            "low": self.auroc.low,
            "high": self.auroc.high,
            "average_precision": self.average_precision,
            "by_domain": {name: vars(found) for name, found in self.by_domain.items()},
        }


@dataclass(frozen=True, eq=False)
class DetectorTable:
    """All detectors of one benchmark.

    Attributes:
        rows: single detectors, best first; undefined ones last.
        combination: the combination of detectors; None where too few statements allow none.
        best: name of the best single detector that is no baseline.
        baseline: the best of the token log-probabilities.
        against_logprob: area of `best` minus that of `baseline`, on the same resamples.
        chosen_against_logprob: the same for `CHOSEN`, which was not picked on these cases.
        false: (statements,) bool.
        probabilities: (statements,) of the combination; empty where there is none.
        cases: phantoms.
        left_out: statements of findings that phantoms cannot have.
        seed: of the first phantom.
        provenance: which weights.
    """

    rows: tuple[DetectorRow, ...]
    combination: DetectorRow | None
    best: str
    baseline: str
    against_logprob: Estimate
    chosen_against_logprob: Estimate
    false: np.ndarray
    probabilities: np.ndarray
    cases: int
    left_out: int
    seed: int
    provenance: Mapping[str, Any]

    __repr__ = short_repr

    @property
    def statements(self) -> int:
        """Findings stated over all reports."""
        return len(self.false)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        pairs = {"against_logprob": (self.best, self.against_logprob)}
        pairs |= {"chosen_against_logprob": (CHOSEN, self.chosen_against_logprob)}
        compared = {
            key: {
                "detector": name,
                "baseline": self.baseline,
                "difference": found.value,
                "low": found.low,
                "high": found.high,
            }
            for key, (name, found) in pairs.items()
        }
        return {
            "detectors": [row.to_dict() for row in self.rows],
            "combination": self.combination.to_dict() if self.combination else None,
            **compared,
            "cases": self.cases,
            "statements": self.statements,
            "false": int(self.false.sum()),
            "left_out": self.left_out,
            "reliability": [
                {"probability": at, "share": found.value, "n": found.n}
                for at, found in self.reliability()
            ],
            "seed": self.seed,
            "model": dict(self.provenance),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per detector, the combination last."""
        import pandas as pd

        rows = [*self.rows, *((self.combination,) if self.combination else ())]
        return pd.DataFrame([row.to_dict() for row in rows]).set_index("detector")

    def reliability(self) -> list[tuple[float, Estimate]]:
        """Return mean probability and share of false statements in bins of equal numbers."""
        return reliability(self.probabilities, self.false)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the area of every detector with its interval."""
        from workbench.figures.estimates import plot_rates

        rows = [*self.rows, *((self.combination,) if self.combination else ())]
        ax = plot_rates([(row.detector, row.auroc) for row in rows], ax, xlabel="AUROC")
        ax.axvline(0.5, color="#9a9a9a", lw=1, ls="--")
        return ax

    def plot_reliability(self, ax: Axes | None = None) -> Axes:
        """Draw how well the combination's probabilities are kept."""
        from workbench.figures.estimates import plot_reliability

        return plot_reliability(self.reliability(), ax)

    def _repr_html_(self) -> str:
        from workbench.figures.tables import html_table

        rows = [*self.rows, *((self.combination,) if self.combination else ())]
        body = [[row.detector, str(row.auroc), _two(row.average_precision)] for row in rows]
        return (
            html_table(["detector", "AUROC [95 %]", "average precision"], body)
            + f"<p>{self._foot()}</p>"
        )

    def _foot(self) -> str:
        return (
            f"{int(self.false.sum())} of {self.statements} stated findings are false, {self.cases} "
            f"phantoms from seed {self.seed:,}; {self.best} minus {self.baseline}: "
            f"{self.against_logprob}"
        )

    def __str__(self) -> str:
        rows = [*self.rows, *((self.combination,) if self.combination else ())]
        lines = [f"{'detector':36} {'AUROC':24} {'avg prec':>8}"]
        lines += [f"{r.detector:36} {r.auroc!s:24} {_two(r.average_precision):>8}" for r in rows]
        return "\n".join([*lines, self._foot()])


def tabulate(
    cases: Sequence[Any],
    *,
    seed: int,
    provenance: Mapping[str, Any],
    resamples: int = 1000,
    calibration: Calibration | None = None,
) -> DetectorTable:
    """Make the table of judged cases.

    Args:
        cases: `JudgedCase` of every phantom; at least one statement among them.
        seed: of the first phantom, and of the resampling.
        provenance: which weights.
        resamples: of the bootstrap; cases are drawn, each domain in itself.
        calibration: of these weights, fitted on other cases; None cross-fits one.
    """
    strata = np.array([case.domain for case in cases])
    owner = np.array([at for at, case in enumerate(cases) for _ in case.findings])
    false = np.array([value for case in cases for value in case.false], bool)
    scores = np.array([row for case in cases for row in case.scores], float)
    rng = np.random.default_rng([seed, len(cases)])
    weights = stratified_weights(strata, rng, resamples=resamples)[:, owner]
    domains = strata[owner]
    columns = dict(zip(DETECTORS, scores.T, strict=True))
    rows = [_row(name, column, false, domains, weights) for name, column in columns.items()]
    rows.sort(key=lambda row: -1 if row.auroc.value is None else row.auroc.value, reverse=True)
    baseline = next(row.detector for row in rows if row.detector in BASELINES[:3])
    best = next(row.detector for row in rows if row.detector not in BASELINES)
    name, probabilities = _combined(columns, false, owner, calibration)
    combination = _row(name, probabilities, false, domains, weights) if len(probabilities) else None
    return DetectorTable(
        rows=tuple(rows),
        combination=combination,
        best=best,
        baseline=baseline,
        against_logprob=area_difference(false, columns[best], columns[baseline], weights),
        chosen_against_logprob=area_difference(false, columns[CHOSEN], columns[baseline], weights),
        false=false,
        probabilities=probabilities,
        cases=len(cases),
        left_out=sum(len(case.left_out) for case in cases),
        seed=seed,
        provenance=dict(provenance),
    )


def _row(
    name: str, scores: np.ndarray, false: np.ndarray, domains: np.ndarray, weights: np.ndarray
) -> DetectorRow:
    parts = {domain: domains == domain for domain in dict.fromkeys(domains.tolist())}
    found = area_estimate(false, scores, weights)
    return DetectorRow(
        detector=name,
        auroc=found,
        average_precision=None
        if found.value is None
        else float(average_precision_score(false, scores)),
        by_domain={
            domain: area_estimate(false[at], scores[at], weights[:, at])
            for domain, at in parts.items()
        },
    )


def _combined(
    columns: Mapping[str, np.ndarray],
    false: np.ndarray,
    owner: np.ndarray,
    calibration: Calibration | None,
) -> tuple[str, np.ndarray]:
    """Return name and probabilities of the combination; none where a fold would lack a class."""
    if calibration is not None:
        taken = np.stack([columns[name] for name in calibration.detectors], axis=1)
        return CALIBRATED, calibration.probability(taken)
    known = [column for column in columns.values() if not np.isnan(column).any()]
    found = cross_fitted(np.stack(known, axis=1), false, owner)
    return CROSS_FITTED, np.zeros(0) if found is None else found


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
