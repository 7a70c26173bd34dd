"""One case on one page: the image with its findings, what was said, and whether it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.errors import InputError
from workbench.figures.maps import draw_map
from workbench.figures.radiograph import draw_masks
from workbench.figures.style import GRID, INK, MUTED, lines_within, new_figure, style

#: Inches of a picture, between pictures, of the scale of a map, and of the column of words.
_SIDE, _GAP, _SCALE, _WORDS = 5.1, 0.3, 0.75, 5.7
#: Inches of a line of the title, of the text and of the table; lines of text at most.
_TITLE, _LINE, _ROW, _LINES = 0.32, 0.262, 0.3, 16
_OUTLINED = "what is drawn, outlined"

#: Words for right and wrong: dark enough to be read, and told apart without their colour too.
_RIGHT, _WRONG = "#00664a", "#a63c00"


@style()
def plot_case(
    pixels: np.ndarray,
    masks: Mapping[str, np.ndarray],
    *,
    text: str,
    verdicts: Sequence[tuple[str, str, str]],
    title: str = "",
    footer: str = "",
    values: np.ndarray | None = None,
    signed: bool = False,
    values_title: str = "",
    values_details: str = "",
) -> Figure:
    """Draw an image with its true findings beside what a model says of it.

    The page is as tall as its words need; a map of the same image stands beside it where there is
    one.

    Args:
        pixels: (H, W) in [0, 1], 1 white.
        masks: finding -> boolean (H, W).
        verdicts: (finding, true code, stated code), codes as in `workbench.findings`.
        values, signed, values_title, values_details: of a map; see `maps.draw_map`.

    Raises:
        InputError: a mask or the map does not have the shape of the image.
    """
    pictures = 1 if values is None else 2
    side = _SIDE * min(1.3, np.shape(pixels)[0] / np.shape(pixels)[1])
    head = lines_within(title, _WORDS, 16, "bold")
    lines = lines_within(text, _WORDS, 13, most=_LINES) or ["(nothing)"]
    written = _TITLE * len(head) + _LINE * len(lines) + 0.35
    table = _ROW * (len(verdicts) + 1)
    scale = 0.0 if values is None else _SCALE
    wide = pictures * (_SIDE + _GAP) + scale + _WORDS + _GAP
    small = lines_within(footer, wide - _GAP, 10)
    high = max(0.45 + side + (0.1 if values is None else 0.6), 0.15 + written + table)
    high += 0.2 + 0.19 * len(small)
    figure = new_figure(figsize=(wide, high))

    def axes(left: float, top: float, width: float, height: float) -> Axes:
        """Return axes in inches from the upper left corner."""
        return figure.add_axes(
            (left / wide, 1 - (top + height) / high, width / wide, height / high)
        )

    draw_masks(pixels, masks, ax=axes(_GAP / 2, 0.45, _SIDE, side), title=_OUTLINED)
    left = _GAP / 2 + _SIDE + _GAP
    if values is not None:
        seen = axes(left, 0.45, _SIDE, side)
        draw_map(pixels, values, signed=signed, details=values_details, masks=masks, ax=seen)
        name = lines_within(values_title, _SIDE + scale, 13, "bold", most=1)
        seen.set_title("".join(name), fontsize=13, loc="left", pad=6, parse_math=False)
        left += _SIDE + _GAP + scale
    _write(axes(left, 0.15, _WORDS, written), head, lines, written)
    draw_verdicts(verdicts, ax=axes(left, 0.15 + written, _WORDS, table))
    print_below = {"fontsize": 10, "color": MUTED, "va": "bottom", "parse_math": False}
    figure.text(_GAP / 2 / wide, 0.1 / high, "\n".join(small), **print_below)
    return figure


def _write(ax: Axes, head: Sequence[str], lines: Sequence[str], high: float) -> None:
    """Write a title and a text from the top of axes that are so many inches high."""
    ax.set_axis_off()
    ax.set(xlim=(0, 1), ylim=(high, 0))
    bold = {"fontsize": 16, "fontweight": "bold", "color": INK}
    ax.text(0, 0.03, "\n".join(head), va="top", parse_math=False, **bold)
    body = {"fontsize": 13, "color": INK, "linespacing": 1.4}
    top = 0.13 + _TITLE * len(head)
    ax.text(0, top, "\n".join(lines), va="top", parse_math=False, **body)


def draw_verdicts(verdicts: Sequence[tuple[str, str, str]], *, ax: Axes) -> Axes:
    """Draw a table of findings: what is true, what is stated, and whether they agree.

    A finding that the text does not mention is neither right nor wrong unless it is there;
    one that it leaves open is neither.

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
        return _RIGHT, "correct"
    if stated == "present":
        return _WRONG, "false alarm"
    if true == "present" and stated != "uncertain":
        return _WRONG, "missed"
    return MUTED, "open"
