"""The input of a model: the whole film, what the model sees of it, and the input contract.

Does not know: radiographs or models; arrays, a box and texts come in, a figure goes out.
"""

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
    FILM,
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
#: Films are drawn with at most this many pixels a side; more would only slow the notebook.
_DRAWN = 1200


def plot_film(
    ax: Axes,
    pixels: np.ndarray,
    *,
    visible_box: tuple[float, float, float, float] | None = None,
    title: str = "",
) -> Axes:
    """Draw one film, and dim what lies outside a box.

    Args:
        ax: where to draw.
        pixels: (H, W) in [0, 1].
        visible_box: (left, top, right, bottom) in pixels of the film, None for no box.
        title: above the film.

    Returns:
        ax, with axis limits in pixels of the film.
    """
    height, width = pixels.shape
    step = max(1, -(-max(height, width) // _DRAWN))
    ax.imshow(
        pixels[::step, ::step],
        cmap=FILM,
        vmin=0,
        vmax=1,
        extent=(0, width, height, 0),
        interpolation="antialiased",
    )
    if visible_box is not None:
        _draw_box(ax, visible_box, height, width)
    ax.set_title(title)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def plot_input(
    pixels: np.ndarray,
    model_view: np.ndarray,
    *,
    visible_box: tuple[float, float, float, float],
    fit: str,
    facts: Sequence[str],
    warnings: Sequence[tuple[str, str]] = (),
) -> Figure:
    """Draw a film and the model's view of it side by side, with the input contract below.

    Args:
        pixels: (H, W) in [0, 1], the whole film.
        model_view: (S, S) in [0, 1], what the model receives.
        visible_box: (left, top, right, bottom) of the model's view, in pixels of the film.
        fit: "crop" or "pad".
        facts: short phrases; the first is the name of the image.
        warnings: (code, message) pairs.

    Returns:
        The figure; its first two axes hold the film and the model's view.
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
    with style():
        figure = new_figure(figsize=(_WIDTH, total))
        top, bottom = 1 - 0.5 / total, below / total
        grid = figure.add_gridspec(
            1, 2, left=_EDGE, right=1 - _EDGE, top=top, bottom=bottom, wspace=0.05
        )
        box = visible_box if fit == "crop" else None
        film, seen = (figure.add_subplot(cell) for cell in grid)
        plot_film(film, pixels, visible_box=box, title=f"the film, {height} x {width}")
        manner = "centre crop" if fit == "crop" else "padded"
        plot_film(seen, model_view, title=f"the model's view, {size} x {size}, {manner}")
        for ax in (film, seen):
            ax.set_anchor("NW")
        _write_contract(figure, name, fact_lines, notes, below, total)
    return figure


def _draw_box(ax: Axes, box: tuple[float, float, float, float], height: int, width: int) -> None:
    left, top, right, bottom = box
    for corner, across, down in (
        ((0, 0), width, top),
        ((0, bottom), width, height - bottom),
        ((0, top), left, bottom - top),
        ((right, top), width - right, bottom - top),
    ):
        if across > 0 and down > 0:
            ax.add_patch(
                Rectangle(corner, across, down, facecolor="black", alpha=0.55, edgecolor="none")
            )
            ax.add_patch(
                Rectangle(
                    corner,
                    across,
                    down,
                    fill=False,
                    hatch="//",
                    edgecolor=ORANGE,
                    alpha=0.5,
                    linewidth=0,
                )
            )
    ax.add_patch(
        Rectangle(
            (left, top), right - left, bottom - top, fill=False, edgecolor=ORANGE, linewidth=3
        )
    )


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
    y = below - 0.12
    figure.text(_EDGE, y / total, name, va="top", fontsize=14, fontweight="bold", color=INK)
    y -= _LINE * 1.2
    figure.text(
        _EDGE,
        y / total,
        "\n".join(fact_lines),
        va="top",
        fontsize=13,
        color=MUTED,
        linespacing=1.35,
    )
    y -= _LINE * len(fact_lines) + 0.12
    for note in notes:
        tall = _LINE * (len(note) + 0.4)
        figure.patches.append(
            Rectangle(
                (_EDGE, (y - tall) / total),
                1 - 2 * _EDGE,
                tall / total,
                facecolor=AMBER_GROUND,
                edgecolor="none",
                transform=figure.transFigure,
                figure=figure,
            )
        )
        figure.patches.append(
            Rectangle(
                (_EDGE, (y - tall) / total),
                0.006,
                tall / total,
                facecolor=AMBER,
                edgecolor="none",
                transform=figure.transFigure,
                figure=figure,
            )
        )
        figure.text(
            _EDGE + 0.014,
            (y - _LINE * 0.2) / total,
            "\n".join(note),
            va="top",
            fontsize=13,
            color=AMBER_TEXT,
            linespacing=1.35,
        )
        y -= tall + _LINE * 0.35
