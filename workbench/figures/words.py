"""Words of a text, each on a tint of the number that was found for it: a figure, and HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Characters in one line of coloured words.
COLUMNS = 96

#: Value in nats at which a word has its full colour; one word in e^3 = 20.
FULL = 3.0

_LINE_INCHES = 0.3
_CHARACTER_WIDTH = 0.602


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
        ax: where to draw; a new figure that fits the text when None.
        title: above the words.
        label: of the colour bar.
        note: small print below the words.
    """
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    cells = placed(words)
    lines = 1 + max((line for line, _ in cells), default=0)
    if ax is None:
        size = (10, max(1.0, 0.7 + _LINE_INCHES * lines))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    colours = ScalarMappable(Normalize(-FULL, FULL), plt.get_cmap("PiYG"))
    bar = ax.figure.colorbar(colours, ax=ax, fraction=0.02, pad=0.01, ticks=(-FULL, 0, FULL))
    bar.set_label(label)
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0), xticks=(), yticks=())
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="left", fontsize="medium")
    ax.set_xlabel(note, loc="left", fontsize="small", color="#5f5f5f")
    ax.figure.draw_without_rendering()
    size = _font_size(ax, lines)
    for word, (line, column), value in zip(words, cells, values, strict=True):
        _draw_word(ax, word, line, column, colours.to_rgba(value), size)
    return ax


def words_html(text: str, spans: Sequence[tuple[int, int]], values: Sequence[float]) -> str:
    """Return a text as HTML with each span on a tint of its value; texts are escaped here.

    Args:
        text: the whole text.
        spans: (start, end) characters of each word, in order.
        values: one for each span, nats.
    """
    pieces, at = [], 0
    for (start, end), value in zip(spans, values, strict=True):
        strength = min(abs(value) / FULL, 1) * 0.7
        colour = "77,146,33" if value > 0 else "197,27,125"
        pieces.append(escape(text[at:start]))
        pieces.append(
            f'<span title="{value:+.2f} nats" style="border-radius:3px;'
            f'background:rgba({colour},{strength:.2f})">{escape(text[start:end])}</span>'
        )
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


def _draw_word(ax: Axes, word: str, line: int, column: int, colour: tuple, size: float) -> None:
    from matplotlib.patches import Rectangle

    box = Rectangle((column, line + 0.06), len(word), 0.88, facecolor=colour, edgecolor="none")
    ax.add_patch(box)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ax.text(
        column, line + 0.52, word, family="DejaVu Sans Mono", fontsize=size, va="center",
        color="black" if luminance > 0.5 else "white", parse_math=False, clip_on=True,
    )  # fmt: skip


def _font_size(ax: Axes, lines: int) -> float:
    box = ax.get_window_extent()
    points = 72 / ax.figure.dpi
    return min(
        0.9 * box.width * points / COLUMNS / _CHARACTER_WIDTH, 0.8 * box.height * points / lines
    )
