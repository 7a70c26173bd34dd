"""The explorer as one HTML file: words can be clicked, nothing is asked of Python or a network.

The page holds the same script as the widget, the films, the texts with their recorded attention as
small grids, and every map that was computed before.

Does not know: how a map is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.widgets._assets import script, styles
from workbench.widgets._front import plain
from workbench.widgets.explorer_map import map_for, said_of
from workbench.widgets.explorer_text import Passage

if TYPE_CHECKING:
    from workbench.widgets.explorer import Explorer

#: What a page may load: what it holds itself, and nothing else.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src data: blob:"
)


def explorer_page(explorer: Explorer, *, check: Callable[[], None] = lambda: None) -> str:
    """Return the page.

    Args:
        explorer: what is shown, with its texts as they are.
        check: is called now and then and may raise to end the work.
    """
    held = {
        "state": explorer.state(),
        "traits": {"title": explorer.title, "notice": explorer.notice},
        "maps": [{"key": list(key), "map": found} for key, found in explorer.kept_maps.items()],
        "said": _said(explorer, check),
    }
    # "<" cannot end the element early, nor begin a comment.
    data = json.dumps(plain(held), allow_nan=False, ensure_ascii=True).replace("<", "\\u003c")
    code = script("explorer.js").replace("export default { render };", _START)
    title = f"{explorer.title}: {explorer.sides[0].image.contract.source}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>body{{margin:1rem;background:#f1f2f4}}{styles('film.css', 'explorer.css')}</style>"
        '</head><body data-workbench-page><main id="app"></main>'
        f'<script type="application/json" id="held">{data}</script>'
        f'<script type="module">{code}</script></body></html>\n'
    )


_START = """render({
  model: frozenModel(JSON.parse(document.getElementById("held").textContent)),
  el: document.getElementById("app"),
});"""


def _said(explorer: Explorer, check: Callable[[], None]) -> list[dict[str, Any]]:
    """Return what is said about the attention map of every word, sentence, finding and text."""
    found = []
    for number, side in enumerate(explorer.sides):
        for passage in list(side.passages):
            for choice in _choices(passage):
                check()
                message = {"method": "attention", "choice": choice}
                try:
                    said = said_of(map_for(passage.trace, message))
                except WorkbenchError as error:
                    said = {"failure": str(error)}
                found.append({"side": number, "passage": passage.number, **choice, "said": said})
    return found


def _choices(passage: Passage) -> list[dict[str, Any]]:
    known = passage.to_dict()
    spans = [(word["start"], word["end"]) for word in known["words"]]
    spans += [tuple(pair) for pair in known["sentences"]]
    findings = [{"finding": row["finding"]} for row in known["findings"]]
    return [{"start": a, "end": b} for a, b in dict.fromkeys(spans)] + findings + [{}]
