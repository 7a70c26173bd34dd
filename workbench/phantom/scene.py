"""A phantom scene: every parameter of one drawn chest, before any pixel exists.

A scene is plain data: replace or drop a lesion and draw again, and nothing else moves,
because anatomy, lesions and noise take their numbers from separate seeded streams.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench._repr import short_repr


@dataclass(frozen=True)
class Lesion:
    """One drawn finding.

    Attributes:
        finding: standard name, one of `workbench.phantom.lesions.DRAWABLE`.
        side: "left", "right" or "bilateral" (the patient's own side), None where it has none
            (cardiomegaly).
        zone: "upper", "mid" or "lower" lung zone; None where it has none.
        severity: "small", "moderate" or "large"; None for devices.
        kind: for a support device "pacemaker", "central venous catheter" or "endotracheal tube";
            for atelectasis "linear" or "lobar"; for a fracture "rib"; otherwise None.
        size_mm: diameter in millimetres for a nodule, else None.
        params: drawing parameters, in image widths unless said (opaque outside the renderer).
    """

    finding: str
    side: str | None = None
    zone: str | None = None
    severity: str | None = None
    kind: str | None = None
    size_mm: float | None = None
    params: dict = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Scene:
    """All that decides a phantom's pixels.

    Attributes:
        seed: the seed that every stream derives from.
        domain: "internal" (PA-like) or "external" (AP-like, other exposure and noise).
        anatomy: anatomical parameters, in image widths.
        lesions: what is drawn, in the order of `PHANTOM_FINDINGS`.
    """

    seed: int
    domain: str
    anatomy: dict
    lesions: tuple[Lesion, ...]

    __repr__ = short_repr
