"""Lesions grouped into statements, and the noun phrases of a statement.

The step between a scene and its sentences: "a small left pleural effusion", "in both lower lung
zones". Every function is pure; nothing here is random.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from workbench.errors import OptionError
from workbench.findings import (
    ATELECTASIS,
    CARDIOMEGALY,
    CONSOLIDATION,
    DEVICE,
    EDEMA,
    EFFUSION,
    FRACTURE,
    NODULE,
    ON_REQUEST,
    PHANTOM_FINDINGS,
    PNEUMOTHORAX,
    SEVERITIES,
    SIDES,
    ZONES,
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

DEVICE_KINDS = ("endotracheal tube", "central venous catheter", "pacemaker")

_PLURALS = {EFFUSION: "pleural effusions", PNEUMOTHORAX: "pneumothoraces", NODULE: "nodules"}
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
#: Findings that take an article.
COUNTABLE = (EFFUSION, PNEUMOTHORAX, NODULE, DEVICE, FRACTURE)

_DEGREE = {"small": "mild", "moderate": "moderate", "large": "severe"}
_DIMENSION = {EFFUSION: "size", PNEUMOTHORAX: "size", EDEMA: "degree", CARDIOMEGALY: "degree"}


@dataclass(frozen=True)
class Statement:
    """One thing a sentence can say: a finding at one place.

    Attributes:
        finding: standard name.
        side: "left", "right", "bilateral" or None; never set for cardiomegaly.
        zone: "upper", "mid" or "lower"; only for `ZONED` findings.
        severity: "small", "moderate" or "large"; only for `GRADED` findings.
        kind: device kind, or "linear"/"lobar" for atelectasis.
        millimetres: nodule diameter rounded to 5 mm, at least 5.
    """

    finding: str
    side: str | None = None
    zone: str | None = None
    severity: str | None = None
    kind: str | None = None
    millimetres: int | None = None

    @property
    def degree(self) -> str | None:
        """Severity as a radiologist words it: edema and heart size are mild, not small."""
        if self.severity is None or self.finding not in (EDEMA, CARDIOMEGALY):
            return self.severity
        return _DEGREE[self.severity]

    @property
    def dimension(self) -> str:
        """What the severity measures: "size", "extent" or "degree"."""
        return _DIMENSION.get(self.finding, "extent")


def statements(lesions: Iterable[Lesion]) -> dict[str, tuple[Statement, ...]]:
    """Group lesions by finding, in report order; findings without a lesion have no key.

    Lesions that differ only in left and right become one bilateral statement, equal ones one.
    Nodules are counted, so they are never joined; of several enlarged hearts the largest is kept.

    Raises:
        OptionError: a lesion's finding, side, zone or severity is not a known name.
    """
    groups: dict[str, list[Statement]] = {}
    for lesion in lesions:
        statement = _statement(lesion)
        groups.setdefault(statement.finding, []).append(statement)
    return {
        name: tuple(sorted(_joined(groups[name]), key=_order))
        for name in REPORT_ORDER
        if name in groups
    }


def merged_side(sides: Iterable[str | None]) -> str | None:
    """Return the one side that several sides amount to; left with right is bilateral."""
    known = {side for side in sides if side is not None}
    if not known:
        return None
    return known.pop() if len(known) == 1 else "bilateral"


def _statement(lesion: Lesion) -> Statement:
    for value, allowed, what in (
        (lesion.finding, (*PHANTOM_FINDINGS, *ON_REQUEST), "finding"),
        (lesion.side, (*SIDES, None), "side"),
        (lesion.zone, (*ZONES, None), "zone"),
        (lesion.severity, (*SEVERITIES, None), "severity"),
    ):
        if value not in allowed:
            raise OptionError(
                f"a lesion has {what} {value!r}; expected one of: "
                f"{', '.join(str(item) for item in allowed)}"
            )
    name = lesion.finding
    return Statement(
        finding=name,
        side=None if name == CARDIOMEGALY else lesion.side,
        zone=lesion.zone if name in ZONED else None,
        severity=lesion.severity if name in GRADED else None,
        kind=lesion.kind if name in (DEVICE, ATELECTASIS) else None,
        millimetres=_rounded(lesion.size_mm) if name == NODULE else None,
    )


def _rounded(size_mm: float | None) -> int | None:
    return None if size_mm is None else max(5, round(size_mm / 5) * 5)


def _joined(group: list[Statement]) -> list[Statement]:
    if group[0].finding == NODULE:
        return group
    if group[0].finding == CARDIOMEGALY:  # there is one heart
        return [max(group, key=lambda item: (None, *SEVERITIES).index(item.severity))]
    kept: list[Statement] = []
    for statement in dict.fromkeys(group):
        partners = [replace(statement, side=side) for side in ("left", "right", "bilateral")]
        twin = next((item for item in kept if statement.side and item in partners), None)
        if twin is not None and statement.finding != DEVICE:
            kept[kept.index(twin)] = replace(statement, side="bilateral")
        else:
            kept.append(statement)
    return kept


def _order(statement: Statement) -> tuple:
    kind = DEVICE_KINDS.index(statement.kind) if statement.kind in DEVICE_KINDS else -1
    zone = ZONES.index(statement.zone) if statement.zone else -1
    side = ("bilateral", "right", "left", None).index(statement.side)
    return (kind, side, zone, statement.millimetres or 0)


# ---------------------------------------------------------------- phrases


def number(count: int) -> str:
    """Return a small count as a word, a large one in digits."""
    return _NUMBERS[count] if count < len(_NUMBERS) else str(count)


def plural(finding: str) -> str:
    """Return the plural of a finding's name."""
    return _PLURALS.get(finding, f"{finding}s")


def is_plural(statement: Statement) -> bool:
    """Say whether the phrase takes "are": effusions and pneumothoraces on both sides."""
    return statement.side == "bilateral" and statement.finding in (EFFUSION, PNEUMOTHORAX)


def name(statement: Statement) -> str:
    """Return the bare name: the device's kind, the plural where both sides are meant."""
    if statement.finding == DEVICE:
        return statement.kind or DEVICE
    if statement.finding == FRACTURE:
        return "rib fracture"
    return plural(statement.finding) if is_plural(statement) else statement.finding


def article(phrase: str) -> str:
    """Return "a" or "an" as the phrase is spoken (80 mm: an)."""
    first = phrase.split()[0]
    if first.isdigit():
        return "an" if first.startswith("8") or first in ("11", "18") else "a"
    return "an" if first[0] in "aeiou" else "a"


def with_article(statement: Statement, phrase: str) -> str:
    """Put "a" or "an" before a phrase that is singular and countable."""
    if statement.finding not in COUNTABLE or is_plural(statement):
        return phrase
    return f"{article(phrase)} {phrase}"


def place(statement: Statement) -> str:
    """Return where the finding is, after its name: "on the left", "in both lower lung zones"."""
    side, zone = statement.side, statement.zone
    both = side == "bilateral"
    if statement.finding in (EFFUSION, PNEUMOTHORAX, DEVICE, FRACTURE):
        return "" if side is None else "on both sides" if both else f"on the {side}"
    if zone is None:
        return "" if side is None else "in both lungs" if both else f"in the {side} lung"
    if side is None:
        return f"in the {zone} lung zones"
    return f"in both {zone} lung zones" if both else f"in the {side} {zone} lung zone"


def compact(statement: Statement, *, severity: bool = True) -> str:
    """Return the adjectival phrase without article: "small left pleural effusion"."""
    size = None if statement.millimetres is None else f"{statement.millimetres} mm"
    kind = None if statement.finding == DEVICE else statement.kind
    zone = None if statement.zone is None else f"{statement.zone} lung zone"
    grade = statement.degree if severity else None
    parts = (grade, size, kind, statement.side, zone, name(statement))
    return " ".join(part for part in parts if part)


def noun_phrase(statement: Statement) -> str:
    """Return `compact` with its article: "a small left pleural effusion"."""
    return with_article(statement, compact(statement))


def joined(items: Sequence[str], *, word: str = "and") -> str:
    """Join phrases as English does: "a", "a and b", "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {word} {items[-1]}"


def sentence(text: str) -> str:
    """Return the text with a capital first letter and one full stop."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}."
