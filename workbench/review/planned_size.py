"""How many cases a reader study needs for an interval of a wanted width.

For a share such as "acceptable", Wilson's interval has the half width

    z / (1 + z^2/n) * sqrt(p (1 - p) / n + z^2 / (4 n^2)),

which falls with n; the smallest n that reaches the wanted width is searched for. Several readers of
one case do not count as several cases: with R readings of each case that agree as far as the
intra-class correlation says, n readings are worth n / (1 + (R - 1) icc) independent ones.

Sources: Wilson, J Am Stat Assoc 1927; design effect: Donner and Klar 2000, section 2.1.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtri

from workbench._repr import short_repr
from workbench.errors import OptionError
from workbench.evaluation.intervals import LEVEL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST = 10_000_000


@dataclass(frozen=True)
class SampleSize:
    """A planned study.

    Attributes:
        cases: radiographs, each with one report of the model and one reference.
        readings: reports graded in all, repeats aside: cases x 2 x readers of a case.
        half_width: wanted, 0 to 0.5.
        reached: half width with this many cases.
        expected: share of acceptable reports that was assumed.
        readers: readings of each report.
        icc: how far readings of one report were assumed to agree.
        level: of the interval.
    """

    cases: int
    readings: int
    half_width: float
    reached: float
    expected: float
    readers: int
    icc: float
    level: float

    __repr__ = short_repr

    def to_frame(self) -> pd.DataFrame:
        """Return half widths for a range of numbers of cases: cases, half width."""
        counts = np.unique(np.geomspace(10, max(20, 4 * self.cases), 40).astype(int))
        widths = [_reached(int(n), self.expected, self.readers, self.icc) for n in counts]
        return pd.DataFrame({"cases": counts, "half width": widths})

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the half width against the number of cases, and the planned one."""
        from workbench.figures.style import BLUE, VERMILION, new_figure, style

        frame = self.to_frame()
        with style():
            if ax is None:
                ax = new_figure(figsize=(8, 4), layout="constrained").add_subplot()
            ax.plot(frame["cases"], frame["half width"], color=BLUE)
            ax.plot(self.cases, self.reached, "o", color=VERMILION)
            ax.annotate(f"{self.cases:,} cases: ± {self.reached:.3f}", (self.cases, self.reached),
                        xytext=(12, 12), textcoords="offset points")  # fmt: skip
            ax.set(xscale="log", xlabel="cases", ylabel="half width", ylim=(0, None))
            ax.set_title(f"Interval around a share of {self.expected:.2f}")
            ax.grid(True)
        return ax

    def _repr_html_(self) -> str:
        return (
            f"<p><b>{self.cases:,} cases</b>, {self.readings:,} readings: a share of "
            f"{self.expected:.2f} gets a {100 * self.level:.0f} % interval of &plusmn; "
            f"{self.reached:.3f} ({self.readers} readings of each report, correlation "
            f"{self.icc:.2f})</p>"
        )


def sample_size(
    half_width: float, *, expected: float = 0.73, readers: int = 1, icc: float = 0.3
) -> SampleSize:
    """Return how many cases give an interval of a wanted width.

    Args:
        half_width: of the 95 % interval of the share of acceptable reports, 0 to 0.5 excluded.
        expected: share that is expected; 0.5 is the most cautious. The default is that of
            CXR-LLaVA's reports (72.7 %, Lee et al. 2025).
        readers: readings of each report.
        icc: correlation of readings of one report, 0 to 1.

    Raises:
        OptionError: a number is out of range.
    """
    for name, value, low, high in (
        ("half_width", half_width, 0, 0.5),
        ("expected", expected, 0, 1),
    ):
        if not low < value < high:
            raise OptionError(f"{name} must be above {low} and below {high}, got {value!r}")
    if readers < 1 or not 0 <= icc <= 1:
        raise OptionError(f"readers must be 1 or more and icc 0 to 1, got {readers!r} and {icc!r}")
    cases = 1 + bisect_left(
        range(1, _MOST), -half_width, key=lambda n: -_reached(n, expected, readers, icc)
    )
    return SampleSize(
        cases, 2 * cases * readers, half_width, _reached(cases, expected, readers, icc), expected,
        readers, icc, LEVEL,
    )  # fmt: skip


def _reached(cases: int, share: float, readers: int, icc: float) -> float:
    n = max(1.0, cases * readers / (1 + (readers - 1) * icc))
    z = float(ndtri(0.5 + LEVEL / 2))
    return z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
