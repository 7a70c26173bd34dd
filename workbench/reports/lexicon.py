"""The lexicon of report reading: a YAML file of words and patterns, compiled once.

The words are in `lexicons/en.yaml`; no rule is written in code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

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
        finding: standard name.
        stems: lower-case pieces of words, one of which is in every text that any pattern matches.
        patterns: (rule, code, pattern): "named" for names, "sign" for signs that suggest it without
            naming it, "statement" for phrases that carry their own code.
    """

    finding: str
    stems: tuple[str, ...]
    patterns: tuple[tuple[str, str, re.Pattern], ...]

    def may_be_in(self, text: str) -> bool:
        """Say whether a lower-case text can match at all."""
        for stem in self.stems:  # noqa: SIM110 (`any` takes twice as long)
            if stem in text:
                return True
        return False


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Compiled patterns, for lower-case text (`lower_case`).

    Attributes:
        findings: the words of each finding.
        cues, grammar: name in the YAML file -> pattern.
        attributes: "side", "zone", "severity", "temporality" or "device" -> value -> pattern.
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
