"""Read a chest radiograph report: which findings it states, denies or leaves open.

Rules over a lexicon, after ConText (Harkema et al., J Biomed Inform 2009; Chapman et al., J Biomed
Inform 2011) and with the categories of the CheXpert labeler (Irvin et al., AAAI 2019, arXiv
1901.07031): find the names, divide each clause into statements, and let the words that negate,
weaken or ask reach over the list they stand in front of or behind (`cues`, `clauses`, `scope`).

Policies:
- body and impression count alike; present beats uncertain beats absent where both occur;
- "likely", "probable" and "A or B" (not negated) are uncertain; "no definite" is absent;
- "no large effusion" and "no new effusion" deny neither a small nor an old one: uncertain;
- vascular congestion, heart failure and volume loss suggest a finding: uncertain;
- "unlikely", "cannot be assessed" and a heart of borderline size are uncertain;
- what has resolved is absent; what has resolved in part, or is unchanged, is present;
- indications, history, purposes ("evaluate for") and questions without an answer state nothing;
- findings of other organs ("humeral lesion", "fracture of the lead") are not these findings;
- "no finding" is coded absent where another finding (devices and "no large effusion" aside) is
  present or uncertain;
- a finding that is not named is not in the result, which is not the same as absent.

No word of a report stands in the code; the lexicon has them all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise

from workbench.errors import InputError
from workbench.findings import (
    ABSENT,
    CARDIOMEGALY,
    DEVICE,
    LOBE_ZONES,
    NO_FINDING,
    PRESENT,
    SEVERITIES,
    UNCERTAIN,
    ZONES,
)
from workbench.reports.labels import FindingLabel, Labels, states_finding
from workbench.reports.lexicon import Lexicon, Mention, lexicon, lower_case
from workbench.reports.scope import coded_mentions
from workbench.reports.sections import Section, check_length, sentences

_RANK = (PRESENT, UNCERTAIN, ABSENT)
_UNSIDED = (CARDIOMEGALY, "enlarged cardiomediastinum", NO_FINDING)
#: Temporality that compares with an earlier study; "old" does not.
_COMPARING = ("resolved", "new", "worse", "improved", "unchanged")
#: Between semicolons; text without end is cut after at most 1,000 characters.
_CLAUSE = re.compile(r"[^;]{1,1000}(?![^\s;])|[^;]{1,1000}")
#: A list behind a colon whose items stand between semicolons.
_LISTED = re.compile(r"([^:;]{1,200}):(?:[^;:]{1,80};){1,30}[^;:]{1,80}")
#: Signs that mean the same, one character each.
_ALIKE = str.maketrans(
    dict.fromkeys("\u2019\u2018\u02bc\u2032\u00b4`\uff07", "'")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-")
    | dict.fromkeys("\n\r\t\x0b\x0c\xa0\u2007\u2009\u202f", " ")
)
_CONTRACTED = re.compile(r"n't\b")


def label(text: str) -> Labels:
    """Read the findings that a report, an impression or an answer states.

    Headings such as "FINDINGS:" are understood but not needed.

    Raises:
        InputError: `text` is not a string, or has more than 500,000 characters.

    >>> wb.reports.label("No pneumothorax. Small left pleural effusion.").present
    ('pleural effusion',)
    """
    if not isinstance(text, str):
        raise InputError(
            f"expected the text of a report, got {type(text).__name__}; "
            "drop or fill missing values before labelling"
        )
    check_length(text)
    words = lexicon()
    mentions: list[FindingLabel] = []
    for said, start in _stating(text, words):
        mentions += [row.moved(start) for row in _read(said, words)]
    return Labels(text, merged(mentions), tuple(mentions))


def divide(text: str) -> tuple[Section, ...]:
    """Divide a report into its sections, as `label` does; every character is in exactly one.

    >>> [part.name for part in wb.reports.divide("FINDINGS: Left nodule. IMPRESSION: Nodule.")]
    ['findings', 'impression']
    """
    return lexicon().headings.divide(text)


@cache
def labeler_version() -> str:
    """Return a hash of the rules and their lexicon, 64 hexadecimal digits."""
    home = files("workbench.reports")
    every = (*home.iterdir(), *(home / "lexicons").iterdir())
    read = [item for item in every if item.name.endswith((".py", ".yaml"))]
    parts = (item.read_bytes() for item in sorted(read, key=lambda item: item.name))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _stating(text: str, words: Lexicon) -> Iterator[tuple[str, int]]:
    """Yield the sentences that state findings, and where: no questions, indications or history."""
    for section in words.headings.divide(text):
        if section.skipped:
            continue
        for piece in sentences(text[section.body : section.end]):
            asked = piece.text.rstrip("\"')]")
            if not asked.endswith("?") or asked.endswith("(?"):  # a mark of doubt
                yield piece.text, section.body + piece.start


@lru_cache(maxsize=16384)
def _read(sentence: str, words: Lexicon) -> tuple[FindingLabel, ...]:
    """Return the mentions of one sentence, positions relative to it."""
    if not words.speaks(sentence):
        return ()
    # "isn't" is read as "is nt": every character keeps its place
    sentence = _CONTRACTED.sub(" nt", lower_case(sentence).translate(_ALIKE))
    particle = words.grammar["particle"].match(sentence)
    start = particle.end() if particle else 0
    rows: list[FindingLabel] = []
    for begin, clause in _clauses(sentence[start:], words):
        rows += [row.moved(start + begin) for row in _clause(clause, words)]
    return tuple(rows)


def _clauses(text: str, words: Lexicon) -> Iterator[tuple[int, str]]:
    """Yield what stands between semicolons; "no signs of: a; b" is one clause."""
    if (listed := _LISTED.fullmatch(text)) and not words.speaks(listed.group(1)):
        yield 0, text
        return
    for clause in _CLAUSE.finditer(text):
        yield clause.start(), clause.group()


def _clause(text: str, words: Lexicon) -> list[FindingLabel]:
    found = coded_mentions(text, words)
    compares = words.grammar["comparison"].search(text) is not None
    rows = []
    for index, mention in enumerate(found):
        low, high = _segment(text, found, index, words)
        rows.append(_row(mention, text, (low, high), words, compares))
    for left, right in pairwise(range(len(rows))):
        between = text[found[left].end : found[right].start]
        if words.grammar["side_by_side"].fullmatch(between):
            rows[left], rows[right] = _shared(rows[left], rows[right], words)
    return rows


def _segment(text: str, found: list[Mention], index: int, words: Lexicon) -> tuple[int, int]:
    """Return the stretch of a clause whose side, zone and severity belong to one mention."""
    separator = words.grammar["separator"]

    def boundary(before: Mention, after: Mention) -> int:
        if after.start < before.end:
            return before.start
        separators = list(separator.finditer(text, before.end, after.start))
        return separators[-1].start() if separators else before.end

    mention = found[index]
    # One word can name two findings; both have the same place.
    before = [other for other in found[:index] if other.end < mention.end]
    after = [other for other in found[index + 1 :] if other.start > mention.start]
    low = boundary(before[-1], mention) if before else 0
    high = boundary(mention, after[0]) if after else len(text)
    return min(low, mention.start), max(high, mention.end)


def _row(
    mention: Mention, clause: str, span: tuple[int, int], words: Lexicon, compares: bool
) -> FindingLabel:
    segment = clause[slice(*span)]

    def stated(attribute: str, where: str = segment) -> list[str]:
        if not words.any_value[attribute].search(where):
            return []
        patterns = words.attributes[attribute].items()
        return [value for value, pattern in patterns if pattern.search(where)]

    sided = mention.finding not in _UNSIDED
    device = mention.finding == DEVICE
    # in "no large effusion" the size is not that of the finding
    graded = mention.code != ABSENT and mention.rule != "limited denial"
    graded = graded and mention.finding != NO_FINDING
    own = _own_words(mention, clause, span, words)
    temporality = next(iter(stated("temporality", own)), None)
    kinds = stated("device", clause[mention.start : mention.end]) if device else []
    return FindingLabel(
        finding=mention.finding,
        code=mention.code,
        side=_side(stated("side", _place(mention, clause, span, words))) if sided else None,
        zone=_joined(stated("zone"), ZONES) if sided and not device else None,
        severity=_greatest(stated("severity", own)) if graded else None,
        temporality=temporality,
        start=mention.start,
        end=mention.end,
        rule=mention.rule,
        cue_start=mention.cue[0] if mention.cue else None,
        cue_end=mention.cue[1] if mention.cue else None,
        compared=compares or temporality in _COMPARING,
        kind=kinds[0] if kinds else None,
        lobe=_joined(stated("lobe"), LOBE_ZONES) if sided and not device else None,
    )


def _place(mention: Mention, clause: str, span: tuple[int, int], words: Lexicon) -> str:
    """Return the words that may state the side of a mention.

    "Effusion with shift to the left" and "left line, tip in the right atrium" state two, and one is
    that of the shift or of the tip.
    """
    before, behind = clause[span[0] : mention.end], clause[mention.end : span[1]]
    if mention.finding == DEVICE:
        if any(pattern.search(before) for pattern in words.attributes["side"].values()):
            return before
        behind = words.grammar["tip"].sub("", behind)
    return before + words.grammar["aside"].sub("", behind)


def _own_words(mention: Mention, clause: str, span: tuple[int, int], words: Lexicon) -> str:
    """Return the words that may state the size or the course of a mention.

    "Large hernia and effusion" has a large hernia: what stands in front of the last joint counts
    where it ends in an adjective of the mention's own ("small right and left effusion").
    """
    low = span[0]
    joints = list(words.grammar["separator"].finditer(clause, low, mention.start))
    if joints:
        last = clause[low : joints[-1].start()].split()[-1:]
        if last and not any(p.search(last[0]) for p in words.any_value.values()):
            low = joints[-1].end()
    behind = words.grammar["aside"].sub("", clause[mention.end : span[1]])
    return clause[low : mention.end] + behind


def _shared(
    left: FindingLabel, right: FindingLabel, words: Lexicon
) -> tuple[FindingLabel, FindingLabel]:
    """Give two findings named side by side the place that only one of them states."""
    if not {left.finding, right.finding} <= words.sharing or left.code != right.code:
        return left, right
    if left.side and not right.side and not right.zone:
        return left, replace(right, side=left.side, zone=left.zone, lobe=left.lobe)
    if right.side and not left.side and not left.zone:
        return replace(left, side=right.side, zone=right.zone, lobe=right.lobe), right
    return left, right


def merged(mentions: Iterable[FindingLabel]) -> tuple[FindingLabel, ...]:
    """Return one row per finding in text order; present beats uncertain beats absent."""
    groups: dict[str, list[FindingLabel]] = {}
    for row in mentions:
        groups.setdefault(row.finding, []).append(row)
    rows = [_strongest(group) for group in groups.values()]
    if any(states_finding(row) for row in rows):
        for at, row in enumerate(rows):
            if row.finding == NO_FINDING and row.code != ABSENT:
                rows[at] = replace(row, code=ABSENT, rule="contradicted")
    return tuple(rows)


def _strongest(group: list[FindingLabel]) -> FindingLabel:
    if len(group) == 1:
        return group[0]
    code = min((row.code for row in group), key=_RANK.index)
    kept = [row for row in group if row.code == code]
    kinds = list(dict.fromkeys(row.kind for row in kept if row.kind))
    return replace(
        kept[0],
        side=_side([row.side for row in kept if row.side]),
        zone=_joined([zone for row in kept for zone in (row.zone or "").split(", ")], ZONES),
        severity=_greatest(row.severity for row in kept if row.severity),
        temporality=next((row.temporality for row in kept if row.temporality), None),
        compared=any(row.compared for row in kept),
        kind=", ".join(kinds) or None,
        lobe=_joined([lobe for row in kept for lobe in (row.lobe or "").split(", ")], LOBE_ZONES),
    )


def _side(sides: list[str]) -> str | None:
    if not sides:
        return None
    return sides[0] if len(set(sides)) == 1 else "bilateral"


def _joined(found: list[str], order: Iterable[str]) -> str | None:
    return ", ".join(name for name in order if name in found) or None


def _greatest(severities: Iterable[str]) -> str | None:
    return max(severities, key=SEVERITIES.index, default=None)
