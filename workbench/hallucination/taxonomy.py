"""Taxonomy: in what way a report errs, finding by finding, against what is known to be true.

    fabricated    stated as present, known to be absent
    missed        known to be present; denied, or not spoken of
    wrong side    right finding, on another side than the true one
    wrong zone    right finding, in other zones than the true ones
    wrong severity  right finding, another grade
    overstated    stated as present where the truth is uncertain
    understated   stated as uncertain where it is known to be present

A place or grade that either side does not give is unknown and no error; a finding that the truth
does not speak of cannot be wrong. So a reference report yields fewer errors than a phantom, not
because a model is better.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from workbench._repr import result
from workbench.backends.levels import TEXTS, needs
from workbench.errors import InputError
from workbench.evaluation.intervals import Estimate, bootstrap_weights, ratio
from workbench.figures.estimates import plot_rates
from workbench.figures.tables import html_table
from workbench.findings import (
    ABSENT,
    CODES,
    NO_FINDING,
    NOT_MENTIONED,
    PRESENT,
    UNCERTAIN,
    same_zone,
    standard_name,
)
from workbench.phantom.case import Phantom
from workbench.phantom.wording import GRADED
from workbench.reports import FindingLabel, label

#: Every kind of error, in order.
KINDS = (
    "fabricated",
    "missed",
    "wrong side",
    "wrong zone",
    "wrong severity",
    "overstated",
    "understated",
)


#: True code -> the errors that can be made, and what is then said.
_WRONG = {
    ABSENT: {"fabricated": (PRESENT,)},
    UNCERTAIN: {"overstated": (PRESENT,)},
    PRESENT: {"missed": (ABSENT, NOT_MENTIONED), "understated": (UNCERTAIN,)},
}


@dataclass(frozen=True)
class Known:
    """What is known of one finding, as the labeler names it; None where it is unknown.

    >>> wb.hallucination.Known("present", side="left", severity="moderate")
    Known(code='present', side='left', zone=None, severity='moderate', lobe=None)
    """

    code: str
    side: str | None = None
    zone: str | None = None
    severity: str | None = None
    lobe: str | None = None


@dataclass(frozen=True)
class ReportError:
    """One error of one report.

    Attributes:
        report: its number, from 0.
        kind: one of `KINDS`.
        said, true: what the report says, and what is true.
        start, end: characters of the words; -1 where there are none.
    """

    report: int
    kind: str
    finding: str
    said: str
    true: str
    start: int = -1
    end: int = -1


@result()
class Taxonomy:
    """The errors of some reports, in their order.

    Attributes:
        reports: how many there are.
        chances: kind -> (reports,) how often each report could have erred so.
    """

    errors: tuple[ReportError, ...]
    reports: int
    chances: Mapping[str, np.ndarray]

    def per_report(self, kind: str) -> Estimate:
        """Return errors of a kind per report, reports resampled."""
        return self._ratio(kind, np.ones(self.reports))

    def rate(self, kind: str) -> Estimate:
        """Return errors of a kind per chance to make one, reports resampled."""
        return self._ratio(kind, self.chances[kind])

    def _ratio(self, kind: str, below: np.ndarray) -> Estimate:
        owners = [error.report for error in self.errors if error.kind == kind]
        above = np.bincount(owners, minlength=self.reports)
        weights = bootstrap_weights(self.reports, np.random.default_rng([0, self.reports]))
        return ratio(above, below, weights)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per error: report, kind, finding, said, true, start, end."""
        names = ["report", "kind", "finding", "said", "true", "start", "end"]
        return pd.DataFrame(list(map(vars, self.errors)), columns=names)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the rate of every kind of error with its interval."""
        rows = [(kind, self.rate(kind)) for kind in KINDS]
        return plot_rates(rows, ax, xlabel="errors per chance to make one")

    def _repr_html_(self) -> str:
        rates = {kind: self.rate(kind) for kind in KINDS}
        rows = [(kind, rate, rate.n, self.per_report(kind)) for kind, rate in rates.items()]
        return html_table(["error", "rate [95 %]", "chances", "per report [95 %]"], rows)


@needs(TEXTS)
def classify(texts: Sequence[str] | str, truths: Iterable[Any] | Any) -> Taxonomy:
    """Say in what way reports, or one alone, err.

    Args:
        truths: what is true, one for each: a phantom, a reference report, or a table finding ->
            code or `Known`.

    Raises:
        InputError: not one truth for each report, or a truth is none of these.
        OptionError: a finding is unknown.

    >>> wb.hallucination.classify("Right pleural effusion.", case).to_frame()["kind"].tolist()
    ['wrong side']
    """
    if isinstance(texts, str):
        texts, truths = [texts], [truths]
    known = [_known(truth) for truth in truths]
    if len(known) != len(texts) or not known:
        raise InputError(
            f"expected one truth for each report and at least one report, got {len(texts)} reports "
            f"and {len(known)} truths"
        )
    errors: list[ReportError] = []
    chances = {kind: np.zeros(len(texts)) for kind in KINDS}
    for number, (text, truth) in enumerate(zip(texts, known, strict=True)):
        labels = label(text)
        for finding, true in truth.items():
            row = labels[finding]
            for kind, said, right in _compared(row, true, chances, number):
                place = (row.start, row.end) if row else (-1, -1)
                errors.append(ReportError(number, kind, finding, said, right, *place))
    return Taxonomy(tuple(errors), len(texts), chances)


def _compared(
    row: FindingLabel | None, true: Known, chances: Mapping[str, np.ndarray], number: int
) -> list[tuple[str, str, str]]:
    """Return (kind, said, true) of the errors about one finding, and count the chances."""
    code = NOT_MENTIONED if row is None else row.code
    judged = [(kind, code in wrong, code, true.code) for kind, wrong in _WRONG[true.code].items()]
    if row and true.code == code == PRESENT:
        for kind in ("side", "zone", "severity"):
            said, right = getattr(row, kind), getattr(true, kind)
            if said is not None and right is not None:
                wrong = said != right
                if kind == "zone":
                    wrong = not same_zone(right, true.lobe, said, row.lobe)
                    said, right = row.lobe or said, true.lobe or right
                judged.append((f"wrong {kind}", wrong, said, right))
    for kind, *_ in judged:
        chances[kind][number] += 1
    return [(kind, said, right) for kind, wrong, said, right in judged if wrong]


def _known(truth: object) -> dict[str, Known]:
    """Return what a truth says of each finding; what it does not speak of is left out."""
    if isinstance(truth, Phantom):
        found = {name: Known(code) for name, code in truth.labels.items()}
        for lesion in truth.lesions:
            severity = lesion.severity if lesion.finding in GRADED else None
            found[lesion.finding] = Known(PRESENT, lesion.side, lesion.zone, severity, lesion.lobe)
        return found
    if isinstance(truth, str):
        return {
            row.finding: Known(row.code, row.side, row.zone, row.severity, row.lobe)
            for row in label(truth).rows
            if row.finding != NO_FINDING
        }
    if not isinstance(truth, Mapping):
        raise InputError(
            f"a truth is a phantom, a reference report or a table of findings; got "
            f"{type(truth).__name__}"
        )
    found = {}
    for name, value in truth.items():
        known = value if isinstance(value, Known) else Known(value)
        if known.code not in CODES:
            raise InputError(f"{name} has code {value!r}; expected one of: {', '.join(CODES)}")
        if known.code != NOT_MENTIONED:
            found[standard_name(name)] = known
    return found
