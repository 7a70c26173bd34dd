"""Figures of estimates: rates with their intervals, scores as bars, and what is held against what.

An estimate here is anything with `value`, `low` and `high`; None where it is not defined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Bounded(Protocol):
    """A number with its interval."""

    @property
    def value(self) -> float | None:
        """The number; None where it is undefined."""
        ...

    @property
    def low(self) -> float | None:
        """Lower end; None where there is no interval."""
        ...

    @property
    def high(self) -> float | None:
        """Upper end; None where there is no interval."""
        ...


def plot_rates(rows: Sequence[tuple[str, Bounded]], ax: Axes | None, *, xlabel: str) -> Axes:
    """Draw one point with its interval for each named estimate, first at the top.

    Args:
        rows: name and `Estimate` of each; undefined ones are named without a point.
        ax: where to draw; a new figure when None.
        xlabel: what is estimated.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        size = (7, 0.8 + 0.32 * len(rows))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    for at, (_, found) in enumerate(rows):
        if found.value is None:
            continue
        ax.plot(found.value, at, "o", color="#1f5f8b")
        if found.low is not None and found.high is not None:
            ax.plot((found.low, found.high), (at, at), color="#1f5f8b", lw=1.5)
    ax.set_yticks(np.arange(len(rows)), [name for name, _ in rows])
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_bars(
    names: Sequence[str], values: np.ndarray, ax: Axes | None, *, title: str, xlabel: str
) -> Axes:
    """Draw one bar per name, in the order given, first at the top."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 0.9 + 0.32 * len(names)), layout="constrained")
    ax.barh(np.arange(len(names)), values, color="#d9741f")
    ax.set_yticks(np.arange(len(names)), names)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel=xlabel)
    ax.set_title(title, loc="left", fontsize=13, fontweight="bold")
    ax.axvline(0, color="#5f5f5f", lw=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_reliability(bins: Sequence[tuple[float, Bounded]], ax: Axes | None) -> Axes:
    """Draw the share of false statements against the probability that was given, by bin.

    Args:
        bins: mean probability and `Estimate` of the share, in order.
        ax: where to draw; a new figure when None.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(4.5, 4.2), layout="constrained")
    ax.plot((0, 1), (0, 1), color="#9a9a9a", lw=1, ls="--")
    for at, found in bins:
        low, value, high = np.array([found.low, found.value, found.high], float)
        ax.plot((at, at), (low, high), color="#1f5f8b", lw=1.5)
        ax.plot(at, value, "o", color="#1f5f8b")
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability that the statement is false")
    ax.set(ylabel="share that is false", title="combination of detectors")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_trade_off(points: Sequence[tuple[str, Bounded, Bounded]], ax: Axes | None) -> Axes:
    """Draw false against missed findings per report, with both intervals.

    Args:
        points: name and two `Estimate` of each; the first is what the others are held against.
        ax: where to draw; a new figure when None.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4.6), layout="constrained")
    colours = ("#5f5f5f", "#1f5f8b", "#d9741f", "#4d9221", "#8b1f5f", "#b59a00")
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
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(edgecolor="none", framealpha=1, loc="upper right")
    return ax


def _arms(found: Bounded) -> list[list[float]] | None:
    if found.value is None or found.low is None or found.high is None:
        return None
    return [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]
