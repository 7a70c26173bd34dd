"""Figures of a queue: what is in it, and where errors are more frequent than elsewhere.

Does not know: how anything was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.style import BLUE, CYCLE, GRID, INK, VERMILION, new_figure, style
from workbench.review.suspects import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.review.queue_result import ErrorQueue
    from workbench.review.slices import SliceTable

_WHOLE = "whole report"
#: Colours of kinds; errors of one sort have neighbouring tones.
_COLOURS = dict(zip(KINDS, (CYCLE[1], "#f2b48a", CYCLE[3], CYCLE[0], CYCLE[4]), strict=False))
_REST = "#8c8c8c"


def plot_queue(queue: ErrorQueue, ax: Axes | None) -> Axes:
    """Draw how many entries there are for each finding, by kind, the most at the top."""
    import pandas as pd

    finding = queue.entries["finding"].replace("", _WHOLE)
    counts = pd.crosstab(finding, queue.entries["kind"])
    counts = counts.loc[counts.sum(axis=1).sort_values(kind="stable").index]
    with style():
        if ax is None:
            height = 2.3 + 0.42 * max(1, len(counts))
            figure = new_figure(figsize=(9.5, height), layout="constrained")
            ax = figure.add_subplot()
        left = np.zeros(len(counts))
        for kind in [kind for kind in KINDS if kind in counts and counts[kind].any()]:
            values = counts[kind].to_numpy()
            ax.barh(counts.index, values, left=left, color=_COLOURS.get(kind, _REST), label=kind)
            left += values
        ax.set_xlabel("entries")
        ax.set_title(f"{len(queue):,} entries about {len(queue.joined.cases):,} reports")
        ax.grid(axis="x")
        if len(counts):
            _legend_below(ax, 3)
        else:
            ax.text(0.5, 0.5, "nothing is suspect", transform=ax.transAxes, ha="center")
    return ax


def plot_slices(slices: SliceTable, ax: Axes | None, *, count: int) -> Axes:
    """Draw rates of the worst slices with intervals, and what was expected of each."""
    shown = [item for item in slices.slices if item.z is not None][:count]
    with style():
        if ax is None:
            figure = new_figure(
                figsize=(9.5, 2.2 + 0.42 * max(1, len(shown))), layout="constrained"
            )
            ax = figure.add_subplot()
        for at, item in enumerate(shown):
            worse = item in slices.worse
            colour = VERMILION if worse else BLUE
            ax.plot((item.rate.low, item.rate.high), (at, at), color=colour, lw=2)
            ax.plot(item.rate.value, at, "o", color=colour)
            ax.plot(item.expected / item.chances, at, "|", color=INK, ms=16, mew=2)
        names = [f"{item.attribute} = {item.value}, {item.finding}" for item in shown]
        ax.set_yticks(np.arange(len(shown)), names)
        ax.set(ylim=(len(shown) - 0.5, -0.6), xlabel="errors per chance to make one")
        ax.grid(axis="x", color=GRID)
        ax.set_xlim(left=0)
        title = f"{len(slices.worse)} of {slices.tested:,} slices are worse than the rest"
        ax.set_title(title if shown else "no slice is large enough to be tested")
        handles = [
            ax.plot([], [], "o-", color=VERMILION, label="worse, after correction")[0],
            ax.plot([], [], "o-", color=BLUE, label="may be chance")[0],
            ax.plot([], [], "|", color=INK, ms=14, mew=2, ls="", label="expected")[0],
        ]
        _legend_below(ax, 3, handles=handles)
    return ax


def _legend_below(ax: Axes, columns: int, **options) -> None:
    """Put the legend below the label of the axis, where no bar can reach it."""
    height = ax.get_position().height * ax.figure.get_size_inches()[1]
    below = (0.5, -0.72 / max(height, 0.5))
    ax.legend(loc="upper center", bbox_to_anchor=below, ncols=columns, fontsize=11, **options)
