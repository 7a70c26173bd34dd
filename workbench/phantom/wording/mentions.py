"""Lesions grouped into what one statement says: the step between a scene and its sentences.

Does not know: sentences (`report`, `questions`) or how often anything occurs (the scene sampler).
"""

from __future__ import annotations

from collections.abc import Iterable
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

_DEGREE = {"small": "mild", "moderate": "moderate", "large": "severe"}
_DIMENSION = {EFFUSION: "size", PNEUMOTHORAX: "size", EDEMA: "degree", CARDIOMEGALY: "degree"}


@dataclass(frozen=True)
class Mention:
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


def mentions(lesions: Iterable[Lesion]) -> dict[str, tuple[Mention, ...]]:
    """Group lesions by finding, in report order; findings without a lesion have no key.

    Lesions that differ only in left and right become one bilateral mention, equal ones become one.
    Nodules are counted, so they are never joined; of several enlarged hearts the largest is kept.

    Raises:
        OptionError: a lesion's finding, side, zone or severity is not a known name.
    """
    groups: dict[str, list[Mention]] = {}
    for lesion in lesions:
        mention = _mention(lesion)
        groups.setdefault(mention.finding, []).append(mention)
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


def _mention(lesion: Lesion) -> Mention:
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
    return Mention(
        finding=name,
        side=None if name == CARDIOMEGALY else lesion.side,
        zone=lesion.zone if name in ZONED else None,
        severity=lesion.severity if name in GRADED else None,
        kind=lesion.kind if name in (DEVICE, ATELECTASIS) else None,
        millimetres=_rounded(lesion.size_mm) if name == NODULE else None,
    )


def _rounded(size_mm: float | None) -> int | None:
    return None if size_mm is None else max(5, round(size_mm / 5) * 5)


def _joined(group: list[Mention]) -> list[Mention]:
    if group[0].finding == NODULE:
        return group
    if group[0].finding == CARDIOMEGALY:  # there is one heart
        return [max(group, key=lambda item: (None, *SEVERITIES).index(item.severity))]
    kept: list[Mention] = []
    for mention in dict.fromkeys(group):
        partners = [replace(mention, side=side) for side in ("left", "right", "bilateral")]
        twin = next((item for item in kept if mention.side and item in partners), None)
        if twin is not None and mention.finding != DEVICE:
            kept[kept.index(twin)] = replace(mention, side="bilateral")
        else:
            kept.append(mention)
    return kept


def _order(mention: Mention) -> tuple:
    kind = DEVICE_KINDS.index(mention.kind) if mention.kind in DEVICE_KINDS else -1
    zone = ZONES.index(mention.zone) if mention.zone else -1
    side = ("bilateral", "right", "left", None).index(mention.side)
    return (kind, side, zone, mention.millimetres or 0)
