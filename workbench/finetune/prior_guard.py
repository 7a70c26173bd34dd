"""Whether a sentence said without its comparison still says the same, in English.

Guards findings that the labeler does not know: every word with a meaning of its own is kept, and
what was denied, has resolved or was removed stays denied. Where that is in doubt the answer is no.
The words and phrases are in `prior_patterns.yaml`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files

import yaml

PATTERNS = yaml.safe_load((files("workbench.finetune") / "prior_patterns.yaml").read_text("utf-8"))


def filled(text: str) -> str:
    """Return a pattern in one line, with the patterns that it names."""
    joined = text.replace("\n", "")
    return re.sub(r"\{([A-Z_]+)\}", lambda match: filled(PATTERNS[match[1]]), joined)


def compiled(text: str, flags: re.RegexFlag = re.IGNORECASE) -> re.Pattern[str]:
    """Return a pattern with the patterns that it names, compiled."""
    return re.compile(filled(text), flags)


LEAD, WITHIN, VERB = compiled("{LEAD}"), compiled("{WITHIN}"), compiled("{VERB}")
COMPARING, STILL_THERE = compiled("{COMPARING}"), compiled("{STILL_THERE}")
_NEARLY, _NOT_GONE, _GONE = compiled("{NEARLY}"), compiled("{NOT_GONE}"), compiled("{GONE}")
_BROKEN, _DENIES, _UNCHANGED = compiled("{BROKEN}"), compiled("{DENIES}"), compiled("{UNCHANGED}")
_WORD = compiled("{WORD}")
_EMPTY_WORDS = frozenset(PATTERNS["EMPTY"].split())
_ANATOMY = frozenset(PATTERNS["BODY"].split())


def keeps(text: str, original: str) -> bool:
    """Return whether a text has every word with a meaning of another, and denies as often.

    Names of anatomy alone may go: nothing is said of them but that they are as they were.
    """
    if _GONE.search(text) and STILL_THERE.search(original) and not STILL_THERE.search(text):
        return False
    lost = content(original) - _words(text)
    return lost <= _ANATOMY and _denials(text) == _denials(original)


@lru_cache(maxsize=4096)
def content(text: str) -> frozenset[str]:
    """Return the words of a text that do not compare, in lower case."""
    bare = WITHIN.sub(" ", LEAD.sub("", text.rstrip(" .")))
    return _words(COMPARING.sub(" ", _UNCHANGED.sub(" ", bare)))


def only_compares(text: str) -> bool:
    """Return whether a text names no more than anatomy beside its comparison."""
    return content(text) <= _ANATOMY


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    words = (word.lower().rstrip("'\u2019-") for word in _WORD.findall(text))
    return frozenset(word for word in words if word not in _EMPTY_WORDS and word.strip("x"))


@lru_cache(maxsize=4096)
def _denials(text: str) -> tuple[int, int]:
    """Count what a text denies or calls gone, and what it calls nearly gone."""
    text = WITHIN.sub(" ", LEAD.sub("", text.rstrip(" .")))
    text, nearly = _NEARLY.subn(" ", text)
    text = _NOT_GONE.sub(" ", text)
    text, gone = _GONE.subn(" ", text)
    return gone + len(_DENIES.findall(_UNCHANGED.sub(" ", text))), nearly


def calls_gone(clause: str) -> bool:
    """Return whether a clause states that something has resolved or was removed."""
    clause = _NOT_GONE.sub(" ", _NEARLY.sub(" ", clause))
    return bool(_GONE.search(clause) or re.search(r"\bno longer\b", clause, re.IGNORECASE))


def is_english(text: str, original: str) -> bool:
    """Return whether what is left of a sentence has no loose ends, and a verb where it had one."""
    main = re.sub(r",? (?:which|that) [^,;]*", "", original)
    for part in re.split(r"(?<=[.])\s+(?=[A-Z])", text):
        if part and (_BROKEN.search(part) or not re.match(r"[A-Z0-9_(\"]", part)):
            return False
        verbless = part and not VERB.search(part) and not part.startswith(("No ", "Possible "))
        if verbless and (VERB.search(main) or re.match(r"the\b", part, re.IGNORECASE)):
            return False
    return True
