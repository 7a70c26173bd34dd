"""Figures and pages as HTML on its own: pictures inside, no scripts, nothing fetched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench._repr import png_text
from workbench._store import whole_file
from workbench.errors import InputError
from workbench.figures.tables import bullets


def embedded_png(figure: Figure, alt: str, *, dpi: int = 150) -> str:
    """Return a figure as an image that carries its own data; the figure stays open.

    `alt` says what it shows, for those who cannot see it; it is escaped here.
    """
    data = png_text(lambda to: figure.savefig(to, format="png", dpi=dpi))
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/png;base64,{data}">'


def figure_html(drawn: Figure | Axes, label: str, *, dpi: int = 100) -> str:
    """Return a figure, or that of axes, as an image for a notebook, and close it."""
    from matplotlib import pyplot

    figure = drawn.get_figure(root=True) if isinstance(drawn, Axes) else drawn
    assert figure is not None
    shown = embedded_png(figure, f"Figure: {label}", dpi=dpi)
    pyplot.close(figure)
    return shown


def scoped(style: str, name: str) -> str:
    """Return the style of a page as one for a part of another page, whose own look it leaves alone.

    `name` is the class of the part, which stands for the body; the rules are nested in it.
    """
    own = style.replace("body{", "&{").replace("margin:32px auto;", "")
    return f".{name}{{{own}}}"


#: Style of whole pages: one column of headings, text, tables and pictures.
PAGE_STYLE = """
body{font:15px/1.55 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;color:#1b1b1b;
background:#fff;max-width:1180px;margin:32px auto;padding:0 24px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 8px}
p{margin:6px 0 10px;max-width:880px}.muted,small{color:#595959}
table{border-collapse:collapse;margin:10px 0;font-variant-numeric:tabular-nums}
th,td{padding:4px;border-bottom:1px solid #d9d9d9;vertical-align:top}
th{border-bottom:2px solid #1b1b1b;vertical-align:bottom}
img{max-width:100%;height:auto;display:block;margin:8px 0}
.notes{border-left:4px solid #b36b00;background:#fff4dc;color:#5c3a00;
padding:8px 16px;margin:14px 0}
.notes ul{margin:4px 0;padding-left:20px}
.figures{display:flex;gap:28px;flex-wrap:wrap;margin:14px 0}.figures div{min-width:150px}
.figures b{font-size:24px;display:block}
"""

#: Style of small print on a card.
SMALL = "font-size:12px;color:#5f5f5f"


def card(body: str) -> str:
    """Return HTML on the card that results have in notebooks."""
    style = (
        "font-family:system-ui,sans-serif;font-size:14px;line-height:1.6;max-width:860px;"
        "background:#fff;color:#1b1b1b;border:1px solid #d9d9d9;border-radius:6px;"
        "padding:12px 16px;overflow-x:auto"
    )
    return f"<div style='{style}'>{body}</div>"


def html_page(title: str, style: str, body: str) -> str:
    """Return a whole page of a plain title, which is escaped here, CSS and HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>{body}</body></html>"
    )


@contextmanager
def html_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield where a page is to be written, which appears as `path` once it is whole.

    Raises:
        InputError: the name does not end in .html.
    """
    path = Path(path)
    if path.suffix.lower() != ".html":
        raise InputError(f"{path.name}: the page is written as .html; name it so")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        yield partial


def notes_html(title: str, notes: Sequence[str]) -> str:
    """Return a box of notes in the style of pages; nothing where there is none. Escaped here."""
    if not notes:
        return ""
    return f'<div class="notes"><b>{escape(title)}</b>{bullets(notes)}</div>'


def save_files(
    folder: str | Path, texts: Mapping[str, str], figures: Mapping[str, Figure], *kinds: str
) -> dict[str, Path]:
    """Write texts and figures, in several kinds of files, to a folder; return name -> path.

    The folder is made if needed, and files of the same names are replaced; figures are closed.
    """
    from matplotlib import pyplot

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    names = [*texts, *(f"{name}.{kind}" for name in figures for kind in kinds)]
    for name in names[len(texts) :]:
        figures[name.rpartition(".")[0]].savefig(folder / name)
    for figure in figures.values():
        pyplot.close(figure)
    return {name: folder / name for name in names}
