"""Checks on a text alone: what a report claims that one image cannot show, and where it errs.

A model that learned from reports of patients who had been there before writes "unchanged from
prior" about the only image it ever saw. Such claims are found without looking at the image: by
their words (`text_rules.yaml`), by findings that contradict each other at one place, sides that
differ between body and impression or in one phrase, and sentences or words that come again.

The measured precision and recall are those of the sentences in
`tests/hallucination/text_check_sentences.yaml`, which were written for this project. A claim that
is found may happen to be true; a text without any may be false from end to end. English only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench._repr import result
from workbench._store import read_yaml
from workbench.backends.levels import TEXTS, needs
from workbench.findings import (
    ABSENT,
    ATELECTASIS,
    CONSOLIDATION,
    DEVICE,
    EDEMA,
    NO_FINDING,
    NODULE,
    PRESENT,
)
from workbench.reports import FindingLabel, Section, divide, label, sentences
from workbench.reports.sections import check_length

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TextRule:
    """One rule.

    Attributes:
        says: what is wrong with a text that it finds, for people.
        claims: matches the words that claim.
        excuses: matches contexts in which the words claim nothing; None where there are none.
        whole: whether an excuse anywhere in the sentence counts, not only one over the words.
    """

    name: str
    says: str
    claims: re.Pattern
    excuses: re.Pattern | None = None
    whole: bool = False

    def found_in(self, sentence: str) -> Iterator[tuple[int, int]]:
        """Yield where words of one sentence claim and are not excused."""
        spans = [match.span() for match in self.excuses.finditer(sentence)] if self.excuses else []
        if self.whole and spans:
            return
        for match in self.claims.finditer(sentence):
            if not any(low < match.end() and match.start() < high for low, high in spans):
                yield match.start(), match.start() + len(match.group().rstrip())


def _read_rules() -> dict[str, TextRule]:
    """Return the rules of the YAML file by name, in its order."""
    raw = read_yaml("workbench.hallucination", "text_rules.yaml")
    rules = {}
    for row in raw["rules"]:
        own = {
            key: _compiled(row[key], raw["parts"]) for key in ("claims", "excuses") if key in row
        }
        rules[row["name"]] = TextRule(**row | own)
    return rules


def _compiled(patterns: Sequence[str], parts: Mapping[str, str]) -> re.Pattern:
    joined = "|".join(patterns)
    for name, part in parts.items():
        joined = joined.replace(f"<{name}>", part)
    joined = joined.replace(" ", r"\s+")
    return re.compile(rf"(?<![\w.])(?:{joined})(?!\w)", re.IGNORECASE)


_BY_NAME = _read_rules()

RULES = tuple(_BY_NAME.values())
PRIOR = _BY_NAME["prior comparison"]
HISTORY = _BY_NAME["invented history"]

#: Characters; mentions are compared with one another, so time grows with the square.
_LONGEST = 100_000
CONTRADICTION = "contradiction"
LATERALITY = "laterality conflict"
REPETITION = "repetition"

#: Every rule and what it says, in the order of the table.
CHECKS = {rule.name: rule.says for rule in RULES} | {
    CONTRADICTION: "affirms and denies the same finding",
    LATERALITY: "puts one finding on different sides",
    REPETITION: "says the same words again",
}

_BOTH_SIDES = re.compile(
    r"\b(left)(?:-sided)? (?:(?!and|or|to|than|with|but|then|both|right)[\w-]+ ){1,5}?"
    r"(?:right)(?:-sided)?\b"
    r"|\b(right)(?:-sided)? (?:(?!and|or|to|than|with|but|then|both|left)[\w-]+ ){1,5}?"
    r"(?:left)(?:-sided)?\b",
    re.IGNORECASE,
)
#: Words that lead from one side to the other without a conflict.
_CROSSING = re.compile(
    r"\b(?:shift\w*|deviat\w*|displac\w*|toward\w*|across|via|through|tip|terminat\w*|catheter|"
    r"tube|line|lead|leads|picc|pacemaker|from|approach|versus|vs|greater|more|less|heart|atri\w+|"
    r"ventric\w+|cross\w*|subclavian|jugular)\b",
    re.IGNORECASE,
)
_LOOP = re.compile(r"\b((?:[\w'-]+[ ,;]+){0,7}[\w'-]+)(?:[ ,;.]+\1\b){2,}", re.IGNORECASE)
_STUTTER = re.compile(r"\b([a-z][\w'-]*) \1\b", re.IGNORECASE)


@dataclass(frozen=True)
class TextIssue:
    """One place at which a rule, one of `CHECKS`, found something."""

    rule: str
    start: int
    end: int
    text: str


@result(eq=True)
class TextChecks:
    """What the checks found in one text, in its order."""

    text: str
    issues: tuple[TextIssue, ...]

    @property
    def rules(self) -> tuple[str, ...]:
        """Names of the rules that found something, in the order of `CHECKS`."""
        found = {issue.rule for issue in self.issues}
        return tuple(name for name in CHECKS if name in found)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per issue: rule, start, end, text."""
        import pandas as pd

        columns = ["rule", "start", "end", "text"]
        return pd.DataFrame(list(map(vars, self.issues)), columns=columns)

    def _repr_html_(self) -> str:
        from workbench.figures.words import tinted

        spans = [(issue.start, issue.end) for issue in self.issues]
        says = {name: f"{name}: {CHECKS[name]}" for name in self.rules}
        looks = [(says[issue.rule], "background:#f6c28b") for issue in self.issues]
        shown, said = tinted(self.text, spans, looks, "mark"), "; ".join(says.values())
        return f"<p style='white-space:pre-wrap'>{shown}</p><p>{said or 'nothing found'}</p>"


@needs(TEXTS)
def check_text(text: str) -> TextChecks:
    """Find what a text claims that one image cannot show, and where it contradicts itself.

    Raises:
        InputError: it has more than 100,000 characters.

    >>> [issue.rule for issue in wb.hallucination.check_text("The nodule measures 3 cm.").issues]
    ['invented measurement']
    """
    check_length(text, _LONGEST)
    rows, parts = label(text).mentions, divide(text)
    impression = next((part for part in parts if part.name == "impression"), None)
    found = {
        (rule.name, sentence.start + start, sentence.start + end)
        for sentence in sentences(text)
        for rule in RULES
        for start, end in rule.found_in(sentence.text)
    }
    found.update(_indications(text, parts), _contradictions(text, rows))
    found.update(_conflicts(text, rows, impression), _repetitions(text, impression))
    order = list(CHECKS)
    placed = sorted(found, key=lambda one: (one[1], one[2], order.index(one[0])))
    return TextChecks(text, tuple(TextIssue(*one, text[one[1] : one[2]]) for one in placed))


#: A rule, and the first and one past the last character of what it found.
_Found = Iterator[tuple[str, int, int]]


def _indications(text: str, parts: Sequence[Section]) -> _Found:
    """Yield the headings of indications that say something."""
    for part in parts:
        said = text[part.body : part.end].strip()
        excused = HISTORY.excuses is not None and HISTORY.excuses.search(said)
        if part.name == "indication" and said and not excused:
            heading = text[part.start : part.body]
            start = part.start + len(heading) - len(heading.lstrip())
            yield HISTORY.name, start, part.start + len(heading.rstrip())


def _contradictions(text: str, rows: Sequence[FindingLabel]) -> _Found:
    """Yield each mention whose finding an earlier one states the opposite of, at the same place."""
    told = [row for row in rows if row.finding != NO_FINDING and row.code in (PRESENT, ABSENT)]
    for at, row in enumerate(told):
        for earlier in told[:at]:
            if earlier.finding != row.finding or earlier.code == row.code:
                continue
            denied, stated = (row, earlier) if row.code == ABSENT else (earlier, row)
            if _same_device(text, denied, stated) and _same_place(text, denied, stated):
                yield CONTRADICTION, row.start, row.end
                break
    yield from _normal_and_not(text, rows)


def _normal_and_not(text: str, rows: Sequence[FindingLabel]) -> _Found:
    """Yield a statement that everything is normal beside a finding that is there."""
    # A radiograph that is called normal may well show devices.
    there = [row for row in rows if row.code == PRESENT and row.finding not in (NO_FINDING, DEVICE)]
    acute_there = [row for row in there if row.finding in _ACUTE and row.temporality != "old"]
    for row in rows:
        if row.finding == NO_FINDING and row.code == PRESENT and not _PART.match(text, row.end):
            acute = _ACUTE_WORD.search(text, row.start, row.end)
            if acute_there or (there and not acute):
                yield CONTRADICTION, row.start, row.end
    if any(row.finding in _IN_LUNGS for row in there):
        for match in _CLEAR.finditer(text):
            yield CONTRADICTION, *match.span()


#: "No abnormality suggests infection", "no abnormality of the bones": of one kind or place only.
_PART = re.compile(
    r"\s+(?:(?:that|which|is|are|to|can|could|would|seen|noted) ){0,3}(?:suggest|indicat|concern|"
    r"suspicious|worrisome|compatible|consistent|typical|characteristic|diagnostic|explain|account|"
    r"attribut|correspond|like|such|otherwise|(?:of|in|within|involving|at|on|along|about) "
    r"(?!(?:the |this )?(?:chest|thorax|radiograph|image|study|examination)\b))",
    re.IGNORECASE,
)
_ACUTE_WORD = re.compile(r"\b(?:acute|active)\b", re.IGNORECASE)
#: Findings of an acute illness; an effusion may be old.
_ACUTE = (CONSOLIDATION, EDEMA, "pneumothorax", "pneumonia", "fracture")


#: What clear lungs do not have.
_IN_LUNGS = (ATELECTASIS, CONSOLIDATION, EDEMA, NODULE, "pneumonia", "lung opacity", "lung lesion")
_CLEAR = re.compile(
    r"\b(?:both |the )?lungs (?:are|appear) (?:well[- ]\w+ and )?clear(?= ?[.,;]| ?$| and)"
    r"|\bclear lungs\b",
    re.IGNORECASE,
)


def _same_place(text: str, denied: FindingLabel, stated: FindingLabel) -> bool:
    """Say whether two mentions meet; to deny a large one, or one side, leaves room for others."""
    if denied.severity and denied.severity != stated.severity:
        return False
    if (denied.temporality or denied.compared) and not _taken_out(text, denied):
        return False
    if stated.temporality == "old" and _ACUTE_WORD.search(_clause(text, denied)):
        return False
    sides = {denied.side, stated.side}
    if None not in sides and "bilateral" not in sides and len(sides) == 2:
        return False
    if denied.side in ("left", "right") and stated.side is None:
        return False
    zones = [set(row.zone.split(", ")) for row in (denied, stated) if row.zone]
    return len(zones) < 2 or bool(zones[0] & zones[1])


def _conflicts(text: str, rows: Sequence[FindingLabel], heading: Section | None) -> _Found:
    """Yield findings whose side is another in the impression than in the body; mixed phrases."""
    if heading:
        for finding in dict.fromkeys(row.finding for row in rows):
            own = [row for row in rows if row.finding == finding and row.code == PRESENT]
            body = {row.side for row in own if row.start < heading.start and row.side}
            for row in own:
                late = row.start >= heading.body and row.side
                if body and late and not _meet(body, late):
                    yield LATERALITY, row.start, row.end
    for match in _BOTH_SIDES.finditer(text):
        if not _CROSSING.search(match.group()):
            yield LATERALITY, *match.span()


def _meet(body: set[str], side: str) -> bool:
    if side == "bilateral":
        return "bilateral" in body or {"left", "right"} <= body
    return side in body or "bilateral" in body


def _repetitions(text: str, heading: Section | None) -> _Found:
    """Yield sentences said again (before the impression, or within it) and words in a loop."""
    border = heading.start if heading else len(text)
    seen: set[tuple[bool, str]] = set()
    for sentence in sentences(text):
        key = (sentence.start >= border, " ".join(re.findall(r"\w+", sentence.text.lower())))
        if key in seen and " " in key[1]:
            yield REPETITION, sentence.start, sentence.end
        seen.add(key)
    for pattern in (_LOOP, _STUTTER):
        for match in pattern.finditer(text):
            yield REPETITION, *match.span()


def _same_device(text: str, denied: FindingLabel, stated: FindingLabel) -> bool:
    """Say whether what is denied of devices includes the one that is stated."""
    if denied.finding != DEVICE:
        return True
    if denied.kind is None:
        return _NAMED_DEVICE.search(text, denied.start, denied.end) is None
    special, own = (_special(text, row) for row in (denied, stated))
    if denied.kind != stated.kind:
        return False
    if _taken_out(text, denied):
        apart = any(_ANOTHER.search(_clause(text, row)) for row in (denied, stated))
        return special == own and not apart
    return special <= own


def _taken_out(text: str, row: FindingLabel) -> bool:
    """Say whether one device was removed, rather than that there is none of its kind."""
    return row.finding == DEVICE and bool(_REMOVED.search(_clause(text, row)))


def _clause(text: str, row: FindingLabel) -> str:
    """Return the words about a mention, up to the stops around them."""
    before = [match.end() for match in _STOP.finditer(text, 0, row.start)]
    after = _STOP.search(text, row.end)
    return text[before[-1] if before else 0 : after.start() if after else len(text)]


_STOP = re.compile(r"[.;:](?=\s|$)|\n")
_REMOVED = re.compile(
    r"\b(?:remov(?:ed|al)|discontinued|taken out|withdrawn|extubat\w+|no longer)\b", re.IGNORECASE
)
#: Words of a second device of the kind.
_ANOTHER = re.compile(
    r"\b(?:new|newly|another|second|additional|one of|other|remaining|replac\w+|exchang\w+|"
    r"re-?\w*insert\w*|"
    r"two|three|multiple|both|different|larger|smaller|more|anterior|posterior|medial|lateral|"
    r"apical|basal|basilar|superior|inferior|upper|lower|re-?intubat\w+|placed|placement|"
    r"previous\w*|"
    r"prior|old)\b",
    re.IGNORECASE,
)


def _special(text: str, row: FindingLabel) -> set[str]:
    """Return the words that tell a device from others of its kind."""
    words: list[str] = _SPECIAL.findall(text[row.start : row.end].lower())
    return {_SHORT.get(word, word) for word in words}


_SPECIAL = re.compile(
    r"picc|port|dialysis|jugular|subclavian|femoral|nasogastric|orogastric|dobhoff|ng\b|og\b|"
    r"feeding|pigtail|icd|defibrillator|hickman|tunnell?ed"
)
_SHORT = {"ng": "nasogastric", "og": "orogastric", "defibrillator": "icd"}
_NAMED_DEVICE = re.compile(
    r"\b(?:stents?|clips?|wires?|valves?|coils?|prosthe\w+)\b", re.IGNORECASE
)
