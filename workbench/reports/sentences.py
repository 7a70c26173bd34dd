"""Split a report into sentences without losing a character position.

Knows decimals ("1.5 cm"), common abbreviations ("Dr.", "e.g."), list numbers ("1. Edema."), blank
lines and section headings, and tells wrapped lines from statements on lines of their own. Rules
only; does not know grammar.
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
    r"|\n(?=\s*(?:[-*\u2022\u2013\u2014\u00b7\u25aa\u25e6\u25cf]\s|[-*\u2022\u2013\u2014\u00b7\u25aa\u25e6\u25cf][A-Z]"
    r"|\(?(?:\d{1,2}|[a-z])[.)]\s|[A-Z][A-Za-z0-9 /,()&-]{2,48}:))"  # a list item or heading
)
#: A line that ends without a stop, and the word with which the next one begins.
_WRAP = re.compile(r"(?<![.!?\s])[^\S\n]*\n[^\S\n]*(?=(\w[\w'\u2019-]*))")
#: Words after which a statement goes on.
_UNFINISHED = re.compile(
    r"(?:[,;:/(&-]|\b(?:an?|the|and|or|nor|no|not|without|with|of|in|on|at|to|from|for|by|as|than|over|"
    r"under|above|below|near|is|are|was|were|be|been|has|have|had|may|might|could|can|cannot|which|"
    r"that|there|this|these|its|left|right|both|bilateral|upper|middle|mid|lower|small|large|tiny|"
    r"trace|mild|moderate|severe|minimal|new|stable|unchanged|pleural|pulmonary|cardiac|focal|acute|"
    r"interstitial|mediastinal|vs|versus|but|if|due|since|between|any|some|multiple|prior|previous|"
    r"dr|mr|mrs|ms))$",
    re.IGNORECASE,
)
#: What a statement does not begin with.
_PREDICATE = re.compile(r"is|are|was|were|has|have|had|remains?|persists?|appears?", re.IGNORECASE)
#: What answers the question, or the name, in front of a question mark.
_ANSWER = re.compile(
    r"[^\S\n]*(?:a(?:nswer)?:\s*)?(?:yes|no|none|nil|absent|present|negative|positive|possible|possibly|probable|"
    r"probably|likely|unlikely|unknown|maybe)(?=\s*(?:[.,;]|\n|$))",
    re.IGNORECASE,
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
    for begin, end, sure in sorted([*breaks, *_new_statements(text), *stops]):
        if end > start and (sure or _closes(text, start, begin, end)):
            yield end
            start = end


def _new_statements(text: str) -> Iterator[tuple[int, int, bool]]:
    """Yield line breaks in front of a statement of its own, which end a sentence without a stop.

    A line that goes on is wrapped: the next one begins small, or this one ends in the middle of a
    phrase, or, in a text that is wrapped elsewhere, is as long as its lines can be. Text that has
    only capitals, or none, tells statements apart where no line of it ends or holds a stop.
    """
    if "\n" not in text:
        return
    wraps = list(_WRAP.finditer(text))
    plain = text.isupper() or text.islower()
    if plain and _STOP.search(text.rstrip(" \t\r\n.!?")):
        return
    width = 0
    if not plain and any(match[1][0].islower() for match in wraps):
        width = max(map(len, text.split("\n")))
    for match in wraps:
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        capital = match[1][0].isupper() and not match[1].startswith("XX")
        capital = capital and not _PREDICATE.fullmatch(match[1])
        full = len(line) + len(match[1]) >= width > 0
        open_end = _UNFINISHED.search(line) or line.count("(") > line.count(")")
        if (capital or (plain and match[1][0].isalpha())) and not full and not open_end:
            yield match.start(), match.end(), True


def _closes(text: str, start: int, begin: int, end: int) -> bool:
    """Say whether the stop at `begin` ends the sentence that began at `start`."""
    if text[begin] == "?":
        return not _marks_doubt(text, start, begin, end)
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


def _marks_doubt(text: str, start: int, begin: int, end: int) -> bool:
    """Say whether a question mark goes on: "? effusion", "nodule (?) left", "Effusion? No."."""
    asked, following = text[start:begin], text[end : end + 20].lstrip()
    if not asked.strip() or asked.endswith(("(", "[")):
        return True
    if asked[-1].isspace() and following[:1].islower():
        return True
    return _ANSWER.match(text, end) is not None
