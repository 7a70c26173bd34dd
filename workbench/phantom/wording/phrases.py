"""The noun phrases of a lesion: "a small left pleural effusion", "in both lower lung zones".

Every function is pure; nothing here is random. A scene has at most one lesion of each finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workbench.findings import (
    ATELECTASIS,
    CARDIOMEGALY,
    CONSOLIDATION,
    DEVICE,
    EDEMA,
    EFFUSION,
    FRACTURE,
    NODULE,
    PNEUMOTHORAX,
)
from workbench.phantom.scene import Lesion

#: Organ-system order of every report: devices, heart, lungs, pleura, bones.
REPORT_ORDER = (
    DEVICE,
    CARDIOMEGALY,
    CONSOLIDATION,
    ATELECTASIS,
    EDEMA,
    NODULE,
    EFFUSION,
    PNEUMOTHORAX,
    FRACTURE,
)

#: Findings whose lung zone is stated. Fluid, free air and edema have a side only.
ZONED = (CONSOLIDATION, ATELECTASIS, NODULE)

#: Findings whose severity is stated in words; a nodule has millimetres instead, a device nothing.
GRADED = (CARDIOMEGALY, CONSOLIDATION, ATELECTASIS, EDEMA, EFFUSION, PNEUMOTHORAX)

#: Findings that take an article.
COUNTABLE = (EFFUSION, PNEUMOTHORAX, NODULE, DEVICE, FRACTURE)

_DEGREE = {"small": "mild", "moderate": "moderate", "large": "severe"}


def by_finding(lesions: Iterable[Lesion]) -> dict[str, Lesion]:
    """Return the lesions by finding, in report order."""
    found = {lesion.finding: lesion for lesion in lesions}
    return {finding: found[finding] for finding in REPORT_ORDER if finding in found}


def degree(lesion: Lesion) -> str | None:
    """Return the severity as a radiologist words it: edema and heart size are mild, not small."""
    if lesion.finding in (EDEMA, CARDIOMEGALY):
        return _DEGREE[str(lesion.severity)]
    return lesion.severity if lesion.finding in GRADED else None


def size(lesion: Lesion) -> str | None:
    """Return the diameter of a nodule to 5 mm: "15 mm"."""
    return None if lesion.size_mm is None else f"{round(lesion.size_mm / 5) * 5} mm"


def pattern(lesion: Lesion) -> str | None:
    """Return "linear" or "lobar" of atelectasis."""
    return lesion.kind if lesion.finding == ATELECTASIS else None


def is_plural(lesion: Lesion) -> bool:
    """Say whether the phrase takes "are": effusions on both sides."""
    return lesion.finding == EFFUSION and lesion.side == "bilateral"


def name(lesion: Lesion) -> str:
    """Return the bare name: the device's kind, the plural where both sides are meant."""
    if lesion.finding == DEVICE:
        return str(lesion.kind)
    if lesion.finding == FRACTURE:
        return "rib fracture"
    return f"{lesion.finding}s" if is_plural(lesion) else lesion.finding


def article(phrase: str) -> str:
    """Return "a" or "an"."""
    return "an" if phrase[0] in "aeiou" else "a"


def with_article(lesion: Lesion, phrase: str) -> str:
    """Put "a" or "an" before a phrase that is singular and countable."""
    if lesion.finding not in COUNTABLE or is_plural(lesion):
        return phrase
    return f"{article(phrase)} {phrase}"


def place(lesion: Lesion) -> str:
    """Return where the finding is, after its name: "on the left", "in both lower lung zones"."""
    side, zone = lesion.side, lesion.zone
    both = side == "bilateral"
    if lesion.finding in (EFFUSION, PNEUMOTHORAX, DEVICE, FRACTURE):
        return "" if side is None else "on both sides" if both else f"on the {side}"
    if zone is None:
        return "in both lungs" if both else f"in the {side} lung"
    return f"in both {zone} lung zones" if both else f"in the {side} {zone} lung zone"


def compact(lesion: Lesion, *, measured: bool = True) -> str:
    """Return the adjectival phrase without article: "small left pleural effusion"."""
    zone = None if lesion.zone is None else f"{lesion.zone} lung zone"
    measures = (degree(lesion), size(lesion)) if measured else ()
    parts = (*measures, pattern(lesion), lesion.side, zone, name(lesion))
    return " ".join(part for part in parts if part)


def noun_phrase(lesion: Lesion) -> str:
    """Return `compact` with its article: "a small left pleural effusion"."""
    return with_article(lesion, compact(lesion))


def joined(items: Sequence[str], *, word: str = "and") -> str:
    """Join phrases as English does: "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"


def sentence(text: str) -> str:
    """Return the text with a capital first letter and a full stop."""
    return f"{text[0].upper()}{text[1:]}."
