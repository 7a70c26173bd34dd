"""The lexicon of report reading, and what it finds in a clause: names of findings, and cues.

The words are in `lexicons/en.yaml`, compiled once; no rule is written in code.

Cues negate, weaken or ask for a finding. Of cues that overlap the longest counts: "is not excluded"
is no "not". An adjective such as "likely" or "negative" reaches forwards where a name follows it
directly, and backwards where a statement ends behind it: "likely pneumonia", "pneumonia is likely
in this setting". A predicate takes the auxiliaries and adverbs in front of it along: "is felt to
be" unlikely.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from operator import attrgetter
from typing import NamedTuple

import yaml

from workbench.findings import PRESENT, UNCERTAIN
from workbench.reports.sections import Headings

_BEGIN = r"(?<!\w)"
_PUNCTUATION = (
    r"(?P<colon>\s*:(?!\d))|(?P<bracket>[()\[\]])|(?P<dash>\s-+\s)|(?P<slash>/)|(?P<bar>\|)"
)


@dataclass(frozen=True)
class FindingWords:
    """The words of one finding.

    Attributes:
        stems: lower-case pieces of words, one of which is in every text that any pattern matches.
        patterns: (rule, code, pattern): "named" for names, "sign" for signs that suggest it without
            naming it, "statement" for phrases that carry their own code.
    """

    finding: str
    stems: tuple[str, ...]
    patterns: tuple[tuple[str, str, re.Pattern], ...]

    def may_be_in(self, text: str) -> bool:
        """Say whether a lower-case text can match at all."""
        return any(stem in text for stem in self.stems)


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Compiled patterns, for lower-case text (`lower_case`).

    Attributes:
        cues, grammar: name in the YAML file -> pattern.
        attributes: "side", "zone", "lobe", "severity", "temporality" or "device" -> value ->
            pattern.
        headings: headings of sections, which `divide` finds.
        sharing: findings that share a side when named side by side.
        elsewhere: finding -> what a phrase says that names such a finding of another organ.
        any_cue: matches where any cue begins.
        any_value: attribute -> matches where any of its values is.
        joint: what joins the parts of a clause; the group says how ("or", "stop", "list", ...).
    """

    findings: tuple[FindingWords, ...]
    cues: Mapping[str, re.Pattern]
    grammar: Mapping[str, re.Pattern]
    attributes: Mapping[str, Mapping[str, re.Pattern]]
    headings: Headings
    sharing: frozenset[str]
    elsewhere: Mapping[str, re.Pattern]
    any_cue: re.Pattern
    any_value: Mapping[str, re.Pattern]
    joint: re.Pattern

    def speaks(self, text: str) -> bool:
        """Say quickly whether a text may name any finding."""
        lowered = text.lower()
        return any(words.may_be_in(lowered) for words in self.findings)


def lower_case(text: str) -> str:
    """Return a text in lower case, in which every character keeps its place."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(low if len(low := sign.lower()) == 1 else sign for sign in text)


@cache
def lexicon() -> Lexicon:
    """Return the lexicon of English reports."""
    file = files("workbench.reports") / "lexicons" / "en.yaml"
    raw = yaml.safe_load(file.read_text("utf-8"))
    macros = raw["macros"]

    def one(pattern: str | list[str]) -> re.Pattern:
        return _compiled("|".join([pattern] if isinstance(pattern, str) else pattern), macros)

    found: dict[str, list[tuple[str, str, re.Pattern]]] = {name: [] for name in raw["stems"]}
    for rule, code, group in (("named", PRESENT, "terms"), ("sign", UNCERTAIN, "signs")):
        for finding, words in raw[group].items():
            found[finding].append((rule, code, one(words)))
    for item in raw["statements"]:
        found[item["finding"]].append(("statement", item["code"], one(item["pattern"])))
    cues = {name: one(pattern) for name, pattern in raw["cues"].items()}
    attributes = {
        name: {value: one(pattern) for value, pattern in values.items()}
        for name, values in raw["attributes"].items()
    }
    return Lexicon(
        findings=tuple(
            FindingWords(finding, tuple(raw["stems"][finding]), tuple(patterns))
            for finding, patterns in found.items()
        ),
        cues=cues,
        grammar={name: _plain(pattern) for name, pattern in raw["grammar"].items()},
        attributes=attributes,
        headings=Headings(raw["sections"]),
        sharing=frozenset(raw["sharing"]),
        elsewhere={name: one(pattern) for name, pattern in raw["elsewhere"].items()},
        any_cue=_any(cues[name] for name in cues if name not in ("limited", "versus", "stop")),
        any_value={name: _any(values.values()) for name, values in attributes.items()},
        joint=_plain(
            rf"(?P<stop>{cues['stop'].pattern})|(?P<or>{raw['grammar']['or']})"
            rf"|(?P<list>{raw['grammar']['list_end']})|{_PUNCTUATION}"
        ),
    )


def _any(patterns: Iterable[re.Pattern]) -> re.Pattern:
    """Compile one pattern that matches where any of several whole-word patterns does."""
    inner = "|".join(pattern.pattern.removeprefix(_BEGIN) for pattern in patterns)
    return re.compile(f"{_BEGIN}(?:{inner})")


def _compiled(pattern: str, macros: Mapping[str, str]) -> re.Pattern:
    for _ in range(3):
        for name, value in macros.items():
            pattern = pattern.replace(f"{{{name}}}", f"(?:{value})")
    # Look-behinds need a fixed width, so a space inside one stays one white-space character.
    pattern = re.sub(r"\(\?<![^)]*\)", lambda match: match.group().replace(" ", r"\s"), pattern)
    pattern = pattern.replace("[ ]", r"\s+").replace(" ?", r"\s*").replace(" ", r"\s+")
    return _plain(rf"{_BEGIN}(?:{pattern})(?!\w)")


def _plain(pattern: str) -> re.Pattern:
    """Compile a pattern of grammar, which says itself where words begin and end.

    It is put in lower case, escapes and names of groups aside: lower-case text is searched faster
    than text of any case.
    """
    pieces = re.split(r"(\\.|\(\?P<\w+>)", pattern)
    lower = "".join(piece if at % 2 else piece.lower() for at, piece in enumerate(pieces))
    return re.compile(lower)


#: Name in the lexicon -> what it is, and whether it reaches forwards (None: either way). Of equal
#: length the first counts.
ANSWERS = {
    "answer_no": ("negation", False),
    "answer_yes": ("affirmation", False),
    "answer_open": ("doubt", False),
    "answer_none": ("asking", False),
    "mark_no": ("negation", True),
    "mark_yes": ("affirmation", True),
    "mark_open": ("asking", True),
    "mark_doubt": ("doubt", True),
}
KINDS = {
    "uncertain_after": ("doubt", False),
    "uncertain_list": ("possibilities", True),
    "uncertain_either": ("doubt", None),
    "uncertain_before": ("doubt", True),
    "negation_after": ("negation", False),
    "negation_either": ("negation", None),
    "negation_beside": ("beside", False),
    "echo": ("echo", True),
    "not_negation": ("nothing", True),
    "negation_before": ("negation", True),
    "asking": ("asking", True),
    "asking_after": ("asking", False),
    "affirmation": ("affirmation", True),
}
_WHAT = ANSWERS | KINDS
_ORDER = {name: order for order, name in enumerate(_WHAT)}
#: Signs that stand in front of every name of a clause that begins with one.
_MARKS = ("mark_no", "mark_yes", "mark_open", "mark_doubt")
#: Every answer of a template begins with one of these.
SIGNS = frozenset(":=?([+-|\u2610\u2611\u2612\u2713\u2714")


@dataclass(frozen=True)
class Mention:
    """One place where a clause names a finding; see `FindingLabel`.

    Positions are relative to the clause. `cue` are the words that negate or weaken it; `fixed`:
    the words carry their own code ("heart size is normal").
    """

    finding: str
    start: int
    end: int
    code: str = PRESENT
    rule: str = "named"
    cue: tuple[int, int] | None = None
    fixed: bool = False


class Cue(NamedTuple):
    """Words that negate, weaken or ask for a finding, and whether they reach forwards."""

    start: int
    end: int
    kind: str
    forward: bool

    @property
    def span(self) -> tuple[int, int]:
        """First character and one past the last."""
        return self.start, self.end


def covered(text: str, spans: Iterable[Mention | Cue]) -> bytearray:
    """Return a 1 for every character of a text that one of some spans covers, else a 0."""
    found = bytearray(len(text))
    for one in spans:
        found[one.start : one.end] = b"\1" * (one.end - one.start)
    return found


def find_cues(text: str, lexicon: Lexicon, mentions: list[Mention]) -> list[Cue]:
    """Return the cues of a clause by position; `mentions` are the findings that it names."""
    kept: list[Cue] = []
    taken = bytearray(len(text))
    named = covered(text, mentions)
    said = [m for m in mentions if m.fixed and m.code != PRESENT]
    for start, end, name in _candidates(text, lexicon):
        kind, forward = _WHAT[name]
        if any(taken[start:end]) or any(m.start < start and end <= m.end for m in said):
            continue
        if forward is None:
            forward = _attributive(text, end, lexicon, mentions)
            if not forward and not _predicate(text, start, end, kind, lexicon, named):
                continue
        taken[start:end] = b"\1" * (end - start)
        kept.append(Cue(start, end, kind, forward))
    return [cue if cue.forward else _extended(text, cue, lexicon, named) for cue in sorted(kept)]


def _candidates(text: str, lexicon: Lexicon) -> list[tuple[int, int, str]]:
    """Return start, end and name of everything that looks like a cue, the longest first."""
    answers: Iterable[str] = () if SIGNS.isdisjoint(text) else ANSWERS
    if answers and any(lexicon.grammar[name].match(text) for name in _MARKS):
        answers = _MARKS
    found = [
        (match.start(), match.end(), name)
        for name in answers
        for match in lexicon.grammar[name].finditer(text)
    ]
    at = 0
    while begin := lexicon.any_cue.search(text, at):
        at = begin.start() + 1
        for name in KINDS:
            if match := lexicon.cues[name].match(text, begin.start()):
                found.append((match.start(), match.end(), name))
    return sorted(found, key=lambda item: (item[0] - item[1], _ORDER[item[2]], item[0]))


def _attributive(text: str, end: int, lexicon: Lexicon, mentions: list[Mention]) -> bool:
    """Say whether an adjective that ends here stands in front of its name."""
    number = bisect_left(mentions, end, key=attrgetter("start"))
    if number == len(mentions):
        return False
    return lexicon.grammar["phrase_end"].search(text, end, mentions[number].start) is None


def _predicate(
    text: str, start: int, end: int, kind: str, lexicon: Lexicon, named: bytearray
) -> bool:
    """Say whether an adjective is what a statement says of its subject."""
    ends = lexicon.grammar["predicate_end"].match(text, end) is not None
    return ends or (kind == "negation" and _word_before(text, start, lexicon, named) < start)


def _extended(text: str, cue: Cue, lexicon: Lexicon, named: bytearray) -> Cue:
    """Add the auxiliaries and adverbs in front of a predicate."""
    start = cue.start
    while (before := _word_before(text, start, lexicon, named)) < start:
        start = before
    return cue._replace(start=start)


def _word_before(text: str, start: int, lexicon: Lexicon, named: bytearray) -> int:
    """Return where an auxiliary begins that stands right in front, `start` where none does."""
    head = text[:start].rstrip()
    begin = head.rfind(" ") + 1
    if not lexicon.grammar["auxiliary"].fullmatch(head, begin):
        return start
    return start if any(named[begin:start]) else begin
