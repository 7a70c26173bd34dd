"""Figures of a score card: F1 with intervals, coverage, and confusion by finding."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workbench.evaluation.counts import AVERAGE_NAMES, OUTCOMES, REASONS, Average, FindingRow
from workbench.figures.estimates import draw_forest, name_rows
from workbench.figures.numbers import percent
from workbench.figures.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_axes,
    new_figure,
    style,
)
from workbench.findings import CODES

#: Where a number is undefined.
_DASH = "  \u2013  "
_REASON_COLOURS = (PURPLE, ORANGE, SKY, "#e4e4e4")
_SHORT = {"not mentioned": "not men-\ntioned"}


def draw_confusion(table: np.ndarray, outcomes: np.ndarray, ax: Axes, *, title: str = "") -> None:
    """Draw reference code (rows) by prediction code (columns), counts in every cell.

    Cells that the policy scores are framed and marked TP, FP, TN or FN; `outcomes` is from
    `Policy.outcomes`.
    """
    size = len(CODES)
    shade = np.log1p(table) / max(np.log1p(table).max(), 1e-9)
    ax.imshow(shade, cmap="Blues", vmin=0, vmax=1.35, aspect="equal", interpolation="nearest")
    for row in range(size):
        for column in range(size):
            scored = outcomes[row, column] < len(OUTCOMES)
            dark = shade[row, column] > 0.8
            colour = "white" if dark else INK if table[row, column] else "#9a9a9a"
            ax.text(column, row + (0.1 if scored else 0), f"{table[row, column]:,}",
                    ha="center", va="center", color=colour, fontsize=12,
                    fontweight="bold" if scored else "normal")  # fmt: skip
            if scored:
                name = OUTCOMES[outcomes[row, column]].upper()
                ax.text(column - 0.38, row - 0.37, name, ha="left", va="top", fontsize=8.5,
                        color="white" if dark else MUTED)  # fmt: skip
                colour = BLUE if name[0] == "T" else VERMILION
                corner = (column - 0.46, row - 0.46)
                ax.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, ec=colour, lw=2.2))
    names = [_SHORT.get(code, code) for code in CODES]
    ax.set_xticks(range(size), names, fontsize=9.5)
    ax.set_yticks(range(size), names, fontsize=9.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=13.5)


@style()
def plot_forest(
    rows: Mapping[str, FindingRow], averages: Mapping[str, Average], ax: Axes | None, title: str
) -> Axes:
    """Draw F1 of every finding and average, with counts and coverage at the right."""
    shown = _shown(rows)
    lines = [(row.finding, [row.f1], _note(row)) for row in shown]
    for name, mean in averages.items():
        note = f"{mean.f1.text(undefined=_DASH)}   over {len(mean.members)} findings"
        lines.append((AVERAGE_NAMES[name], [mean.f1], note))
    ax = ax or new_axes(11.5, 2.3 + 0.42 * len(lines))
    draw_forest(lines, ax, split=len(shown))
    ax.set_title(title, pad=14)
    if hidden := [row.finding for row in rows.values() if row not in shown]:
        text = textwrap.fill(f"Not drawn, no side mentions them: {', '.join(hidden)}", 92)
        ax.annotate(text, (-0.3, 0), (0, -58), xycoords="axes fraction", va="top",
                    textcoords="offset points", fontsize=11.5, color=MUTED)  # fmt: skip
    return ax


def _shown(rows: Mapping[str, FindingRow]) -> list[FindingRow]:
    """Return the rows that a side mentions; all where none is."""
    return [row for row in rows.values() if row.mentioned] or list(rows.values())


def _note(row: FindingRow) -> str:
    covered = "" if row.coverage is None else f" ({percent(row.coverage)})"
    scored = f"{row.n:,} of {row.pairs:,} scored{covered}, {row.support:,} positive"
    return scored if row.f1.value is None else f"{row.f1.text()}   {scored}"


@style()
def plot_coverage(
    rows: Mapping[str, FindingRow], reasons: pd.DataFrame, ax: Axes | None, title: str
) -> Axes:
    """Draw a bar to 100 % per finding: scored, and by `REASONS` why the other pairs were not."""
    shown = _shown(rows)
    names = [row.finding for row in shown]
    parts = np.column_stack([[row.n for row in shown], reasons.loc[names]])
    shares = 100 * parts / np.maximum(parts.sum(1, keepdims=True), 1)
    ax = ax or new_axes(11, 3.0 + 0.42 * len(names))
    notes = [f"{row.n:,} of {row.pairs:,} ({percent(row.coverage)})" for row in shown]
    places, left = name_rows(ax, names, notes), np.zeros(len(names))
    labels = ("scored", *(f"not scored: {reason}" for reason in REASONS))
    for label, share, colour in zip(labels, shares.T, (BLUE, *_REASON_COLOURS), strict=True):
        bars = {"left": left, "height": 0.72, "color": colour, "label": label}
        ax.barh(places, share, **bars, edgecolor="white", linewidth=0.8)
        left = left + share
    ax.set(xlim=(0, 100), xlabel="share of pairs, %")
    ax.set_title(title, pad=12)
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return ax


@style()
def plot_confusions(rows: Mapping[str, FindingRow], outcomes: np.ndarray, title: str) -> Figure:
    """Draw a table of codes for each finding that any side mentions; see `draw_confusion`."""
    shown = _shown(rows)
    columns = min(4, max(1, len(shown)))
    lines = max(1, -(-len(shown) // columns))
    figure = new_figure(figsize=(3.35 * columns + 0.6, 3.5 * lines + 1.0), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for at, row in enumerate(shown):
        draw_confusion(row.confusion, outcomes, axes[at], title=row.finding)
        if at % columns:
            axes[at].set_yticks([])
        if at + columns < len(shown):
            axes[at].set_xticks([])
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    figure.supylabel("reference", fontsize=14)
    figure.supxlabel("prediction", fontsize=14)
    figure.suptitle(title, fontsize=16, fontweight="bold", ha="left", x=0.01)
    return figure
