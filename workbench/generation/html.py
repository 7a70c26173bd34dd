"""A generation as a card for notebooks: warnings, the text shaded by confidence, and its origin.

Self-contained HTML without scripts; readable on light and dark pages.
Does not know: models.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.generation.result import Generation

_TITLES = {
    "report": "Report",
    "differential": "Differential diagnosis",
    "question": "Answer",
    "chat": "Answer",
}
_STOPS = {
    "limit": "The text was cut at the limit on new tokens; raise max_new_tokens to see more.",
    "cancelled": "The text was stopped before its end.",
}
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:14px;line-height:1.6"
_SMALL = "font-size:12px;color:#5f5f5f"


def generation_html(generation: Generation, *, codes: tuple[str, ...] | None = None) -> str:
    """Return the card.

    Args:
        generation: what to show.
        codes: show only warnings with these codes; None shows all.
    """
    return (
        f'<div style="{_FONT};max-width:860px;background:#fff;color:#1b1b1b;'
        'border:1px solid #d9d9d9;border-radius:6px;padding:12px 16px">'
        f"{_heading(generation)}{_warnings(generation, codes)}"
        f'<div style="white-space:pre-wrap;margin:10px 0">{_shaded(generation)}</div>'
        f"{_legend()}{_origin(generation)}</div>"
    )


def _heading(generation: Generation) -> str:
    title = _TITLES.get(generation.task, generation.task)
    return (
        f'<div style="display:flex;justify-content:space-between;gap:16px">'
        f"<b>{html.escape(title)}</b>"
        f'<span style="{_SMALL}">{html.escape(generation.source)}</span></div>'
    )


def _warnings(generation: Generation, codes: tuple[str, ...] | None) -> str:
    shown = [w for w in generation.warnings if codes is None or w.code in codes]
    lines = [(warning.code, warning.message) for warning in shown]
    if generation.stopped_by in _STOPS:
        lines.append((generation.stopped_by, _STOPS[generation.stopped_by]))
    return "".join(
        '<div style="margin-top:6px;padding:3px 8px;border-left:4px solid #b36b00;'
        'background:#fff4dc;color:#5c3a00;font-size:13px">'
        f"<b>{html.escape(code)}</b> {html.escape(message)}</div>"
        for code, message in lines
    )


def _tint(doubt: float) -> str:
    """Return the background for a doubt in [0, 1]."""
    return f"rgba(217,108,6,{0.72 * doubt:.2f})"


def _shaded(generation: Generation) -> str:
    """Return the text with each word on a tint of its doubt; white space is kept."""
    if not generation.text.strip():
        return f'<i style="{_SMALL}">(the model wrote nothing)</i>'
    parts, position = [], 0
    for word in generation.words:
        parts.append(html.escape(generation.text[position : word.start]))
        parts.append(
            f'<span title="probability {word.probability:.2f}" style="border-radius:3px;'
            f'padding:1px 0;background:{_tint(1 - word.probability)}">'
            f"{html.escape(word.text)}</span>"
        )
        position = word.end
    return "".join(parts) + html.escape(generation.text[position:])


def _legend() -> str:
    stops = ",".join(_tint(level / 4) for level in range(5))
    return (
        f'<div style="{_SMALL};display:flex;align-items:center;gap:6px">token confidence '
        "(not correctness): 1"
        '<span style="display:inline-block;width:90px;height:10px;border-radius:3px;'
        f'background:linear-gradient(90deg,{stops})"></span>0</div>'
    )


def _origin(generation: Generation) -> str:
    settings, model = generation.settings, generation.model
    how = (
        "greedy"
        if settings.greedy
        else f"temperature {settings.temperature:g}, top-p {settings.top_p:g}, "
        f"top-k {settings.top_k}, seed {settings.seed}"
    )
    facts = (
        model.id,
        f"sha256 {model.sha256[:12]}" if model.sha256 else "",
        model.dtype,
        how,
        f"{len(generation.token_ids)} tokens",
        f"{generation.seconds:.2f} s",
    )
    line = " &middot; ".join(html.escape(fact) for fact in facts if fact)
    return (
        f'<details style="{_SMALL};margin-top:4px"><summary>{line}</summary>'
        '<pre style="white-space:pre-wrap;background:#f4f4f4;color:#1b1b1b;padding:8px;'
        f'border-radius:4px;margin:6px 0 0">{html.escape(generation.prompt)}</pre></details>'
    )
