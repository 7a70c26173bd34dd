"""Split a report into sentences without losing a character position.

Knows decimals ("1.5 cm"), common abbreviations ("Dr.", "e.g."), list numbers ("1. Edema."),
hard-wrapped lines, blank lines and section headings. Rules only; does not know grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workbench.errors import InputError

_ABBREVIATION = re.compile(
    r"dr|mrs?|ms|prof|vs|approx|fig|st|ca|cf|incl|e\.?g|i\.?e|resp|max|min|avg", re.IGNORECASE
)
#: Abbreviations that end a sentence when a capital follows.
_EITHER = re.compile(r"[ap]\.m|etc|al", re.IGNORECASE)
_STOP = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)|(?<=[a-z])\.(?=[A-Z][a-z])")
_LIST_NUMBER = re.compile(r"\(?\d{1,2}[.)]")
_LINE_BREAK = re.compile(
    r"\n[^\S\n]*\n\s*"  # a blank line
    r"|\n(?=\s*(?:[-*\u2022]\s|\(?\d{1,2}[.)]\s|[A-Z][A-Za-z /]{2,30}:))"  # a list item or heading
)
_LAST_WORD = re.compile(r"[^\s(\[]*$")


#: Characters of a text up to which it can be a report; a long one has 5,000.
LONGEST_TEXT = 500_000


def check_length(text: str, most: int = LONGEST_TEXT) -> None:
    """Refuse a text that is too long to be a report.

    Raises:
        InputError: it has more than `most` characters.
    """
    if len(text) > most:
        raise InputError(
            f"a text of {len(text):,} characters is no report; expected at most {most:,}. "
            "Check which column or file it came from, or divide it"
        )


@dataclass(frozen=True)
class Sentence:
    """One sentence and where it stands.

    Attributes:
        text: the characters `whole[start:end]`, without white space at either end.
        start: first character.
        end: one past the last character.
    """

    text: str
    start: int
    end: int


def sentences(text: str) -> tuple[Sentence, ...]:
    """Split a text into sentences; every character that is not white space is in exactly one.

    Never fails on any string; an empty text has no sentence.
    """
    found = []
    start = 0
    for end in (*_ends(text), len(text)):
        piece = text[start:end]
        inner = piece.strip()
        if inner:
            first = start + piece.index(inner)
            found.append(Sentence(inner, first, first + len(inner)))
        start = end
    return tuple(found)


def _ends(text: str) -> Iterator[int]:
    """Yield the positions after which a new sentence begins, in order."""
    breaks = [(match.start(), match.end(), True) for match in _LINE_BREAK.finditer(text)]
    stops = [(match.start(), match.end(), False) for match in _STOP.finditer(text)]
    start = 0
    for begin, end, sure in sorted(breaks + stops):
        if end > start and (sure or _closes(text, start, begin, end)):
            yield end
            start = end


def _closes(text: str, start: int, begin: int, end: int) -> bool:
    """Say whether the stop at `begin` ends the sentence that began at `start`."""
    if text[begin] != ".":
        return True
    if _LIST_NUMBER.fullmatch(text[start:end].strip()):
        return False
    window = text[max(start, begin - 20) : begin]
    word = _LAST_WORD.search(window).group()
    following = text[end : end + 20].lstrip()[:1]
    if _ABBREVIATION.fullmatch(word):
        return not following
    if _EITHER.fullmatch(word):
        return not following or following.isupper()
    if word.lower() == "no" and following.isdigit():
        return False
    return not (len(word) == 1 and word.isupper() and following.isupper())
