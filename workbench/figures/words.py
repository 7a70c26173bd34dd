"""Words or tokens of a text, each on a tint of the number found for it: figures, and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from workbench.figures.page import SMALL

#: Characters in one line of coloured words.
COLUMNS = 96

#: Value in nats at which a word has its full colour; one word in e^3 = 20.
FULL = 3.0

_LINE_INCHES, _TOKEN_INCHES = 0.3, 0.27
#: Width of a monospaced character as a fraction of the font size (DejaVu Sans Mono).
_CHARACTER_WIDTH = 0.602
_LINE_BREAK = "\u21b5"
_VISIBLE = str.maketrans({"\n": _LINE_BREAK, "\t": "\u2192"})


def plot_words(
    words: Sequence[str],
    values: Sequence[float],
    ax: Axes | None = None,
    *,
    title: str,
    label: str,
    note: str,
) -> Axes:
    """Draw words on tints of their values: green above 0, pink below.

    Args:
        words: in the order of the text.
        values: one for each word, nats.
        ax: a new figure that fits the text when None.
        title, label, note: above the words, of the colour bar, in small print below.
    """
    cells = [(*cell, len(word)) for cell, word in zip(placed(words), words, strict=True)]
    ax = _strip(cells, ax, inches=_LINE_INCHES)
    colours = ScalarMappable(Normalize(-FULL, FULL), colormaps["PiYG"])
    bar = ax.figure.colorbar(colours, ax=ax, fraction=0.02, pad=0.01, ticks=(-FULL, 0, FULL))
    bar.set_label(label)
    ax.set_title(title, loc="left", fontsize="medium")
    ax.set_xlabel(note, loc="left", fontsize="small", color="#5f5f5f")
    _draw_labels(ax, words, cells, colours.to_rgba(np.asarray(values, float)), fill=0.9)
    return ax


def plot_tokens(
    labels: Sequence[str], probabilities: Sequence[float], ax: Axes | None = None, *, title: str
) -> Axes:
    """Draw tokens in reading order, each on a tint of its probability: darker where it is low.

    Args:
        labels: what each token wrote, white space in front of a word included; line breaks and
            tabs are drawn as arrows.
        probabilities: one for each token, in [0, 1].
        ax: a new figure that fits the text when None.
    """
    visible = [label.translate(_VISIBLE) for label in labels]
    cells = placed_tokens(visible)
    ax = _strip(cells, ax, inches=_TOKEN_INCHES)
    colours = ScalarMappable(Normalize(0, 1), colormaps["YlOrBr_r"])
    ax.figure.colorbar(colours, ax=ax, label="probability", fraction=0.02, pad=0.01, ticks=(0, 1))
    ax.set_title(title, loc="left", fontsize="medium")
    tints = colours.to_rgba(np.asarray(probabilities, float))
    _draw_labels(ax, visible, cells, tints, fill=1.0, edgecolor="white", lw=0.5)
    return ax


def words_html(text: str, spans: Sequence[tuple[int, int]], values: Sequence[float]) -> str:
    """Return a text as HTML with each span on a tint of its value, nats; texts are escaped here."""
    looks = []
    for value in values:
        strength = min(abs(value) / FULL, 1) * 0.7
        colour = "77,146,33" if value > 0 else "197,27,125"
        looks.append((f"{value:+.2f} nats", f"background:rgba({colour},{strength:.2f})"))
    return _tinted(text, spans, looks)


def confidence_html(
    text: str, spans: Sequence[tuple[int, int]], probabilities: Sequence[float]
) -> str:
    """Return a text as HTML with each span on a tint of its doubt; texts are escaped here."""
    looks = (
        (f"probability {sure:.2f}", f"padding:1px 0;background:{_tint(1 - sure)}")
        for sure in probabilities
    )
    shaded = _tinted(text, spans, looks)
    stops = ",".join(_tint(level / 4) for level in range(5))
    return (
        f'<div style="white-space:pre-wrap;margin:10px 0">{shaded}</div>'
        f'<div style="{SMALL};display:flex;align-items:center;gap:6px">token confidence '
        "(not correctness): 1"
        '<span style="display:inline-block;width:90px;height:10px;border-radius:3px;'
        f'background:linear-gradient(90deg,{stops})"></span>0</div>'
    )


def _tinted(text: str, spans: Sequence[tuple[int, int]], looks: Iterable[tuple[str, str]]) -> str:
    """Return a text as HTML, each span with a title and a style of its own."""
    pieces, at = [], 0
    for (start, end), (title, style) in zip(spans, looks, strict=True):
        pieces.append(escape(text[at:start]))
        pieces.append(f'<span title="{title}" style="border-radius:3px;{style}">')
        pieces.append(f"{escape(text[start:end])}</span>")
        at = end
    return "".join(pieces) + escape(text[at:])


def placed(words: Sequence[str], columns: int = COLUMNS) -> list[tuple[int, int]]:
    """Return line and first column of each word, one space apart."""
    cells, line, column = [], 0, 0
    for word in words:
        if column and column + len(word) > columns:
            line, column = line + 1, 0
        cells.append((line, column))
        column += len(word) + 1
    return cells


def placed_tokens(labels: Sequence[str], columns: int = COLUMNS) -> list[tuple[int, int, int]]:
    """Return line, first column and width of each token, in characters.

    A line ends behind a line break, and before a word that does not fit it.
    """
    widths = [min(max(len(label), 1), columns) for label in labels]
    cells, line, column = [], 0, 0
    for index, label in enumerate(labels):
        wanted = widths[index]
        if column and label.startswith(" "):
            wanted = min(_word_width(labels, widths, index), columns)
        if column + wanted > columns:
            line, column = line + 1, 0
        cells.append((line, column, widths[index]))
        column += widths[index]
        if label.endswith(_LINE_BREAK):
            line, column = line + 1, 0
    return cells


def _word_width(labels: Sequence[str], widths: Sequence[int], start: int) -> int:
    """Return the characters from one label to the next that begins with a space."""
    end = start + 1
    while end < len(labels) and not labels[end].startswith(" "):
        end += 1
    return sum(widths[start:end])


def _tint(doubt: float) -> str:
    """Return the background for a doubt in [0, 1]."""
    return f"rgba(217,108,6,{0.72 * doubt:.2f})"


def _strip(cells: Sequence[tuple[int, int, int]], ax: Axes | None, *, inches: float) -> Axes:
    """Return axes with room for cells; a new figure that fits them when `ax` is None."""
    lines = 1 + max((line for line, _, _ in cells), default=0)
    if ax is None:
        from matplotlib import pyplot

        size = (10, max(1.0, 0.7 + inches * lines))
        _, ax = pyplot.subplots(figsize=size, layout="constrained")
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0), xticks=(), yticks=())
    ax.spines[:].set_visible(False)
    return ax


def _draw_labels(
    ax: Axes,
    labels: Sequence[str],
    cells: Sequence[tuple[int, int, int]],
    colours: np.ndarray,
    *,
    fill: float,
    edgecolor: str = "none",
    lw: float | None = None,
) -> None:
    """Draw each label on its colour; `fill` is the part of its cell that a character takes."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    box = ax.get_window_extent()
    points, lines = 72 / ax.figure.dpi, ax.get_ylim()[0]
    wide = fill * box.width * points / COLUMNS / _CHARACTER_WIDTH
    size = min(wide, 0.8 * box.height * points / lines)
    for label, (line, column, width), colour in zip(labels, cells, colours, strict=True):
        place = (column, line + 0.06)
        ax.add_patch(Rectangle(place, width, 0.88, facecolor=colour, edgecolor=edgecolor, lw=lw))
        luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
        ax.text(
            column, line + 0.52, label, family="DejaVu Sans Mono", fontsize=size, va="center",
            color="black" if luminance > 0.5 else "white", parse_math=False, clip_on=True,
        )  # fmt: skip
