"""Texts in lines of a given width, measured in the font that they are written in."""

from __future__ import annotations

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path


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
        inches: width of a line.
        size: of the font in points.
        weight: "normal" or "bold".
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
