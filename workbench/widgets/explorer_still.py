"""The explorer as a still picture and text, for places where no widget can run.

Does not know: pages that can be clicked (`explorer_page`).
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.figures.page import embedded_png
from workbench.figures.style import closed_figure
from workbench.saliency import METHODS, explain
from workbench.trace import ImageMap

if TYPE_CHECKING:
    from workbench.widgets.explorer import Explorer

_STYLE = (
    "font:17px/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;color:#1b1b1b;"
    "background:#fff;border:1px solid #c9ced6;border-radius:10px;padding:14px 18px;max-width:1000px"
)
_NOTICE = "color:#5c3a00;background:#fff4dc;border-left:5px solid #b36b00;padding:3px 10px"


def explorer_still(explorer: Explorer) -> str:
    """Return HTML without a script: for each side a film with one map, and the report."""
    sides = "".join(_side(side, explorer.settings) for side in explorer.sides)
    return (
        f'<div style="{_STYLE}"><p style="{_NOTICE}">\u26a0 {escape(explorer.notice)}</p>'
        f'<div style="display:flex;flex-wrap:wrap;gap:20px">{sides}</div>'
        '<p style="color:#595959">This is a picture. Run the notebook to click the words.</p></div>'
    )


def _side(side: Any, settings: dict) -> str:
    name = escape(f"{side.model.card.name}, {side.image.contract.source}")
    report = next((p for p in side.passages if p.kind == "report"), None)
    words = "The report is written when the app is opened in a running notebook."
    image_map = None
    if report is not None:
        image_map, words = _map(report.trace, settings), report.trace.text
    return (
        '<div style="flex:1 1 440px;min-width:0;display:flex;flex-wrap:wrap;gap:0 20px">'
        f'<div style="flex:0 1 460px">{_film(side, image_map)}</div>'
        f'<div style="flex:1 1 260px"><p><b>{name}</b></p>{_warnings(report)}'
        f'<p style="white-space:pre-wrap">{escape(words)}</p></div></div>'
    )


def _warnings(report: Any) -> str:
    shown = [] if report is None else report.to_dict()["warnings"]
    return "".join(
        f'<p style="{_NOTICE}">\u26a0 {escape(row["code"])}: {escape(row["message"])}</p>'
        for row in shown
    )


def _map(trace: Any, settings: dict) -> ImageMap | None:
    """Return the map of the first finding that is stated, by what was recorded."""
    from workbench.reports import label

    method = settings["method"] if METHODS[settings["method"]].recorded else "attention"
    present = label(trace.text).present
    try:
        if present:
            return explain(trace, finding=present[0], method=method)
        return explain(trace, method=method)
    except WorkbenchError:
        return None


def _film(side: Any, image_map: ImageMap | None) -> str:
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
