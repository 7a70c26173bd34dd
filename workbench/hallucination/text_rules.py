"""The rules of `text_checks`: which words claim what one image cannot show.

The words are in `text_rules.yaml`. English only. The rules that need findings are in `text_checks`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import yaml


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
    text = files("workbench.hallucination").joinpath("text_rules.yaml").read_text("utf-8")
    raw = yaml.safe_load(text)
    rules = {}
    for row in raw["rules"]:
        claims = _compiled(row["claims"], raw["parts"])
        excuses = _compiled(row["excuses"], raw["parts"]) if "excuses" in row else None
        rule = TextRule(row["name"], row["says"], claims, excuses, row.get("whole", False))
        rules[rule.name] = rule
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
