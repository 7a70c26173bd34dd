"""Figures of hallucination analyses: coloured words, and rows of rates with intervals.

Does not know: models; it draws what results hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.model.licence import RESEARCH_NOTICE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.hallucination.grounding_result import Grounding

#: Characters in one line of coloured words.
COLUMNS = 96

#: Contribution in nats at which a word has its full colour; one word in e^3 = 20.
FULL = 3.0

_LINE_INCHES = 0.3
_CHARACTER_WIDTH = 0.602


def plot_grounding(
    grounding: Grounding, ax: Axes | None = None, *, ablation: str | None = None
) -> Axes:
    """Draw the words of a text on a tint of what the image contributed to them.

    Args:
        grounding: what to draw.
        ax: where to draw; a new figure that fits the text when None.
        ablation: against which ablation; the mean when None.
    """
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    values = grounding.of(ablation)
    words = [part.text for part in grounding.parts]
    sums = [float(values[list(part.tokens)].sum()) for part in grounding.parts]
    cells = placed(words)
    lines = 1 + max((line for line, _ in cells), default=0)
    if ax is None:
        size = (10, max(1.0, 0.7 + _LINE_INCHES * lines))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    colours = ScalarMappable(Normalize(-FULL, FULL), plt.get_cmap("PiYG"))
    bar = ax.figure.colorbar(colours, ax=ax, fraction=0.02, pad=0.01, ticks=(-FULL, 0, FULL))
    bar.set_label("contribution [nats]")
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0), xticks=(), yticks=())
    ax.spines[:].set_visible(False)
    against = ablation or "mean of ablations"
    ax.set_title(f"{grounding.source}: image against {against}", loc="left", fontsize="medium")
    ax.set_xlabel(RESEARCH_NOTICE, loc="left", fontsize="small", color="#5f5f5f")
    ax.figure.draw_without_rendering()
    size = _font_size(ax, lines)
    for word, (line, column), value in zip(words, cells, sums, strict=True):
        _draw_word(ax, word, line, column, colours.to_rgba(value), size)
    return ax


def placed(words: Sequence[str], columns: int = COLUMNS) -> list[tuple[int, int]]:
    """Return line and first column of each word, one space apart."""
    cells, line, column = [], 0, 0
    for word in words:
        if column and column + len(word) > columns:
            line, column = line + 1, 0
        cells.append((line, column))
        column += len(word) + 1
    return cells


def plot_rates(rows: Sequence[tuple[str, object]], ax: Axes | None, *, xlabel: str) -> Axes:
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
        if found.low is not None:
            ax.plot((found.low, found.high), (at, at), color="#1f5f8b", lw=1.5)
    ax.set_yticks(np.arange(len(rows)), [name for name, _ in rows])
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _draw_word(ax: Axes, word: str, line: int, column: int, colour: tuple, size: float) -> None:
    from matplotlib.patches import Rectangle

    box = Rectangle((column, line + 0.06), len(word), 0.88, facecolor=colour, edgecolor="none")
    ax.add_patch(box)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ax.text(
        column, line + 0.52, word, family="DejaVu Sans Mono", fontsize=size, va="center",
        color="black" if luminance > 0.5 else "white", parse_math=False, clip_on=True,
    )  # fmt: skip


def _font_size(ax: Axes, lines: int) -> float:
    box = ax.get_window_extent()
    points = 72 / ax.figure.dpi
    return min(
        0.9 * box.width * points / COLUMNS / _CHARACTER_WIDTH, 0.8 * box.height * points / lines
    )


def plot_suspicion(
    names: Sequence[str], values: np.ndarray, ax: Axes | None, *, detector: str
) -> Axes:
    """Draw one bar per stated finding, in the order given, first at the top."""
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(6, 0.9 + 0.32 * len(names)), layout="constrained")
    ax.barh(np.arange(len(names)), values, color="#d9741f")
    ax.set_yticks(np.arange(len(names)), names)
    ax.set(ylim=(len(names) - 0.5, -0.5), xlabel="greater is more suspect")
    ax.set_title(detector, loc="left", fontsize=13, fontweight="bold")
    ax.axvline(0, color="#5f5f5f", lw=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_reliability(bins: Sequence[tuple[float, object]], ax: Axes | None) -> Axes:
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
        ax.plot((at, at), (found.low, found.high), color="#1f5f8b", lw=1.5)
        ax.plot(at, found.value, "o", color="#1f5f8b")
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability that the statement is false")
    ax.set(ylabel="share that is false", title="combination of detectors")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def plot_exchange(points: Sequence[tuple[str, object, object]], ax: Axes | None) -> Axes:
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
        ax.errorbar(
            missed.value, false.value, fmt=markers[at % len(markers)], color=colour, label=name,
            xerr=_arms(missed), yerr=_arms(false), ms=7, elinewidth=1,
        )  # fmt: skip
    ax.axhline(points[0][1].value, color="#bdbdbd", lw=0.8, ls="--", zorder=0)
    ax.axvline(points[0][2].value, color="#bdbdbd", lw=0.8, ls="--", zorder=0)
    ax.set(xlabel="missed findings per report", ylabel="false findings per report")
    ax.set_xlim(left=-0.03 * ax.get_xlim()[1])
    ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(edgecolor="none", framealpha=1, loc="upper right")
    return ax


def _arms(found: object) -> list[list[float]] | None:
    if found.low is None:
        return None
    return [[max(found.value - found.low, 0)], [max(found.high - found.value, 0)]]
