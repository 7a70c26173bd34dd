"""A queue and its slices as cards for notebooks: self-contained HTML without scripts.

Does not know: how anything was found.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from workbench.figures.tables import html_table

if TYPE_CHECKING:
    from workbench.review.queue_result import ErrorQueue
    from workbench.review.slices import SliceTable

_CARD = (
    "font-family:system-ui,sans-serif;font-size:14px;line-height:1.5;max-width:960px;"
    "background:#fff;color:#1b1b1b;border:1px solid #d9d9d9;border-radius:6px;padding:12px 16px;"
    "overflow-x:auto"
)
_NOTE = (
    "border-left:4px solid #b36b00;background:#fff4dc;color:#5c3a00;padding:6px 14px;margin:10px 0"
)
_TABLE = (
    "<style>.review-table table{border-collapse:collapse;margin:6px 0 12px;font-size:14px}"
    ".review-table th,.review-table td{padding:3px 16px 3px 0;"
    "border-bottom:1px solid #e4e4e4}</style>"
)
_SHOWN = 8


def queue_html(queue: ErrorQueue) -> str:
    """Return counts, notes and the worst slices; no report text."""
    joined = queue.joined
    known, disputed = int(joined.known.sum()), int(joined.disputed.sum())
    unknown = joined.known.size - known - disputed
    head = (
        f"<b>Error queue</b>: {len(queue):,} entries about {len(joined.cases):,} reports"
        f"<p>Pairs of report and finding: {known:,} known, {disputed:,} disputed, {unknown:,} "
        "unknown. Only known ones can be wrong.</p>"
    )
    notes = "".join(f"<div style='{_NOTE}'>{escape(note)}</div>" for note in queue.notes)
    rows = [[kind, f"{count:,}"] for kind, count in queue.counts.items() if count]
    kinds = html_table(["kind", "entries"], rows) if rows else "<p>Nothing is suspect.</p>"
    body = f"{head}{notes}{kinds}{slices_html(queue.slices)}"
    return f"{_TABLE}<div class='review-table' style='{_CARD}'>{body}</div>"


def slices_html(slices: SliceTable) -> str:
    """Return the worst slices as a table."""
    shown = slices.worse[:_SHOWN]
    said = (
        f"<p><b>Slices</b>: {slices.tested:,} tested, {len(slices.worse):,} worse than the rest "
        "after Holm's correction.</p>"
    )
    if not shown:
        return said
    rows = [
        [
            f"{item.attribute} = {item.value}",
            item.finding,
            f"{item.errors:,} / {item.chances:,}",
            item.rate.text(3),
            "" if item.ratio is None else f"{item.ratio:.1f}",
            f"{item.p:.1g}" if item.p and item.p > 1e-12 else "< 1e-12",
        ]
        for item in shown
    ]
    head = ["slice", "finding", "errors / chances", "rate [95 %]", "times expected", "p (Holm)"]
    return f"{_TABLE}<div class='review-table'>{said}{html_table(head, rows)}</div>"
