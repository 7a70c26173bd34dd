"""Mentions of findings within one clause, each coded by the words around it.

The rules follow ConText (Harkema et al., J Biomed Inform 2009; Chapman et al., J Biomed Inform
2011): a cue reaches forwards or backwards up to a word that ends its reach. On top of them:

- a negation in front of a measured finding ("no large effusion") leaves a smaller one open;
- a sign ("vascular congestion") suggests a finding and does not state it;
- a list that a differential opens is uncertain to its end.

Does not know: any word of any language (`lexicon`), sentences, sections, side or severity
(`labeler`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

from workbench.findings import ABSENT, PRESENT, UNCERTAIN
from workbench.reports.lexicon import Lexicon

Span = tuple[int, int]


@dataclass(frozen=True)
class Mention:
    """One place where a clause names a finding; positions are relative to the clause.

    Attributes:
        finding: standard name.
        start, end: the words that name it.
        code: "present", "absent" or "uncertain".
        rule: what decided the code; see `FindingLabel`.
        cue: the words that negate or weaken it; None where there are none.
        fixed: the words carry their own code ("heart size is normal").
    """

    finding: str
    start: int
    end: int
    code: str = PRESENT
    rule: str = "named"
    cue: Span | None = None
    fixed: bool = False


def coded_mentions(clause: str, lexicon: Lexicon) -> list[Mention]:
    """Find the findings a clause names and code each; those only asked for are left out."""
    found = _found(clause, lexicon)
    if not found:
        return []
    reach = _Reach(clause, lexicon)
    coded = [reach.coded(mention) for mention in found]
    kept = [mention for mention in coded if mention is not None]
    return _versus(clause, _alternatives(clause, kept, lexicon), lexicon)


def _found(clause: str, lexicon: Lexicon) -> list[Mention]:
    """Return mentions by position; of overlapping ones the longest, of equal ones all."""
    lowered = clause.lower()
    every = [
        Mention(words.finding, *match.span(), code, rule, fixed=rule == "statement")
        for words in lexicon.findings
        if words.may_be_in(lowered)
        for rule, code, pattern in words.patterns
        for match in pattern.finditer(clause)
    ]
    kept: list[Mention] = []
    taken: dict[int, Span] = {}
    for mention in sorted(every, key=lambda item: (item.start - item.end, item.start)):
        span = (mention.start, mention.end)
        if mention in kept[-1:] or {taken.get(at, span) for at in range(*span)} != {span}:
            continue
        taken.update(dict.fromkeys(range(*span), span))
        kept.append(mention)
    return sorted(kept, key=lambda item: (item.start, item.end))


class _Reach:
    """The cues of one clause and what each of them reaches."""

    def __init__(self, clause: str, lexicon: Lexicon) -> None:
        self.clause = clause
        self.cues = lexicon.cues
        self.grammar = lexicon.grammar

    def spans(self, name: str, but: list[Span] = ()) -> list[Span]:
        """Return where a cue stands, those left out that overlap others."""
        found = [match.span() for match in self.cues[name].finditer(self.clause)]
        return [span for span in found if not any(_overlap(span, other) for other in but)]

    @cached_property
    def after(self) -> list[Span]:
        """Doubt behind a finding."""
        return self.spans("uncertain_after")

    @cached_property
    def lists(self) -> list[Span]:
        """Doubt in front of a list."""
        return self.spans("uncertain_list")

    @cached_property
    def before(self) -> list[Span]:
        """Doubt in front of a finding."""
        return self.spans("uncertain_before", self.lists)

    @cached_property
    def weak(self) -> list[Span]:
        """All doubt."""
        return self.after + self.before + self.lists

    @cached_property
    def denied_after(self) -> list[Span]:
        """Negations behind a finding."""
        return self.spans("negation_after", self.weak)

    @cached_property
    def denied_before(self) -> list[Span]:
        """Negations in front of a finding; look-alikes are taken out."""
        look_alike = self.weak + self.denied_after + self.spans("not_negation")
        return self.spans("negation_before", look_alike)

    @cached_property
    def asking(self) -> list[Span]:
        """Questions in front of a finding."""
        return self.spans("asking", self.weak)

    @cached_property
    def stop(self) -> list[Span]:
        """Ends of every reach; "may be due to" is a doubt and no end."""
        return self.spans("stop", self.lists)

    def coded(self, mention: Mention) -> Mention | None:
        """Return the mention with its code, None when the clause only asks for it."""
        if any(self.ahead(cue, mention) for cue in self.asking):
            return None
        if mention.fixed:
            return self._fixed(mention)
        if cue := self._first(self.denied_before, mention, self._negates):
            limited = self.cues["limited"].search(self._modifiers(mention, cue[1]))
            if limited:
                return replace(mention, code=UNCERTAIN, rule="limited denial", cue=cue)
            return replace(mention, code=ABSENT, rule="negation", cue=cue)
        if cue := self._first(self.denied_after, mention, self._behind):
            return replace(mention, code=ABSENT, rule="negation", cue=cue)
        doubts = (
            self._first(self.after, mention, self._behind)
            or self._first(self.lists, mention, self._lists)
            or self._first(self.before, mention, self._weakens)
        )
        if doubts:
            return replace(mention, code=UNCERTAIN, rule="uncertainty", cue=doubts)
        return mention

    def _fixed(self, mention: Mention) -> Mention:
        """Turn a statement round that is negated, or weaken one that says present."""
        if mention.code != PRESENT:
            return mention
        list_end = self.grammar["list_end"]
        for cue in self.denied_before:
            if cue[1] <= mention.start and not list_end.search(self.clause, cue[1], mention.start):
                return replace(mention, code=ABSENT, rule="negation", cue=cue)
        for cue in self.before + self.lists:
            inside = mention.start <= cue[0] and cue[1] <= mention.end
            if inside or self._weakens(mention, cue):
                return replace(mention, code=UNCERTAIN, rule="uncertainty", cue=cue)
        return mention

    @staticmethod
    def _first(cues: list[Span], mention: Mention, reaches) -> Span | None:
        """Return the cue nearest to a mention of those that reach it."""
        # nearest first: in "no a, no b, no c, ..." all but one need not be asked
        near = sorted(cues, key=lambda c: max(c[0] - mention.end, mention.start - c[1]))
        return next((cue for cue in near if reaches(mention, cue)), None)

    def ahead(self, cue: Span, mention: Mention) -> bool:
        """Say whether a cue stands in front of a mention with nothing between to end its reach."""
        if cue[1] > mention.start:
            return False
        return not any(cue[1] <= start and end <= mention.start for start, end in self.stop)

    def _negates(self, mention: Mention, cue: Span) -> bool:
        """Say whether a negation reaches a mention behind it, through "a, b or c"."""
        if not self.ahead(cue, mention):
            return False
        if self.grammar["new_statement"].search(self.clause, cue[1], mention.start):
            return False
        breaks = list(self.grammar["new_measured"].finditer(self.clause, cue[1], mention.start))
        if not breaks:
            return True
        return self.grammar["or"].search(self.clause, breaks[-1].end()) is not None

    def _lists(self, mention: Mention, cue: Span) -> bool:
        """Say whether a doubt reaches a mention through a list."""
        if not self.ahead(cue, mention):
            return False
        grammar = self.grammar
        ends = (grammar["new_statement"], grammar["new_measured"])
        return not any(end.search(self.clause, cue[1], mention.start) for end in ends)

    def _weakens(self, mention: Mention, cue: Span) -> bool:
        """Say whether a doubt reaches a mention: the next one, or further through "or"."""
        if not self.ahead(cue, mention):
            return False
        ended = self.grammar["list_end"].search(self.clause, cue[1], mention.start)
        return ended is None or self.grammar["or"].search(self.clause, ended.end()) is not None

    def _behind(self, mention: Mention, cue: Span) -> bool:
        """Say whether a cue stands behind a mention with no other statement between."""
        if cue[0] < mention.end:
            return False
        ends = (self.grammar["verb"], self.grammar["new_statement"])
        return not any(end.search(self.clause, mention.end, cue[0]) for end in ends)

    def _modifiers(self, mention: Mention, start: int) -> str:
        """Return the words right in front of a mention, from the last comma or "and" on."""
        breaks = list(self.grammar["separator"].finditer(self.clause, start, mention.start))
        return self.clause[breaks[-1].end() if breaks else start : mention.start]


def _overlap(one: Span, other: Span) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _alternatives(clause: str, found: list[Mention], lexicon: Lexicon) -> list[Mention]:
    """Code "A or B" as uncertain where neither is negated."""
    alternative: re.Pattern = lexicon.grammar["alternative"]
    result = list(found)
    for index in range(len(found) - 1):
        left, right = result[index], result[index + 1]
        if left.finding == right.finding or right.start < left.end or left.fixed or right.fixed:
            continue
        if ABSENT in (left.code, right.code) or "limited denial" in (left.rule, right.rule):
            continue
        if match := alternative.fullmatch(clause, left.end, right.start):
            word = lexicon.grammar["or"].search(clause, match.start(), match.end())
            doubt = {"code": UNCERTAIN, "rule": "alternative", "cue": word and word.span()}
            result[index], result[index + 1] = replace(left, **doubt), replace(right, **doubt)
    return result


def _versus(clause: str, found: list[Mention], lexicon: Lexicon) -> list[Mention]:
    """Code the findings next to a "versus" as uncertain, whatever the other possibility is."""
    result = list(found)
    list_end = lexicon.grammar["list_end"]
    for word in lexicon.cues["versus"].finditer(clause):
        left = [n for n, mention in enumerate(result) if mention.end <= word.start()][-1:]
        right = [n for n, mention in enumerate(result) if mention.start >= word.end()][:1]
        for number in left + right:
            mention = result[number]
            between = sorted((mention.end, word.start(), word.end(), mention.start))[1:3]
            if mention.code == PRESENT and not list_end.search(clause, *between):
                doubt = {"code": UNCERTAIN, "rule": "alternative", "cue": word.span()}
                result[number] = replace(mention, **doubt)
    return result
