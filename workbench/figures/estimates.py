"""Figures of estimates: rates with their intervals, scores as bars, and what is held against what.

An estimate here is anything with `value`, `low` and `high`; None where it is not defined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes

_GREY, _BLUE, _ORANGE = "#5f5f5f", "#1f5f8b", "#d9741f"


class Bounded(Protocol):
    """A number with its interval."""

    @property
    def value(self) -> float | None: ...

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


def plot_rates(rows: Sequence[tuple[str, Bounded]], ax: Axes | None, *, xlabel: str) -> Axes:
    """Draw one point with its interval for each named estimate, first at the top.

    Undefined ones are named without a point.
    """
    ax = _axes(ax, 7, 0.8 + 0.32 * len(rows))
    for at, (_, found) in enumerate(rows):
        if found.value is None:
            continue
        ax.plot(found.value, at, "o", color=_BLUE)
        if found.low is not None and found.high is not None:
            ax.plot((found.low, found.high), (at, at), color=_BLUE, lw=1.5)
    ax.set_yticks(np.arange(len(rows)), [name for name, _ in rows])
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    return ax


def plot_bars(
    names: Sequence[str], values: np.ndarray, ax: Axes | None, *, title: str, xlabel: str
) -> Axes:
    """Draw one bar per name, in the order given, first at the top."""
    ax = _axes(ax, 6, 0.9 + 0.32 * len(names))
    ax.barh(np.arange(len(names)), values, color=_ORANGE)
    ax.set_yticks(np.arange(len(names)), names)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel=xlabel)
    ax.set_title(title, loc="left", fontsize=13, fontweight="bold")
    ax.axvline(0, color=_GREY, lw=0.8)
    return ax


def plot_reliability(bins: Sequence[tuple[float, Bounded]], ax: Axes | None) -> Axes:
    """Draw the share of false statements against the mean probability that was given, by bin."""
    ax = _axes(ax, 4.5, 4.2)
    ax.plot((0, 1), (0, 1), color="#9a9a9a", lw=1, ls="--")
    for at, found in bins:
        low, value, high = np.array([found.low, found.value, found.high], float)
        ax.plot((at, at), (low, high), color=_BLUE, lw=1.5)
        ax.plot(at, value, "o", color=_BLUE)
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability that the statement is false")
    ax.set(ylabel="share that is false", title="combination of detectors")
    return ax


def plot_trade_off(points: Sequence[tuple[str, Bounded, Bounded]], ax: Axes | None) -> Axes:
    """Draw false against missed findings per report, with both intervals.

    Args:
        points: name, false and missed; the first is what the others are held against.
        ax: a new figure when None.
    """
    ax = _axes(ax, 7, 4.6)
    colours = (_GREY, _BLUE, _ORANGE, "#4d9221", "#8b1f5f", "#b59a00")
    markers = "osD^vP"
    for at, (name, false, missed) in enumerate(points):
        colour = colours[at % len(colours)]
        if missed.value is None or false.value is None:
            continue
        ax.errorbar(
            missed.value, false.value, fmt=markers[at % len(markers)], color=colour, label=name,
            xerr=_arms(missed), yerr=_arms(false), ms=7, elinewidth=1,
        )  # fmt: skip
    _, false, missed = points[0]
    for line, found in ((ax.axhline, false), (ax.axvline, missed)):
        if found.value is not None:
            line(found.value, color="#bdbdbd", lw=0.8, ls="--", zorder=0)
    ax.set(xlabel="missed findings per report", ylabel="false findings per report")
    ax.set_xlim(left=-0.03 * ax.get_xlim()[1])
    ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])
    ax.legend(edgecolor="none", framealpha=1, loc="upper right")
    return ax


def _arms(found: Bounded) -> list[list[float]] | None:
    if found.value is None or found.low is None or found.high is None:
        return None
    return [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return axes, new ones where there are none, without a frame above and to the right."""
    if ax is None:
        from matplotlib import pyplot

        _, ax = pyplot.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
