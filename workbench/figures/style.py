"""One matplotlib style for the whole project: dark on light, large, safe for colour-blind readers.

    with style():
        figure = new_figure(figsize=(8, 5))

Colours are those of Okabe and Ito (2008), "Color Universal Design". Radiographs stay in plain grey.

Does not know: what is drawn, or which backend shows it; no backend is ever chosen here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.rcsetup import cycler
from matplotlib.textpath import text_to_path

PAPER = "#ffffff"
INK = "#1b1b1b"
MUTED = "#595959"
GRID = "#d9d9d9"

BLACK = "#000000"
ORANGE = "#e69f00"
SKY = "#56b4e9"
GREEN = "#009e73"
BLUE = "#0072b2"
VERMILION = "#d55e00"
PURPLE = "#cc79a7"

#: Order of series in every figure.
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)

#: A warning: amber on a light ground, dark enough to be read.
AMBER = "#b36b00"
AMBER_TEXT = "#5c3a00"
AMBER_GROUND = "#fff4dc"

SEQUENTIAL = "cividis"
GREY = "gray"

RC: dict[Any, Any] = {
    "figure.facecolor": PAPER,
    "figure.dpi": 100,
    "savefig.facecolor": PAPER,
    "savefig.dpi": 150,
    "axes.facecolor": PAPER,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 16,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 14,
    "axes.linewidth": 1.1,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=CYCLE),
    "grid.color": GRID,
    "grid.linewidth": 1.0,
    "font.size": 13,
    "font.family": "sans-serif",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 13,
    "ytick.labelsize": 13,
    "legend.fontsize": 13,
    "legend.frameon": False,
    "lines.linewidth": 2.4,
    "lines.markersize": 8,
    "patch.linewidth": 1.5,
    "image.cmap": GREY,
    "image.interpolation": "antialiased",
}


@contextmanager
def style() -> Iterator[None]:
    """Apply the style to everything drawn inside, and leave matplotlib as it was.

    Only the style's own settings are put back. `matplotlib.rc_context` would also undo what a
    notebook's backend sets up when the first figure is opened, and no figure would be shown.

    >>> with wb.figures.style():
    ...     figure = wb.figures.new_figure()
    """
    before = {key: matplotlib.rcParams[key] for key in RC}
    matplotlib.rcParams.update(RC)
    try:
        yield
    finally:
        matplotlib.rcParams.update(before)


class NotebookFigure(Figure):
    """A figure that a notebook shows exactly once, wherever in a cell it was made.

    The inline backend shows every open figure when a cell ends, and the notebook shows the value
    of the last line: a returned figure would appear twice. This one closes itself when shown.
    """

    def _ipython_display_(self) -> None:
        from IPython.core.pylabtools import print_figure
        from IPython.display import Image, display
        from matplotlib import pyplot

        if "inline" not in matplotlib.get_backend():
            raise NotImplementedError("only the inline backend shows figures by itself")
        pyplot.close(self)
        picture = print_figure(self, fmt="png", bbox_inches=cast(str, None))
        if picture is not None:  # None stands for a figure without axes
            display(Image(picture, format="png"))


def new_figure(**options) -> Figure:
    """Open a figure through pyplot, so that scripts, notebooks and windows all show it.

    >>> wb.figures.new_figure(figsize=(4, 3)).get_size_inches().tolist()
    [4.0, 3.0]
    """
    from matplotlib import pyplot

    return pyplot.figure(FigureClass=NotebookFigure, **options)


def new_axes(width: float, height: float) -> Axes:
    """Open a figure of so many inches, and return the one pair of axes in it."""
    return new_figure(figsize=(width, height), layout="constrained").add_subplot()


@contextmanager
def closed_figure(**options) -> Iterator[Figure]:
    """Open a figure that no notebook shows, for a picture that is embedded elsewhere."""
    with style():
        yield Figure(layout="constrained", **options)


def text_inches(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a line of text is, in inches, at a font size in points."""
    font = FontProperties(family="sans-serif", size=size, weight=weight)
    wide, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return wide / 72


def lines_within(
    text: str, inches: float, size: float, weight: str = "normal", *, most: int | None = None
) -> list[str]:
    """Return a text in lines that are no wider than asked; its own line breaks stay.

    Args:
        text: a word that is too long for a line is broken.
        size: of the font in points.
        most: lines at most; what does not fit ends in an ellipsis.
    """

    def fits(line: str) -> bool:
        return len(line) < 2 or text_inches(line, size, weight) <= inches

    lines: list[str] = []
    for given in text.splitlines():
        lines.append("")
        for word in given.split():
            longer = f"{lines[-1]} {word}".lstrip()
            if fits(longer):
                lines[-1] = longer
                continue
            if lines[-1]:
                lines.append("")
            while not fits(word):
                cut = next(n for n in range(len(word) - 1, 0, -1) if fits(word[:n]))
                lines[-1], word = word[:cut], word[cut:]
                lines.append("")
            lines[-1] = word
    if most is not None and len(lines) > most:
        last = lines[most - 1]
        while last and not fits(f"{last} ..."):
            last = last.rpartition(" ")[0]
        lines = [*lines[: most - 1], f"{last} ...".lstrip()]
    return lines
