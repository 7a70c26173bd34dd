"""Figures of the checks: curves, the randomisation cascade, counterfactual films.

Does not know: models; it draws what the results hold.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from workbench.figures.names import method_name
from workbench.figures.style import (
    AMBER,
    BLUE,
    FILM,
    GRID,
    MUTED,
    VERMILION,
    new_figure,
    style,
)
from workbench.reports import sentences

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from workbench.saliency.counterfactual import Counterfactual
    from workbench.saliency.curves import Curve
    from workbench.saliency.randomisation import RandomisationCheck

#: A rank correlation above which a map counts as unchanged.
UNCHANGED = 0.9


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
        below = (curve.kind == "deletion") == (curve.gain >= 0)
        where = "below" if below else "above"
        verdict = "" if curve.gain >= 0 else " (worse)"
        ax.set_title(
            f"{curve.kind.capitalize()} by {curve.method}:\n"
            f"on average {abs(curve.gain):.1f} {where} random order{verdict}",
            pad=34,
        )
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.3)
        ax.grid(axis="y", color=GRID)
        _below(ax, curve.target)
    return ax


def plot_randomisation(check: RandomisationCheck, ax: Axes | None = None) -> Axes:
    """Draw how alike the map stays while part after part becomes random.

    The verdict is that of the stage that changes the map least. Stages that leave it as it was are
    marked: it does not depend on the parts that were random by then.
    """
    from workbench.saliency.checks import RANDOMISED_LIMIT

    with style():
        if ax is None:
            ax = new_figure(figsize=(8.2, 5.0), layout="constrained").add_subplot()
        names = ["trained", *check.stages]
        values = [1.0, *(np.nan if s is None else s for s in check.similarity)]
        ax.axhspan(-RANDOMISED_LIMIT, RANDOMISED_LIMIT, color=GRID, alpha=0.6)
        ax.plot(range(len(values)), values, color=BLUE, marker="o")
        same = [at for at, value in enumerate(values) if at and value > UNCHANGED]
        ax.plot(same, [values[at] for at in same], "o", color=AMBER, markersize=13)
        for at, value in enumerate(values):
            ax.annotate(
                "constant:\nunknown" if np.isnan(value) else f"{value:.2f}",
                (at, 0 if np.isnan(value) else value),
                textcoords="offset points",
                xytext=(0, 12),
                ha="center",
                fontweight="bold",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
            )
        ticks = ["\n+ ".join(name.split(" + ")) for name in names]
        ax.set_xticks(range(len(names)), ticks, fontsize=13)
        ax.set(ylim=(-1.05, 1.4), xlim=(-0.4, len(names) - 0.6), ylabel="rank correlation")
        ax.set_yticks([-1, -0.5, 0, 0.5, 1])
        ax.text(-0.36, 0.0, "changed", fontsize=12, color=MUTED, va="center")
        method = method_name(check.method)
        verdict = {True: "passes", False: "fails", None: "has no verdict in"}[check.ok]
        said = f"{method} {verdict} the randomisation check"
        ax.set_title(said)
        ax.set_xlabel("random weights in ...", fontsize=13)
    return ax


def plot_counterfactual(result: Counterfactual) -> Figure:
    """Draw the film before and after, what is said differently, and the findings that changed."""
    told, same = _told_apart(result.before.text, result.after.text)
    changed = (
        "; ".join(f"{name}: {old} \u2192 {new}" for name, (old, new) in result.changes.items())
        or "no finding changed its code"
    )
    note = (
        f"{result.target} \u00b7 outline: the region put back to normal by {result.how} \u00b7 "
        f"{same} sentence{'s' if same != 1 else ''} alike in both"
    )
    blocks = (textwrap.wrap(changed, 92), textwrap.wrap(note, 128))
    high, wide = result.image.pixels.shape
    film, line, small = min(5.95 * high / wide, 7.0), 0.31, 0.24
    words = line * max(len(lines) for lines in told)
    below = words + line * len(blocks[0]) + small * len(blocks[1]) + 0.65
    total = 0.55 + film + below
    with style():
        figure = new_figure(figsize=(12.4, total))
        for column, image in enumerate((result.image, result.changed)):
            left = 0.012 + 0.5 * column
            ax = figure.add_axes((left, below / total, 0.48, film / total))
            ax.imshow(image.pixels, cmap=FILM, vmin=0, vmax=1, interpolation="antialiased")
            _dotted(ax, result.region, "-" if column == 0 else ":")
            ax.set_axis_off()
            ax.set_anchor("NW")
            ax.set_title(_score(result, column), fontsize=17, loc="left")
            y = (below - 0.14) / total
            body = "\n".join(told[column])
            figure.text(left, y, body, fontsize=14.5, va="top", linespacing=1.35, parse_math=False)
        y = (below - words - 0.3) / total
        bold = {"fontsize": 15, "fontweight": "bold", "color": VERMILION, "linespacing": 1.35}
        figure.text(0.012, y, "\n".join(blocks[0]), va="top", parse_math=False, **bold)
        y -= (line * len(blocks[0]) + 0.08) / total
        small_print = {"fontsize": 11.5, "color": MUTED, "linespacing": 1.35, "parse_math": False}
        figure.text(0.012, y, "\n".join(blocks[1]), va="top", **small_print)
    return figure


def _told_apart(before: str, after: str) -> tuple[tuple[list[str], list[str]], int]:
    """Return the lines of each text that the other does not have, and how many both have."""
    both = [[" ".join(s.text.split()) for s in sentences(text)] for text in (before, after)]
    same = [sentence for sentence in both[0] if sentence in both[1]]
    told = []
    for own in both:
        lines = textwrap.wrap(" ".join(s for s in own if s not in same) or "(the same words)", 56)
        told.append(lines if len(lines) <= 6 else [*lines[:5], lines[5][:50] + " ..."])
    return (told[0], told[1]), len(same)


def _dotted(ax: Axes, region: np.ndarray, line: str) -> None:
    if region.any() and not region.all():
        for colour, width in (("black", 3.4), ("white", 1.7)):
            ax.contour(
                region.astype(float), [0.5], colors=[colour], linewidths=width, linestyles=line
            )


def _score(result: Counterfactual, column: int) -> str:
    if column == 0:
        return f"before: target {_signed(result.score_before)}"
    moved = "fell" if result.effect >= 0 else "rose"
    return f"after: {_signed(result.score_after)}, {moved} by {abs(result.effect):.1f}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\u2212")


def _below(ax: Axes, text: str) -> None:
    """Write under the axis label, no wider than the axes."""
    inches = ax.figure.get_figwidth() * ax.get_position().width
    ax.text(
        0,
        -0.2,
        "\n".join(textwrap.wrap(text, max(int(11 * inches), 30))),
        transform=ax.transAxes,
        fontsize=11,
        color=MUTED,
        va="top",
        parse_math=False,
    )


def plot_truth_table(rows: list[dict], ax: Axes | None = None) -> Axes:
    """Draw pointing rates with intervals, method by method, beside the baselines.

    Args:
        rows: dicts with method, pointing, low, high, other_phrase (or None), baseline (bool) and
            randomisation_ok (True, False or None); those whose pointing is None are left out.
        ax: where to draw; a new figure when None.
    """
    rows = [row for row in rows if row["pointing"] is not None]
    order = sorted(rows, key=lambda row: (not row["baseline"], row["pointing"]))
    with style():
        if ax is None:
            ax = new_figure(figsize=(9.6, 0.52 * len(rows) + 1.9), layout="constrained")
            ax = ax.add_subplot()
        best = max((row["pointing"] for row in rows if row["baseline"]), default=None)
        if best is not None:
            ax.axvspan(-0.02, best, color=GRID, alpha=0.5, lw=0)
        for at, row in enumerate(order):
            failed = row["randomisation_ok"] is False
            colour = MUTED if row["baseline"] else AMBER if failed else BLUE
            ax.plot([row["low"], row["high"]], [at, at], color=colour, lw=4, solid_capstyle="butt")
            ax.plot(row["pointing"], at, "o", color=colour, markersize=11)
            if row.get("other_phrase") is not None:
                ax.plot(row["other_phrase"], at, "x", color=VERMILION, markersize=10, mew=2.6)
        names = [
            method_name(row["method"]) + ("  \u26a0" if row["randomisation_ok"] is False else "")
            for row in order
        ]
        ax.set_yticks(np.arange(len(order)), names, fontsize=14)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.7, len(order) - 0.3))
        ax.grid(axis="x", color=GRID)
        ax.set_title("Which maps point at the truth?")
        ax.set_xlabel("share of cases whose greatest cell touches the truth")
        _table_key(ax, any(row["randomisation_ok"] is False for row in order))
    return ax


def _table_key(ax: Axes, failed: bool) -> None:
    """Say below what the marks mean."""
    bar = {"lw": 4, "marker": "o", "markersize": 11}
    handles = [
        Line2D([], [], color=BLUE, label="a method, 95 % interval", **bar),
        Line2D([], [], color=MUTED, label="a fixed map", **bar),
        Line2D(
            [],
            [],
            color=VERMILION,
            marker="x",
            markersize=10,
            mew=2.6,
            linestyle="none",
            label="the method, asked about another phrase",
        ),
        Patch(color=GRID, alpha=0.5, label="no better than a fixed map"),
    ]
    if failed:
        handles.append(
            Line2D([], [], color=AMBER, label="\u26a0 fails the randomisation check", **bar)
        )
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, -0.9 / max(len(ax.get_yticks()), 1) - 0.04),
        ncols=2,
        fontsize=12,
        borderaxespad=0,
    )
