"""Figures of training: curves, what changed, two runs, and the memory that training needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import TextWrapper

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.figures.estimates import name_rows
from workbench.figures.style import CYCLE, GRID, INK, MUTED, new_axes, new_figure, style

#: A skill with its values before and after; None where undefined.
Change = tuple[str, float | None, float | None]

#: The loss of each kind of rows: what it is called, and its line.
LOSSES = {
    "loss_labelled": ("labelled", "-"),
    "loss_unlabelled": ("unlabelled, tied to the base", ":"),
}


@style()
def plot_learning(
    curves: Sequence[Mapping[str, float]], measure: str, changes: Sequence[Change], *, apart: int
) -> Figure:
    """Draw the loss with the measure, and before against after for every skill.

    Args:
        curves: one row per logged step: step, loss, measures.
        measure: the one that weights were chosen by.
        apart: how many of the first were trained for.
    """
    figure = new_figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _draw_curves(curves, measure, left)
    plot_changes(changes, right, apart=apart)
    return figure


def _draw_curves(curves: Sequence[Mapping[str, float]], measure: str, ax: Axes) -> None:
    kinds = [name for name in LOSSES if any(name in row for row in curves)]
    for name in kinds if len(kinds) > 1 else ("loss",):
        rows = [row for row in curves if name in row]
        label, line = LOSSES.get(name, ("loss", "-"))
        steps, losses = [row["step"] for row in rows], [row[name] for row in rows]
        ax.plot(steps, losses, line, color=CYCLE[0], lw=1.8, label=label)
    if len(kinds) > 1:
        ax.legend(fontsize=11, loc="best")
    ax.set(xlabel="step", ylabel="loss", title="Learning", yscale="log")
    ax.yaxis.label.set_color(CYCLE[0])
    seen = [row for row in curves if measure in row]
    if seen:
        other = ax.twinx()
        other.spines["right"].set_visible(True)
        other.plot([r["step"] for r in seen], [r[measure] for r in seen], "o-", color=CYCLE[1])
        other.set_ylim(0, 1.04)
        other.set_ylabel(measure.replace("_", "-"), color=CYCLE[1])


@style()
def plot_changes(
    changes: Sequence[Change],
    ax: Axes | None = None,
    *,
    title: str = "What changed",
    apart: int = 1,
) -> Axes:
    """Draw an arrow from before (open) to after (filled); the first `apart` were trained for."""
    ax = ax or new_axes(8.5, 0.48 * len(changes) + 1.8)
    for change, y in zip(changes, name_rows(ax, _labels(changes)), strict=True):
        _draw_change(change, y, CYCLE[2] if y < apart else CYCLE[3], ax)
    ax.set(xlim=(-0.03, 1.06), xlabel="before (open) and after (filled)", title=title)
    if 0 < apart < len(changes):
        ax.axhline(apart - 0.5, color=MUTED, lw=1, ls=":")
        ax.text(0, apart - 0.45, "not trained for", va="top", color=CYCLE[3], fontsize=11)
    return ax


def _draw_change(change: Change, y: float, colour: str, ax: Axes) -> None:
    _, before, after = change
    if before is not None and after is not None and before != after:
        arrow = {"arrowstyle": "-|>", "color": colour, "lw": 2.2}
        ax.annotate("", (after, y), (before, y), arrowprops=arrow)
    if before is not None:
        ax.plot(before, y, "o", mfc="white", mec=colour, mew=2, ms=9)
    if after is not None:
        ax.plot(after, y, "o", color=colour, ms=6)


@style()
def plot_pairs(
    pairs: Sequence[Change], names: tuple[str, str], ax: Axes | None = None, *, title: str
) -> Axes:
    """Draw the scores of two runs as pairs of dots; pairs with an undefined one are left out."""
    pairs = [pair for pair in pairs if None not in pair]
    ax = ax or new_axes(8, 0.5 * len(pairs) + 1.6)
    scores = np.array([pair[1:] for pair in pairs], float).reshape(-1, 2)
    places = name_rows(ax, _labels(pairs))
    ax.hlines(places, scores[:, 0], scores[:, 1], color=GRID, lw=4, zorder=1)
    for name, colour, values in zip(names, CYCLE, scores.T, strict=False):
        ax.plot(values, places, "o", color=colour, label=name)
    ax.set(xlim=(-0.03, 1.05), xlabel="validation cases", title=title)
    ax.legend(loc="best")
    return ax


@style()
def plot_memory(
    names: Sequence[str],
    parts: Mapping[str, Sequence[float]],
    gpus: Sequence[int],
    ax: Axes | None = None,
    *,
    title: str,
) -> Axes:
    """Draw predicted memory, part by part, and the sizes of GPUs as lines.

    Args:
        parts: name -> GB of each strategy; the last is what is left over.
    """
    ax = ax or new_axes(10, 0.5 * len(names) + 2)
    start, places = np.zeros(len(names)), name_rows(ax, names)
    colours = (*CYCLE[: len(parts) - 1], GRID)
    for (part, width), colour in zip(parts.items(), colours, strict=True):
        ax.barh(places, width, left=start, color=colour, label=part, height=0.7)
        start += width
    for size in gpus:
        ax.axvline(size, color=INK, lw=1.2, ls="--")
        ax.text(size, -0.75, str(size), ha="center", va="bottom", fontsize=11)
    ax.set(xlabel="GB, predicted, one image at a time; dashed: sizes of GPUs", title=f"{title}\n")
    ax.legend(fontsize=11, loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def _labels(rows: Sequence[Change]) -> list[str]:
    """Return the skills in lines of 26 characters."""
    wrapper = TextWrapper(26, break_long_words=False, break_on_hyphens=False)
    return [wrapper.fill(skill) for skill, *_ in rows]
