"""The confidence strip: a text drawn token by token, darker where the model was less sure.

Does not know: models; it draws what a `Generation` holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from workbench.generation.result import Generation

#: Characters in one line of the strip.
COLUMNS = 96

#: Width of a monospaced character as a fraction of the font size (DejaVu Sans Mono).
_CHARACTER_WIDTH = 0.602

_LINE_INCHES = 0.27
_VISIBLE = {"\n": "\u21b5", "\t": "\u2192"}


def plot_confidence(generation: Generation, ax: Axes | None = None) -> Axes:
    """Draw a generation's tokens in reading order on a tint of their probability.

    Args:
        generation: the text to draw.
        ax: where to draw; a new figure that fits the text when not given.
    """
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    labels = token_labels(generation)
    cells = layout(labels, COLUMNS)
    lines = 1 + max((line for line, _, _ in cells), default=0)
    if ax is None:
        _, ax = plt.subplots(
            figsize=(10, max(0.9, 0.65 + _LINE_INCHES * lines)), layout="constrained"
        )
    colours = ScalarMappable(Normalize(0, 1), plt.get_cmap("YlOrBr_r"))
    ax.figure.colorbar(colours, ax=ax, label="probability", fraction=0.02, pad=0.01, ticks=(0, 1))
    ax.set(xlim=(0, COLUMNS), ylim=(lines, 0), xticks=(), yticks=())
    ax.spines[:].set_visible(False)
    ax.set_title(_title(generation), loc="left", fontsize="medium")
    ax.figure.draw_without_rendering()
    size = _font_size(ax, lines)
    shown = zip(labels, cells, np.exp(generation.logprobs), strict=True)
    for label, (line, column, width), probability in shown:
        _draw_token(ax, label, line, column, width, colours.to_rgba(float(probability)), size)
    return ax


def token_labels(generation: Generation) -> list[str]:
    """Return what each token wrote, line breaks made visible; its piece where it wrote nothing."""
    labels = []
    for piece, (start, end) in zip(generation.tokens, generation.offsets, strict=True):
        text = generation.text[start:end] or piece
        labels.append("".join(_VISIBLE.get(character, character) for character in text))
    return labels


def layout(labels: list[str], columns: int) -> list[tuple[int, int, int]]:
    """Place labels in lines of `columns` characters.

    A line ends behind a line break, and before a word that does not fit it.

    Returns:
        Per label the line, the first column and the width in characters.
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
        if label.endswith(_VISIBLE["\n"]):
            line, column = line + 1, 0
    return cells


def _word_width(labels: list[str], widths: list[int], start: int) -> int:
    """Return the characters from one label to the next that begins with a space."""
    end = start + 1
    while end < len(labels) and not labels[end].startswith(" "):
        end += 1
    return sum(widths[start:end])


def _draw_token(
    ax: Axes, label: str, line: int, column: int, width: int, colour: tuple, size: float
) -> None:
    from matplotlib.patches import Rectangle

    ax.add_patch(
        Rectangle((column, line + 0.06), width, 0.88, facecolor=colour, edgecolor="white", lw=0.5)
    )
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ax.text(
        column,
        line + 0.52,
        label,
        family="DejaVu Sans Mono",
        fontsize=size,
        color="black" if luminance > 0.5 else "white",
        va="center",
        ha="left",
        parse_math=False,
        clip_on=True,
    )


def _font_size(ax: Axes, lines: int) -> float:
    """Return the size in points at which `COLUMNS` characters fill the axes."""
    box = ax.get_window_extent()
    points = 72 / ax.figure.dpi
    return min(box.width * points / COLUMNS / _CHARACTER_WIDTH, 0.8 * box.height * points / lines)


def _title(generation: Generation) -> str:
    return f"{generation.task} of {generation.source}, {generation.model.id}"
