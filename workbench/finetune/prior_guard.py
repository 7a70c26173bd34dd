"""Whether a sentence said without its comparison still says the same, in English.

Guards findings that the labeler does not know: every word with a meaning of its own is kept, and
what was denied, has resolved or was removed stays denied. Where that is in doubt the answer is no.
"""

from __future__ import annotations

import re
from functools import lru_cache

from workbench.finetune.prior_patterns import (
    ADVERB,
    ATTRIBUTE,
    BROKEN,
    DEGREE,
    DONE,
    LEAD,
    STATE,
    TURN,
    VERB,
    WITHIN,
)

_MOVED = r"(?:withdrawn|pulled back|retracted|pulled)"
_OUT = (
    r"(?:resolved|cleared|gone|disappeared|vanished|removed|discontinued|taken out|extubated|"
    r"subsided|withdrawn)"
)
_OUT_OF = r"(?:(?:resolution|removal|disappearance|clearing|clearance)\b|extubation\b)"
_HEDGE = (
    r"(?:almost|nearly|mostly|largely|essentially|virtually|practically|near|mainly|predominantly|"
    r"probably|likely|possibly|perhaps|apparently|may have|might have|seems to have|appears to "
    r"have|may|might|could|should|appears?|seems?|near-complete|nearly-complete|substantial(?:ly)?|"
    r"significant(?:ly)?|predominant|marked(?:ly)?)"
)
#: It is not known whether anything is left.
NEARLY = re.compile(
    rf"\b{_HEDGE} (?:\w+ ){{0,2}}?(?:{_OUT}|{_OUT_OF})\b|\b{_OUT} (?:almost|nearly|mostly|largely|"
    r"partially|partly|incompletely|in part|to a large extent|for the most part|slightly|"
    r"somewhat)\b",
    re.IGNORECASE,
)
#: It is still there.
NOT_GONE = re.compile(
    rf"\b(?:no|not|never|without|n['\u2019]t|partial(?:ly)?|partly|incomplete(?:ly)?|some|"
    rf"slight(?:ly)?|mild(?:ly)?|yet to|continued|ongoing|gradual(?:ly)?|slow(?:ly)?|further|"
    rf"somewhat|moderate(?:ly)?|only|early|progressive) (?:\w+ ){{0,2}}?(?:{_OUT}|{_OUT_OF}|"
    rf"{_MOVED})\b|\b{_MOVED},? (?:and|but|now|so|to|into|by|from|"
    r"slightly|such|with)\b|\bunresolved\b",
    re.IGNORECASE,
)
GONE = re.compile(
    rf"(?<!well )(?<!poorly )\b(?:{_OUT}|{_OUT_OF}|(?:(?<=is )|(?<=are )|(?<=been ))"
    r"out(?! of))(?! diagnosis)\b",
    re.IGNORECASE,
)
#: Beside what is gone, something that is there.
STILL_THERE = re.compile(
    r"\b(?:and|with|or)\b.*\b(?:new|newly|persist\w*|residual|stable|unchanged|increas\w+|"
    r"worsen\w+|remain\w*|develop\w*)\b|\b(?:leaving|followed|revealing|except|apart)\b",
    re.IGNORECASE,
)
#: Words of comparison, with the adverbs about them.
COMPARING = re.compile(
    rf"\b(?:(?:has|have) {ADVERB}enlarged\b|{ADVERB}(?:{STATE}|{ATTRIBUTE}|(?!enlarged){DONE})"
    r"(?!\w)(?: (?:slightly|somewhat|significantly|markedly|further|mildly|minimally|moderately|"
    r"substantially)(?=[,.;]|$| (?:in|since|from|compared|and|but)\b))?)",
    re.IGNORECASE,
)
#: Words that say nothing of a finding, or only of the comparison.
_EMPTY = (
    "a an the this that these those it its there he she his her which who and or but nor while "
    "whereas although though however additionally moreover as so of in on at to with from by for "
    "than since into is are was were be been being has have had do does did no not without never "
    "neither none cannot absent any other others all each both else again still now once also "
    "otherwise then overall seen noted demonstrated identified present evident visible visualized "
    "visualised shown appreciated found observed remains remain remained remaining persists "
    "persist continues continue appears appear seems looks shows show demonstrates recurs recur "
    "become interval interim meantime change changes changed comparison compared comparing "
    "comparable similar same prior previous previously earlier before old older last recent "
    "recently baseline outside preceding made available radiograph radiographs film films study "
    "studies exam exams examination examinations image images imaging x-ray x-rays cxr chest "
    "portable ap pa frontal appearance size extent position severity configuration number degree "
    "volume distribution finding findings patient received undergone status picture new newly "
    "longer back time ago january february march april june july august september october november "
    "december increase decrease improvement worsening progression development placement insertion "
    "removal resolution clearing course caliber pulled retracted relevant significant appreciable "
    "definite positioning appeared somewhat slightly here amount better worse today yesterday "
    "hasn't haven't isn't aren't wasn't weren't"
)
EMPTY_WORDS = frozenset(_EMPTY.split())
_BODY = (
    "heart cardiac cardiomediastinal mediastinum mediastinal silhouette silhouettes contour "
    "contours border borders hilum hila hilar lung lungs pulmonary vascularity vasculature "
    "vascular vessels aorta aortic trachea diaphragm diaphragms hemidiaphragm hemidiaphragms "
    "osseous bony bones structures skeletal thorax thoracic soft tissue tissues pleura pleural "
    "spaces aeration inspiration volumes markings spine left right bilateral upper lower"
)
#: Parts of the body, which are no finding by themselves: "the mediastinum is stable" only compares.
_ANATOMY = frozenset(_BODY.split())
_WORD = re.compile(r"[a-z][a-z'\u2019-]*|\d+(?:\.\d+)?", re.IGNORECASE)
_DENIES = re.compile(
    r"\b(?:no|not|without|never|nor|neither|none|absent|absence|cannot|free of|negative)\b|"
    r"n['\u2019]t\b",
    re.IGNORECASE,
)
_UNCHANGED = re.compile(
    rf"\b(?:{DEGREE}(?!enlargement){TURN}|(?:not|n['\u2019]t) {ADVERB}{COMPARING.pattern})\b",
    re.IGNORECASE,
)


def keeps(text: str, original: str) -> bool:
    """Say whether a text holds every word with a meaning of another, and denies as often.

    Names of anatomy alone may go: nothing is said of them but that they are as they were.
    """
    if GONE.search(text) and STILL_THERE.search(original) and not STILL_THERE.search(text):
        return False
    lost = content(original) - _words(text)
    return lost <= _ANATOMY and _denials(text) == _denials(original)


@lru_cache(maxsize=4096)
def content(text: str) -> frozenset[str]:
    """Return the words of a text that do not compare, in lower case."""
    bare = WITHIN.sub(" ", LEAD.sub("", text.rstrip(" .")))
    return _words(COMPARING.sub(" ", _UNCHANGED.sub(" ", bare)))


def only_compares(text: str) -> bool:
    """Say whether a text names no more than anatomy beside its comparison."""
    return content(text) <= _ANATOMY


@lru_cache(maxsize=4096)
def _words(text: str) -> frozenset[str]:
    words = (word.lower().rstrip("'\u2019-") for word in _WORD.findall(text))
    return frozenset(word for word in words if word not in EMPTY_WORDS and word.strip("x"))


@lru_cache(maxsize=4096)
def _denials(text: str) -> tuple[int, int]:
    """Count what a text denies or calls gone, and what it calls nearly gone."""
    text = WITHIN.sub(" ", LEAD.sub("", text.rstrip(" .")))
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
    main = re.sub(r",? (?:which|that) [^,;]*", "", original)
    for part in re.split(r"(?<=[.])\s+(?=[A-Z])", text):
        if part and (BROKEN.search(part) or not re.match(r"[A-Z0-9_(\"]", part)):
            return False
        verbless = part and not VERB.search(part) and not part.startswith(("No ", "Possible "))
        if verbless and (VERB.search(main) or re.match(r"the\b", part, re.IGNORECASE)):
            return False
    return True
