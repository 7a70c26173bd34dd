"""An entry of a queue as plain values for a page: texts in marked pieces, rows, what stands.

Marks are words, not offsets: a piece of text says itself what it states about which finding, so
that a page needs no colour and no counting of characters to show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from workbench.findings import CODES, SIDES
from workbench.hallucination.taxonomy import KINDS as ERROR_KINDS
from workbench.reports import FindingLabel, label
from workbench.review.cases import ReviewCase
from workbench.review.suspects import KINDS
from workbench.review.verdicts import SEVERITIES, VERDICTS, Annotation
from workbench.widgets.reviewing import STATES, Reviewing

_ROWS = 60


#: Everything that a verdict can be made of, in the order of its keys.
FORM_WORDS = {
    "verdicts": [
        {"key": str(at), "name": name, "means": text}
        for at, (name, text) in enumerate(VERDICTS.items(), start=1)
    ],
    "severities": [{"name": name, "means": text} for name, text in SEVERITIES.items()],
    "errors": ERROR_KINDS,
    "codes": CODES,
    "sides": SIDES,
    "states": [{"value": name, "label": text} for name, text in STATES.items()],
}


def choices(desk: Reviewing) -> dict[str, Any]:
    """Return the reasons and findings that the queue has, with counts."""
    kinds = Counter(entry.kind for entry in desk.entries)
    findings = Counter(entry.finding for entry in desk.entries)
    return {
        "kinds": [{"value": name, "count": kinds[name]} for name in KINDS if name in kinds],
        "findings": [{"value": name, "count": findings[name]} for name in sorted(findings) if name],
    }


def listing(desk: Reviewing, *, start: int | None = None, rows: int = _ROWS) -> dict[str, Any]:
    """Return so many rows of the list, from `start` or around where one is."""
    total = len(desk.listed)
    place = desk.listed.index(desk.at) if desk.at in desk.listed else None
    if start is None:
        start = max(0, min((place or 0) - rows // 2, total - rows))
    shown = [_row(desk, n) for n in desk.listed[start : start + rows]]
    return {"start": start, "total": total, "place": place, "rows": shown}


def case_view(desk: Reviewing, n: int) -> dict[str, Any]:
    """Return everything a page shows of one entry, but for the image."""
    entry, case = desk.entry(n), desk.case(n)
    mine, others = desk.mine(n), desk.others(n)
    also = [other for other in desk.entries if other.key[:2] == entry.key[:2]]
    about = {other.finding for other in also} - {entry.finding, ""}
    return {
        "n": n,
        "id": entry.id,
        "kind": entry.kind,
        "finding": entry.finding,
        "why": _why(entry.facts),
        "facts": {
            name: value
            for name, value in case.facts.items()
            if value not in ("", "unknown", case.id)
        },
        "report": pieces(case.text, entry.finding, about),
        "reference": None
        if case.reference is None
        else pieces(case.reference, entry.finding, about),
        "reference_text": case.reference or "",
        "corrected": desk.corrected(n),
        "findings": _findings(case),
        "first": also[0].n,
        "mine": None if mine is None else _said(mine),
        "form": desk.form(n),
        "others": len(others),
        # what others say is told after one's own verdict only
        "others_said": [] if mine is None else [_said(item) for item in others],
    }


def standing(desk: Reviewing) -> dict[str, Any]:
    """Return the counts and the verdict that would be taken back."""
    last = desk.last()
    return {"progress": desk.progress(), "last": None if last is None else _said(last)}


def pieces(text: str, finding: str, about: set[str]) -> list[dict[str, str]]:
    """Return a text in pieces, the words about findings marked.

    Args:
        text: a report.
        finding: the one in question; "" where the whole report is.
        about: other findings of the case that are in question.

    Returns:
        {text, mark, says}: mark is "asked" (of the finding in question), "also" (of another one in
        question), "cue" (negates or weakens the one in question) or "".
    """
    spans: list[tuple[int, int, str, str]] = []
    for item in label(text).mentions:
        if item.finding != finding and item.finding not in about:
            continue
        asked = item.finding == finding
        spans.append((item.start, item.end, "asked" if asked else "also", _says(item)))
        if asked and item.cue_start is not None and item.cue_end is not None:
            spans.append((item.cue_start, item.cue_end, "cue", f"reads it as {item.code}"))
    found, at = [], 0
    order = {"asked": 0, "also": 1, "cue": 2}
    for start, end, mark, says in sorted(spans, key=lambda s: (s[0], order[s[2]], -s[1])):
        start = max(start, at)
        if end <= start:
            continue
        if start > at:
            found.append({"text": text[at:start], "mark": "", "says": ""})
        found.append({"text": text[start:end], "mark": mark, "says": says})
        at = end
    if at < len(text):
        found.append({"text": text[at:], "mark": "", "says": ""})
    return found


def _row(desk: Reviewing, n: int) -> dict[str, Any]:
    entry, mine = desk.entry(n), desk.mine(n)
    return {
        "n": n,
        "id": entry.id,
        "kind": entry.kind,
        "finding": entry.finding,
        "verdict": "" if mine is None else mine.verdict,
        "skipped": n in desk.skipped,
    }


def _said(item: Annotation) -> dict[str, Any]:
    return {
        "n": item.n,
        "verdict": item.verdict,
        "reviewer": item.reviewer,
        "severity": item.severity,
        "comment": item.comment,
    }


def _says(item: FindingLabel) -> str:
    place = " ".join(word for word in (item.side, item.zone) if word)
    return f"{item.finding}: {item.code}{f', {place}' if place else ''}"


def _why(row: Mapping[str, Any]) -> list[str]:
    """Return in words why an entry is in the queue."""
    said = []
    if row["said"]:
        sides = row["said side"], row["reference side"]
        model, known = (f", {side}" if side else "" for side in sides)
        said.append(f"the model says {row['said']}{model}")
        said.append(f"known: {row['reference']}{known}")
    if row["evidence"]:
        said.append(str(row["evidence"]))
    if row["confidence"] == row["confidence"] and row["confidence"] is not None:
        said.append(_rank(float(row["confidence"])))
    return said


def _rank(share: float) -> str:
    """Return where the token confidence of a report stands among those of its run, 0 to 1."""
    if share >= 1:
        return "highest token confidence of this run"
    if share <= 0:
        return "lowest token confidence of this run"
    # never rounded to none or all of them
    percent = min(max(round(100 * share), 1), 99)
    return f"token confidence above that of {percent} % of this run's reports"


def _findings(case: ReviewCase) -> list[dict[str, Any]]:
    names = ["finding", "said", "label", "reported", "disputed"]
    rows = case.findings.reset_index()[names].to_dict("records")
    return cast("list[dict[str, Any]]", rows)
