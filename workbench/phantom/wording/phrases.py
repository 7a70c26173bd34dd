"""The noun phrases of every text: "a small left pleural effusion", "in both lower lung zones".

Does not know: whole sentences or random numbers; every function here is a pure table look-up.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.findings import DEVICE, EFFUSION, FRACTURE, NODULE, PNEUMOTHORAX
from workbench.phantom.wording.mentions import Mention

_PLURALS = {EFFUSION: "pleural effusions", PNEUMOTHORAX: "pneumothoraces", NODULE: "nodules"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Findings that take an article.
COUNTABLE = (EFFUSION, PNEUMOTHORAX, NODULE, DEVICE, FRACTURE)


def number(count: int) -> str:
    """Return a small count as a word, a large one in digits."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def plural(finding: str) -> str:
    """Return the plural of a finding's name."""
    return _PLURALS.get(finding, f"{finding}s")


def is_plural(mention: Mention) -> bool:
    """Say whether the phrase takes "are": effusions and pneumothoraces on both sides."""
    return mention.side == "bilateral" and mention.finding in (EFFUSION, PNEUMOTHORAX)


def name(mention: Mention) -> str:
    """Return the bare name: the device's kind, the plural where both sides are meant."""
    if mention.finding == DEVICE:
        return mention.kind or DEVICE
    if mention.finding == FRACTURE:
        return "rib fracture"
    return plural(mention.finding) if is_plural(mention) else mention.finding


def article(phrase: str) -> str:
    """Return "a" or "an" as the phrase is spoken (80 mm: an)."""
    first = phrase.split()[0]
    if first.isdigit():
        return "an" if first.startswith("8") or first in ("11", "18") else "a"
    return "an" if first[0] in "aeiou" else "a"


def with_article(mention: Mention, phrase: str) -> str:
    """Put "a" or "an" before a phrase that is singular and countable."""
    if mention.finding not in COUNTABLE or is_plural(mention):
        return phrase
    return f"{article(phrase)} {phrase}"


def place(mention: Mention) -> str:
    """Return where the finding is, after its name: "on the left", "in both lower lung zones"."""
    side, zone = mention.side, mention.zone
    both = side == "bilateral"
    if mention.finding in (EFFUSION, PNEUMOTHORAX, DEVICE, FRACTURE):
        return "" if side is None else "on both sides" if both else f"on the {side}"
    if zone is None:
        return "" if side is None else "in both lungs" if both else f"in the {side} lung"
    if side is None:
        return f"in the {zone} lung zones"
    return f"in both {zone} lung zones" if both else f"in the {side} {zone} lung zone"


def compact(mention: Mention, *, severity: bool = True) -> str:
    """Return the adjectival phrase without article: "small left pleural effusion"."""
    size = None if mention.millimetres is None else f"{mention.millimetres} mm"
    kind = None if mention.finding == DEVICE else mention.kind
    zone = None if mention.zone is None else f"{mention.zone} lung zone"
    grade = mention.degree if severity else None
    parts = (grade, size, kind, mention.side, zone, name(mention))
    return " ".join(part for part in parts if part)


def noun_phrase(mention: Mention) -> str:
    """Return `compact` with its article: "a small left pleural effusion"."""
    return with_article(mention, compact(mention))


def joined(items: Sequence[str], *, word: str = "and") -> str:
    """Join phrases as English does: "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"


def sentence(text: str) -> str:
    """Return the text with a capital first letter and one full stop."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
