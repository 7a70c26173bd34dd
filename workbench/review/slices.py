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

Why a slice is worse stays open: a device can stand for a hospital, and a hospital for its patients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from scipy.special import ndtr

from workbench._repr import result
from workbench.errors import OptionError
from workbench.evaluation.intervals import Estimate, divided, holm, wilson
from workbench.figures.numbers import fixed
from workbench.figures.style import BLUE, GRID, INK, VERMILION, new_axes, style
from workbench.figures.tables import html_table
from workbench.findings import DEVICE
from workbench.review.readings import CODE_NAMES, FINDINGS
from workbench.review.suspects import NO, UNKNOWN, YES, Joined, error_masks

PATIENTS = 10
ERRORS_NEEDED = 5
ALL = "all findings"
#: Adjusted p-value below which a slice is called worse.
ALPHA = 0.05
#: Values that an attribute may have to be divided by.
VALUES = 50
#: Slices on a card.
_SHOWN = 8
#: Ways to err, and the masks that are counted for each.
ERRORS = {
    "any": ("false", "missed", "flipped"),
    "false finding": ("false",),
    "missed finding": ("missed",),
    "laterality flip": ("flipped",),
}


@dataclass(frozen=True)
class Slice:
    """The cases in which an attribute has one value, for one finding or `ALL`.

    Attributes:
        cases: reports in the slice.
        chances: pairs of report and finding that could be judged.
        expected: errors expected if it were like all cases.
        z: of the score test; None where not tested.
        p: one-sided, corrected for all slices tested; None where not tested.

    >>> portable = wb.review.Slice("view", "AP", "nodule", 10, 4, 10, expected=2.0, z=None, p=None)
    >>> portable.ratio
    2.0
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
        rate = self.rate
        measures = {"rate": rate.value, "low": rate.low, "high": rate.high, "ratio": self.ratio}
        return asdict(self) | measures

    def __str__(self) -> str:
        times = "" if self.ratio is None else f", {self.ratio:.1f} times what was expected"
        return (
            f"{self.attribute} = {self.value}, {self.finding}: {self.errors:,} errors in "
            f"{self.chances:,} chances{times}"
        )


@result()
class SliceTable:
    """All slices: the tested ones, the worst first, then the others; and how many were tested."""

    slices: tuple[Slice, ...]
    tested: int

    @property
    def worse(self) -> tuple[Slice, ...]:
        """Slices that are worse than the rest after correction, the clearest first."""
        return tuple(item for item in self.slices if item.p is not None and item.p < ALPHA)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each slice, in order."""
        frame = pd.DataFrame([item.to_dict() for item in self.slices])
        return frame if frame.empty else frame.astype({"ratio": float, "z": float, "p": float})

    @style()
    def plot(self, ax: Axes | None = None, *, count: int = 12) -> Axes:
        """Draw the rates of the worst slices with intervals, and what was expected of each."""
        shown = [item for item in self.slices if item.z is not None][:count]
        ax = ax or new_axes(9.5, 2.2 + 0.42 * max(1, len(shown)))
        for at, item in enumerate(shown):
            colour = VERMILION if item in self.worse else BLUE
            rate = np.array((item.rate.low, item.rate.value, item.rate.high), dtype=float)
            ax.plot(rate[[0, 2]], (at, at), color=colour, lw=2)
            ax.plot(rate[1], at, "o", color=colour)
            ax.plot(item.expected / item.chances, at, "|", color=INK, ms=16, mew=2)
        names = [f"{item.attribute} = {item.value}, {item.finding}" for item in shown]
        ax.set_yticks(np.arange(len(shown)), names)
        ax.set(ylim=(len(shown) - 0.5, -0.6), xlabel="errors per chance to make one")
        ax.grid(axis="x", color=GRID)
        ax.set_xlim(left=0)
        title = f"{len(self.worse)} of {self.tested:,} slices are worse than the rest"
        ax.set_title(title if shown else "no slice is large enough to be tested")
        ax.plot([], [], "o-", color=VERMILION, label="worse, after correction")
        ax.plot([], [], "o-", color=BLUE, label="may be chance")
        ax.plot([], [], "|", color=INK, ms=14, mew=2, ls="", label="expected")
        legend_below(ax)
        return ax

    def _repr_html_(self) -> str:
        said = (
            f"<p><b>Slices</b>: {self.tested:,} tested, {len(self.worse):,} worse than the rest "
            "after Holm's correction.</p>"
        )
        rows = [
            [f"{item.attribute} = {item.value}", item.finding,
             f"{item.errors:,} / {item.chances:,}", item.rate.text(3), fixed(item.ratio, 1),
             f"{item.p:.1g}" if item.p and item.p > 1e-12 else "< 1e-12"]
            for item in self.worse[:_SHOWN]
        ]  # fmt: skip
        head = ["slice", "finding", "errors / chances", "rate [95 %]", "times expected", "p (Holm)"]
        return said + html_table(head, rows) if rows else said


def attribute_table(joined: Joined, names: Iterable[str] | None = None) -> pd.DataFrame:
    """Return (cases, attributes) values: source, view, sex, age group, support device, and more.

    More are the columns that a manifest does not know, where they have 2 to 50 values. Those in
    `names` are returned, a blank may be written "_"; all when None.

    Raises:
        OptionError: there is no such attribute.
    """
    cases = joined.cases
    table = {name: cases[name] for name in ("source", "view", "sex", "age group")}
    device = joined.true[:, FINDINGS.index(DEVICE)]
    words = np.where(np.isin(device, (YES, NO)), CODE_NAMES[device], UNKNOWN)
    table[DEVICE] = pd.Series(words, index=cases.index)
    for name in joined.extra:
        if 1 < cases[name].nunique() <= VALUES:
            table[name] = cases[name]
    if names is not None:
        asked = {name if name in table else name.replace("_", " "): name for name in names}
        if lost := [name for name in asked if name not in table]:
            expected = ", ".join(table)
            raise OptionError(f"cases cannot be divided by {lost[0]!r}; expected: {expected}")
        table = {asked[name]: table[name] for name in asked}
    return pd.DataFrame(table)


def slices_of(joined: Joined, *, kind: str = "any", by: Sequence[str] | None = None) -> SliceTable:
    """Compare every slice of some cases with the rest; see `ErrorQueue.find_slices`."""
    if kind not in ERRORS:
        raise OptionError(f"unknown kind {kind!r}; expected one of: {', '.join(ERRORS)}")
    table = attribute_table(joined, by)
    masks = error_masks(joined)
    errors = np.logical_or.reduce([masks[name] for name in ERRORS[kind]])
    return find_slices(errors, _chances(joined, kind), table, _patients(joined.cases))


def _chances(joined: Joined, kind: str) -> np.ndarray:
    """Return (cases, findings) bool: where an error of this kind could have been made."""
    truth = {"false finding": joined.true == NO, "missed finding": joined.true == YES}
    if kind == "laterality flip":
        both = (joined.true == YES) & (joined.said == YES)
        return joined.known & both & (joined.true_sides > 0) & (joined.said_sides > 0)
    return joined.known & truth.get(kind, True)


def _patients(cases: pd.DataFrame) -> np.ndarray:
    """Return (cases,) numbers of patients; a case without one is its own."""
    own = "\x00" + cases["id"].astype(str)
    who = cases["patient_id"].where(cases["patient_id"].notna(), own)
    return pd.factorize(cases["source"].astype(str) + "\x00" + who.astype(str))[0]


def find_slices(
    errors: np.ndarray,
    chances: np.ndarray,
    attributes: pd.DataFrame,
    patients: np.ndarray,
) -> SliceTable:
    """Compare every slice with the rest.

    `errors` and `chances`, where one could be judged, are (cases, findings) bool; `attributes` are
    (cases, attributes) values, "unknown" where missing, and `patients` (cases,) int.
    """
    errors = errors & chances
    rates = np.nan_to_num(divided(errors.sum(axis=0), chances.sum(axis=0)))
    parts = [(ALL, np.arange(len(FINDINGS)))]
    parts += [(FINDINGS[at], np.array([at])) for at in np.flatnonzero(errors.any(axis=0))]
    found: list[Slice] = []
    for name in attributes.columns:
        numbers, values = pd.factorize(attributes[name].fillna(UNKNOWN).astype(str), sort=True)
        if 1 < len(values) <= VALUES:
            for finding, at in parts:
                table = _compared(
                    numbers, len(values), errors[:, at], chances[:, at], rates[at], patients
                )
                rows = zip(values, *(column.tolist() for column in table), strict=True)
                found += [Slice(str(name), row[0], finding, *row[1:]) for row in rows if row[3]]
    adjusted = holm([item.p for item in found])
    corrected = [replace(item, p=p) for item, p in zip(found, adjusted, strict=True)]
    corrected.sort(key=lambda item: (item.z is None, -(item.z or 0.0), -item.errors))
    tested = sum(item.z is not None for item in corrected)
    return SliceTable(tuple(corrected), tested)


def _compared(
    numbers: np.ndarray, count: int, errors: np.ndarray, chances: np.ndarray, rates: np.ndarray,
    patients: np.ndarray,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Return (values,) cases, errors, chances, errors expected, z and p; the last two may be None.

    `numbers` are (cases,), which of `count` values each has; `rates` are those of the findings.
    """

    def by_value(column: np.ndarray) -> np.ndarray:
        return np.bincount(numbers, column, count)

    def by_patient(column: np.ndarray) -> np.ndarray:
        cells = np.bincount(patients * count + numbers, column, people * count)
        return cells.reshape(people, count)

    people = int(patients.max(initial=-1)) + 1
    made, given = by_value(errors.sum(axis=1)).astype(int), chances.sum(axis=1)
    each = np.stack([by_value(column) for column in chances.T], axis=1)
    share = np.nan_to_num(divided(each, np.broadcast_to(each.sum(axis=0), each.shape)))
    residuals = errors - chances * rates
    whole = np.stack([np.bincount(patients, column, people) for column in residuals.T], axis=1)
    scores = by_patient(residuals.sum(axis=1)) - whole @ share.T
    spread = np.sqrt((scores**2).sum(axis=0))
    z = divided(scores.sum(axis=0), np.where(spread > 1e-9, spread, 0.0))
    enough = (made >= ERRORS_NEEDED) & ((by_patient(given) > 0).sum(axis=0) >= PATIENTS)
    tested, none = enough & np.isfinite(z), np.full(count, None)
    return (
        np.bincount(numbers, minlength=count), made, by_value(given).astype(int),
        by_value(chances @ rates), np.where(tested, z.astype(object), none),
        np.where(tested, ndtr(-z).astype(object), none),
    )  # fmt: skip


def legend_below(ax: Axes) -> None:
    """Put a legend of three columns below the label of the axis, where no bar can reach it."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    below = -0.72 / max(ax.get_position().height * figure.get_size_inches()[1], 0.5)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=3, fontsize=11)
