"""The figure of a reader study: grades of both arms, side by side.

Does not know: how anything was counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.figures.style import INK, new_figure, style
from workbench.review.study_plan import ARMS
from workbench.review.study_session import GRADES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.review.study_result import StudyResult

#: From acceptable to not; safe for colour-blind readers, and in order in grey.
COLOURS = {"A": "#0b5c8f", "B": "#7db8da", "C": "#f3c08a", "D": "#c4510a"}
_DARK = ("A", "D")


def plot_study(result: StudyResult, ax: Axes | None) -> Axes:
    """Draw shares of grades as stacked bars, and the interval of success above each."""
    with style():
        if ax is None:
            ax = new_figure(figsize=(9.5, 3.4), layout="constrained").add_subplot()
        for at, arm in enumerate(ARMS):
            counts = result.counts[arm]
            total, left = max(1, sum(counts.values())), 0.0
            for grade in GRADES:
                share = counts[grade] / total
                ax.barh(at, share, left=left, height=0.5, color=COLOURS[grade],
                        label=f"{grade} {GRADES[grade]}" if not at else None)  # fmt: skip
                if share > 0.035:
                    colour = "white" if grade in _DARK else INK
                    ax.text(left + share / 2, at, f"{100 * share:.0f} %", color=colour,
                            ha="center", va="center", fontsize=12)  # fmt: skip
                left += share
            found = result.success[arm]
            if found.bounded:
                above = at - 0.36
                ax.plot((found.low, found.high), (above, above), color=INK, lw=2)
                ax.plot(found.value, above, "o", color=INK, ms=6, clip_on=False)
        ax.set_yticks(range(len(ARMS)), [f"{arm}\n{sum(result.counts[arm].values()):,} readings"
                                         for arm in ARMS])  # fmt: skip
        ax.set(xlim=(0, 1), ylim=(len(ARMS) - 0.55, -0.6))
        ax.set_xlabel("share of readings; black: A and B together, 95 % interval")
        ax.set_title(f"Acceptable: {_said(result)}")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.28), ncols=2, fontsize=11)
    return ax


def _said(result: StudyResult) -> str:
    return ", ".join(f"{arm} {result.success[arm].text()}" for arm in ARMS)
