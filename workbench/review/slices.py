"""Where a model errs more than elsewhere: rates in slices, and the worst of them found.

A slice is a value of an attribute (device = portable), for all findings together or for one of
them. Its errors are compared with those expected if it were like the rest: expected counts the
chances to err finding by finding, each with the rate of all cases, so that a slice with many
difficult findings is not called bad for that.

Each comparison is a one-sided score test whose variance is a sum over patients, because findings of
one report and reports of one patient are alike (Liang and Zeger, Biometrika 1986, working
independence). So many slices are looked at that some look bad by chance: p-values are corrected by
Holm's method over all slices that were tested. Slices with fewer than `PATIENTS` patients or
`ERRORS_NEEDED` errors are shown with their rates and not tested; a normal approximation would lie.

Does not know: why a slice is worse. A device can stand for a hospital, and a hospital for who is
ill there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtr

from workbench._repr import short_repr
from workbench.evaluation.intervals import Estimate, holm, wilson
from workbench.review.bulk import FINDINGS
from workbench.review.joined import UNKNOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PATIENTS = 10
ERRORS_NEEDED = 5
ALL = "all findings"
#: Adjusted p-value below which a slice is called worse.
ALPHA = 0.05
#: Values that an attribute may have to be divided by.
VALUES = 50


@dataclass(frozen=True)
class Slice:
    """One slice.

    Attributes:
        attribute: what cases are divided by.
        value: of the attribute.
        finding: one finding, or `ALL`.
        cases: reports in the slice.
        errors: errors in it.
        chances: pairs of report and finding that could be judged.
        expected: errors expected if it were like all cases.
        z: of the score test; None where not tested.
        p: one-sided, corrected for all slices tested; None where not tested.
    """

    attribute: str
    value: str
    finding: str
    cases: int
    errors: int
    chances: int
    expected: float
    z: float | None
    p: float | None

    @property
    def rate(self) -> Estimate:
        """Errors per chance, with Wilson's interval (chances taken as independent)."""
        return wilson(self.errors, self.chances)

    @property
    def ratio(self) -> float | None:
        """Errors per error expected."""
        return self.errors / self.expected if self.expected else None

    def to_dict(self) -> dict:
        """Return plain values; what is undefined is None."""
        names = ("attribute", "value", "finding", "cases", "errors", "chances")
        rate = self.rate
        found = {name: getattr(self, name) for name in names}
        found |= {"rate": rate.value, "low": rate.low, "high": rate.high}
        return found | {"expected": self.expected, "ratio": self.ratio, "z": self.z, "p": self.p}

    def __str__(self) -> str:
        times = "" if self.ratio is None else f", {self.ratio:.1f} times what was expected"
        return (
            f"{self.attribute} = {self.value}, {self.finding}: {self.errors:,} errors in "
            f"{self.chances:,} chances{times}"
        )


@dataclass(frozen=True, eq=False)
class SliceTable:
    """All slices, the worst first.

    Attributes:
        slices: those that were tested by evidence, then the others.
        tested: how many were tested.
        kinds: errors that were counted.
    """

    slices: tuple[Slice, ...]
    tested: int
    kinds: tuple[str, ...]

    __repr__ = short_repr

    @property
    def worse(self) -> tuple[Slice, ...]:
        """Slices that are worse than the rest after correction, the clearest first."""
        return tuple(item for item in self.slices if item.p is not None and item.p < ALPHA)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each slice, in order."""
        rows = [item.to_dict() for item in self.slices]
        frame = pd.DataFrame(rows)
        return frame.astype(dict.fromkeys(("ratio", "z", "p"), float)) if rows else frame

    def plot(self, ax: Axes | None = None, *, count: int = 12) -> Axes:
        """Draw the rates of the worst slices against what was expected of each."""
        from workbench.review.queue_figure import plot_slices

        return plot_slices(self, ax, count=count)

    def _repr_html_(self) -> str:
        from workbench.review.queue_html import slices_html

        return slices_html(self)


def find_slices(
    errors: np.ndarray,
    chances: np.ndarray,
    attributes: pd.DataFrame,
    patients: np.ndarray,
    *,
    kinds: Sequence[str] = (),
    by_finding: bool = True,
) -> SliceTable:
    """Compare every slice with the rest.

    Args:
        errors: (cases, findings) bool.
        chances: (cases, findings) bool, True wherever an error could be judged.
        attributes: (cases, attributes) values; missing ones are "unknown".
        patients: (cases,) int, who each is.
        kinds: what the errors are, for the reader.
        by_finding: whether each finding is looked at by itself, too.
    """
    errors = errors & chances
    below = chances.sum(axis=0)
    rates = np.divide(errors.sum(axis=0), below, out=np.zeros(len(below)), where=below > 0)
    columns = [(ALL, np.arange(len(FINDINGS)))]
    if by_finding:
        columns += [(FINDINGS[at], np.array([at])) for at in np.flatnonzero(errors.any(axis=0))]
    parts = [(name, _Part(errors, chances, rates, patients, chosen)) for name, chosen in columns]
    found: list[Slice] = []
    for name in attributes.columns:
        numbers, values = pd.factorize(attributes[name].fillna(UNKNOWN).astype(str), sort=True)
        if 1 < len(values) <= VALUES:
            for finding, part in parts:
                found += part.slices(name, finding, numbers, values)
    adjusted = holm([item.p for item in found])
    corrected = [replace(item, p=p) for item, p in zip(found, adjusted, strict=True)]
    corrected.sort(key=lambda item: (item.z is None, -(item.z or 0.0), -item.errors))
    tested = sum(item.z is not None for item in corrected)
    return SliceTable(tuple(corrected), tested, tuple(kinds))


class _Part:
    """Errors of some findings, summed by patient, to be divided by any attribute."""

    def __init__(self, errors, chances, rates, patients, chosen) -> None:
        self.patients = patients
        self.people = int(patients.max(initial=-1)) + 1
        self.chances = chances[:, chosen].astype(float)
        self.errors = errors[:, chosen].sum(axis=1).astype(float)
        self.expected = self.chances @ rates[chosen]
        residuals = errors[:, chosen] - self.chances * rates[chosen]
        self.residual = residuals.sum(axis=1)
        # (patients, findings) sums of what was not expected
        self.by_patient = np.stack(
            [np.bincount(patients, column, self.people) for column in residuals.T], axis=1
        )

    def slices(
        self, attribute: str, finding: str, numbers: np.ndarray, values: Sequence[str]
    ) -> list[Slice]:
        """Return one slice for each value that has a chance to err."""
        count = len(values)
        errors = np.bincount(numbers, self.errors, count).astype(int)
        each = np.stack([np.bincount(numbers, c, count) for c in self.chances.T], axis=1)
        expected = np.bincount(numbers, self.expected, count)
        cases = np.bincount(numbers, minlength=count)
        cells = self.patients * count + numbers
        asked = np.bincount(cells, self.chances.sum(axis=1), self.people * count)
        people = (asked.reshape(self.people, count) > 0).sum(axis=0)
        z = self._z(cells, each)
        found = []
        for at, value in enumerate(values):
            chances = int(each[at].sum())
            enough = errors[at] >= ERRORS_NEEDED and people[at] >= PATIENTS
            score = float(z[at]) if enough and np.isfinite(z[at]) else None
            p = None if score is None else float(ndtr(-score))
            found.append(
                Slice(attribute, str(value), finding, int(cases[at]), int(errors[at]), chances,
                      float(expected[at]), score, p)
            )  # fmt: skip
        return [item for item in found if item.chances]

    def _z(self, cells: np.ndarray, each: np.ndarray) -> np.ndarray:
        """Return (values,) score statistics over their standard deviations; NaN undefined.

        Args:
            cells: (cases,) number of patient and value.
            each: (values, findings) chances.
        """
        count = len(each)
        total = each.sum(axis=0)
        share = np.divide(each, total, out=np.zeros_like(each), where=total > 0)
        own = np.bincount(cells, self.residual, self.people * count).reshape(-1, count)
        scores = own - self.by_patient @ share.T
        spread = np.sqrt((scores**2).sum(axis=0))
        undefined = np.full(count, np.nan)
        return np.divide(scores.sum(axis=0), spread, out=undefined, where=spread > 1e-9)


__all__ = ["ALL", "ALPHA", "ERRORS_NEEDED", "PATIENTS", "Slice", "SliceTable", "find_slices"]
