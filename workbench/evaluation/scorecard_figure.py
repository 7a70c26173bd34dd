"""Figures of a score card: F1 with intervals, coverage, and confusion by finding."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.evaluation.intervals import Estimate
from workbench.evaluation.policies import OUTCOMES, REASONS
from workbench.evaluation.scorecard_counts import Average, FindingRow
from workbench.figures.numbers import percent
from workbench.figures.style import (
    BLUE,
    CYCLE,
    GRID,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_figure,
    style,
)
from workbench.findings import CODES

#: Where a number is undefined.
_DASH = "  \u2013  "
#: What averages are called.
AVERAGE_NAMES = {
    "macro": "macro F1 (mean of findings)",
    "micro": "micro F1 (all counts together)",
    "weighted": "weighted F1 (by support)",
    "macro of six": "macro F1 of the paper's six",
}
_REASON_COLOURS = (PURPLE, ORANGE, SKY, "#e4e4e4")
_SHORT = {"not mentioned": "not men-\ntioned"}


def draw_forest(
    rows: Sequence[tuple[str, Sequence[Estimate], str]],
    ax: Axes,
    *,
    systems: Sequence[str] = ("",),
    split: int | None = None,
) -> None:
    """Draw one line per row: a point with its interval for each system, and a note at the right.

    Args:
        rows: name, one estimate per system, and what to write at the right.
        ax: where; x is F1 from 0 to 1.
        systems: names for the legend; a single one has none.
        split: rows from here on are set apart (averages).
    """
    first = len(rows) if split is None else split
    places = [at + (0.6 if at >= first else 0.0) for at in range(len(rows))]
    step = 0.62 / max(1, len(systems))
    for (_, estimates, note), y in zip(rows, places, strict=True):
        mark = {"marker": "D", "ms": 6} if y > first else {"marker": "o", "ms": 7.5}
        for index, found in enumerate(estimates):
            offset = (index - (len(systems) - 1) / 2) * step
            colour = CYCLE[index % len(CYCLE)]
            draw_estimate(ax, found, y + offset, colour, mec="white", mew=1.0, **mark)
        ax.text(1.03, y, note, transform=ax.get_yaxis_transform(), va="center", fontsize=11.5)
    if split is not None and 0 < split < len(rows):
        ax.axhline(split - 0.2, color=GRID, lw=1.2, xmax=1.0)
    if len(systems) > 1:
        for index, name in enumerate(systems):
            ax.plot([], [], "o-", color=CYCLE[index % len(CYCLE)], label=name)
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=min(3, len(systems)))
    ax.set_yticks(places, [name for name, _, _ in rows])
    ax.set(xlim=(-0.02, 1.02), ylim=(max(places, default=0) + 0.7, -0.7))
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.set_xlabel("F1 with 95 % interval")
    ax.grid(axis="x")
    ax.tick_params(axis="y", length=0)


def draw_estimate(
    ax: Axes,
    found: Estimate,
    y: float,
    colour: str,
    *,
    undefined: str = "undefined",
    **mark: Any,
) -> None:
    """Draw a mark with its interval at the height `y`; `mark` says what the mark looks like."""
    if found.value is None:
        ax.text(0.0, y, undefined, color=MUTED, va="center", fontsize=11, style="italic")
        return
    if found.low is not None and found.high is not None:
        ax.plot([found.low, found.high], [y, y], color=colour, lw=2.2, solid_capstyle="butt")
        ax.plot([found.low, found.high], [y, y], "|", color=colour, ms=9, mew=2.2, clip_on=False)
    ax.plot(found.value, y, color=colour, ls="none", clip_on=False, **mark)


def _draw_coverage(names: Sequence[str], scored: np.ndarray, reasons: np.ndarray, ax: Axes) -> None:
    """Draw a bar to 100 % per finding: scored, and by `REASONS` why the other pairs were not."""
    parts = np.column_stack([scored, reasons]).astype(float)
    totals = parts.sum(1, keepdims=True)
    shares = np.divide(100 * parts, totals, out=np.zeros_like(parts), where=totals > 0)
    labels = ("scored", *(f"not scored: {reason}" for reason in REASONS))
    left = np.zeros(len(names))
    for column, colour in enumerate((BLUE, *_REASON_COLOURS)):
        ax.barh(
            range(len(names)), shares[:, column], left=left, color=colour, height=0.72,
            label=labels[column], edgecolor="white", linewidth=0.8,
        )  # fmt: skip
        left = left + shares[:, column]
    for row, count in enumerate(np.asarray(scored, dtype=int)):
        text = f"{count:,} of {int(totals[row, 0]):,} ({shares[row, 0]:.0f} %)"
        ax.text(1.02, row, text, transform=ax.get_yaxis_transform(), va="center", fontsize=11.5)
    ax.set_yticks(range(len(names)), list(names))
    ax.set(xlim=(0, 100), ylim=(len(names) - 0.4, -0.6), xlabel="share of pairs, %")
    ax.tick_params(axis="y", length=0)


def draw_confusion(table: np.ndarray, outcomes: np.ndarray, ax: Axes, *, title: str = "") -> None:
    """Draw reference code (rows) by prediction code (columns), counts in every cell.

    Cells that the policy scores are framed and marked TP, FP, TN or FN; `outcomes` is from
    `Policy.outcomes`.
    """
    from matplotlib.patches import Rectangle

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
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_title(title, fontsize=13.5)


def plot_forest(
    rows: Mapping[str, FindingRow],
    averages: Mapping[str, Average],
    ax: Axes | None,
    *,
    title: str,
) -> Axes:
    """Draw F1 of every finding and average, with counts and coverage at the right."""
    shown, hidden = _shown(rows)
    lines = [(row.finding, [row.f1], _note(row)) for row in shown]
    for name, mean in averages.items():
        note = f"{mean.f1.text(undefined=_DASH)}   over {len(mean.members)} findings"
        lines.append((AVERAGE_NAMES[name], [mean.f1], note))
    with style():
        if ax is None:
            figure = new_figure(figsize=(11.5, 2.3 + 0.42 * len(lines)), layout="constrained")
            ax = figure.add_subplot()
        draw_forest(lines, ax, split=len(shown))
        ax.set_title(title, pad=14)
        if hidden:
            text = textwrap.fill(f"Not drawn, no side mentions them: {', '.join(hidden)}", 92)
            ax.annotate(text, (-0.3, 0), (0, -58), xycoords="axes fraction", va="top",
                        textcoords="offset points", fontsize=11.5, color=MUTED)  # fmt: skip
    return ax


def _shown(rows: Mapping[str, FindingRow]) -> tuple[list[FindingRow], list[str]]:
    """Return the rows that a side mentions and the names of the others; all where none is."""
    shown = [row for row in rows.values() if row.mentioned]
    if not shown:
        return list(rows.values()), []
    return shown, [name for name, row in rows.items() if not row.mentioned]


def _note(row: FindingRow) -> str:
    covered = "" if row.coverage is None else f" ({percent(row.coverage)})"
    scored = f"{row.n:,} of {row.pairs:,} scored{covered}, {row.support:,} positive"
    return scored if row.f1.value is None else f"{row.f1.text()}   {scored}"


def plot_coverage(
    rows: Mapping[str, FindingRow], reasons: pd.DataFrame, ax: Axes | None, *, title: str
) -> Axes:
    """Draw how many pairs were scored, and why the others were not (findings by `REASONS`)."""
    shown, _ = _shown(rows)
    names = [row.finding for row in shown]
    with style():
        if ax is None:
            figure = new_figure(figsize=(11, 3.0 + 0.42 * len(names)), layout="constrained")
            ax = figure.add_subplot()
        scored = np.array([row.n for row in shown])
        _draw_coverage(names, scored, reasons.loc[names].to_numpy(), ax)
        ax.set_title(title, pad=12)
        ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return ax


def plot_confusions(rows: Mapping[str, FindingRow], outcomes: np.ndarray, *, title: str) -> Figure:
    """Draw a table of codes for each finding that any side mentions; see `draw_confusion`."""
    shown, _ = _shown(rows)
    columns = min(4, max(1, len(shown)))
    lines = max(1, -(-len(shown) // columns))
    with style():
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
