"""Where attention went: shares by kind of position, scores of heads, words on patches."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from workbench.figures.radiograph import plot_radiograph
from workbench.figures.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PAPER,
    SEQUENTIAL,
    SKY,
    new_axes,
    new_figure,
    style,
    text_inches,
)

#: Colour and name of each kind of position.
KIND_COLOURS = {"prompt": SKY, "image": ORANGE, "question": BLUE, "generated": GREEN}
KIND_NAMES = {
    "prompt": "prompt before the image",
    "image": "image",
    "question": "prompt behind it",
    "generated": "own words",
}

#: The first position is drawn as nothing in particular.
SOURCE_COLOURS = {"sink": "#8c8c8c", **KIND_COLOURS}
SOURCE_NAMES = {"sink": "first position", **KIND_NAMES}

#: Layers or heads beyond which no number is written into a cell.
_WRITTEN = 12
_SIDEWAYS = 30
#: Inches of a patch that a word is written into.
_CELL = 0.72


@style()
def draw_heads(
    panels: Sequence[tuple[str, np.ndarray]], layers: Sequence[int], *, title: str
) -> Figure:
    """Draw several scores of heads side by side, see `draw_score`, each with its name."""
    rows, columns = panels[0][1].shape
    width = len(panels) * float(np.clip(0.75 * columns + 1.1, 3.6, 9.0))
    height = float(np.clip(0.62 * rows + 2.0, 4.0, 13.0))
    figure = new_figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (name, values) in zip(axes, panels, strict=True):
        draw_score(values, layers, name, ax=ax)
    for ax in axes[1:]:
        ax.set_ylabel("")
    figure.suptitle(title, fontsize=16, fontweight="bold", x=0.01, ha="left")
    return figure


@style()
def draw_score(
    values: np.ndarray, layers: Sequence[int], name: str, *, ax: Axes | None = None
) -> Axes:
    """Draw one score of heads, (layers, heads) in [0, 1], last layer on top; NaN stays white."""
    rows, columns = values.shape
    if ax is None:
        wide, high = np.clip(0.8 * columns + 2, 5, 12), np.clip(0.7 * rows + 2, 4, 12)
        ax = new_axes(float(wide), float(high))
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    image = ax.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=top or 1.0, aspect="auto")
    ax.invert_yaxis()
    if max(rows, columns) <= _WRITTEN:
        for (row, column), value in np.ndenumerate(values):
            said = "–" if np.isnan(value) else f"{value:.2f}".removeprefix("0")  # noqa: RUF001
            colour = INK if np.isnan(value) or value > 0.6 * top else PAPER
            ax.text(column, row, said, color=colour, ha="center", va="center", fontsize=12.5)
    step, skip = -(-columns // 16), -(-rows // 16)
    ax.set_xticks(range(0, columns, step))
    ax.set_yticks(range(0, rows, skip), [str(n) for n in layers[::skip]])
    ax.set(xlabel="head", ylabel="layer")
    ax.set_title(name, fontsize=15)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.9, pad=0.03)
    bar.outline.set_visible(False)
    return ax


@style()
def draw_sources(
    names: Sequence[str],
    shares: Mapping[str, np.ndarray],
    *,
    title: str,
    note: str = "",
    upright: bool = True,
    ax: Axes | None = None,
) -> Axes:
    """Draw stacked bars of attention by kind of position: upright for words, lying for sentences.

    Args:
        shares: kind, in the order of `SOURCE_NAMES` -> (bars,) in [0, 1]; they sum to 1 for each
            bar.
    """
    count = len(names)
    labels = [_bar_name(name, upright) for name in names]
    ax = _axes_for_bars(names, list(shares), title, upright) if ax is None else ax
    below = np.zeros(count)
    for kind, share in shares.items():
        bar, colour = ax.bar if upright else ax.barh, SOURCE_COLOURS[kind]
        bar(range(count), share, 0.88, below, color=colour, label=SOURCE_NAMES[kind])
        below = below + share
    text = {"fontsize": 11.5, "color": INK}
    if upright:
        ax.set_xticks(range(count), labels, rotation=90, parse_math=False, **text)
        ax.set(xlim=(-0.6, count - 0.4), ylim=(0, 1), ylabel="share of attention")
    else:
        ax.set_yticks(range(count), labels, parse_math=False, **text)
        ax.set(xlim=(0, 1), ylim=(count - 0.4, -0.6))
        note = f"share of attention ({note})"
    ax.set_xlabel(note, fontsize=11, color=MUTED, loc="left")
    ax.set_title(title, pad=34)
    close = {"columnspacing": 1.1, "handlelength": 1.2, "borderpad": 0.1}
    corner = ("lower left", (0, 1.0)) if upright else ("lower right", (1, 1.0))
    ax.legend(ncols=len(shares), loc=corner[0], bbox_to_anchor=corner[1], fontsize=11, **close)
    return ax


@style()
def draw_tokens(
    pixels: np.ndarray,
    boxes: Sequence[tuple[float, ...]],
    tokens: Sequence[str],
    chance: np.ndarray,
    *,
    title: str,
    key: str,
    columns: int,
    ax: Axes | None = None,
) -> Axes:
    """Write one word into each box over a dimmed radiograph, bolder where it is likelier.

    Args:
        pixels: (H, W) in [0, 1].
        boxes: (left, top, right, bottom) in pixels.
        chance: probability of each, or how sure it is, in [0, 1].
        key: what the looks of a word mean.
        columns: boxes in a row, for the size of a new figure.
    """
    if ax is None:
        side = float(np.clip(_CELL * columns + 0.6, 6, 26))
        ax = new_axes(side, side + 0.5)
    plot_radiograph(ax, 0.4 * pixels, title=title)
    outline = [withStroke(linewidth=2.2, foreground="black")]
    for (left, top, right, bottom), token, likely in zip(boxes, tokens, chance, strict=True):
        word = token.replace("\u2581", "").strip() or "\u00b7"
        look = {"color": _tint(float(likely)), "fontweight": "bold" if likely > 0.5 else "normal"}
        look |= {"fontsize": min(11.0, _CELL * 72 / (0.66 * max(len(word), 4)))}
        look |= {"ha": "center", "va": "center", "path_effects": outline}
        x, y = (left + right) / 2, (top + bottom) / 2
        ax.text(x, y, word, parse_math=False, clip_on=True, **look)
    ax.set_xlabel(key, fontsize=11.5, color=MUTED, loc="left")
    return ax


def _axes_for_bars(names: Sequence[str], kinds: Sequence[str], title: str, upright: bool) -> Axes:
    if not upright:
        two_lines = max(map(len, names), default=0) > _SIDEWAYS
        return new_axes(11.0, 0.55 * len(names) + 2.2 + 0.25 * two_lines)
    # matplotlib's own handles and gaps beside each name of the legend
    legend = sum(text_inches(SOURCE_NAMES[kind], 11) + 4.2 * 11 / 72 for kind in kinds)
    narrowest = max(text_inches(title, 16, "bold"), legend) + 1
    return new_axes(float(np.clip(0.26 * len(names) + 2.5, narrowest, 26)), 5.2)


def _bar_name(name: str, upright: bool) -> str:
    if upright:
        return name.replace("\u2581", " ").strip() or "\u00b7"
    return "\n".join(textwrap.wrap(name, 44)[:2])


def _tint(likely: float) -> tuple[float, ...]:
    """Return a colour between pale grey (0) and yellow (1)."""
    pale, sure = np.array(to_rgb("#a9b0bd")), np.array(to_rgb("#ffe24d"))
    return tuple(pale + (sure - pale) * np.sqrt(likely))
