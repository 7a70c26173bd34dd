"""Figures of the checks: curves, the randomisation cascade, counterfactual films.

Does not know: models; it draws what the results hold.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from workbench.figures.masks import draw_masks
from workbench.figures.style import (
    AMBER,
    BLUE,
    FILM,
    GRID,
    INK,
    MUTED,
    VERMILION,
    new_figure,
    style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.saliency.checks import Curve
    from workbench.saliency.counterfactual import Counterfactual
    from workbench.saliency.randomisation import RandomisationCheck


def plot_curve(curve: Curve, ax: Axes | None = None) -> Axes:
    """Draw a deletion or insertion curve beside random order, the gain shaded."""
    with style():
        if ax is None:
            ax = new_figure(figsize=(7.2, 4.8), layout="constrained").add_subplot()
        share = 100 * curve.share
        ax.fill_between(share, curve.scores, curve.random_scores, color=BLUE, alpha=0.12)
        ax.plot(share, curve.random_scores, color=MUTED, linestyle="--", label="random order")
        ax.plot(share, curve.scores, color=BLUE, label=curve.method)
        done = "taken away" if curve.kind == "deletion" else "put back"
        ax.set(xlabel=f"% of the film {done}", ylabel="target, natural log units", xlim=(0, 100))
        ax.set_title(f"{curve.kind.capitalize()}: {curve.gain:+.2f} against random order")
        ax.legend()
        ax.grid(axis="y", color=GRID)
        _below(ax, curve.target)
    return ax


def plot_randomisation(check: RandomisationCheck, ax: Axes | None = None) -> Axes:
    """Draw how alike the map stays while part after part becomes random."""
    from workbench.saliency.checks import RANDOMISED_LIMIT

    with style():
        if ax is None:
            ax = new_figure(figsize=(7.2, 4.4), layout="constrained").add_subplot()
        names = ["trained", *check.stages]
        values = [1.0, *check.similarity]
        ax.axhspan(-RANDOMISED_LIMIT, RANDOMISED_LIMIT, color=GRID, alpha=0.6)
        ax.plot(range(len(values)), values, color=BLUE, marker="o")
        for at, value in enumerate(values):
            ax.annotate(
                f"{value:.2f}", (at, value), textcoords="offset points", xytext=(0, 10), ha="center"
            )
        ticks = ["\n+ ".join(name.split(" + ")) for name in names]
        ax.set_xticks(range(len(names)), ticks, fontsize=11)
        ax.set(ylim=(-1.05, 1.25), xlim=(-0.4, len(names) - 0.6), ylabel="rank correlation")
        verdict = "passes" if check.ok else "fails"
        ax.set_title(f"{check.method.replace('_', ' ')} {verdict} the randomisation check")
        ax.set_xlabel("random weights in ... (grey: the map has changed)", fontsize=12)
    return ax


def plot_counterfactual(result: Counterfactual) -> Figure:
    """Draw the film before and after, with both reports and the findings that changed."""
    with style():
        figure = new_figure(figsize=(12.4, 8.6))
        texts = ((result.image, result.before, "before"), (result.changed, result.after, "after"))
        for column, (image, generation, name) in enumerate(texts):
            left = 0.015 + 0.495 * column
            film = figure.add_axes((left, 0.36, 0.475, 0.585))
            if column == 0:
                draw_masks(image.pixels, {"changed": result.region}, ax=film)
            else:
                film.imshow(image.pixels, cmap=FILM, vmin=0, vmax=1, interpolation="antialiased")
                film.set_axis_off()
            film.set_title(f"{name}: {_score(result, column)}", fontsize=14, loc="left")
            body = "\n".join(textwrap.wrap(generation.text, 74)[:7])
            figure.text(left, 0.335, body, fontsize=11.5, color=INK, va="top", linespacing=1.4)
        changed = (
            "; ".join(f"{name}: {old} \u2192 {new}" for name, (old, new) in result.changes.items())
            or "no finding changed its code"
        )
        figure.text(0.015, 0.065, changed, fontsize=13, fontweight="bold", color=VERMILION)
        note = f"{result.target}; region put back to normal by {result.how}"
        figure.text(0.015, 0.03, note, fontsize=10.5, color=MUTED)
    return figure


def _score(result: Counterfactual, column: int) -> str:
    score = (result.score_before, result.score_after)[column]
    return f"target {score:+.2f}" + (f" (fell by {result.effect:.2f})" if column else "")


def _below(ax: Axes, text: str) -> None:
    ax.text(
        0,
        -0.2,
        "\n".join(textwrap.wrap(text, 90)),
        transform=ax.transAxes,
        fontsize=10,
        color=MUTED,
        va="top",
    )


def plot_truth_table(rows: list[dict], ax: Axes | None = None) -> Axes:
    """Draw pointing rates with intervals, method by method, beside the baselines.

    Args:
        rows: dicts with method, pointing, low, high, other_phrase (or None), baseline (bool) and
            randomisation_ok (True, False or None).
        ax: where to draw; a new figure when None.
    """
    order = sorted(rows, key=lambda row: (not row["baseline"], row["pointing"]))
    with style():
        if ax is None:
            ax = new_figure(figsize=(9.6, 0.52 * len(rows) + 1.9), layout="constrained")
            ax = ax.add_subplot()
        best = max((row["pointing"] for row in rows if row["baseline"]), default=None)
        if best is not None:
            ax.axvspan(0, best, color=GRID, alpha=0.5, lw=0)
        for at, row in enumerate(order):
            failed = row["randomisation_ok"] is False
            colour = MUTED if row["baseline"] else AMBER if failed else BLUE
            ax.plot([row["low"], row["high"]], [at, at], color=colour, lw=3, solid_capstyle="butt")
            ax.plot(row["pointing"], at, "o", color=colour, markersize=9)
            if row.get("other_phrase") is not None:
                ax.plot(row["other_phrase"], at, "x", color=VERMILION, markersize=8, mew=2)
        names = [
            row["method"].replace("_", " ")
            + ("  \u26a0" if row["randomisation_ok"] is False else "")
            for row in order
        ]
        ax.set_yticks(np.arange(len(order)), names)
        ax.set(xlim=(0, 1), ylim=(-0.7, len(order) - 0.3), xlabel="pointing game, share of cases")
        ax.grid(axis="x", color=GRID)
        ax.set_title("Which maps point at the truth?")
        ax.text(
            0,
            -0.9 / max(len(order), 4) - 0.12,
            "bar: 95 % interval; \u00d7: the same method asked about another phrase; grey: best "
            "fixed baseline;\n\u26a0 amber: fails the randomisation check",
            transform=ax.transAxes,
            fontsize=10,
            color=MUTED,
            va="top",
        )
    return ax
