"""The explorer as one HTML file: words can be clicked, nothing is asked of Python or a network.

The page holds the same script as the widget, the images, the texts with their recorded attention as
small grids, and every map that was computed before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from workbench._repr import plain
from workbench.errors import WorkbenchError
from workbench.figures.page import embedded_png
from workbench.figures.style import closed_figure
from workbench.reports import label
from workbench.saliency import METHODS, explain
from workbench.trace import ImageMap, Trace
from workbench.widgets._front import script, styles
from workbench.widgets.explorer_side import Passage, Side, map_for, said_of

#: What a page may load: what it holds itself, and nothing else.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src data: blob:"
)


def explorer_page(
    sides: Sequence[Side],
    state: Mapping[str, Any],
    maps: Mapping[tuple, dict],
    traits: Mapping[str, str],
    check: Callable[[], None],
) -> str:
    """Return the page of `Explorer.state` and the maps that were computed before, by `map_key`.

    `check` is called now and then and may raise to end the work.
    """
    held = {
        "state": state,
        "traits": traits,
        "maps": [{"key": list(key), "map": found} for key, found in maps.items()],
        "said": _said(sides, check),
    }
    # "<" cannot end the element early, nor begin a comment.
    data = json.dumps(plain(held), allow_nan=False, ensure_ascii=True).replace("<", "\\u003c")
    code = script("explorer.js").replace("export default { render };", _START)
    title = f"{traits['title']}: {sides[0].image.contract.source}"
    looks = styles("radiograph.css", "explorer.css")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">'
        f"<style>body{{margin:1rem;background:#f1f2f4}}"
        f"body:has(.wb[data-theme=dark]){{background:#0c0e12}}{looks}</style>"
        '</head><body data-workbench-page><main id="app"></main>'
        f'<script type="application/json" id="held">{data}</script>'
        f'<script type="module">{code}</script></body></html>\n'
    )


_START = """render({
  model: frozenModel(JSON.parse(document.getElementById("held").textContent)),
  el: document.getElementById("app"),
});"""


def _said(sides: Sequence[Side], check: Callable[[], None]) -> list[dict[str, Any]]:
    """Return what is said about the attention map of every word, sentence, finding and text."""
    found = []
    for number, side in enumerate(sides):
        for passage in list(side.passages):
            if passage.trace is None:
                continue
            for choice in choices_of(passage):
                check()
                message = {"method": "attention", "choice": choice}
                try:
                    said = said_of(map_for(passage.trace, message))
                except WorkbenchError as error:
                    said = {"failure": str(error)}
                found.append({"side": number, "passage": passage.number, **choice, "said": said})
    return found


def choices_of(passage: Passage) -> list[dict[str, Any]]:
    """Return every part of a text that can be clicked: words, sentences, findings, all of it."""
    known = passage.page
    spans = [(word["start"], word["end"]) for word in known["words"]]
    spans += [tuple(pair) for pair in known["sentences"]]
    findings = [{"finding": row["finding"]} for row in known["findings"]]
    return [{"start": a, "end": b} for a, b in dict.fromkeys(spans)] + findings + [{}]


_STYLE = (
    "font:17px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;color:#1b1b1b;"
    "background:#fff;border:1px solid #c9ced6;border-radius:10px;padding:14px 18px;max-width:1000px"
)
_NOTICE = "color:#5c3a00;background:#fff4dc;border-left:5px solid #b36b00;padding:3px 10px"


def explorer_still(sides: Sequence[Side], method: str, notice: str) -> str:
    """Return HTML without a script: for each side a radiograph with one map, and the report."""
    shown = "".join(_side(side, method) for side in sides)
    return (
        f'<div style="{_STYLE}"><p style="{_NOTICE}">\u26a0 {escape(notice)}</p>'
        f'<div style="display:flex;flex-wrap:wrap;gap:20px">{shown}</div>'
        '<p style="color:#595959">This is a picture. Run the notebook to click the words.</p></div>'
    )


def _side(side: Side, method: str) -> str:
    name = escape(f"{side.model.card.name}, {side.image.contract.source}")
    report = next((p for p in side.passages if p.kind == "report"), None)
    words = "The report is written when the app is opened in a running notebook."
    image_map, warnings = None, ""
    if report is not None:
        image_map, words = _map(report.trace, method), report.generation.text
        warnings = "".join(
            f'<p style="{_NOTICE}">\u26a0 {escape(row["code"])}: {escape(row["message"])}</p>'
            for row in report.page["warnings"]
        )
    return (
        '<div style="flex:1 1 440px;min-width:0;display:flex;flex-wrap:wrap;gap:0 20px">'
        f'<div style="flex:0 1 460px">{_radiograph(side, image_map)}</div>'
        f'<div style="flex:1 1 260px;min-width:0;overflow-wrap:anywhere"><p><b>{name}</b></p>'
        f'{warnings}<p style="white-space:pre-wrap">{escape(words)}</p></div></div>'
    )


def _map(trace: Trace | None, method: str) -> ImageMap | None:
    """Return the map of the first finding that is stated, by what was recorded."""
    if trace is None:
        return None
    method = method if METHODS[method].recorded else "attention"
    first = next(iter(label(trace.text).present), None)
    try:
        return explain(trace, finding=first, method=method)
    except WorkbenchError:
        return None


def _radiograph(side: Side, image_map: ImageMap | None) -> str:
    with closed_figure(figsize=(5.4, 6.2)) as figure:
        axes = figure.add_subplot()
        if image_map is None:
            axes.imshow(side.image.pixels, cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
            alt = f"Radiograph: {side.image.contract.source}"
        else:
            image_map.plot(axes)
            alt = f"Map over the radiograph: {image_map.title}; {image_map.details}"
        return embedded_png(figure, alt, dpi=100).replace("<img ", '<img style="max-width:100%" ')
