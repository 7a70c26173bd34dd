"""Figures of estimates: forests of intervals, scores as bars, and what is held against what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from workbench.figures.numbers import Estimate
from workbench.figures.style import BLUE, CYCLE, GRID, MUTED, ORANGE, new_axes, style


def draw_estimate(
    ax: Axes, found: Estimate, y: float, colour: str, *, undefined: str = "undefined", **mark: Any
) -> None:
    """Draw a mark with its interval at the height `y`; `mark` says what the mark looks like."""
    if found.value is None:
        if undefined:
            ax.text(0.0, y, undefined, color=MUTED, va="center", fontsize=11, style="italic")
        return
    if found.low is not None and found.high is not None:
        ends = [found.low, found.high]
        ax.plot(ends, [y, y], color=colour, lw=2.2, solid_capstyle="butt")
        ax.plot(ends, [y, y], "|", color=colour, ms=9, mew=2.2, clip_on=False)
    ax.plot(found.value, y, color=colour, ls="none", clip_on=False, **mark)


def name_rows(
    ax: Axes, names: Sequence[str], notes: Sequence[str] = (), *, split: int | None = None
) -> list[float]:
    """Name rows at the left, the first at the top, with notes at the right; return their heights.

    Rows from `split` on are set apart (averages).
    """
    first = len(names) if split is None else split
    places = [at + (0.6 if at >= first else 0.0) for at in range(len(names))]
    for y, note in zip(places, notes, strict=False):
        ax.text(1.03, y, note, transform=ax.get_yaxis_transform(), va="center", fontsize=11.5)
    if 0 < first < len(names):
        ax.axhline(first - 0.2, color=GRID, lw=1.2)
    ax.set_yticks(places, names)
    ax.set_ylim(max(places, default=0) + 0.7, -0.7)
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)
    return places


def draw_forest(
    rows: Sequence[tuple[str, Sequence[Estimate], str]],
    ax: Axes,
    *,
    systems: Sequence[str] = ("",),
    split: int | None = None,
) -> None:
    """Draw F1 with its interval, one line per row; systems in colours, named where there are two.

    Rows are a name, one estimate per system, and a note; see `name_rows`.
    """
    names, found, notes = zip(*rows, strict=True)
    places = name_rows(ax, names, notes, split=split)
    step = 0.62 / len(systems)
    for estimates, y in zip(found, places, strict=True):
        average = split is not None and y > split
        mark = {"marker": "D", "ms": 6} if average else {"marker": "o", "ms": 7.5}
        for index, (one, colour) in enumerate(zip(estimates, CYCLE, strict=False)):
            offset = (index - (len(systems) - 1) / 2) * step
            draw_estimate(ax, one, y + offset, colour, mec="white", mew=1.0, **mark)
    if len(systems) > 1:
        for name, colour in zip(systems, CYCLE, strict=False):
            ax.plot([], [], "o-", color=colour, label=name)
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=min(3, len(systems)))
    ax.set(xlim=(-0.02, 1.02), xticks=np.linspace(0, 1, 6), xlabel="F1 with 95 % interval")


@style()
def plot_rates(rows: Sequence[tuple[str, Estimate]], ax: Axes | None, *, xlabel: str) -> Axes:
    """Draw one point with its interval for each named estimate, none where it is undefined."""
    ax = ax or new_axes(8.5, 1.3 + 0.36 * len(rows))
    for (_, found), y in zip(rows, name_rows(ax, [name for name, _ in rows]), strict=True):
        draw_estimate(ax, found, y, BLUE, undefined="", marker="o")
    ax.set_xlabel(xlabel)
    return ax


@style()
def plot_bars(
    names: Sequence[str], values: np.ndarray, ax: Axes | None, *, title: str, xlabel: str
) -> Axes:
    """Draw one bar per name, in the order given, first at the top."""
    ax = ax or new_axes(6.5, 1.5 + 0.36 * len(names))
    ax.barh(name_rows(ax, names), values, color=ORANGE)
    ax.set_xlabel(xlabel)
    ax.set_title(title, fontsize=13)
    ax.axvline(0, color=MUTED, lw=0.8)
    return ax


@style()
def plot_reliability(bins: Sequence[tuple[float, Estimate]], ax: Axes | None) -> Axes:
    """Draw the share of false statements against the mean probability that was given, by bin."""
    ax = ax or new_axes(5.5, 5)
    ax.plot((0, 1), (0, 1), color=MUTED, lw=1, ls="--")
    for at, found in bins:
        low, value, high = np.array([found.low, found.value, found.high], float)
        ax.plot((at, at), (low, high), color=BLUE, lw=1.5)
        ax.plot(at, value, "o", color=BLUE)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability that the statement is false")
    ax.set(ylabel="share that is false", title="combination of detectors")
    return ax


@style()
def plot_trade_off(points: Sequence[tuple[str, Estimate, Estimate]], ax: Axes | None) -> Axes:
    """Draw false against missed findings per report, with both intervals.

    Points are a name, false and missed; the first is what the others are held against.
    """
    ax = ax or new_axes(7.5, 5)
    for at, (name, false, missed) in enumerate(points):
        if missed.value is not None and false.value is not None:
            look: dict[str, Any] = {"fmt": "osD^vP"[at % 6], "color": CYCLE[at % len(CYCLE)]}
            look |= {"xerr": _arms(missed), "yerr": _arms(false), "elinewidth": 1}
            ax.errorbar(missed.value, false.value, label=name, **look)
    _, false, missed = points[0]
    for line, found in ((ax.axhline, false), (ax.axvline, missed)):
        if found.value is not None:
            line(found.value, color=GRID, lw=0.8, ls="--", zorder=0)
    ax.set(xlabel="missed findings per report", ylabel="false findings per report")
    ax.set_xlim(left=-0.03 * ax.get_xlim()[1])
    ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])
    ax.legend(framealpha=1, loc="upper right")
    return ax


def _arms(found: Estimate) -> list[list[float]] | None:
    if found.value is None or found.low is None or found.high is None:
        return None
    return [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]
