"""Mentions of findings within one clause, each coded by the statement that it stands in.

The cues are those of ConText (Harkema et al., J Biomed Inform 2009; Chapman et al., J Biomed Inform
2011). How far a cue reaches is not counted in words: `clauses` divides the clause where it is
joined ("," "and" "or" ":" "but"), and says which parts are statements of their own. A cue reaches
through a list, and never into a part that has an article, a size, a cue or a state of its own. On
top of that:

- a negation in front of a measured finding ("no large effusion") leaves a smaller one open;
- a sign ("vascular congestion") suggests a finding and does not state it;
- a heading of a template ("Pneumothorax: no") takes the answer behind it.
"""

from __future__ import annotations

import re
from dataclasses import replace

from workbench.findings import ABSENT, PRESENT, UNCERTAIN
from workbench.reports.clauses import Clause
from workbench.reports.lexicon import Lexicon, Mention


def coded_mentions(text: str, lexicon: Lexicon) -> list[Mention]:
    """Find the findings a clause names and code each; those only asked for are left out."""
    found = _found(text, lexicon)
    if not found:
        return []
    clause = Clause(text, lexicon, found)
    coded = [_coded(clause, mention) for mention in clause.mentions]
    kept = _echoed(clause, [mention for mention in coded if mention is not None])
    return _versus(text, _alternatives(clause, _answered(clause, kept)), lexicon)


def _found(clause: str, lexicon: Lexicon) -> list[Mention]:
    """Return mentions by position; of overlapping ones the longest, of equal ones all.

    Statements of two findings may share words: "heart and mediastinum are normal".
    """
    every = [
        Mention(words.finding, match.start(), match.end(), code, rule, fixed=rule == "statement")
        for words in lexicon.findings
        if words.may_be_in(clause)
        for rule, code, pattern in words.patterns
        for match in pattern.finditer(clause)
    ]
    kept: list[Mention] = []
    holders: dict[int, list[Mention]] = {}
    for mention in sorted(every, key=lambda item: (item.start - item.end, item.start)):
        # what overlaps is at least as long, and so holds one of the two ends
        others = holders.get(mention.start, []) + holders.get(mention.end - 1, [])
        if not any(_excludes(other, mention) for other in others):
            kept.append(mention)
            for at in range(mention.start, mention.end):
                holders.setdefault(at, []).append(mention)
    return sorted(kept, key=lambda item: (item.start, item.end))


def _excludes(longer: Mention, mention: Mention) -> bool:
    """Say whether a mention has no place beside a longer one, or is the same."""
    if longer.end <= mention.start or mention.end <= longer.start:
        return False
    if longer.finding == mention.finding:
        return True
    if (longer.start, longer.end) == (mention.start, mention.end):
        return False
    return not (longer.fixed and mention.fixed and longer.end == mention.end)


def _coded(clause: Clause, mention: Mention) -> Mention | None:
    """Return the mention with its code, None when the clause only asks for it."""
    if not clause.cues or mention in clause.owners:
        return mention
    if clause.first(mention, "asking", forward=False):
        return None
    asked = clause.first(mention, "asking", forward=True)
    denied = clause.first(mention, "negation", forward=True)
    if asked and clause.answer(mention) is None and not (denied and denied.start > asked.start):
        return None
    if mention.fixed:
        return _fixed(clause, mention)
    if clause.first(mention, "affirmation", near=True):
        return mention
    if denied:
        limited = clause.lexicon.cues["limited"].search(clause.modifiers(mention, denied.end))
        code, rule = (UNCERTAIN, "limited denial") if limited else (ABSENT, "negation")
        return replace(mention, code=code, rule=rule, cue=denied.span)
    if cue := clause.first(mention, "negation", "beside", forward=False):
        return replace(mention, code=ABSENT, rule="negation", cue=cue.span)
    if cue := clause.first(mention, "doubt", "possibilities"):
        return replace(mention, code=UNCERTAIN, rule="uncertainty", cue=cue.span)
    return mention


def _fixed(clause: Clause, mention: Mention) -> Mention:
    """Turn a statement round that is negated, or weaken one that says present."""
    if mention.code != PRESENT:
        return mention
    if cue := clause.first(mention, "negation", near=True):
        return replace(mention, code=ABSENT, rule="negation", cue=cue.span)
    cue = clause.inside(mention, "doubt", "possibilities") or clause.first(
        mention, "doubt", "possibilities", near=True
    )
    return replace(mention, code=UNCERTAIN, rule="uncertainty", cue=cue.span) if cue else mention


def _echoed(clause: Clause, found: list[Mention]) -> list[Mention]:
    """Code "A has resolved, as has B": what is said of A is said of B."""
    result: list[Mention] = []
    for mention in found:
        cue = clause.first(mention, "echo") if mention.rule == "named" else None
        if cue and result and result[-1].end <= cue.start:
            what = {"code": result[-1].code, "rule": result[-1].rule, "cue": result[-1].cue}
            mention = replace(mention, **what)
        result.append(mention)
    return result


def _answered(clause: Clause, found: list[Mention]) -> list[Mention]:
    """Give the headings of a template their answer: "Pneumothorax: no evidence"."""
    result = []
    for mention in found:
        answer = None if mention.fixed else clause.answer(mention)
        if answer is None:
            result.append(mention)
            continue
        named = [other for other in found if other.start >= answer]
        if any(other.finding == mention.finding for other in named):
            continue
        cue = clause.opening(answer)
        if cue is None or mention.cue:
            result.append(mention)
        elif not any(other.cue == cue.span for other in named):
            code, rule = _CODED[cue.kind]
            result.append(replace(mention, code=code, rule=rule, cue=cue.span))
    return result


_CODED = {"negation": (ABSENT, "negation")} | dict.fromkeys(
    ("doubt", "possibilities"), (UNCERTAIN, "uncertainty")
)


def _alternatives(clause: Clause, found: list[Mention]) -> list[Mention]:
    """Code "A or B" as uncertain where neither is negated, nor a change in both."""
    alternative: re.Pattern = clause.grammar["alternative"]
    result = list(found)
    unchanged = [cue.start for cue in clause.cues if cue.kind == "nothing"]
    for index in range(len(found) - 1):
        left, right = result[index], result[index + 1]
        if left.finding == right.finding or right.start < left.end or left.fixed or right.fixed:
            continue
        if ABSENT in (left.code, right.code) or "limited denial" in (left.rule, right.rule):
            continue
        if any(start < left.start for start in unchanged):
            continue
        if match := alternative.fullmatch(clause.text, left.end, right.start):
            word = clause.grammar["or"].search(clause.text, match.start(), match.end())
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
