"""Figures of runs: curves, what changed, and what training would need.

Does not know: how anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures import new_figure, style
from workbench.figures.style import CYCLE, GRID, INK, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.finetune.comparing import RunComparison
    from workbench.finetune.ledger import Ledger
    from workbench.finetune.measuring import ProbeRow
    from workbench.finetune.planner import MemoryPlan

#: The loss of each kind of rows: what it is called, and its line.
LOSSES = {
    "loss_labelled": ("labelled", "-"),
    "loss_unlabelled": ("unlabelled, held to the base", ":"),
}
_PARTS = ("weights", "gradients", "optimiser", "activations", "logits", "vision")


def plot_ledger(ledger: Ledger) -> Figure:
    """Draw the loss with the measure, and before against after for every skill."""
    with style():
        figure = new_figure(figsize=(11, 4.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
        _curves(ledger, left)
        _changes(ledger, right)
    return figure


def _curves(ledger: Ledger, ax: Axes) -> None:
    apart = [name for name in LOSSES if any(name in row for row in ledger.curves)]
    for name in apart if len(apart) > 1 else ("loss",):
        rows = [row for row in ledger.curves if name in row]
        label, line = LOSSES.get(name, ("loss", "-"))
        ax.plot(
            [r["step"] for r in rows], [r[name] for r in rows], line, color=CYCLE[0], lw=1.8,
            label=label,
        )  # fmt: skip
    if len(apart) > 1:
        ax.legend(fontsize=11, loc="best")
    ax.set(xlabel="step", ylabel="loss", title="Learning", yscale="log")
    ax.yaxis.label.set_color(CYCLE[0])
    measure = ledger.best.get("measure", "")
    seen = [row for row in ledger.curves if measure in row]
    if seen:
        other = ax.twinx()
        other.spines["right"].set_visible(True)
        other.plot([r["step"] for r in seen], [r[measure] for r in seen], "o-", color=CYCLE[1])
        other.set_ylim(0, 1.04)
        other.set_ylabel(measure.replace("_", "-"), color=CYCLE[1])


def _changes(ledger: Ledger, ax: Axes) -> None:
    plot_changes([*ledger.scores, *ledger.forgetting], ax, apart=len(ledger.scores))


def plot_changes(
    rows: Sequence[ProbeRow], ax: Axes | None = None, *, title: str = "What changed", apart: int = 1
) -> Axes:
    """Draw an arrow from before (open) to after (filled) for every skill.

    Args:
        rows: skills; those without any value are left out.
        ax: where to draw; a new figure when None.
        title: above.
        apart: how many of the first were trained for.
    """
    with style():
        if ax is None:
            size = (8.5, 0.48 * len(rows) + 1.8)
            ax = new_figure(figsize=size, layout="constrained").subplots()
        for at, row in enumerate(rows):
            colour = CYCLE[2] if at < apart else CYCLE[3]
            _arrow(row, at, colour, ax)
        ax.set_yticks(range(len(rows)), [_short(row.skill) for row in rows])
        ax.set(xlim=(-0.03, 1.06), xlabel="before (open) and after (filled)", title=title)
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(axis="x", color=GRID)
        if 0 < apart < len(rows):
            ax.axhline(apart - 0.5, color=MUTED, lw=1, ls=":")
            ax.text(0, apart - 0.45, "not trained for", va="top", color=CYCLE[3], fontsize=11)
    return ax


def _arrow(row: ProbeRow, at: int, colour: str, ax: Axes) -> None:
    if row.before is not None and row.after is not None and row.before != row.after:
        ax.annotate("", (row.after, at), (row.before, at),
                    arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2.2})  # fmt: skip
    if row.before is not None:
        ax.plot(row.before, at, "o", mfc="white", mec=colour, mew=2, ms=9)
    if row.after is not None:
        ax.plot(row.after, at, "o", color=colour, ms=6)


def _short(text: str) -> str:
    words, line, lines = text.split(), "", []
    for word in words:
        if len(line) + len(word) > 26:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def plot_plan(plan: MemoryPlan, ax: Axes | None = None) -> Axes:
    """Draw predicted GB of each strategy, part by part, and the sizes of the GPUs as lines."""
    with style():
        if ax is None:
            ax = new_figure(
                figsize=(10, 0.5 * len(plan.needs) + 2), layout="constrained"
            ).subplots()
        names = [
            f"{need.strategy}{', checkpointing' if need.checkpointing else ''}"
            for need in plan.needs
        ]
        start = np.zeros(len(plan.needs))
        for part, colour in zip(_PARTS, CYCLE, strict=False):
            width = np.array([getattr(need, part) / 1e9 for need in plan.needs])
            ax.barh(range(len(names)), width, left=start, color=colour, label=part, height=0.7)
            start += width
        rest = np.array([need.total() / 1e9 for need in plan.needs]) - start
        ax.barh(range(len(names)), rest, left=start, color=GRID, label="overhead", height=0.7)
        for size in plan.gpus:
            ax.axvline(size, color=INK, lw=1.2, ls="--")
            ax.text(size, -0.75, f"{size} GB", ha="center", va="bottom", fontsize=11)
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.set(xlabel="GB, predicted, one image at a time", title=f"Training {plan.model}\n")
        ax.legend(fontsize=11, loc="lower right")
    return ax


def plot_run_comparison(comparison: RunComparison, ax: Axes | None = None) -> Axes:
    """Draw the scores of two runs as pairs of dots."""
    with style():
        rows = [row for row in comparison.scores if None not in (row.before, row.after)]
        if ax is None:
            ax = new_figure(figsize=(8, 0.5 * len(rows) + 1.6), layout="constrained").subplots()
        for at, row in enumerate(rows):
            ax.plot([row.before, row.after], [at, at], color=GRID, lw=4, zorder=1)
        for name, values, colour in (
            (comparison.a, [row.before for row in rows], CYCLE[0]),
            (comparison.b, [row.after for row in rows], CYCLE[1]),
        ):
            ax.plot(values, range(len(rows)), "o", color=colour, label=name)
        ax.set_yticks(range(len(rows)), [_short(row.skill) for row in rows])
        ax.invert_yaxis()
        ax.set(xlim=(-0.03, 1.05), xlabel="validation cases", title="Two runs")
        ax.grid(axis="x", color=GRID)
        ax.legend(loc="best")
    return ax
