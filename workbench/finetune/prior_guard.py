"""Whether a sentence said without its comparison still says the same, in English.

Guards findings that the labeler does not know: every word with a meaning of its own is kept, and
what was denied, has resolved or was removed stays denied. Where that is in doubt the answer is no.
The words and phrases are in `prior_patterns.yaml`.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from importlib.resources import files

import yaml

PATTERNS = yaml.safe_load((files("workbench.finetune") / "prior_patterns.yaml").read_text("utf-8"))


def filled(text: str) -> str:
    """Return a pattern in one line, with the patterns that it names."""
    joined = text.replace("\n", "")
    return re.sub(r"\{([A-Z_]+)\}", lambda match: filled(PATTERNS[match[1]]), joined)


@cache
def rule(name: str) -> re.Pattern[str]:
    """Return a pattern of the file, with the patterns that it names, compiled."""
    return re.compile(filled(PATTERNS[name]), re.IGNORECASE)


_EMPTY_WORDS = frozenset(PATTERNS["EMPTY"].split())
_ANATOMY = frozenset(PATTERNS["BODY"].split())


def keeps(text: str, original: str) -> bool:
    """Return whether a text has every word with a meaning of another, and denies as often.

    Names of anatomy alone may go: nothing is said of them but that they are as they were.
    """
    still = rule("STILL_THERE")
    if rule("GONE").search(text) and still.search(original) and not still.search(text):
        return False
    lost = content(original) - _words(text)
    return lost <= _ANATOMY and _denials(text) == _denials(original)


@lru_cache(maxsize=4096)
def content(text: str) -> frozenset[str]:
    """Return the words of a text that do not compare, in lower case."""
    bare = rule("WITHIN").sub(" ", rule("LEAD").sub("", text.rstrip(" .")))
    return _words(rule("COMPARING").sub(" ", rule("UNCHANGED").sub(" ", bare)))


def only_compares(text: str) -> bool:
    """Return whether a text names no more than anatomy beside its comparison."""
    return content(text) <= _ANATOMY


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    words = (word.lower().rstrip("'\u2019-") for word in rule("WORD").findall(text))
    return frozenset(word for word in words if word not in _EMPTY_WORDS and word.strip("x"))


@lru_cache(maxsize=4096)
def _denials(text: str) -> tuple[int, int]:
    """Count what a text denies or calls gone, and what it calls nearly gone."""
    text = rule("WITHIN").sub(" ", rule("LEAD").sub("", text.rstrip(" .")))
    text, nearly = rule("NEARLY").subn(" ", text)
    text = rule("NOT_GONE").sub(" ", text)
    text, gone = rule("GONE").subn(" ", text)
    return gone + len(rule("DENIES").findall(rule("UNCHANGED").sub(" ", text))), nearly


def calls_gone(clause: str) -> bool:
    """Return whether a clause states that something has resolved or was removed."""
    clause = rule("NOT_GONE").sub(" ", rule("NEARLY").sub(" ", clause))
    return bool(rule("GONE").search(clause) or re.search(r"\bno longer\b", clause, re.IGNORECASE))


def is_english(text: str, original: str) -> bool:
    """Return whether what is left of a sentence has no loose ends, and a verb where it had one."""
    main = re.sub(r",? (?:which|that) [^,;]*", "", original)
    for part in re.split(r"(?<=[.])\s+(?=[A-Z])", text):
        if part and (rule("BROKEN").search(part) or not re.match(r"[A-Z0-9_(\"]", part)):
            return False
        verbless = (
            part and not rule("VERB").search(part) and not part.startswith(("No ", "Possible "))
        )
        if verbless and (rule("VERB").search(main) or re.match(r"the\b", part, re.IGNORECASE)):
            return False
    return True
