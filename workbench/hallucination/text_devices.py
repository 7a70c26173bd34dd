"""Whether what a text denies of devices is the device that it states elsewhere.

"No chest tube" denies every one; "the chest tube has been removed" denies one, and another of its
kind may be there.

Does not know: devices without a name in the labeler's words.
"""

from __future__ import annotations

import re

from workbench.findings import ABSENT, DEVICE
from workbench.reports import FindingLabel


def same_device(text: str, one: FindingLabel, other: FindingLabel) -> bool:
    """Say whether what is denied of devices includes the one that is stated."""
    if one.finding != DEVICE:
        return True
    denied, stated = (one, other) if one.code == ABSENT else (other, one)
    if denied.kind is None:
        return _NAMED_DEVICE.search(text, denied.start, denied.end) is None
    special, own = (_special(text, row) for row in (denied, stated))
    if denied.kind != stated.kind:
        return False
    if taken_out(text, denied):
        apart = any(_ANOTHER.search(clause(text, row)) for row in (denied, stated))
        return special == own and not apart
    return special <= own


def taken_out(text: str, row: FindingLabel) -> bool:
    """Say whether one device was removed, rather than that there is none of its kind."""
    return row.finding == DEVICE and bool(_REMOVED.search(clause(text, row)))


def clause(text: str, row: FindingLabel) -> str:
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
    words = _SPECIAL.findall(text[row.start : row.end].lower())
    return {_SHORT.get(word, word) for word in words}


_SPECIAL = re.compile(
    r"picc|port|dialysis|jugular|subclavian|femoral|nasogastric|orogastric|dobhoff|ng\b|og\b|"
    r"feeding|pigtail|icd|defibrillator|hickman|tunnell?ed"
)
_SHORT = {"ng": "nasogastric", "og": "orogastric", "defibrillator": "icd"}
_NAMED_DEVICE = re.compile(
    r"\b(?:stents?|clips?|wires?|valves?|coils?|prosthe\w+)\b", re.IGNORECASE
)
