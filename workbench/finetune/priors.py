"""References to earlier studies, taken out of reports that one image is learned from.

"Small effusion, unchanged from prior" teaches a model to compare with an image it never sees. Each
sentence that compares is said again without the comparison: "The effusion has increased." becomes
"There is an effusion.", "Interval removal of the chest tube." becomes "No chest tube.". That stands
only where the labeler reads the same findings in it, on the same sides, and no other word with a
meaning of its own is lost, nor a denial; else fewer words are taken out, and where nothing can go,
the sentence stays as it was. The original is kept beside the result.

Rules: those of `workbench.hallucination.text_checks` ("prior comparison"). English only.
Paper: Ramesh, Chi and Rajpurkar, Improving Radiology Report Generation Systems by Removing
Hallucinated References to Non-existent Priors, ML4H 2022, arXiv 2210.06340. Deviation: rules here,
a rewriting language model there.
Does not know: whether the finding itself was copied from an earlier report.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from workbench.finetune.prior_guard import is_english, keeps, only_compares
from workbench.finetune.prior_phrases import comparisons, rephrased
from workbench.reports import divide, label, sentences


@dataclass(frozen=True)
class Cleaned:
    """A report without references to earlier studies.

    Attributes:
        text: what is left; may be empty.
        original: what it was.
        removed: the sentences or clauses said again or taken out, in order.
    """

    text: str
    original: str
    removed: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything was taken out."""
        return bool(self.removed)


def clean_priors(text: str) -> Cleaned:
    """Take references to earlier studies out of a report.

    Every finding that the report states or denies is still read from the result, with the same
    code. What has resolved or was removed is denied. A comparison that cannot be taken out without
    losing a finding stays.

    Args:
        text: a report or a section of one.
    """
    if not comparisons(text):
        return Cleaned(text, text)
    removed, changed, last = [], [], 0
    for start, end, heading in _pieces(text):
        before = text[start:end]
        after = before if heading else _cleaned(before)
        if after != before:
            removed.append(before)
        changed.append((text[last:start], after, heading))
        last = end
    if not removed:
        return Cleaned(text, text)
    kept = _joined(changed)
    if _read(kept) != _read(text):
        return Cleaned(text, text)
    return Cleaned(kept, text, tuple(removed))


@lru_cache(maxsize=4096)
def _read(text: str) -> dict[str, tuple[str, str | None]]:
    return {row.finding: (row.code, row.side) for row in label(text).rows}


def _pieces(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield the place of every heading and sentence, and whether it is a heading."""
    for section in divide(text):
        heading = text[section.start : section.body].strip()
        if heading:
            start = text.index(heading, section.start)
            yield start, start + len(heading), True
        for piece in sentences(text[section.body : section.end]):
            yield section.body + piece.start, section.body + piece.end, False


def _cleaned(sentence: str) -> str:
    """Return a sentence without its comparison, empty where it only compares."""
    if not comparisons(sentence):
        return sentence
    number = re.match(r"(?:\(?\d{1,2}[.)]|[-*\u2022])\s+", sentence)
    lead = number.group() if number else ""
    body = sentence[len(lead) :]
    before = _read(body)
    best, most = None, comparisons(body)
    for candidate in rephrased(body, lambda one, other: _read(one) == _read(other)):
        left = comparisons(candidate)
        if left >= (most if best is None else best[0]):
            continue
        if not (is_english(candidate, body) and keeps(candidate, body)):
            continue
        if _read(candidate) != before:
            continue
        best = (left, candidate)
        if not left:
            break
    if best is not None:
        return f"{lead}{best[1]}" if best[1] else ""
    return sentence if before or not (only_compares(body) and keeps("", body)) else ""


def _joined(pieces: list[tuple[str, str, bool]]) -> str:
    """Join gaps and texts; a heading that nothing follows any more goes with what followed."""
    kept: list[tuple[str, str, bool]] = []
    for number, (gap, said, heading) in enumerate(pieces):
        following = []
        for _, other, also in pieces[number + 1 :]:
            if also:
                break
            following.append(other)
        if said and not (heading and following and not any(following)):
            kept.append((gap, said, heading))
    text = ""
    for gap, said, _ in kept:
        text += (gap or " ") + said if text else said
    return text.strip()
