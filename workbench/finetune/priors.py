"""References to earlier studies, taken out of reports that one image is learned from.

"Small effusion, unchanged from prior" teaches a model to compare with a film it never sees. A
clause that only compares is dropped; a word that compares is dropped where the rest still states
something; a sentence of which nothing remains, or that would then say another thing, is dropped
whole. The original is kept beside the result.

Rules: those of `workbench.hallucination.text_checks` ("prior comparison"). English only.
Paper: Ramesh, Chi and Rajpurkar, Improving Radiology Report Generation Systems by Removing
Hallucinated References to Non-existent Priors, ML4H 2022, arXiv 2210.06340. Deviation: rules here,
a rewriting language model there.
Does not know: whether the finding itself was copied from an earlier report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.findings import ABSENT, PRESENT, UNCERTAIN
from workbench.hallucination.text_checks import check_text
from workbench.reports import label, sentences

PRIOR = "prior comparison"

_BREAK = re.compile(r"\s*[,;]\s+|\s+(?:and|but|which|with)\s+(?=(?:is|are|has|have|not|no|un)\b)")
_EDGES = " ,;:-"
_LEAD = re.compile(r"^(?:(?:in|of|for|to|with|and|but|from|by)\b\s*)+", re.IGNORECASE)


@dataclass(frozen=True)
class Cleaned:
    """A report without references to earlier studies.

    Attributes:
        text: what is left; may be empty.
        original: what it was.
        removed: the words taken out, in order.
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

    Every finding that the report states or denies is still read from the result, except findings
    that only a comparison spoke of ("effusion has resolved").

    Args:
        text: a report or a section of one.
    """
    if not any(issue.rule == PRIOR for issue in check_text(text).issues):
        return Cleaned(text, text)
    kept: list[str] = []
    removed: list[str] = []
    for sentence in sentences(text):
        left, gone = _cleaned_sentence(sentence.text)
        removed += gone
        if left:
            kept.append(left)
    return Cleaned(" ".join(kept), text, tuple(removed))


def _compares(text: str) -> list[tuple[int, int]]:
    return [(i.start, i.end) for i in check_text(text).issues if i.rule == PRIOR]


def _cleaned_sentence(text: str) -> tuple[str, list[str]]:
    """Return what is left of one sentence, and what was taken out."""
    if not _compares(text):
        return text, []
    left, gone = _without_clauses(text)
    for _ in range(8):
        spans = _compares(left)
        if not spans:
            break
        start, end = spans[0]
        gone.append(left[start:end])
        left = re.sub(r"\s{2,}", " ", left[:start] + left[end:]).strip()
    left = _mended(left)
    if not _states_something(left) or not _says_the_same(left, text):
        return "", [text]
    return left, gone


def _mended(text: str) -> str:
    """Return words that stood around a comparison as a sentence of their own."""
    text = _LEAD.sub("", re.sub(r"\s+([.,;])", r"\1", text).strip(_EDGES)).strip(_EDGES)
    text = re.sub(r"^(is|are)\b", r"there \1", text, flags=re.IGNORECASE)
    if not text:
        return ""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else f"{text}."


def _says_the_same(left: str, original: str) -> bool:
    """Say whether no finding has another code than before ("effusion resolved" is no effusion)."""
    before = label(original).codes()
    return all(before[row.finding] == row.code for row in label(left).rows)


def _without_clauses(text: str) -> tuple[str, list[str]]:
    """Drop clauses that compare and name no finding of their own."""
    pieces = _BREAK.split(text.rstrip("."))
    if len(pieces) < 2:
        return text, []
    keep, gone = [], []
    for piece in pieces:
        (gone if _compares(piece) and not label(piece).rows else keep).append(piece)
    return (", ".join(keep) + "." if keep else ""), gone


def _states_something(text: str) -> bool:
    """Say whether a rest still reads a finding or holds enough words to say something."""
    if any(row.code in (PRESENT, ABSENT, UNCERTAIN) for row in label(text).rows):
        return True
    return len(re.findall(r"[A-Za-z]{3,}", text)) >= 4
