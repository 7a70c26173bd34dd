"""Words or tokens of a text, each on a tint of the number found for it: figures, and HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from workbench.figures.page import SMALL
from workbench.figures.style import new_axes

#: Characters in one line of coloured words.
COLUMNS = 96

#: Value in nats at which a word has its full colour; one word in e^3 = 20.
FULL = 3.0

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
    """Draw words on tints of their values in nats: green above 0, pink below.

    `label` names the colour bar; `note` is small print below.
    """
    cells = [(*cell, len(word)) for cell, word in zip(placed(words), words, strict=True)]
    colours = ScalarMappable(Normalize(-FULL, FULL), colormaps["PiYG"])
    look: dict[str, Any] = {"inches": 0.3, "fill": 0.9, "ticks": (-FULL, 0, FULL)}
    look |= {"title": title, "note": note, "label": label, "edgecolor": "none"}
    return _draw(words, cells, values, colours, ax, **look)


def plot_tokens(
    labels: Sequence[str], probabilities: Sequence[float], ax: Axes | None = None, *, title: str
) -> Axes:
    """Draw tokens in reading order, each on a tint of its probability: darker where it is low.

    Labels are what each token wrote, white space in front of a word included; line breaks and tabs
    are drawn as arrows.
    """
    visible = [label.translate(_VISIBLE) for label in labels]
    cells = placed_tokens(visible)
    colours = ScalarMappable(Normalize(0, 1), colormaps["YlOrBr_r"])
    look: dict[str, Any] = {"inches": 0.27, "fill": 1.0, "ticks": (0, 1)}
    look |= {"title": title, "label": "probability", "edgecolor": "white", "lw": 0.5}
    return _draw(visible, cells, probabilities, colours, ax, **look)


def words_html(text: str, spans: Sequence[tuple[int, int]], values: Sequence[float]) -> str:
    """Return a text as HTML with each span on a tint of its value, nats; texts are escaped here."""
    looks = []
    for value in values:
        strength = min(abs(value) / FULL, 1) * 0.7
        colour = "77,146,33" if value > 0 else "197,27,125"
        looks.append((f"{value:+.2f} nats", f"background:rgba({colour},{strength:.2f})"))
    return tinted(text, spans, looks)


def confidence_html(
    text: str, spans: Sequence[tuple[int, int]], probabilities: Sequence[float]
) -> str:
    """Return a text as HTML with each span on a tint of its doubt; texts are escaped here."""
    looks = (
        (f"probability {sure:.2f}", f"padding:1px 0;background:{_tint(1 - sure)}")
        for sure in probabilities
    )
    shaded = tinted(text, spans, looks)
    stops = ",".join(_tint(level / 4) for level in range(5))
    return (
        f'<div style="white-space:pre-wrap;margin:10px 0">{shaded}</div>'
        f'<div style="{SMALL};display:flex;align-items:center;gap:6px">token confidence '
        "(not correctness): 1"
        '<span style="display:inline-block;width:90px;height:10px;border-radius:3px;'
        f'background:linear-gradient(90deg,{stops})"></span>0</div>'
    )


def tinted(
    text: str, spans: Sequence[tuple[int, int]], looks: Iterable[tuple[str, str]], tag: str = "span"
) -> str:
    """Return a text as HTML, each span with a title and a style of its own.

    Spans are in order; one that overlaps an earlier one is left out.
    """
    pieces, at = [], 0
    for (start, end), (title, style) in zip(spans, looks, strict=True):
        if start < at:
            continue
        said = escape(text[start:end])
        look = f'style="border-radius:3px;{style}" title="{escape(title)}"'
        pieces.append(f"{escape(text[at:start])}<{tag} {look}>{said}</{tag}>")
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


def _draw(
    labels: Sequence[str],
    cells: Sequence[tuple[int, int, int]],
    values: Sequence[float],
    colours: ScalarMappable,
    ax: Axes | None,
    *,
    inches: float,
    fill: float,
    ticks: Sequence[float],
    title: str,
    label: str,
    note: str = "",
    **edge: Any,
) -> Axes:
    """Draw each label on the colour of its value, so many inches a line.

    `fill` is the part of its cell that a character takes.
    """
    lines = 1 + max((line for line, _, _ in cells), default=0)
    ax = ax or new_axes(10, max(1.0, 0.7 + inches * lines))
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0), xticks=(), yticks=())
    ax.spines[:].set_visible(False)
    ax.figure.colorbar(colours, ax=ax, label=label, fraction=0.02, pad=0.01, ticks=ticks)
    ax.set_title(title, loc="left", fontsize="medium")
    ax.set_xlabel(note, loc="left", fontsize="small", color="#5f5f5f")
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    box, points = ax.get_window_extent(), 72 / ax.figure.dpi
    wide = fill * box.width * points / COLUMNS / _CHARACTER_WIDTH
    size = min(wide, 0.8 * box.height * points / lines)
    tints = colours.to_rgba(np.asarray(values, float))
    for text, (line, column, width), tint in zip(labels, cells, tints, strict=True):
        ax.add_patch(Rectangle((column, line + 0.06), width, 0.88, facecolor=tint, **edge))
        luminance = 0.299 * tint[0] + 0.587 * tint[1] + 0.114 * tint[2]
        ax.text(
            column, line + 0.52, text, family="DejaVu Sans Mono", fontsize=size, va="center",
            color="black" if luminance > 0.5 else "white", parse_math=False, clip_on=True,
        )  # fmt: skip
    return ax
