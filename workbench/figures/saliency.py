"""Saliency maps tried: curves, the randomisation cascade, counterfactuals."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.figures.radiograph import outline
from workbench.figures.style import (
    AMBER,
    BLUE,
    GREY,
    GRID,
    MUTED,
    VERMILION,
    new_axes,
    new_figure,
    style,
)

#: A rank correlation above which a map counts as unchanged.
UNCHANGED = 0.9


@style()
def draw_curve(
    share: np.ndarray,
    scores: np.ndarray,
    random_scores: np.ndarray,
    *,
    method: str,
    title: str,
    done: str,
    note: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw a deletion or insertion curve beside random order, the gain shaded.

    Args:
        share: (steps,) of the image changed, 0 to 1.
        scores, random_scores: (steps,) the target in the map's order and in random order.
        done: what was done to the image: "taken away" or "put back".
    """
    ax = ax or new_axes(7.2, 4.8)
    percent = 100 * share
    ax.fill_between(percent, scores, random_scores, color=BLUE, alpha=0.12)
    ax.plot(percent, random_scores, color=MUTED, linestyle="--", label="random order")
    ax.plot(percent, scores, color=BLUE, label=method)
    ax.set(xlabel=f"% of the image {done}", ylabel="target, natural log units", xlim=(0, 100))
    ax.set_title(title, pad=34)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.3)
    ax.grid(axis="y", color=GRID)
    inches = ax.get_window_extent().width / ax.figure.dpi
    below = "\n".join(textwrap.wrap(note, max(int(11 * inches), 30)))
    look = {"fontsize": 11, "color": MUTED, "va": "top", "parse_math": False}
    ax.text(0, -0.2, below, transform=ax.transAxes, **look)
    return ax


@style()
def draw_cascade(
    stages: Sequence[str],
    similarity: Sequence[float | None],
    *,
    limit: float,
    title: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw how alike a map stays while part after part of its model becomes random.

    Stages that leave it as it was are marked: it does not depend on the parts that were random by
    then.

    Args:
        stages: parts that were random, joined by " + ".
        similarity: rank correlation with the map of the trained model at each; None is unknown.
        limit: size of the correlation from which on a map fails.
    """
    ax = ax or new_axes(8.2, 5.0)
    names = ["trained", *stages]
    values = [1.0, *(np.nan if s is None else s for s in similarity)]
    ax.axhspan(-limit, limit, color=GRID, alpha=0.6)
    ax.plot(range(len(values)), values, color=BLUE, marker="o")
    same = [at for at, value in enumerate(values) if at and value > UNCHANGED]
    ax.plot(same, [values[at] for at in same], "o", color=AMBER, markersize=13)
    for at, value in enumerate(values):
        said, y = ("constant:\nunknown", 0) if np.isnan(value) else (f"{value:.2f}", value)
        ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1}
        look = {"ha": "center", "fontweight": "bold", "bbox": ground}
        ax.annotate(said, (at, y), textcoords="offset points", xytext=(0, 12), **look)
    ticks = ["\n+ ".join(name.split(" + ")) for name in names]
    ax.set_xticks(range(len(names)), ticks, fontsize=13)
    ax.set(ylim=(-1.05, 1.4), xlim=(-0.4, len(names) - 0.6), ylabel="rank correlation")
    ax.set_yticks([-1, -0.5, 0, 0.5, 1])
    ax.text(-0.36, 0.0, "changed", fontsize=12, color=MUTED, va="center")
    ax.set_title(title)
    ax.set_xlabel("random weights in ...", fontsize=13)
    return ax


@style()
def draw_pair(
    images: Sequence[np.ndarray],
    titles: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    region: np.ndarray,
    headline: str,
    note: str,
) -> Figure:
    """Draw an image before and after a region was changed, and what is told of each.

    Args:
        images: two of (H, W) in [0, 1].
        titles, texts: above each, and lines below each.
        region: boolean (H, W), outlined; dotted in the second.
        headline, note: what changed, below both, and small print below that.
    """
    blocks = (textwrap.wrap(headline, 92), textwrap.wrap(note, 128))
    high, wide = images[0].shape
    picture, line, small = min(5.95 * high / wide, 7.0), 0.31, 0.24
    words = line * max(len(lines) for lines in texts)
    below = words + line * len(blocks[0]) + small * len(blocks[1]) + 0.65
    total = 0.55 + picture + below
    figure = new_figure(figsize=(12.4, total))
    for column, (image, title) in enumerate(zip(images, titles, strict=True)):
        left = 0.012 + 0.5 * column
        ax = figure.add_axes((left, below / total, 0.48, picture / total))
        ax.imshow(image, cmap=GREY, vmin=0, vmax=1, interpolation="antialiased")
        outline(ax, region, "white", line="-" if column == 0 else ":")
        ax.set_axis_off()
        ax.set_anchor("NW")
        ax.set_title(title, fontsize=17, loc="left")
        y = (below - 0.14) / total
        body = "\n".join(texts[column])
        figure.text(left, y, body, fontsize=14.5, va="top", linespacing=1.35, parse_math=False)
    y = (below - words - 0.3) / total
    bold = {"fontsize": 15, "fontweight": "bold", "color": VERMILION, "linespacing": 1.35}
    figure.text(0.012, y, "\n".join(blocks[0]), va="top", parse_math=False, **bold)
    y -= (line * len(blocks[0]) + 0.08) / total
    small_print = {"fontsize": 11.5, "color": MUTED, "linespacing": 1.35, "parse_math": False}
    figure.text(0.012, y, "\n".join(blocks[1]), va="top", **small_print)
    return figure
