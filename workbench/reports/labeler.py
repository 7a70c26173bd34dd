"""Read a chest radiograph report: which findings it states, denies or leaves open.

Rules over a lexicon, after NegEx (Chapman et al., J Biomed Inform 2001) and the CheXpert labeler
(Irvin et al., AAAI 2019, arXiv 1901.07031): find the names, then look for words before and behind
that negate or weaken them, within a clause and up to a word that ends their reach.

Policies:
- body and impression count alike; present beats uncertain beats absent where both occur;
- "likely", "probable" and "A or B" (not negated) are uncertain; "no definite" is absent;
- questions, indications, history and "evaluate for" state nothing;
- "no finding" is coded absent where another finding (devices aside) is present or uncertain;
- a finding that is not named is not in the result, which is not the same as absent.

Does not know: prior studies, grammar beyond these rules, or any language but English.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise

from workbench.errors import InputError
from workbench.findings import (
    ABSENT,
    CARDIOMEGALY,
    DEVICE,
    NO_FINDING,
    PRESENT,
    SEVERITIES,
    UNCERTAIN,
    ZONES,
)
from workbench.reports.labels import FindingLabel, Labels
from workbench.reports.lexicon import lexicon
from workbench.reports.scope import Mention, coded_mentions
from workbench.reports.sentences import Sentence, sentences

_RANK = (PRESENT, UNCERTAIN, ABSENT)
_UNSIDED = (CARDIOMEGALY, "enlarged cardiomediastinum", NO_FINDING)
#: Findings that share a side when named side by side: "left effusion and atelectasis".
_SHARING = ("atelectasis", "consolidation", "pneumonia", "lung opacity", "pleural effusion")
_PARTICLE = re.compile(r"\s*(?:yes|no)\s*,(?=\s*(?:there|the|this|it|heart|lungs?|i|a|an)\b)", re.I)
_SEPARATOR = re.compile(
    r",\s*(?:and|with|or|but)?\b|\b(?:and|with|or|but|without|no)\b|[:(.]", re.I
)
#: Between semicolons; text without end is cut after at most 1,000 characters.
_CLAUSE = re.compile(r"[^;]{1,1000}(?![^\s;])|[^;]{1,1000}")
_DIRECT = re.compile(
    r"\s*,?\s*(?:and|or|and/or|/|with|versus|vs\.?)\s*(?:adjacent|associated|small)?\s*", re.I
)


def label(text: str) -> Labels:
    """Read the findings that a report, an impression or an answer states.

    Args:
        text: any English text; headings such as "FINDINGS:" are understood but not needed.

    Raises:
        InputError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise InputError(
            f"expected the text of a report, got {type(text).__name__}; "
            "drop or fill missing values before labelling"
        )
    mentions = []
    for piece in _stating(text):
        mentions += [
            replace(row, start=row.start + piece.start, end=row.end + piece.start)
            for row in _read(piece.text)
        ]
    return Labels(text, _merged(mentions), tuple(mentions))


def _stating(text: str) -> Iterator[Sentence]:
    """Yield the sentences that state findings: no questions, indications or history."""
    heading = lexicon().heading
    pieces = [(piece, heading.match(piece.text)) for piece in sentences(text)]
    headed = any(match and match["read"] for _, match in pieces)
    skipping = False
    for piece, match in pieces:
        if match is not None:
            skipping = match["skip"] is not None
        if not skipping and not piece.text.rstrip("\"')]").endswith("?"):
            yield piece
        skipping = skipping and headed


@lru_cache(maxsize=4096)
def _read(sentence: str) -> tuple[FindingLabel, ...]:
    """Return the mentions of one sentence, positions relative to it."""
    particle = _PARTICLE.match(sentence)
    start = particle.end() if particle else 0
    rows: list[FindingLabel] = []
    for clause in _CLAUSE.finditer(sentence[start:]):
        rows += _clause(clause.group(), start + clause.start())
    return tuple(rows)


def _clause(text: str, start: int) -> list[FindingLabel]:
    found = coded_mentions(text)
    rows = []
    for index, mention in enumerate(found):
        low, high = _segment(text, found, index)
        rows.append(_row(mention, text[low:high], start))
    for left, right in pairwise(range(len(rows))):
        between = text[found[left].end : found[right].start]
        if _DIRECT.fullmatch(between):
            rows[left], rows[right] = _shared(rows[left], rows[right])
    return rows


def _segment(text: str, found: list[Mention], index: int) -> tuple[int, int]:
    """Return the stretch of a clause whose side, zone and severity belong to one mention."""

    def boundary(before: Mention, after: Mention) -> int:
        if after.start < before.end:
            return before.start
        separators = list(_SEPARATOR.finditer(text, before.end, after.start))
        return separators[-1].start() if separators else before.end

    low = boundary(found[index - 1], found[index]) if index else 0
    high = boundary(found[index], found[index + 1]) if index + 1 < len(found) else len(text)
    mention = found[index]
    return min(low, mention.start), max(high, mention.end)


def _row(mention: Mention, segment: str, offset: int) -> FindingLabel:
    attributes = lexicon().attributes

    def stated(attribute: str) -> list[str]:
        return [
            value for value, pattern in attributes[attribute].items() if pattern.search(segment)
        ]

    sided = mention.finding not in _UNSIDED
    return FindingLabel(
        finding=mention.finding,
        code=mention.code,
        side=_side(stated("side")) if sided else None,
        zone=_zones(stated("zone")) if sided and mention.finding != DEVICE else None,
        severity=_severity(stated("severity")) if mention.finding != NO_FINDING else None,
        temporality=next(iter(stated("temporality")), None),
        start=mention.start + offset,
        end=mention.end + offset,
        rule=mention.rule,
    )


def _shared(left: FindingLabel, right: FindingLabel) -> tuple[FindingLabel, FindingLabel]:
    """Give two findings named side by side the place that only one of them states."""
    if left.finding not in _SHARING or right.finding not in _SHARING or left.code != right.code:
        return left, right
    if left.side and not right.side and not right.zone:
        return left, replace(right, side=left.side, zone=left.zone)
    if right.side and not left.side and not left.zone:
        return replace(left, side=right.side, zone=right.zone), right
    return left, right


def _merged(mentions: Iterable[FindingLabel]) -> tuple[FindingLabel, ...]:
    """Return one row per finding in text order; present beats uncertain beats absent."""
    groups: dict[str, list[FindingLabel]] = {}
    for row in mentions:
        groups.setdefault(row.finding, []).append(row)
    rows = [_strongest(group) for group in groups.values()]
    others = any(row.code != ABSENT and row.finding not in (NO_FINDING, DEVICE) for row in rows)
    return tuple(
        replace(row, code=ABSENT, rule="contradicted")
        if others and row.finding == NO_FINDING and row.code != ABSENT
        else row
        for row in rows
    )


def _strongest(group: list[FindingLabel]) -> FindingLabel:
    code = min((row.code for row in group), key=_RANK.index)
    kept = [row for row in group if row.code == code]
    return replace(
        kept[0],
        side=_side([row.side for row in kept if row.side]),
        zone=_zones([zone for row in kept if row.zone for zone in row.zone.split(", ")]),
        severity=_severity([row.severity for row in kept if row.severity]),
        temporality=next((row.temporality for row in kept if row.temporality), None),
    )


def _side(sides: list[str]) -> str | None:
    if not sides:
        return None
    return sides[0] if len(set(sides)) == 1 else "bilateral"


def _zones(zones: list[str]) -> str | None:
    return ", ".join(zone for zone in ZONES if zone in zones) or None


def _severity(severities: list[str]) -> str | None:
    return max(severities, key=SEVERITIES.index) if severities else None
