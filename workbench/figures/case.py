"""One case on one page: the image with its findings, what was said, and whether it is right.

Does not know: where texts and verdicts come from; it draws what it is given.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.errors import InputError
from workbench.figures.masks import draw_masks
from workbench.figures.style import GRID, INK, MUTED, new_figure, style

#: Words for right and wrong: dark enough to be read, and told apart without their colour too.
_RIGHT, _WRONG = "#00664a", "#a63c00"


def plot_case(
    pixels: np.ndarray,
    masks: Mapping[str, np.ndarray],
    *,
    text: str,
    verdicts: Sequence[tuple[str, str, str]],
    title: str = "",
    footer: str = "",
) -> Figure:
    """Draw an image with its true findings beside what a model says of it.

    Args:
        pixels: (H, W) in [0, 1], 1 white.
        masks: finding -> boolean (H, W).
        text: what the model wrote.
        verdicts: (finding, true code, stated code), codes as in `workbench.findings`.
        title: above the text.
        footer: small print below it.

    Returns:
        The figure; save it with `.savefig(path)`.

    Raises:
        InputError: a mask does not have the shape of the image.
    """
    with style():
        figure = new_figure(figsize=(14, 7.2))
        picture = figure.add_axes((0.012, 0.02, 0.49, 0.955))
        draw_masks(pixels, masks, ax=picture)
        upper = figure.add_axes((0.525, 0.44, 0.46, 0.535))
        lower = figure.add_axes((0.525, 0.075, 0.46, 0.34))
        draw_text(text, title=title, ax=upper)
        draw_verdicts(verdicts, ax=lower)
        figure.text(0.525, 0.022, footer, fontsize=10, color=MUTED, va="bottom")
    return figure


def draw_text(text: str, *, ax: Axes, title: str = "", width: int = 66, lines: int = 13) -> Axes:
    """Write a text into axes, wrapped; what does not fit ends in an ellipsis.

    Args:
        text: the text; its line breaks stay.
        ax: where to write.
        title: in bold above it.
        width: characters in a line.
        lines: lines at most.
    """
    ax.set_axis_off()
    ax.text(0, 1, title, fontsize=16, fontweight="bold", color=INK, va="top")
    wrapped = [piece for line in text.splitlines() for piece in textwrap.wrap(line, width) or [""]]
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], wrapped[lines - 1][: width - 4] + " ..."]
    body = "\n".join(wrapped) or "(nothing)"
    ax.text(0, 0.87, body, fontsize=13, color=INK, va="top", linespacing=1.45, parse_math=False)
    return ax


def draw_verdicts(verdicts: Sequence[tuple[str, str, str]], *, ax: Axes) -> Axes:
    """Draw a table of findings: what is true, what is stated, and whether they agree.

    A finding that the text does not mention is neither right nor wrong unless it is there;
    one that it leaves open is neither.

    Args:
        verdicts: (finding, true code, stated code).
        ax: where to draw.

    Raises:
        InputError: there is no finding to draw.
    """
    if not verdicts:
        raise InputError("verdicts are empty; pass one (finding, true, stated) for each finding")
    ax.set(xlim=(0, 1), ylim=(len(verdicts) + 1, 0))
    ax.set_axis_off()
    columns = (0.0, 0.36, 0.60)
    for x, name in zip(columns, ("finding", "drawn", "stated"), strict=True):
        ax.text(x, 0.5, name, fontsize=11.5, color=MUTED, va="center")
    for row, (finding, true, stated) in enumerate(verdicts, start=1):
        ax.axhline(row, color=GRID, linewidth=0.8)
        colour, mark = _verdict(true, stated)
        strong = "bold" if true == "present" else "normal"
        ax.text(columns[0], row + 0.5, finding, fontsize=12.5, va="center", fontweight=strong)
        ax.text(columns[1], row + 0.5, true, fontsize=12.5, va="center", color=INK)
        ax.text(columns[2], row + 0.5, stated, fontsize=12.5, va="center", color=colour)
        ax.text(0.985, row + 0.5, mark, fontsize=12.5, va="center", ha="right", color=colour)
    return ax


def _verdict(true: str, stated: str) -> tuple[str, str]:
    if stated == true:
        return _RIGHT, "right"
    if stated == "present":
        return _WRONG, "false alarm"
    if true == "present" and stated != "uncertain":
        return _WRONG, "missed"
    return MUTED, "open"
