"""Divide a report into sections, and a text into sentences, without losing a character position.

Headings: one list for every part of the workbench. A heading is one the lexicon knows, alone or
joined to others ("FINDINGS AND IMPRESSION:"), or the name of an examination ("CHEST, TWO VIEWS:").
It stands before a colon, before a dash, or on a line of its own, at the start of a line or behind a
sentence. Any other heading ("LUNGS:") is text of the section that it stands in. An indication or a
technique does not run on into the body. Where no findings have a heading, its text ends with its
paragraph; in a report without blank lines, with its line, or its first sentence.

Sentences: the rules know decimals ("1.5 cm"), common abbreviations ("Dr.", "e.g."), list numbers
("1. Edema."), blank lines and headings, and tell wrapped lines from statements on lines of their
own; they know no grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from workbench.errors import InputError

Span = tuple[int, int]

FINDINGS, IMPRESSION, OTHER = "findings", "impression", "other"
#: Where a heading joins several, the first of these that is among them names the section.
_ORDER = (FINDINGS, IMPRESSION, "indication", "comparison", "technique", OTHER, "body")
#: Sections of one sentence where a report has no lines.
_SHORT = ("comparison", "technique", OTHER)
#: What `Headings` calls the name of an examination before its place is known.
_VIEW = "examination"

_MARKS = r"[ \t]*(?:[-*#>_=\[\u2022][ \t]*)*(?:\(?\d{1,2}[.)][ \t]+)?[*_]*"
_TAIL = (
    r"(?:[ \t]*\([^)\n]{1,40}\))?[ \t]*[*_\]]*[ \t]*"
    r"(?:(?P<colon>:)|(?P<dash>(?<=[ \t])[-\u2013\u2014]+[ \t])|(?P<alone>(?=[\r\n]|\Z)))"
)
#: Characters of a heading and the marks around it.
_LONGEST = 72
_DASH = re.compile(r"[ \t][-\u2013\u2014]")
_BOLD = re.compile(r"[*_]*(?=[\s*])|")
_MAY_HEAD = re.compile(r"[:\r\n]| [-\u2013\u2014]")
_LINE_START = re.compile(_MARKS)
_EDGES = " \t\r\n*#>_=[-\u2022"
_BLANK = re.compile(r"\n[^\S\n]*\n")
#: A heading in capitals that no list knows.
_UNKNOWN = re.compile(r"(?=[A-Z])[A-Z0-9 \t/&(),.'-]{3,48}:")


@dataclass(frozen=True)
class Section:
    """One section: its heading from `start` to `body`, its text from `body` to `end`.

    Attributes:
        name: "indication", "comparison", "technique", "findings", "impression", "other", or None
            for text that no heading claims.
        skipped: whether its text states nothing about the image.
    """

    name: str | None
    start: int
    body: int
    end: int
    skipped: bool = False


class Headings:
    """The headings of a lexicon, compiled.

    Args:
        words: its key `sections`: "skip" and "read" with patterns by the name of the section;
            "joint" between headings that are joined; "examination" and "examination_core", the
            words that name examinations and those one of which is in each.
    """

    def __init__(self, words: Mapping) -> None:
        groups = [
            (kind == "skip", name, pattern.replace(" ", r"[ \t]+"))
            for kind in ("skip", "read")
            for name, pattern in words[kind].items()
        ]
        self._pieces = [
            (skipped, name, re.compile(rf"\b(?:{pattern})(?!\w)", re.IGNORECASE))
            for skipped, name, pattern in groups
        ]
        known = "|".join(pattern for *_, pattern in groups)
        joint = rf"(?:[ \t]*[/&,+][ \t]*|[ \t]+(?:(?:{words['joint']})[ \t]+)?)"
        heading = rf"(?<![\w-])(?P<label>(?:{known})(?:{joint}(?:{known}))*){_TAIL}"
        self._known = re.compile(heading, re.IGNORECASE)
        token = rf"(?:(?:{words['examination']})(?!\w)|\d[\d:.]*|_+)"
        view = rf"(?:^|(?<=[.!?] )){_MARKS}(?P<label>{token}(?:[ \t,/&()-]+{token})*){_TAIL}"
        self._view = re.compile(view, re.IGNORECASE | re.MULTILINE)
        self._core = re.compile(rf"\b(?:{words['examination_core']})\b", re.IGNORECASE)
        self._named = lru_cache(maxsize=1024)(self._name)

    def divide(self, text: str) -> tuple[Section, ...]:
        """Divide a text; every character is in exactly one section."""
        if not _MAY_HEAD.search(text):
            return (Section(None, 0, 0, len(text)),)
        places = _places(text)
        marks = [*self._listed(text, places), *self._examinations(text, places)]
        marks.sort(key=lambda mark: mark.start)
        found, last = [], Section(None, 0, 0, len(text))
        for mark in marks:
            inside = mark.name == _VIEW and last.name == IMPRESSION
            if inside or mark.start < last.body:
                continue
            if mark.start > last.start:
                found.append(Section(last.name, last.start, last.body, mark.start, last.skipped))
            name = None if mark.name == "body" else FINDINGS if mark.name == _VIEW else mark.name
            last = Section(name, mark.start, mark.body, mark.end, mark.skipped)
        return tuple(_ended(text, [*found, last]))

    def _listed(self, text: str, places: list[Span]) -> Iterator[Section]:
        """Yield the headings that the list knows, as sections to the end of the text."""
        for match in _found(self._known, text, places):
            skipped, name = self._named(match["label"])
            start = _place(text, match, name)
            if start is not None:
                yield Section(name, start, _behind(text, match), len(text), skipped)

    def _examinations(self, text: str, places: list[Span]) -> Iterator[Section]:
        """Yield the names of examinations that stand as headings."""
        for match in _found(self._view, text, places):
            label = match["label"]
            before = text[: match.start("label")].rstrip(_EDGES)
            alone = match["alone"] is not None and not before.endswith(":") and label[0].isupper()
            # "The left chest / tube is removed." is a wrapped line
            alone = alone and not text[match.end() :].lstrip()[:1].islower()
            if self._core.search(label) and (match["colon"] or alone):
                yield Section(_VIEW, match.start(), _behind(text, match), len(text))

    def _name(self, label: str) -> tuple[bool, str]:
        """Return whether a heading is skipped, and the name of its section."""
        pieces = [
            (match, skipped, name)
            for skipped, name, pattern in self._pieces
            for match in pattern.finditer(label)
        ]
        kept: list[tuple[re.Match, bool, str]] = []
        for piece in sorted(pieces, key=lambda item: item[0].start() - item[0].end()):
            if not any(
                piece[0].start() < k[0].end() and k[0].start() < piece[0].end() for k in kept
            ):
                kept.append(piece)
        return min(((s, n) for _, s, n in kept), key=lambda named: (_ORDER.index(named[1]), named))


def _places(text: str) -> list[Span]:
    """Return where a heading can be: before a colon, or at the start of a line."""
    found, start = [], 0
    for line in text.splitlines(keepends=True):
        stripped = line.rstrip()
        end = start + len(stripped)
        short = len(stripped) < _LONGEST and stripped[-1:] != "." and len(stripped.split()) < 9
        if short or _DASH.search(text, start, start + _LONGEST):
            found.append((start, end))
        else:
            at = text.find(":", start, end)
            while at >= 0:
                if not text[at - 1 : at + 2 : 2].isdigit():  # a time of day
                    found.append((max(start, at + 1 - _LONGEST), at + 1))
                at = text.find(":", at + 1, end)
        start += len(line)
    return found


def _found(heading: re.Pattern, text: str, places: list[Span]) -> Iterator[re.Match]:
    at = 0
    for low, high in places:
        for match in heading.finditer(text, max(low, at), high):
            at = match.end()
            yield match


def _behind(text: str, heading: re.Match) -> int:
    """Return where the text behind a heading begins, marks of bold type left out."""
    bold = _BOLD.match(text, heading.end())
    return bold.end() if bold else heading.end()


def _place(text: str, match: re.Match, name: str) -> int | None:
    """Return where a heading starts whose words are known; None where it cannot be one."""
    label, start = match["label"], match.start("label")
    line = max(text.rfind("\n", 0, start), text.rfind("\r", 0, start)) + 1
    if _LINE_START.fullmatch(text, line, start):
        before = text[:line].rstrip(" \t")
        free = not before.strip() or before.endswith(("\n\n", ".\n", ":\n"))
        heads = match["colon"] or label[0].isupper() or (match["alone"] == "" and free)
        return line if heads else None
    if match["colon"] is None or not text[start - 1].isspace():
        return None
    behind = text[max(0, start - 4) : start].rstrip()[-1:] in (".", "!", "?")
    named = label[0].isupper() and name in (FINDINGS, IMPRESSION)
    return start if behind or label.isupper() or named else None


def _ended(text: str, found: list[Section]) -> Iterator[Section]:
    """Yield the sections, those that are skipped ended where their own text ends."""
    if not any(section.skipped for section in found):
        yield from found
        return
    gaps = (text[len(text[: s.start].rstrip(_EDGES)) : s.body] for s in found)
    spaced = any(_BLANK.search(gap) for gap in gaps)
    for number, section in enumerate(found):
        later = [s.name for s in found[number + 1 :] if text[s.body : s.end].strip()]
        end = section.end
        if section.skipped and FINDINGS not in later:
            brief = section.name in _SHORT or IMPRESSION not in later
            end = _own_end(text, section, spaced, brief)
        yield replace(section, end=end)
        if end < section.end:
            yield Section(None, end, end, section.end)


def _own_end(text: str, section: Section, spaced: bool, brief: bool) -> int:
    """Return where the text of a skipped section ends and a body without heading begins."""
    own = text[section.body : section.end].strip()
    brief = brief and "\n" not in own and not spaced
    for one, other in pairwise(sentences(text[section.body : section.end])):
        end = section.body + other.start
        gap = text[section.body + one.end : end]
        line = not spaced and ("\n" in gap or "\r" in gap)
        if line or brief or _BLANK.search(gap) or _UNKNOWN.match(text, end, section.end):
            return end
    return section.end


# ---------------------------------------------------------------- sentences

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


#: Characters of a text up to which it can be a report; a long one has 5,000.
LONGEST_TEXT = 500_000


def check_length(text: str, most: int = LONGEST_TEXT) -> None:
    """Raise `InputError` for a text that is too long to be a report."""
    if len(text) > most:
        raise InputError(
            f"a text of {len(text):,} characters is no report; expected at most {most:,}. "
            "Check which column or file it came from, or divide it"
        )


@dataclass(frozen=True)
class Sentence:
    """One sentence, the characters `whole[start:end]`, without white space at either end."""

    text: str
    start: int
    end: int


def sentences(text: str) -> tuple[Sentence, ...]:
    """Split a text into sentences; every character that is not white space is in exactly one.

    >>> [sentence.text for sentence in wb.reports.sentences("No nodule. No effusion.")]
    ['No nodule.', 'No effusion.']
    """
    found = []
    start = 0
    for end in (*_ends(text), len(text)):
        inner = text[start:end].strip()
        if inner:
            first = text.index(inner, start)
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
    word = re.split(r"[\s(\[]", window)[-1]
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
