"""Whether a sentence said without its comparison still says the same, in English.

Guards findings that the labeler does not know: every word with a meaning of its own is kept, and
what was denied, has resolved or was removed stays denied. Where that is in doubt the answer is no.

Does not know: how sentences are said again (`prior_phrases`), or findings (`priors`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from workbench.finetune.prior_patterns import (
    ADVERB,
    BROKEN,
    COMPARING,
    DEGREE,
    EMPTY_WORDS,
    GONE,
    LEAD,
    NEARLY,
    NOT_GONE,
    TURN,
    VERB,
    WITHIN,
)

_WORD = re.compile(r"[a-z][a-z'\u2019-]*|\d+(?:\.\d+)?", re.IGNORECASE)
_DENIES = re.compile(
    r"\b(?:no|not|without|never|nor|neither|none|absent|absence|cannot|free of|negative)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_UNCHANGED = re.compile(
    rf"\b(?:{DEGREE}(?!enlargement){TURN}|(?:not|n['\u2019]t) {ADVERB}{COMPARING.pattern})\b",
    re.IGNORECASE,
)


def keeps(text: str, original: str) -> bool:
    """Say whether a text holds every word with a meaning of another, and denies as often."""
    return content(original) <= _words(text) and _denials(text) == _denials(original)


@lru_cache(maxsize=4096)
def content(text: str) -> frozenset[str]:
    """Return the words of a text that do not compare, in lower case."""
    bare = WITHIN.sub(" ", LEAD.sub("", text))
    return _words(COMPARING.sub(" ", _UNCHANGED.sub(" ", bare)))


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    words = (word.lower().rstrip("'\u2019-") for word in _WORD.findall(text))
    return frozenset(word for word in words if word not in EMPTY_WORDS and word.strip("x"))


@lru_cache(maxsize=4096)
def _denials(text: str) -> tuple[int, int]:
    """Count what a text denies or calls gone, and what it calls nearly gone."""
    text = WITHIN.sub(" ", LEAD.sub("", text))
    text, nearly = NEARLY.subn(" ", text)
    text = NOT_GONE.sub(" ", text)
    text, gone = GONE.subn(" ", text)
    return gone + len(_DENIES.findall(_UNCHANGED.sub(" ", text))), nearly


def calls_gone(clause: str) -> bool:
    """Say whether a clause says that something has resolved or was removed."""
    clause = NOT_GONE.sub(" ", NEARLY.sub(" ", clause))
    return bool(GONE.search(clause) or re.search(r"\bno longer\b", clause, re.IGNORECASE))


def is_english(text: str, original: str) -> bool:
    """Say whether what is left of a sentence has no loose ends, and a verb where it had one."""
    for part in re.split(r"(?<=[.])\s+(?=[A-Z])", text):
        if part and (BROKEN.search(part) or not re.match(r"[A-Z0-9_(\"]", part)):
            return False
        verbless = part and not VERB.search(part) and not part.startswith(("No ", "Possible "))
        if verbless and (VERB.search(original) or re.match(r"the\b", part, re.IGNORECASE)):
            return False
    return True
