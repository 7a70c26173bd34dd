"""Rewriting: take findings out of a text, deny them, or put them in doubt.

The text is edited sentence by sentence, where the labeler finds a rejected finding stated as
present. A sentence that states nothing else goes, or is replaced by a denial or a doubt; of one
that speaks of other findings too, those are stated again from their labels. All other sentences
stay as they are, to the character.

    drop    nothing is said of the finding any more: unknown, not absent
    deny    "No pneumothorax."
    doubt   "Possible left pneumothorax."

English only.
Source: editing what was generated, Yin et al., Woodpecker, 2023, arXiv 2310.16045. Deviation:
there a language model rewrites, here rules, so that nothing else can change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.backends.levels import TEXTS, needs
from workbench.errors import check_one_of
from workbench.findings import ABSENT, CARDIOMEGALY, DEVICE, EDEMA, NO_FINDING, PRESENT, UNCERTAIN
from workbench.hallucination.grounding_result import behind_heading
from workbench.reports import FindingLabel, divide, label, sentences
from workbench.reports.sections import IMPRESSION

#: What can be done with a finding that a text states.
EDITS = ("drop", "deny", "doubt")

_GRADES = {
    name: {"small": "mild", "moderate": "moderate", "large": "severe"}
    for name in (CARDIOMEGALY, EDEMA)
}

#: Said where an impression has lost all that it said; it claims neither illness nor health.
NOTHING_LEFT = "See above."


@dataclass(frozen=True)
class Change:
    """One sentence that was changed, by one of `EDITS`.

    Attributes:
        after: what stands there now; empty where it was taken out.
        score: what decided it; None where nothing was measured.
    """

    finding: str
    edit: str
    before: str
    after: str
    score: float | None = None


@needs(TEXTS)
def rewrite(
    text: str, edits: Mapping[str, str], *, scores: Mapping[str, float] | None = None
) -> tuple[str, tuple[Change, ...]]:
    """Edit what a text states as present, by finding -> one of `EDITS`.

    `scores` decided, for the record. Nothing to change returns the very text.

    >>> wb.hallucination.rewrite("There is a nodule. No effusion.", {"nodule": "drop"})[0]
    'No effusion.'
    """
    for edit in edits.values():
        check_one_of("edit", edit, EDITS)
    scores = scores or {}
    said = label(text)
    spoken = {row.finding for row in said.rows if row.code == ABSENT}
    pieces, changes, last, divided = [], [], 0, divide(text)
    for sentence in sentences(text):
        here = [row for row in said.mentions if sentence.start <= row.start < sentence.end]
        bad = [row for row in here if row.code == PRESENT and row.finding in edits]
        begin = behind_heading(text, divided, sentence.start)
        heading, body = text[sentence.start : begin], text[begin : sentence.end]
        after = body
        if bad:
            others = [row for row in here if row not in bad and row.finding not in edits]
            after = _replaced(text, bad, others, edits, spoken)
            changes += [
                Change(name, edits[name], body, after, scores.get(name))
                for name in dict.fromkeys(row.finding for row in bad)
            ]
        if after or heading:
            pieces.append((text[last : sentence.start] if pieces else "", heading, after))
        last = max(sentence.end, begin)
    return (_joined(pieces), tuple(changes)) if changes else (text, ())


def _replaced(
    text: str,
    bad: Sequence[FindingLabel],
    others: Sequence[FindingLabel],
    edits: Mapping[str, str],
    spoken: set[str],
) -> str:
    """Return what stands for a sentence: its other findings stated again, and the edits."""
    parts = [restated(text, row) for row in {row.finding: row for row in others}.values()]
    for row in {row.finding: row for row in bad}.values():
        edit = edits[row.finding]
        if edit == "doubt":
            parts.append(doubted(text, row))
        elif edit == "deny" and row.finding not in spoken:
            parts.append(f"No {name_of(text, row)}.")
            spoken.add(row.finding)
    return " ".join(parts)


def name_of(text: str, row: FindingLabel) -> str:
    """Return how a sentence names a finding; devices keep the words of the text."""
    if row.finding != DEVICE:
        return row.finding
    words = text[row.start : row.end]
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


def restated(text: str, row: FindingLabel) -> str:
    """Return a short sentence that says what a label says."""
    named = name_of(text, row)
    if row.finding == NO_FINDING:
        return f"{text[row.start : row.end]}."
    if row.code == ABSENT:
        return f"No {named}."
    if row.code == UNCERTAIN:
        return doubted(text, row)
    grade = _GRADES.get(row.finding, {}).get(row.severity or "", row.severity)
    return _sentence([grade, None if row.zone else row.side, named], row)


def doubted(text: str, row: FindingLabel) -> str:
    """Return "Possible ..." with the place that the label gives."""
    return _sentence(["possible", None if row.zone else row.side, name_of(text, row)], row)


def _sentence(words: Sequence[str | None], row: FindingLabel) -> str:
    said = " ".join(word for word in words if word)
    if row.zone:
        places = {"bilateral": "on both sides in the", None: "in the"}
        where = places.get(row.side, f"in the {row.side}")
        zones = f"{row.zone} lung zone{'s' if ',' in row.zone else ''}"
        if row.lobe and row.lobe.count(",") == row.zone.count(","):
            zones = row.lobe
        said += f" {where} {zones.replace(', ', ' and ')}"
    return f"{said[:1].upper()}{said[1:]}."


def _joined(pieces: Sequence[tuple[str, str, str]]) -> str:
    """Join gaps, headings and bodies; a heading takes the next body, or says that none is left."""
    text, waiting = "", ""
    for gap, heading, body in pieces:
        if heading and waiting:
            text, waiting = text + _ended(waiting), ""
        start = waiting or ((gap or " ") if text else "") + heading
        text, waiting = (text + start + body, "") if body else (text, start)
    return text + (_ended(waiting) if waiting else "")


def _ended(heading: str) -> str:
    """Return a heading with nothing behind it: an impression says so, others go."""
    if all(section.name != IMPRESSION for section in divide(heading)):
        return ""
    return f"{heading}{'' if heading[-1:].isspace() else ' '}{NOTHING_LEFT}"
