"""Mentions of findings within one clause, each coded by the words around it.

After NegEx (Chapman et al., J Biomed Inform 2001): a cue reaches forwards or backwards up to a
word that ends its reach. Does not know: sentences, sections, side or severity (`labeler`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.findings import ABSENT, PRESENT, UNCERTAIN
from workbench.reports.lexicon import lexicon

_VERB = re.compile(r"\b(?:is|are|was|were|has|have|seen|present|noted|there|shows?)\b", re.I)
_OR = re.compile(r"\b(?:or|nor)\b", re.I)
_ALTERNATIVE = re.compile(r"\s*,?\s*(?:and/)?or\s+(?:[\w-]+\s+){0,3}", re.I)
#: After a comma or "and", a new noun phrase with an article, or a measured one, is a new statement.
_NEW_STATEMENT = re.compile(r"(?:,|\band\b)\s+(?:an?|the|there|this|is|are|with)\s", re.I)
_NEW_MEASURED = re.compile(
    r"(?:,|\band\b|\bwith\b)\s+(?:an?\s+)?"
    r"(?:small|tiny|trace|mild|minimal|moderate|large|severe|left|right|bilateral|stable|unchanged"
    r"|persistent|new)",
    re.I,
)
_LIST_END = re.compile(r",|\band\b|\bwith\b", re.I)


@dataclass(frozen=True)
class Mention:
    """One place where a clause names a finding; positions are relative to the clause."""

    finding: str
    start: int
    end: int
    code: str = PRESENT
    rule: str = "named"
    fixed: bool = False


def coded_mentions(clause: str) -> list[Mention]:
    """Find the findings a clause names and code each; those only asked for are left out."""
    found = _found(clause)
    if not found:
        return []
    cues = _Cues(clause)
    coded = [_coded(clause, mention, cues) for mention in found]
    kept = [mention for mention in coded if mention is not None]
    return _alternatives(clause, kept)


def _found(clause: str) -> list[Mention]:
    """Return mentions by position; of overlapping ones the longest, of equal ones all."""
    lex = lexicon()
    every = [
        Mention(finding, match.start(), match.end())
        for finding, pattern in lex.terms
        for match in pattern.finditer(clause)
    ]
    every += [
        Mention(finding, match.start(), match.end(), code, "statement", True)
        for finding, code, pattern in lex.statements
        for match in pattern.finditer(clause)
    ]
    kept: list[Mention] = []
    taken: dict[int, tuple[int, int]] = {}
    for mention in sorted(every, key=lambda item: (item.start - item.end, item.start)):
        span = (mention.start, mention.end)
        if mention in kept[-1:] or {taken.get(at, span) for at in range(*span)} != {span}:
            continue
        taken.update(dict.fromkeys(range(*span), span))
        kept.append(mention)
    return sorted(kept, key=lambda item: (item.start, item.end))


class _Cues:
    """Positions of the cues of one clause; look-alikes are taken out of the negations."""

    def __init__(self, clause: str) -> None:
        cues = lexicon().cues

        def spans(name: str, taken: list[tuple[int, int]] = ()) -> list[tuple[int, int]]:
            found = [match.span() for match in cues[name].finditer(clause)]
            return [span for span in found if not any(_overlap(span, other) for other in taken)]

        self.uncertain_after = spans("uncertain_after")
        self.uncertain_before = spans("uncertain_before")
        weak = self.uncertain_after + self.uncertain_before
        self.negation_after = spans("negation_after", weak)
        look_alike = weak + self.negation_after + spans("not_negation")
        self.negation_before = spans("negation_before", look_alike)
        self.asking = spans("asking", weak)
        self.stop = spans("stop")


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _coded(clause: str, mention: Mention, cues: _Cues) -> Mention | None:
    """Return the mention with its code, None when the clause only asks for it."""
    if _reached(clause, mention, cues.asking, cues.stop):
        return None
    if mention.fixed:
        turned = mention.code == PRESENT and any(
            end <= mention.start and not _LIST_END.search(clause, end, mention.start)
            for _, end in cues.negation_before
        )
        return _with(mention, ABSENT, "negation") if turned else mention
    if any(_negates(clause, mention, cue, cues.stop) for cue in cues.negation_before):
        return _with(mention, ABSENT, "negation")
    if _behind(clause, mention, cues.negation_after):
        return _with(mention, ABSENT, "negation")
    if _behind(clause, mention, cues.uncertain_after):
        return _with(mention, UNCERTAIN, "uncertainty")
    if any(_weakens(clause, mention, cue, cues.stop) for cue in cues.uncertain_before):
        return _with(mention, UNCERTAIN, "uncertainty")
    return mention


def _with(mention: Mention, code: str, rule: str) -> Mention:
    return Mention(mention.finding, mention.start, mention.end, code, rule, mention.fixed)


def _stopped(cue_end: int, mention: Mention, stops: list[tuple[int, int]]) -> bool:
    return any(cue_end <= start and end <= mention.start for start, end in stops)


def _reached(
    clause: str, mention: Mention, cues: list[tuple[int, int]], stops: list[tuple[int, int]]
) -> bool:
    return any(end <= mention.start and not _stopped(end, mention, stops) for _, end in cues)


def _negates(
    clause: str, mention: Mention, cue: tuple[int, int], stops: list[tuple[int, int]]
) -> bool:
    """Say whether a negation reaches a mention behind it, through "a, b or c"."""
    end = cue[1]
    if end > mention.start or _stopped(end, mention, stops):
        return False
    if _NEW_STATEMENT.search(clause, end, mention.start):
        return False
    breaks = list(_NEW_MEASURED.finditer(clause, end, mention.start))
    return not breaks or _OR.search(clause, breaks[-1].end()) is not None


def _weakens(
    clause: str, mention: Mention, cue: tuple[int, int], stops: list[tuple[int, int]]
) -> bool:
    """Say whether a word of doubt reaches a mention: the next one, or further through "or"."""
    end = cue[1]
    if end > mention.start or _stopped(end, mention, stops):
        return False
    ended = _LIST_END.search(clause, end, mention.start)
    return ended is None or _OR.search(clause, ended.end()) is not None


def _behind(clause: str, mention: Mention, cues: list[tuple[int, int]]) -> bool:
    """Say whether a cue stands behind a mention with no verb of another statement between."""
    return any(
        start >= mention.end
        and not _VERB.search(clause, mention.end, start)
        and not _NEW_STATEMENT.search(clause, mention.end, start)
        for start, _ in cues
    )


def _alternatives(clause: str, found: list[Mention]) -> list[Mention]:
    """Code "A or B" as uncertain where neither is negated."""
    result = list(found)
    for index in range(len(found) - 1):
        left, right = result[index], result[index + 1]
        if left.finding == right.finding or right.start < left.end or left.fixed or right.fixed:
            continue
        if ABSENT in (left.code, right.code):
            continue
        if _ALTERNATIVE.fullmatch(clause, left.end, right.start):
            result[index] = _with(left, UNCERTAIN, "alternative")
            result[index + 1] = _with(right, UNCERTAIN, "alternative")
    return result
