"""Calibration: from a detector's numbers to the probability that a statement is false.

A logistic regression over one detector or several, fitted on judged cases whose truth is known.
With it come cross-fitted probabilities of the same cases, from which a cut can be chosen that
leaves a wanted share of what is kept true. It holds for the weights it was fitted for, and no
others: it carries their hash.

Source: Platt, Probabilistic outputs for support vector machines, 1999, for one detector;
cross-fitting by case, scikit-learn's `GroupKFold`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from matplotlib.axes import Axes
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from workbench._repr import plain, result
from workbench._store import read_json, whole_file
from workbench.backends import Reader
from workbench.backends.levels import WRITER, needs
from workbench.errors import InputError, OptionError, check_one_of
from workbench.evaluation.counts import find_policy
from workbench.evaluation.intervals import Estimate, alone, wilson
from workbench.figures.estimates import plot_reliability
from workbench.findings import UNCERTAIN
from workbench.hallucination.detectors import DETECTORS, FREQUENCY, LENGTH

FOLDS = 5
_BINS = 5

#: What a combination takes unless something else is asked for.
COMBINED = DETECTORS[: DETECTORS.index(LENGTH)]

#: The shipped combination that also takes the linear probe.
WITH_PROBE = "combination with linear probe"


@dataclass(frozen=True)
class JudgedCase:
    """The stated findings of one case's report, judged by every detector.

    Attributes:
        findings: stated as present, in the order of the report.
        truth: per finding, its code by the labels of the case.
        scores: per finding, one number for each of `DETECTORS`; NaN where one was not run.
        states: per finding, of the decoder where it was decided; empty where they were not read.
        patient: cases of one are never parted; "" is one of its own.
    """

    seed: int
    domain: str
    findings: tuple[str, ...]
    truth: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]
    states: tuple[tuple[float, ...], ...] = ()
    patient: str = ""


@result()
class Statements:
    """The stated findings of several cases of which a policy says whether they are false.

    Attributes:
        findings, false: of each statement, what it states and whether that is not there.
        scores: (statements, detectors) float64, columns `DETECTORS`; NaN where one was not run.
        states: (statements, H) float64; H is 0 where they were not read.
        case, patient: of each statement, the number of its case and of its patient.
        patients: of all cases, those without a statement too.
        uncertain: statements of findings that the labels call uncertain, counted or not.
        left_out: statements that the policy does not count.
    """

    findings: Shaped[np.ndarray, " statements"]
    false: Bool[np.ndarray, " statements"]
    scores: Float[np.ndarray, "statements detectors"]
    states: Float[np.ndarray, "statements H"]
    case: Int[np.ndarray, " statements"]
    patient: Int[np.ndarray, " statements"]
    patients: int
    uncertain: int
    left_out: int

    @classmethod
    def of(cls, cases: Sequence[JudgedCase], policy: str = "joint-definite") -> Statements:
        """Take the statements of cases; an unknown policy (`POLICIES`) raises `OptionError`."""
        present = find_policy(policy).present
        names = alone([case.patient for case in cases])
        number = {name: at for at, name in enumerate(dict.fromkeys(names))}
        who = np.array([number[name] for name in names], int)
        every = [(at, n) for at, case in enumerate(cases) for n in range(len(case.findings))]
        kept = [(at, n) for at, n in every if present[cases[at].truth[n]] is not None]
        owner = np.array([at for at, _ in kept], int)
        scores = np.array([cases[at].scores[n] for at, n in kept], float)
        states = [cases[at].states[n] for at, n in kept if cases[at].states]
        whole = states if len(states) == len(kept) else []
        return cls(
            findings=np.array([cases[at].findings[n] for at, n in kept], str),
            false=np.array([not present[cases[at].truth[n]] for at, n in kept], bool),
            scores=scores.reshape(-1, len(DETECTORS)),
            states=np.array(whole, float).reshape(len(kept), -1 if whole else 0),
            case=owner,
            patient=who[owner],
            patients=len(number),
            uncertain=sum(case.truth.count(UNCERTAIN) for case in cases),
            left_out=len(every) - len(kept),
        )

    def each(self) -> list[tuple[str, np.ndarray]]:
        """Return every finding with which statements are about it, (statements,) bool."""
        return [(str(name), self.findings == name) for name in dict.fromkeys(self.findings)]


@result()
class Calibration:
    """How suspect a statement is, as a probability.

    Attributes:
        detectors: names of the numbers that it takes, in order.
        mean, scale: their mean and spread where it was fitted.
        weights, bias: log-odds for one spread, and at the mean.
        probabilities, false: cross-fitted, of the statements it was fitted on; their truth.
        sha256: hash of the weights it was fitted for.
        fitted_on: what the cases were, in words.
    """

    detectors: tuple[str, ...]
    mean: Float[np.ndarray, " detectors"]
    scale: Float[np.ndarray, " detectors"]
    weights: Float[np.ndarray, " detectors"]
    bias: float
    probabilities: Float[np.ndarray, " statements"]
    false: Bool[np.ndarray, " statements"]
    sha256: str
    fitted_on: str

    @classmethod
    def fit(
        cls,
        cases: Sequence[JudgedCase] | Statements,
        *,
        sha256: str,
        detectors: Sequence[str] | None = None,
        fitted_on: str = "",
        policy: str = "joint-definite",
    ) -> Calibration:
        """Fit on judged cases; cross-fitting never parts the cases of a patient.

        Args:
            cases: phantoms, or rows of a manifest, from `workbench.bench.judge_cases`; of seeds and
                patients that nothing is scored on. Or their statements.
            sha256: of the weights that wrote the reports.
            detectors: which numbers to take; when None all of `COMBINED` that every case has, but
                the frequency of the finding, which one report cannot tell.
            policy: what counts as false, a name in `workbench.evaluation.POLICIES`.

        Raises:
            OptionError: a detector or the policy is unknown, or one was not run on every case.
            InputError: fewer than ten patients have a false statement, or a true one.
        """
        found = cases if isinstance(cases, Statements) else Statements.of(cases, policy)
        names, false = _chosen(found.scores, detectors), found.false
        taken = found.scores[:, [DETECTORS.index(name) for name in names]]
        probabilities = cross_fitted(taken, false, found.patient)
        if probabilities is None:
            raise InputError(
                f"expected false statements of at least {2 * FOLDS} patients and true ones of as "
                "many; give more cases"
            )
        scaler, line = (step for _, step in _model().fit(taken, false).steps)
        return cls(
            names, scaler.mean_, scaler.scale_, line.coef_[0], float(line.intercept_[0]),
            probabilities, false, sha256, fitted_on,
        )  # fmt: skip

    def probability(
        self, scores: Float[np.ndarray, "statements detectors"]
    ) -> Float[np.ndarray, " statements"]:
        """Return the probability that each statement is false, in [0, 1]."""
        z = (np.asarray(scores, float) - self.mean) / self.scale @ self.weights + self.bias
        return 1 / (1 + np.exp(-z))

    def cut_for_precision(self, precision: float) -> float:
        """Return the greatest probability up to which statements are kept so that, where this was
        fitted, at least this share of the kept ones was true; 0 where no cut does that.
        """
        order = np.argsort(self.probabilities, kind="stable")
        true = np.cumsum(~self.false[order]) / np.arange(1, len(order) + 1)
        good = np.flatnonzero(true >= precision)
        return float(self.probabilities[order][good[-1]]) if len(good) else 0.0

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw how well the probabilities are kept."""
        return plot_reliability(reliability(self.probabilities, self.false), ax)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        shown = {"probabilities": np.round(self.probabilities, 5), "false": self.false.astype(int)}
        return plain(asdict(self) | shown)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Return what `to_dict` gave."""
        names = ("mean", "scale", "weights", "probabilities")
        own: dict[str, Any] = {name: np.array(values[name], float) for name in names}
        own["detectors"], own["false"] = tuple(values["detectors"]), np.array(values["false"], bool)
        return cls(**{**values, **own})

    def save(self, path: str | Path) -> Path:
        """Write a JSON file, whole or not at all."""
        with whole_file(Path(path)) as part:
            part.write_text(json.dumps(self.to_dict(), indent=1) + "\n")
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a JSON file that `save` wrote; anything else raises `InputError`."""
        try:
            return cls.from_dict(read_json(Path(path)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{Path(path).name} is no calibration ({error}); write one with Calibration.save"
            ) from error


@needs(WRITER)
def shipped_calibration(model: Reader, name: str = WITH_PROBE) -> Calibration:
    """Return the calibration that is shipped for a model.

    Args:
        name: `WITH_PROBE`, of all detectors in `COMBINED` that need no sampling and the linear
            probe; "combination", without the probe; or "polling under augmentation", which alone
            is read in half the time.

    Raises:
        InputError: none is shipped for these weights.

    >>> wb.hallucination.shipped_calibration(model).detectors[:1]
    ('token log-prob',)
    """
    found = _shipped().get(name)
    identity = model.identity
    if found is None or found.sha256 != identity.sha256:
        raise InputError(
            f"no calibration {name!r} is shipped for {identity.id}; fit one with Calibration.fit "
            "on cases whose truth you know, and pass it as calibration=..."
        )
    return found


@cache
def _shipped() -> dict[str, Calibration]:
    path = resources.files("workbench") / "assets" / "mini" / "detector_calibration.json"
    rows = json.loads(path.read_text())
    return {name: Calibration.from_dict(values) for name, values in rows.items()}


def cross_fitted(
    scores: np.ndarray, false: np.ndarray, owner: np.ndarray, *, strength: float = 0.3
) -> np.ndarray | None:
    """Return the probability of each statement from fits on other cases.

    None where a fold could lack a class. `scores` are (statements, detectors) without NaN, and
    `owner` is the number of the patient that each statement belongs to. `strength` is the inverse
    of the penalty on weights.
    """
    least = min(len(np.unique(owner[false])), len(np.unique(owner[~false])))
    if least < 2 * FOLDS:
        return None
    both = cross_val_predict(
        _model(strength), scores, false, groups=owner, cv=GroupKFold(FOLDS), method="predict_proba"
    )
    return np.asarray(both)[:, 1]


def reliability(probabilities: np.ndarray, false: np.ndarray) -> list[tuple[float, Estimate]]:
    """Return mean probability and share of false statements in bins of equal numbers."""
    if not len(probabilities):
        return []
    order = np.argsort(probabilities, kind="stable")
    return [
        (float(probabilities[part].mean()), wilson(int(false[part].sum()), len(part)))
        for part in np.array_split(order, min(_BINS, len(order)))
    ]


def _model(strength: float = 0.3) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def _chosen(scores: np.ndarray, detectors: Sequence[str] | None) -> tuple[str, ...]:
    known = dict(zip(DETECTORS, np.atleast_1d(~np.isnan(scores).any(axis=0)), strict=True))
    if detectors is None:
        return tuple(name for name in COMBINED if known[name] and name != FREQUENCY)
    for name in detectors:
        check_one_of("detector", name, DETECTORS)
        if not known[name]:
            raise OptionError(f"{name!r} was not run on every case; leave it out")
    return tuple(detectors)
