"""Results as cards for notebooks: self-contained HTML without scripts.

Does not know: models.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from workbench.figures.tables import html_table
from workbench.hallucination.figure import FULL
from workbench.model.licence import RESEARCH_NOTICE

if TYPE_CHECKING:
    from workbench.hallucination.grounding_result import Grounding
    from workbench.hallucination.rewriting import Change

_CARD = (
    "font-family:system-ui,sans-serif;font-size:14px;line-height:1.6;max-width:860px;"
    "background:#fff;color:#1b1b1b;border:1px solid #d9d9d9;border-radius:6px;padding:12px 16px;"
    "overflow-x:auto"
)
_SMALL = "font-size:12px;color:#5f5f5f"


def grounding_html(grounding: Grounding) -> str:
    """Return the text with each word on a tint of its contribution, and a table of findings."""
    frame = grounding.findings()
    names = [name for name in ("contribution", *grounding.ablations) if name in frame]
    rows = [
        [
            row["text"],
            row["code"],
            f"{row['logprob']:.2f}",
            *(f"{row[name]:+.2f}" for name in names),
        ]
        for _, row in frame.iterrows()
    ]
    head = ["finding", "code", "log-prob", "contribution", *names[1:]]
    return (
        f"<div style='{_CARD}'><b>Grounding</b> <span style='{_SMALL}'>{escape(grounding.source)}, "
        f"{escape(grounding.model.id)}</span>"
        f"<p style='white-space:pre-wrap'>{_words(grounding)}</p>"
        f"<p style='{_SMALL}'>green: the image spoke for the word, pink: against it; full colour "
        f"at {FULL:g} nats. How much the image was used, not whether it is true. "
        f"{RESEARCH_NOTICE}</p>"
        f"{html_table(head, rows)}</div>"
    )


def changes_html(name: str, changes: Sequence[Change]) -> str:
    """Return what a mitigation changed in a text, as a card."""
    rows = [
        [change.finding, change.edit, change.before or "-", change.after or "-"]
        for change in changes
    ]
    head = ["finding", "edit", "before", "after"]
    said = html_table(head, rows) if rows else "<p>nothing changed</p>"
    note = f"<p style='{_SMALL}'>{RESEARCH_NOTICE}</p>"
    return f"<div style='{_CARD}'><b>{escape(name)}</b>{said}{note}</div>"


def _words(grounding: Grounding) -> str:
    values, pieces, at = grounding.contribution, [], 0
    for part in grounding.parts:
        value = float(values[list(part.tokens)].sum())
        strength = min(abs(value) / FULL, 1) * 0.7
        colour = "77,146,33" if value > 0 else "197,27,125"
        pieces.append(escape(grounding.text[at : part.start]))
        pieces.append(
            f'<span title="{value:+.2f} nats" style="border-radius:3px;'
            f'background:rgba({colour},{strength:.2f})">{escape(part.text)}</span>'
        )
        at = part.end
    return "".join(pieces) + escape(grounding.text[at:])
