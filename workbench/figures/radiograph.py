"""The input of a model: the whole radiograph, what the model sees of it, and the input contract."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from workbench.figures.style import (
    AMBER,
    AMBER_GROUND,
    AMBER_TEXT,
    GREY,
    INK,
    MUTED,
    ORANGE,
    new_figure,
    style,
)

_WIDTH = 12.0
_IMAGE_HEIGHT = 6.0
_LINE = 0.27
_CHARACTERS = 116
_EDGE = 0.03
#: Images are drawn with at most this many pixels a side; more would only slow the notebook.
_DRAWN = 1200

Box = tuple[float, float, float, float]


def plot_radiograph(
    ax: Axes, pixels: np.ndarray, *, visible_box: Box | None = None, title: str = ""
) -> Axes:
    """Draw one radiograph in its own pixels, and dim what lies outside a box.

    Args:
        ax: where to draw.
        pixels: (H, W) in [0, 1].
        visible_box: (left, top, right, bottom) in pixels; None for no box.
        title: above.
    """
    height, width = pixels.shape
    step = max(1, -(-max(height, width) // _DRAWN))
    ax.imshow(
        pixels[::step, ::step],
        cmap=GREY,
        vmin=0,
        vmax=1,
        extent=(0, width, height, 0),
        interpolation="antialiased",
    )
    if visible_box is not None:
        _draw_box(ax, visible_box, height, width)
    ax.set(title=title, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return ax


@style()
def plot_input(
    pixels: np.ndarray,
    model_view: np.ndarray,
    *,
    visible_box: Box,
    fit: str,
    facts: Sequence[str],
    warnings: Sequence[tuple[str, str]] = (),
) -> Figure:
    """Draw a radiograph and the model's view of it side by side, with the input contract below.

    Args:
        pixels: (H, W) in [0, 1], the whole radiograph.
        model_view: (S, S) in [0, 1], what the model receives.
        visible_box: (left, top, right, bottom) of the model's view, in original pixels.
        fit: "crop" or "pad".
        facts: short phrases; the first is the name of the image.
        warnings: (code, message) pairs.
    """
    name, *rest = facts
    fact_lines = _joined(rest)
    notes = [
        textwrap.wrap(f"{code}: {message}", _CHARACTERS - 4, break_on_hyphens=False)
        for code, message in warnings
    ]
    below = _LINE * (1.4 + len(fact_lines)) + sum(_LINE * (len(n) + 0.75) for n in notes) + 0.15
    total = _IMAGE_HEIGHT + below
    height, width = pixels.shape
    size = model_view.shape[0]
    figure = new_figure(figsize=(_WIDTH, total))
    top, bottom = 1 - 0.5 / total, below / total
    grid = figure.add_gridspec(
        1, 2, left=_EDGE, right=1 - _EDGE, top=top, bottom=bottom, wspace=0.05
    )
    box = visible_box if fit == "crop" else None
    whole, seen = (figure.add_subplot(cell, anchor="NW") for cell in grid)
    title = f"the radiograph, {height} x {width}"
    plot_radiograph(whole, pixels, visible_box=box, title=title)
    manner = "centre crop" if fit == "crop" else "padded"
    plot_radiograph(seen, model_view, title=f"the model's view, {size} x {size}, {manner}")
    _write_contract(figure, name, fact_lines, notes, below, total)
    return figure


def outside(box: Box, height: int, width: int) -> list[tuple[tuple[float, float], float, float]]:
    """Return what of an image lies around a box: corner (x, y), width and height of each part."""
    left, top, right, bottom = box
    parts = [
        ((0.0, 0.0), width, top),
        ((0.0, bottom), width, height - bottom),
        ((0.0, top), left, bottom - top),
        ((right, top), width - right, bottom - top),
    ]
    return [part for part in parts if part[1] > 0 and part[2] > 0]


def _draw_box(ax: Axes, box: Box, height: int, width: int) -> None:
    left, top, right, bottom = box
    hatching = {"fill": False, "hatch": "//", "edgecolor": ORANGE, "alpha": 0.5, "linewidth": 0}
    frame = {"fill": False, "edgecolor": ORANGE, "linewidth": 3}
    for part in outside(box, height, width):
        ax.add_patch(Rectangle(*part, facecolor="black", alpha=0.55, edgecolor="none"))
        ax.add_patch(Rectangle(*part, **hatching))
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, **frame))


def _joined(facts: Sequence[str]) -> list[str]:
    """Set facts in lines of text without breaking inside a fact."""
    lines = [""]
    for fact in facts:
        longer = f"{lines[-1]}  ·  {fact}" if lines[-1] else fact
        if len(longer) <= _CHARACTERS:
            lines[-1] = longer
        else:
            lines.append(fact)
    return lines


def _write_contract(
    figure: Figure,
    name: str,
    fact_lines: list[str],
    notes: list[list[str]],
    below: float,
    total: float,
) -> None:
    body = {"va": "top", "fontsize": 13, "linespacing": 1.35}
    y = below - 0.12
    figure.text(_EDGE, y / total, name, va="top", fontsize=14, fontweight="bold", color=INK)
    y -= _LINE * 1.2
    figure.text(_EDGE, y / total, "\n".join(fact_lines), color=MUTED, **body)
    y -= _LINE * len(fact_lines) + 0.12
    for note in notes:
        tall = _LINE * (len(note) + 0.4)
        for wide, colour in ((1 - 2 * _EDGE, AMBER_GROUND), (0.006, AMBER)):
            corner = (_EDGE, (y - tall) / total)
            block = Rectangle(corner, wide, tall / total, facecolor=colour, edgecolor="none")
            figure.add_artist(block)
        at = (y - _LINE * 0.2) / total
        figure.text(_EDGE + 0.014, at, "\n".join(note), color=AMBER_TEXT, **body)
        y -= tall + _LINE * 0.35
