"""The lexicon of report reading: `lexicon.yaml` compiled once.

Does not know: sentences or scope; it only says which words mean what.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from workbench.findings import ALL_FINDINGS


@dataclass(frozen=True)
class Lexicon:
    """Compiled patterns.

    Attributes:
        terms: (finding, pattern) of finding names.
        statements: (finding, code, pattern) of phrases that carry their own code.
        cues: cue name -> pattern ("negation_before", "uncertain_after", "stop", ...).
        attributes: attribute ("side", "zone", "severity", "temporality") -> value -> pattern.
        heading: section heading at the start of a sentence; group "skip" or "read" is set.
    """

    terms: tuple[tuple[str, re.Pattern], ...]
    statements: tuple[tuple[str, str, re.Pattern], ...]
    cues: Mapping[str, re.Pattern]
    attributes: Mapping[str, Mapping[str, re.Pattern]]
    heading: re.Pattern


@cache
def lexicon() -> Lexicon:
    """Load and compile the lexicon that ships with the package."""
    raw = yaml.safe_load(files("workbench.reports").joinpath("lexicon.yaml").read_text("utf-8"))
    macros = raw["macros"]
    terms = tuple(
        (finding, _compiled("|".join(patterns), macros))
        for finding, patterns in raw["terms"].items()
        if finding in ALL_FINDINGS and patterns
    )
    statements = tuple(
        (item["finding"], item["code"], _compiled(item["pattern"], macros))
        for item in raw["statements"]
    )
    cues = {name: _compiled("|".join(items), macros) for name, items in raw["cues"].items()}
    attributes = {
        name: {value: _compiled(pattern, macros) for value, pattern in values.items()}
        for name, values in raw["attributes"].items()
    }
    skip, read = (raw["sections"][key].replace(" ", r"\s+") for key in ("skip", "read"))
    heading = re.compile(
        rf"\s*(?:[-*]\s*)?(?:(?P<skip>{skip})|(?P<read>{read}))\s*:", re.IGNORECASE
    )
    return Lexicon(terms, statements, cues, attributes, heading)


def _compiled(pattern: str, macros: Mapping[str, str]) -> re.Pattern:
    for _ in range(3):
        for name, value in macros.items():
            pattern = pattern.replace(f"{{{name}}}", f"(?:{value})")
    # Look-behinds need a fixed width, so a space inside one stays one white-space character.
    pattern = re.sub(r"\(\?<![^)]*\)", lambda match: match.group().replace(" ", r"\s"), pattern)
    pattern = pattern.replace("[ ]", r"\s+").replace(" ?", r"\s*").replace(" ", r"\s+")
    return re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)
