"""The table of detectors, from judged cases.

Source: cross-fitting by patient as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from matplotlib.axes import Axes

from workbench.bench.detector_rows import (
    CHOSEN,
    HELD_OUT,
    DetectorRow,
    Measure,
    Split,
    area_of,
    bins_of,
    columns_of,
    split_patients,
)
from workbench.bench.loop import BenchTable
from workbench.evaluation.intervals import Estimate
from workbench.figures.estimates import plot_rates, plot_reliability
from workbench.figures.numbers import fixed
from workbench.hallucination.calibration import (
    COMBINED,
    WITH_PROBE,
    Calibration,
    JudgedCase,
    Statements,
    cross_fitted,
    reliability,
)
from workbench.hallucination.detectors import FREQUENCY, LENGTH, LOGPROB, SENTENCE_LENGTH

CROSS_FITTED = "combination (cross-fitted)"
CALIBRATED = "combination (fitted on other seeds)"
PROBED = f"{WITH_PROBE} (fitted on other seeds)"

#: Baselines that a detector must beat.
BASELINES = (
    LOGPROB, "token log-prob (mean)", "token log-prob (words)", FREQUENCY, LENGTH, SENTENCE_LENGTH
)  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class DetectorTable(BenchTable):
    """All detectors of one benchmark.

    Attributes:
        rows: single detectors, best first; undefined ones last.
        combination: None where too few statements allow none.
        with_probe: the shipped combination that also takes the linear probe; None where none is.
        probe_adds: area of that minus that of `combination`, on the same resamples.
        best: the best single detector that is no baseline.
        baseline: the best of the token log-probabilities.
        against_logprob: area of `best` minus that of `baseline`, on the same resamples.
        chosen_against_logprob: the same for `CHOSEN`, which was not picked on these cases.
        against_length: area of `best` minus that of the length of the report.
        statements: findings stated over all reports, `false` of which are false.
        per_finding: the same two numbers for each finding.
        reliability: of the combination; see `workbench.hallucination.calibration.reliability`.
        policy: what counts as false.
        uncertain: statements of findings that the labels call uncertain, counted or not.
        left_out: statements that the policy does not count.
        not_run: detectors that were not run on every statement, or are fitted for other weights.
        split: None where the patients do not suffice, or nobody asked.
    """

    name: ClassVar = "hallucination"
    head: ClassVar = ("detector", "AUROC [95 %]", "average precision")
    index: ClassVar = "detector"

    rows: tuple[DetectorRow, ...]
    combination: DetectorRow | None
    with_probe: DetectorRow | None
    probe_adds: Estimate | None
    best: str
    baseline: str
    against_logprob: Estimate
    chosen_against_logprob: Estimate
    against_length: Estimate
    cases: int
    statements: int
    false: int
    per_finding: Mapping[str, tuple[int, int]]
    reliability: Sequence[tuple[float, Estimate]]
    policy: str
    uncertain: int
    left_out: int
    not_run: tuple[str, ...]
    split: Split | None

    @property
    def _all(self) -> tuple[DetectorRow, ...]:
        """Single detectors, then the combinations."""
        return (*self.rows, *filter(None, (self.combination, self.with_probe)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "detectors": [row.to_dict() for row in self.rows],
            "combination": self.combination.to_dict() if self.combination else None,
            "combination_with_probe": self.with_probe and self.with_probe.to_dict(),
            "probe_adds": self.probe_adds and _ends(self.probe_adds),
            "against_logprob": self._difference(self.best, self.against_logprob),
            "chosen_against_logprob": self._difference(CHOSEN, self.chosen_against_logprob),
            "against_length": self._difference(self.best, self.against_length, LENGTH),
            "cases": self.cases,
            "statements": self.statements,
            "false": self.false,
            "per_finding": {name: self._of(name) for name in self.per_finding},
            "policy": self.policy,
            "uncertain": self.uncertain,
            "left_out": self.left_out,
            "not_run": list(self.not_run),
            "reliability": bins_of(self.reliability),
            "split": self.split and self.split.to_dict(),
            **self._facts(),
        }

    def _difference(self, detector: str, found: Estimate, baseline: str = "") -> dict[str, Any]:
        return {"detector": detector, "baseline": baseline or self.baseline} | _ends(found)

    def _of(self, finding: str) -> dict[str, Any]:
        """Return the counts of one finding, and the area of the combination or the best row."""
        row = self.combination or next(row for row in self.rows if row.detector == self.best)
        statements, false = self.per_finding[finding]
        counts = {"statements": statements, "false": false, "detector": row.detector}
        return counts | area_of(row.per_finding[finding])

    def _records(self) -> list[dict[str, Any]]:
        return [row.to_dict() for row in self._all]

    @property
    def _shown(self) -> tuple[DetectorRow, ...]:
        """The rows of all detectors that were run."""
        return tuple(row for row in self._all if row.detector not in self.not_run)

    def _cells(self) -> list[list[str]]:
        return [[row.detector, str(row.auroc), fixed(row.average_precision)] for row in self._shown]

    def _notes(self) -> tuple[str, ...]:
        not_run = ", ".join(self.not_run)
        return (
            f"{self.false} of {self.statements} stated findings are false, {self.cases} "
            f"{self.origin}; {self.best} minus {self.baseline}: "
            f"{self.against_logprob}; minus {LENGTH}: {self.against_length}",
            f"policy {self.policy}: {self.left_out} more statements are not counted; of all, "
            f"{self.uncertain} are about findings that the labels call uncertain",
            *([f"not run, or not fitted for these weights: {not_run}"] if not_run else ()),
            *([f"the probe adds {self.probe_adds} to the combination"] if self.probe_adds else ()),
            *([str(self.split)] if self.split else ()),
        )

    def plots(self) -> dict[str, Axes]:
        """Draw the areas, and how well the combination's probabilities are kept."""
        drawn = {f"{self.name}_reliability": plot_reliability(self.reliability, None)}
        if self.split:
            drawn[f"{self.name}_split"] = plot_reliability(self.split.reliability, None)
            drawn[f"{self.name}_split"].set_title(HELD_OUT)
        return super().plots() | drawn

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the area of every detector with its interval."""
        ax = plot_rates([(row.detector, row.auroc) for row in self._shown], ax, xlabel="AUROC")
        ax.axvline(0.5, color="#9a9a9a", lw=1, ls="--")
        return ax


def _ends(found: Estimate) -> dict[str, Any]:
    return {"difference": found.value, "low": found.low, "high": found.high}


def tabulate(
    cases: Sequence[JudgedCase],
    *,
    seed: int,
    provenance: Mapping[str, Any],
    resamples: int = 1000,
    calibration: Calibration | None = None,
    with_probe: Calibration | None = None,
    policy: str = "joint-definite",
    fit: float = 0.5,
) -> DetectorTable:
    """Make the table of judged cases, at least one statement among them.

    Patients are resampled, each domain in itself. Calibrations must be of these weights and fitted
    on other cases; without the first one is cross-fitted, without the second none is shown. Policy
    and fit are those of `benchmark_hallucination`.
    """
    found = Statements.of(cases, policy)
    measure = Measure.of(cases, found, seed=seed, resamples=resamples)
    columns = columns_of(found)
    rows = [measure.row(name, column) for name, column in columns.items()]
    rows.sort(key=lambda row: -1 if row.auroc.value is None else row.auroc.value, reverse=True)
    baseline = next(row.detector for row in rows if row.detector in BASELINES[:3])
    best = next(row.detector for row in rows if row.detector not in BASELINES)
    name, probabilities = _combined(columns, found, calibration)
    probed = None if with_probe is None else _applied(columns, with_probe)
    return DetectorTable(
        rows=tuple(rows),
        combination=measure.row(name, probabilities) if len(probabilities) else None,
        with_probe=None if probed is None else measure.row(PROBED, probed),
        probe_adds=None if probed is None else measure.area(probed, minus=probabilities),
        best=best,
        baseline=baseline,
        against_logprob=measure.area(columns[best], minus=columns[baseline]),
        chosen_against_logprob=measure.area(columns[CHOSEN], minus=columns[baseline]),
        against_length=measure.area(columns[best], minus=columns[LENGTH]),
        cases=len(cases),
        statements=len(found.false),
        false=int(found.false.sum()),
        per_finding={
            name: (int(at.sum()), int(found.false[at].sum())) for name, at in found.each()
        },
        reliability=reliability(probabilities, found.false),
        policy=policy,
        uncertain=found.uncertain,
        left_out=found.left_out,
        not_run=tuple(name for name, column in columns.items() if np.isnan(column).any()),
        split=split_patients(cases, policy, fit=fit, seed=seed, resamples=resamples),
        seed=seed,
        patients=found.patients,
        provenance=dict(provenance),
    )


def _combined(
    columns: Mapping[str, np.ndarray], found: Statements, calibration: Calibration | None
) -> tuple[str, np.ndarray]:
    if calibration is not None:
        return CALIBRATED, _applied(columns, calibration)
    known = [columns[name] for name in COMBINED if not np.isnan(columns[name]).any()]
    fitted = cross_fitted(np.stack(known, axis=1), found.false, found.patient)
    return CROSS_FITTED, np.zeros(0) if fitted is None else fitted


def _applied(columns: Mapping[str, np.ndarray], calibration: Calibration) -> np.ndarray:
    return calibration.probability(np.stack([columns[n] for n in calibration.detectors], axis=1))
