"""The lexicon of report reading: a YAML file of words and patterns, compiled once.

English ships as `lexicons/en.yaml`. Another language is another file of the same keys, read with
`read_lexicon(path)` and given to `label(text, lexicon=...)`; no rule is written in code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from workbench.errors import InputError
from workbench.findings import (
    ALL_FINDINGS,
    CODES,
    DEVICE_KINDS,
    PRESENT,
    SEVERITIES,
    SIDES,
    UNCERTAIN,
    ZONES,
)
from workbench.reports.sections import Headings

#: Cues that every lexicon must have; see the comments in `lexicons/en.yaml`.
CUES = (
    "negation_before", "negation_after", "not_negation", "limited", "uncertain_before",
    "uncertain_list", "uncertain_after", "versus", "asking", "stop",
)  # fmt: skip

#: Cues that a lexicon may have.
MORE_CUES = (
    "negation_either", "negation_beside", "uncertain_either", "affirmation", "asking_after", "echo",
)  # fmt: skip

#: Small words of grammar that every lexicon must have.
GRAMMAR = (
    "verb", "or", "alternative", "list_end", "new_statement", "new_measured", "separator",
    "side_by_side", "particle", "comparison",
)  # fmt: skip

#: Small words of grammar that a lexicon may have; where one is missing, another stands in for it.
MORE_GRAMMAR = {
    "finite": "verb", "auxiliary": "verb", "state": None, "seen": None, "adjective": None,
    "attendant": None, "plural": "verb",
    "aside": None, "tip": None, "phrase_end": "list_end", "predicate_end": None, "place": None,
    "answer_no": None, "answer_yes": None, "answer_open": None, "answer_none": None,
    "mark_no": None, "mark_yes": None, "mark_open": None, "mark_doubt": None,
}  # fmt: skip
_NEVER = "(?!)"
_BEGIN = r"(?<!\w)"
_PUNCTUATION = (
    r"(?P<colon>\s*:(?!\d))|(?P<bracket>[()\[\]])|(?P<dash>\s-+\s)|(?P<slash>/)|(?P<bar>\|)"
)

_VALUES = {
    "side": SIDES,
    "zone": ZONES,
    "severity": SEVERITIES,
    "temporality": ("resolved", "new", "worse", "improved", "unchanged", "old"),
    "device": DEVICE_KINDS,
}


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
    """Compiled patterns of one language, for lower-case text (`lower_case`).

    Attributes:
        language: its code, such as "en".
        findings: the words of each finding.
        cues: name in `CUES` or `MORE_CUES` -> pattern.
        grammar: name in `GRAMMAR` or `MORE_GRAMMAR` -> pattern.
        attributes: "side", "zone", "severity", "temporality" or "device" -> value -> pattern.
        headings: headings of sections, which `divide` finds.
        sharing: findings that share a side when named side by side.
        elsewhere: finding -> what a phrase says that names such a finding of another organ.
        any_cue: matches where any cue begins.
        any_value: attribute -> matches where any of its values is.
        joint: what joins the parts of a clause; the group says how ("or", "stop", "list", ...).
    """

    language: str
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
def lexicon(language: str = "en") -> Lexicon:
    """Return a lexicon that ships with the package.

    Raises:
        InputError: there is none for this language.
    """
    folder = files("workbench.reports") / "lexicons"
    there = sorted(item.name.removesuffix(".yaml") for item in folder.iterdir())
    if language not in there:
        raise InputError(
            f"no lexicon for {language!r} ships; there is: {', '.join(there)}. Write one in the "
            "form of lexicons/en.yaml and read it with read_lexicon(path)"
        )
    return _compiled_lexicon((folder / f"{language}.yaml").read_text("utf-8"), language)


def read_lexicon(path: str | Path) -> Lexicon:
    """Read and compile a lexicon of your own.

    Args:
        path: a YAML file with the keys of `lexicons/en.yaml`; its name is the language.

    Raises:
        InputError: the file is missing or not YAML, or a key, finding, code or pattern is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a lexicon in YAML")
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path.name} is not UTF-8; save it as UTF-8") from None
    return _compiled_lexicon(text, path.stem)


def _compiled_lexicon(text: str, language: str) -> Lexicon:
    raw = _checked(text, language)
    macros = raw["macros"]

    def one(pattern: str | list[str]) -> re.Pattern:
        return _compiled("|".join([pattern] if isinstance(pattern, str) else pattern), macros)

    found: dict[str, list[tuple[str, str, re.Pattern]]] = {name: [] for name in raw["stems"]}
    for rule, code, group in (("named", PRESENT, "terms"), ("sign", UNCERTAIN, "signs")):
        for finding, words in raw[group].items():
            found[finding].append((rule, code, one(words)))
    for item in raw["statements"]:
        found[item["finding"]].append(("statement", item["code"], one(item["pattern"])))
    cues = {name: one(raw["cues"].get(name, _NEVER)) for name in (*CUES, *MORE_CUES)}
    attributes = {
        name: {value: one(pattern) for value, pattern in values.items()}
        for name, values in raw["attributes"].items()
    }
    return Lexicon(
        language=language,
        findings=tuple(
            FindingWords(finding, tuple(raw["stems"][finding]), tuple(patterns))
            for finding, patterns in found.items()
        ),
        cues=cues,
        grammar=_grammar(raw["grammar"]),
        attributes=attributes,
        headings=_headings(raw["sections"]),
        sharing=frozenset(raw["sharing"]),
        elsewhere={name: one(pattern) for name, pattern in raw.get("elsewhere", {}).items()},
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
    return re.compile(f"{_BEGIN}(?:{inner or _NEVER})")


def _grammar(raw: Mapping[str, str]) -> dict[str, re.Pattern]:
    """Return every pattern of grammar, those that a lexicon does not have included."""
    found = {name: raw[name] for name in GRAMMAR}
    for name, other in MORE_GRAMMAR.items():
        found[name] = raw.get(name, raw[other] if other else _NEVER)
    return {name: _plain(pattern) for name, pattern in found.items()}


def _checked(text: str, language: str) -> dict:
    """Return the parsed file.

    Raises:
        InputError: what is missing or unknown, with what was expected.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"lexicon {language!r} is not YAML: {error}") from None
    keys = (
        "macros", "stems", "terms", "signs", "statements", "cues", "grammar", "attributes",
        "sections", "sharing",
    )  # fmt: skip
    raw = raw if isinstance(raw, dict) else {}
    missing = [key for key in keys if key not in raw]
    parts = {"cues": CUES, "grammar": GRAMMAR, "attributes": _VALUES, "sections": ("skip", "read")}
    for group, names in parts.items():
        missing += [f"{group}.{name}" for name in names if name not in raw.get(group, {})]
    if missing:
        raise InputError(f"lexicon {language!r} lacks {', '.join(missing)}; see lexicons/en.yaml")
    names = [*raw["terms"], *raw["signs"], *(item["finding"] for item in raw["statements"])]
    if bare := [name for name in names if not raw["stems"].get(name)]:
        raise InputError(f"lexicon {language!r} gives no stems for {bare[0]!r}")
    names += [*raw["stems"], *raw["sharing"]]
    codes = [item["code"] for item in raw["statements"]]
    values = [
        (value, known) for name, known in _VALUES.items() for value in raw["attributes"][name]
    ]
    wrong = [name for name in names if name not in ALL_FINDINGS]
    wrong += [code for code in codes if code not in CODES]
    wrong += [value for value, known in values if value not in known]
    if wrong:
        raise InputError(
            f"lexicon {language!r} has {wrong[0]!r}, which is no finding, code or value; "
            f"findings: {', '.join(ALL_FINDINGS)}"
        )
    return raw


def _headings(words: Mapping) -> Headings:
    try:
        return Headings(words)
    except re.error as error:
        raise InputError(f"sections: not a regular expression ({error})") from None


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
    try:
        return re.compile(lower)
    except re.error as error:
        raise InputError(f"not a regular expression ({error}): {pattern}") from None
