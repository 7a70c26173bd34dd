"""Rows of the table of detectors: areas over statements, and what some patients say of others.

Source: average precision as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from workbench._repr import result
from workbench.errors import InputError
from workbench.evaluation.intervals import Estimate, alone, area_estimate, grouped_weights
from workbench.hallucination.calibration import (
    COMBINED,
    Calibration,
    JudgedCase,
    Statements,
    cross_fitted,
    reliability,
)
from workbench.hallucination.detectors import (
    AUGMENTED_POLLING,
    DETECTORS,
    LENGTH,
    LINEAR_PROBE,
    LOGPROB,
)
from workbench.hallucination.linear_probe import STRENGTH, LinearProbe

HELD_OUT = "combination (fitted on other patients)"
HELD_OUT_PROBE = f"{LINEAR_PROBE} (fitted on other patients)"

#: The detector that was chosen on other seeds, before the reserved ones were looked at.
CHOSEN = AUGMENTED_POLLING

#: So many false statements about a finding, and so many true ones, give it an area of its own.
_ENOUGH = 10


@result(eq=True)
class DetectorRow:
    """One detector over all statements.

    Attributes:
        auroc: area under the ROC curve for "this statement is false", cases resampled.
        average_precision: area under precision and recall; chance is the share that is false.
        per_finding: area among the statements of each finding; None where there are too few.
    """

    detector: str
    auroc: Estimate
    average_precision: float | None
    by_domain: Mapping[str, Estimate]
    per_finding: Mapping[str, Estimate | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "detector": self.detector,
            **area_of(self.auroc),
            "average_precision": self.average_precision,
            "by_domain": {name: vars(found) for name, found in self.by_domain.items()},
            "per_finding": {
                name: found and {**area_of(found), "statements": found.n}
                for name, found in self.per_finding.items()
            },
        }


def area_of(found: Estimate | None) -> dict[str, float | None]:
    ends = (found.value, found.low, found.high) if found else (None,) * 3
    return dict(zip(("auroc", "low", "high"), ends, strict=True))


@dataclass(frozen=True)
class Part:
    """How much one part of the patients gives."""

    patients: int
    statements: int
    false: int

    @classmethod
    def of(cls, found: Statements) -> Part:
        """Count."""
        return cls(found.patients, len(found.false), int(found.false.sum()))

    def __str__(self) -> str:
        stated = f"{self.statements:,} statements, {self.false:,} false"
        return f"{self.patients:,} patients ({stated})"


@result()
class Split:
    """A combination and a linear probe, fitted on some patients and measured on the others.

    Attributes:
        rows: both (where states were read, the combination takes the probe), and beside them, on
            the same statements, `CHOSEN`, the token log-probability and the length of the report.
        reliability: of this combination, on the measured part.
    """

    fitted: Part
    measured: Part
    rows: tuple[DetectorRow, ...]
    reliability: Sequence[tuple[float, Estimate]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "fitted": vars(self.fitted),
            "measured": vars(self.measured),
            "detectors": [row.to_dict() for row in self.rows],
            "reliability": bins_of(self.reliability),
        }

    def __str__(self) -> str:
        areas = "; ".join(f"{row.detector} {row.auroc}" for row in self.rows)
        return f"fitted on {self.fitted}, measured on {self.measured}: {areas}"


def bins_of(found: Sequence[tuple[float, Estimate]]) -> list[dict[str, Any]]:
    return [{"probability": at, "share": share.value, "n": share.n} for at, share in found]


def columns_of(found: Statements) -> dict[str, np.ndarray]:
    return dict(zip(DETECTORS, found.scores.T, strict=True))


@result()
class Measure:
    """Areas over statements, on the same resamples of their patients.

    Attributes:
        domains, weights: (statements,) and (resamples, statements).
    """

    found: Statements
    domains: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(
        cls, cases: Sequence[JudgedCase], found: Statements, *, seed: int, resamples: int
    ) -> Measure:
        strata = np.array([case.domain for case in cases])
        rng = np.random.default_rng([seed, len(cases)])
        patients = [case.patient for case in cases]
        weights = grouped_weights(patients, rng, strata=strata, resamples=resamples)
        return cls(found, strata[found.case], weights[:, found.case])

    def area(
        self, scores: np.ndarray, at: np.ndarray | slice = slice(None), **minus: np.ndarray
    ) -> Estimate:
        """Return the area of some statements, or how much greater it is than that of `minus`."""
        return area_estimate(self.found.false[at], scores[at], self.weights[:, at], **minus)

    def row(self, name: str, scores: np.ndarray) -> DetectorRow:
        whole, false = self.area(scores), self.found.false
        precision = None if whole.value is None else float(average_precision_score(false, scores))
        domains = dict.fromkeys(self.domains.tolist())
        return DetectorRow(
            name,
            whole,
            precision,
            {one: self.area(scores, self.domains == one) for one in domains},
            {
                one: self.area(scores, at)
                if min(false[at].sum(), (~false[at]).sum()) >= _ENOUGH
                else None
                for one, at in self.found.each()
            },
        )


def split_patients(
    cases: Sequence[JudgedCase], policy: str, *, fit: float, seed: int, resamples: int
) -> Split | None:
    """Fit on a share of the patients, chosen at random, and measure on the others."""
    owners = alone([case.patient for case in cases])
    names = list(dict.fromkeys(owners))
    order = np.random.default_rng([seed, len(names), 1]).permutation(len(names))
    chosen = {names[at] for at in order[: round(fit * len(names))]}
    parts = [
        [case for case, name in zip(cases, owners, strict=True) if (name in chosen) is fitted]
        for fitted in (True, False)
    ]
    first, second = (Statements.of(part, policy) for part in parts)
    try:
        first, second = _probed(first, second)
        combination = Calibration.fit(first, sha256="", detectors=_known(first))
    except InputError:  # too few of them
        return None
    if second.false.all() or not second.false.any():
        return None
    measure = Measure.of(parts[1], second, seed=seed, resamples=resamples)
    columns = columns_of(second)
    taken = np.stack([columns[name] for name in combination.detectors], axis=1)
    probabilities = combination.probability(taken)
    rows = [measure.row(HELD_OUT, probabilities)]
    if LINEAR_PROBE in combination.detectors:
        rows.append(measure.row(HELD_OUT_PROBE, columns[LINEAR_PROBE]))
    rows += [measure.row(name, columns[name]) for name in (CHOSEN, LOGPROB, LENGTH)]
    return Split(
        fitted=Part.of(first),
        measured=Part.of(second),
        rows=tuple(rows),
        reliability=reliability(probabilities, second.false),
    )


def _known(found: Statements) -> list[str]:
    """Return what a combination may take: `COMBINED` and the probe, where they were run."""
    at = {name: column for name, column in columns_of(found).items() if not np.isnan(column).any()}
    return [name for name in (*COMBINED, LINEAR_PROBE) if name in at]


def _probed(first: Statements, second: Statements) -> tuple[Statements, Statements]:
    """Put a probe fitted on the first part in the place of any other, in both.

    On the statements that it is fitted on it is cross-fitted, so that a combination of the first
    part takes it for no better than it is on the second.
    """
    if not first.states.size or not second.states.size:
        return _with(first, np.nan), _with(second, np.nan)
    fitted = cross_fitted(first.states, first.false, first.patient, strength=STRENGTH)
    if fitted is None:
        raise InputError("too few patients to fit on; give more cases")
    probe = LinearProbe.fit(first.states, first.false, sha256="")
    return _with(first, np.log(fitted / (1 - fitted))), _with(second, probe.score(second.states))


def _with(found: Statements, column: np.ndarray | float) -> Statements:
    scores = found.scores.copy()
    scores[:, DETECTORS.index(LINEAR_PROBE)] = column
    return replace(found, scores=scores)
