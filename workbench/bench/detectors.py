"""The truth table of detectors: which of them tells false statements from true ones.

Cases are reported; every finding that a report states as present is judged by every detector. A
detector's worth is the area under its ROC curve for "this stated finding is false", with the
baselines that it must beat: the token log-probability, and how often the finding occurs. With them
stands a combination: the calibration that is shipped for these weights, fitted on other seeds, or
else a cross-fitted one. Either way it never saw the case that it judges.

What it does not see: findings that were missed, and sides, zones and grades that are wrong
(`workbench.hallucination.taxonomy`). A statement about a finding of which nothing is known (one
that phantoms cannot have) is left out and counted.

Source: average precision and cross-fitting by case as in scikit-learn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import average_precision_score

from workbench._repr import short_repr
from workbench.backends.levels import READER, needs
from workbench.bench.keys import CaseKey, Radiographs, case_keys, check_numbers
from workbench.bench.loop import BenchTable, run_tasks
from workbench.errors import InputError
from workbench.evaluation.intervals import Estimate, alone, area_estimate, grouped_weights
from workbench.figures.estimates import plot_rates, plot_reliability
from workbench.figures.numbers import fixed
from workbench.findings import ABSENT, PHANTOM_FINDINGS, PRESENT
from workbench.hallucination.calibration import (
    Calibration,
    JudgedCase,
    cross_fitted,
    reliability,
    shipped_calibration,
)
from workbench.hallucination.detectors import (
    AUGMENTED_POLLING,
    DETECTORS,
    FREQUENCY,
    LOGPROB,
    detect,
)
from workbench.interface import ChestXrayModel
from workbench.phantom.case import DOMAINS, sample_scene
from workbench.settings import FIRST_HELD_OUT_SEED

#: Seeds from which the frequency of findings is counted; not those of any benchmark.
_FREQUENCY_SEEDS = range(6_500_000, 6_500_400)

CROSS_FITTED = "combination (cross-fitted)"
CALIBRATED = "combination (fitted on other seeds)"

#: Baselines that a detector must beat.
BASELINES = (LOGPROB, "token log-prob (mean)", "token log-prob (words)", FREQUENCY)

#: The detector that was chosen on other seeds, before the reserved ones were looked at.
CHOSEN = AUGMENTED_POLLING


@needs(READER)
def benchmark_hallucination(
    model: ChestXrayModel,
    *,
    radiographs: Radiographs | None = None,
    n: int | None = None,
    seed: int = FIRST_HELD_OUT_SEED,
    samples: int = 8,
    jobs: int = 1,
    kept: str | Path | None = None,
    progress: bool = True,
) -> DetectorTable:
    """Score all detectors on reports about phantoms, half of each domain, or about radiographs.

    Args:
        radiographs: a manifest with labels; a statement of which it says nothing is left out. None
            draws phantoms.
        n, seed: see `workbench.bench.keys.case_keys`; 1000 phantoms, or every labelled row. Seeds
            below 10,000,000 are not unseen.
        samples: reports sampled for self-consistency; 0 leaves it out.

    Raises:
        OptionError: a number is too small, or `kept` is of other weights or options.
        InputError: no report states any finding.
    """
    check_numbers(0, seed=seed, samples=samples)
    keys = case_keys(n, seed, radiographs, phantoms=1000)
    cases = run_tasks(
        model,
        partial(judge_case, samples=samples),
        keys,
        kind=JudgedCase,
        benchmark="hallucination",
        options={"samples": samples, "detectors": DETECTORS},
        seed=seed,
        radiographs=radiographs,
        kept=kept,
        jobs=jobs,
        progress=progress,
    )
    if not any(case.findings for case in cases):
        raise InputError(
            f"none of {len(keys)} reports states a finding of which anything is known; take more "
            "cases, or a model that reports on them"
        )
    known, fitted = asdict(model.identity), _calibration(model, seed)
    source = "" if radiographs is None else radiographs.name
    return tabulate(cases, seed=seed, provenance=known, calibration=fitted, source=source)


def _calibration(model: ChestXrayModel, seed: int) -> Calibration | None:
    """Return the shipped calibration, unless these seeds may be what it was fitted on."""
    with suppress(InputError):
        return shipped_calibration(model) if seed >= FIRST_HELD_OUT_SEED else None
    return None


@needs(READER)
def judge_case(model: ChestXrayModel, key: CaseKey, *, samples: int = 0) -> JudgedCase:
    """Report on one case and judge every finding that the report states."""
    case = key.open(model.image_size)
    trace = model.trace(case, heads="mean", vision="none")
    found = detect(trace, samples=samples, seed=case.seed, frequencies=finding_frequencies())
    known = [at for at, f in enumerate(found.findings) if case.labels.get(f) in (PRESENT, ABSENT)]
    return JudgedCase(
        case.seed,
        case.domain,
        tuple(found.findings[at] for at in known),
        tuple(case.labels[found.findings[at]] == ABSENT for at in known),
        tuple(tuple(found.scores[at].tolist()) for at in known),
        tuple(name for at, name in enumerate(found.findings) if at not in known),
        key.patient,
    )


@cache
def finding_frequencies() -> dict[str, float]:
    """Return how often each finding is drawn, over both domains; counted on seeds of its own."""
    counts: Counter[str] = Counter()
    for seed in _FREQUENCY_SEEDS:
        scene = sample_scene(seed, domain=DOMAINS[seed % len(DOMAINS)])
        counts.update({lesion.finding for lesion in scene.lesions})
    return {name: counts[name] / len(_FREQUENCY_SEEDS) for name in PHANTOM_FINDINGS}


@dataclass(frozen=True)
class DetectorRow:
    """One detector over all statements.

    Attributes:
        auroc: area under the ROC curve for "this statement is false", cases resampled.
        average_precision: area under precision and recall; chance is the share that is false.
    """

    detector: str
    auroc: Estimate
    average_precision: float | None
    by_domain: Mapping[str, Estimate]

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "detector": self.detector,
            "auroc": self.auroc.value,
            "low": self.auroc.low,
            "high": self.auroc.high,
            "average_precision": self.average_precision,
            "by_domain": {name: vars(found) for name, found in self.by_domain.items()},
        }


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class DetectorTable(BenchTable):
    """All detectors of one benchmark.

    Attributes:
        rows: single detectors, best first; undefined ones last.
        combination: None where too few statements allow none.
        best: the best single detector that is no baseline.
        baseline: the best of the token log-probabilities.
        against_logprob: area of `best` minus that of `baseline`, on the same resamples.
        chosen_against_logprob: the same for `CHOSEN`, which was not picked on these cases.
        statements: findings stated over all reports, `false` of which are false.
        reliability: of the combination; see `workbench.hallucination.calibration.reliability`.
        left_out: statements of findings of which nothing is known.
    """

    name: ClassVar = "hallucination"
    head: ClassVar = ("detector", "AUROC [95 %]", "average precision")
    index: ClassVar = "detector"

    rows: tuple[DetectorRow, ...]
    combination: DetectorRow | None
    best: str
    baseline: str
    against_logprob: Estimate
    chosen_against_logprob: Estimate
    cases: int
    statements: int
    false: int
    reliability: Sequence[tuple[float, Estimate]]
    left_out: int

    @property
    def _all(self) -> tuple[DetectorRow, ...]:
        """Single detectors, then the combination."""
        return (*self.rows, *((self.combination,) if self.combination else ()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "detectors": [row.to_dict() for row in self.rows],
            "combination": self.combination.to_dict() if self.combination else None,
            "against_logprob": self._difference(self.best, self.against_logprob),
            "chosen_against_logprob": self._difference(CHOSEN, self.chosen_against_logprob),
            "cases": self.cases,
            "statements": self.statements,
            "false": self.false,
            "left_out": self.left_out,
            "reliability": [
                {"probability": at, "share": found.value, "n": found.n}
                for at, found in self.reliability
            ],
            **self._facts(),
        }

    def _difference(self, detector: str, found: Estimate) -> dict[str, Any]:
        ends = {"difference": found.value, "low": found.low, "high": found.high}
        return {"detector": detector, "baseline": self.baseline} | ends

    def _records(self) -> list[dict[str, Any]]:
        return [row.to_dict() for row in self._all]

    def _cells(self) -> list[list[str]]:
        return [[row.detector, str(row.auroc), fixed(row.average_precision)] for row in self._all]

    def _notes(self) -> tuple[str, ...]:
        return (
            f"{self.false} of {self.statements} stated findings are false, {self.cases} "
            f"{self.origin}; {self.best} minus {self.baseline}: "
            f"{self.against_logprob}",
        )

    def plots(self) -> dict[str, Axes]:
        """Draw the areas, and how well the combination's probabilities are kept."""
        return super().plots() | {
            f"{self.name}_reliability": plot_reliability(self.reliability, None)
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the area of every detector with its interval."""
        ax = plot_rates([(row.detector, row.auroc) for row in self._all], ax, xlabel="AUROC")
        ax.axvline(0.5, color="#9a9a9a", lw=1, ls="--")
        return ax


def tabulate(
    cases: Sequence[JudgedCase],
    *,
    seed: int,
    provenance: Mapping[str, Any],
    resamples: int = 1000,
    calibration: Calibration | None = None,
    source: str = "",
) -> DetectorTable:
    """Make the table of judged cases, at least one statement among them.

    Patients are resampled, each domain in itself. The calibration must be of these weights and
    fitted on other cases; None cross-fits one.
    """
    strata = np.array([case.domain for case in cases])
    owner = np.array([at for at, case in enumerate(cases) for _ in case.findings])
    false = np.array([value for case in cases for value in case.false], bool)
    scores = np.array([row for case in cases for row in case.scores], float)
    rng = np.random.default_rng([seed, len(cases)])
    patients = alone([case.patient for case in cases])
    weights = grouped_weights(patients, rng, strata=strata, resamples=resamples)[:, owner]
    domains = strata[owner]
    columns = dict(zip(DETECTORS, scores.T, strict=True))
    rows = [_row(name, column, false, domains, weights) for name, column in columns.items()]
    rows.sort(key=lambda row: -1 if row.auroc.value is None else row.auroc.value, reverse=True)
    baseline = next(row.detector for row in rows if row.detector in BASELINES[:3])
    best = next(row.detector for row in rows if row.detector not in BASELINES)
    known = columns[baseline]
    number = {name: at for at, name in enumerate(dict.fromkeys(patients))}
    groups = np.array([number[name] for name in patients])[owner]
    name, probabilities = _combined(columns, false, groups, calibration)
    combination = _row(name, probabilities, false, domains, weights) if len(probabilities) else None
    return DetectorTable(
        rows=tuple(rows),
        combination=combination,
        best=best,
        baseline=baseline,
        against_logprob=area_estimate(false, columns[best], weights, minus=known),
        chosen_against_logprob=area_estimate(false, columns[CHOSEN], weights, minus=known),
        cases=len(cases),
        statements=len(false),
        false=int(false.sum()),
        reliability=reliability(probabilities, false),
        left_out=sum(len(case.left_out) for case in cases),
        seed=seed,
        source=source,
        patients=len(number),
        provenance=dict(provenance),
    )


def _row(
    name: str, scores: np.ndarray, false: np.ndarray, domains: np.ndarray, weights: np.ndarray
) -> DetectorRow:
    found = area_estimate(false, scores, weights)
    precision = None if found.value is None else float(average_precision_score(false, scores))
    by_domain = {}
    for domain in dict.fromkeys(domains.tolist()):
        at = domains == domain
        by_domain[domain] = area_estimate(false[at], scores[at], weights[:, at])
    return DetectorRow(name, found, precision, by_domain)


def _combined(
    columns: Mapping[str, np.ndarray],
    false: np.ndarray,
    owner: np.ndarray,
    calibration: Calibration | None,
) -> tuple[str, np.ndarray]:
    if calibration is not None:
        taken = np.stack([columns[name] for name in calibration.detectors], axis=1)
        return CALIBRATED, calibration.probability(taken)
    known = [column for column in columns.values() if not np.isnan(column).any()]
    found = cross_fitted(np.stack(known, axis=1), false, owner)
    return CROSS_FITTED, np.zeros(0) if found is None else found
