"""Tables as HTML for notebooks and pages: words to the left, numbers to the right, nothing cut.

    html_table(["finding", "n", "F1 [95 %]"], [["nodule", "24", "0.83 [0.71, 0.92]"]])
    frame_table(frame, digits=2)

Every cell says itself how it is set, so that a notebook's own rules for tables do not decide. A
number with its interval stays on one line, and a table that is too wide scrolls in its own place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from workbench.figures.numbers import number_text

if TYPE_CHECKING:
    import pandas as pd

_WIDE = "overflow-x:auto;max-width:100%"
_NUMBER = r"[<>\u2264\u2265~]?\s*[-+\u2212\u00b1]?\s*\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?:\s*%)?"
_RANGE = rf"\[\s*{_NUMBER}\s*[,;\u2013-]\s*{_NUMBER}\s*\]"
#: A number, two of them as in "3 / 40", and each with an interval behind it.
_NUMERIC = re.compile(
    rf"{_NUMBER}(?:\s*(?:/|of|to|\u2013)\s*{_NUMBER})?(?:\s*(?:{_RANGE}|\[no interval\]))?"
)
#: What stands in a column of numbers where there is none.
_NONE = ("", "-", "\u2013", "undefined", "unknown", "not known", "not measured", "no interval")
_BRACKET = re.compile(r"\[[^\[\]]{1,40}\]")


def html_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table; texts are escaped here.

    A column is one of numbers where every cell is a number, a number with an interval, or a word
    for a number that is missing; it is set to the right, its name too. What stands behind a line
    break in it is small print below the number.

    Args:
        head: names of the columns; none of them for a table without a head.
        rows: cells, one row at a time; None is an empty cell.
    """
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    count = max([len(head), *(len(row) for row in texts)], default=0)
    sides = [side([row[at] for row in texts if at < len(row)]) for at in range(count)]
    top = f"<thead>{_row('th', head, sides)}</thead>" if head else ""
    body = "".join(_row("td", row, sides) for row in texts)
    return f'<div style="{_WIDE}"><table>{top}<tbody>{body}</tbody></table></div>'


def facts_table(facts: Sequence[tuple[str, object]]) -> str:
    """Return a table of two columns, a name and what is known of it; texts are escaped here."""
    rows = "".join(
        f'<tr><th scope="row" style="{_LEFT};white-space:nowrap">{escape(name)}</th>'
        f'<td style="{_LEFT};overflow-wrap:anywhere">{unbroken(value)}</td></tr>'
        for name, value in facts
    )
    return f'<div style="{_WIDE}"><table><tbody>{rows}</tbody></table></div>'


def frame_table(frame: pd.DataFrame, *, digits: int = 3, limit: int | None = None) -> str:
    """Return a data frame as a table; see `html_table`.

    Integers are shown without a point; what is missing is an empty cell. The index is shown where
    it has a name.

    Args:
        digits: behind the point of all other numbers.
        limit: rows at most; how many more there are is said below.
    """
    shown = frame if limit is None else frame.head(limit)
    if any(name is not None for name in frame.index.names):
        shown = shown.reset_index()
    columns = [[number_text(v, digits) for v in shown.iloc[:, at]] for at in range(shown.shape[1])]
    made = html_table([str(name) for name in shown.columns], list(zip(*columns, strict=True)))
    left = len(frame) - len(shown)
    return made + (f"<p>... and {left:,} more rows</p>" if left else "")


def markdown_table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as Markdown, a line for each row."""
    lines = [head, ["---"] * len(head), *rows]
    cells = ([" ".join(str(cell).replace("|", "\\|").split()) for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def bullets(lines: Iterable[str]) -> str:
    """Return texts, escaped here, as a list; nothing where there is none."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def unbroken(text: object) -> str:
    """Return a text as HTML that does not break inside a bracket, such as that of an interval."""
    return _BRACKET.sub(r'<span style="white-space:nowrap">\g<0></span>', escape(str(text)))


_LEFT, _RIGHT = "text-align:left", "text-align:right;white-space:nowrap"
_HEAD = {"th": ' scope="col"', "td": ""}


def side(cells: Sequence[str]) -> str:
    """Return the style of a column by its cells: numbers to the right, everything else left."""
    firsts = [cell.split("\n")[0].strip() for cell in cells]
    known = [first for first in firsts if first not in _NONE]
    return _RIGHT if known and all(_NUMERIC.fullmatch(cell) for cell in known) else _LEFT


def _row(tag: str, cells: Sequence[object], sides: Sequence[str]) -> str:
    made = []
    for cell, own in zip(cells, sides, strict=False):
        first, *small = str(cell).split("\n") if own == _RIGHT else [str(cell)]
        more = "".join(f"<br><small>{escape(line)}</small>" for line in small)
        own = own if tag == "td" else own.split(";")[0]  # a name may break, its numbers may not
        said = escape(first) if "nowrap" in own else unbroken(first)
        made.append(f'<{tag}{_HEAD[tag]} style="{own}">{said}{more}</{tag}>')
    return f"<tr>{''.join(made)}</tr>"
