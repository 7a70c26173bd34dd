"""A phantom scene: every parameter of one phantom, sampled before any pixel exists.

A scene is plain data: replace or drop a lesion and draw again, and nothing else moves, because
anatomy, lesions and noise take their numbers from separate seeded streams. Focal lesions take free
places (side and zone), so that no lesion hides another and every stated side, zone and severity can
be seen in the image. Prevalence is a teaching choice, not epidemiology.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from workbench._repr import short_repr
from workbench.errors import OptionError
from workbench.findings import (
    ATELECTASIS,
    CARDIOMEGALY,
    CONSOLIDATION,
    DEVICE,
    EDEMA,
    EFFUSION,
    FRACTURE,
    KINDS,
    NODULE,
    ON_REQUEST,
    PHANTOM_FINDINGS,
    PNEUMOTHORAX,
    SCAN,
    SEVERITIES,
    ZONES,
    standard_name,
)
from workbench.phantom.anatomy import FIELD_MM

#: Chance of each finding in a scene that is not normal.
_PREVALENCE = {
    ATELECTASIS: 0.25,
    CARDIOMEGALY: 0.27,
    CONSOLIDATION: 0.25,
    EDEMA: 0.20,
    EFFUSION: 0.28,
    PNEUMOTHORAX: 0.22,
    NODULE: 0.25,
    DEVICE: 0.25,
}
_NORMAL_SHARE, _EXTERNAL_DEVICE = 0.22, 0.50
LUNGS = ("right", "left")
VIEWS = ("PA", "AP", "LATERAL")

#: What can be drawn, in standard order.
DRAWABLE = (*PHANTOM_FINDINGS, *ON_REQUEST)


@dataclass(frozen=True)
class Lesion:
    """One drawn finding.

    Attributes:
        side: "left", "right" or "bilateral" (the patient's own side); None for cardiomegaly and
            an endotracheal tube.
        zone: "upper", "mid" or "lower" lung zone; None where it has none.
        severity: "small", "moderate" or "large"; None for devices and fractures.
        kind: for a support device "pacemaker", "central venous catheter" or "endotracheal tube";
            for atelectasis "linear" or "lobar"; for a fracture "rib"; for a nodule "scan" where it
            is the one that the patient of the CT had.
        params: drawing parameters, in image widths (opaque outside the renderer).
        lobe: of one lung, as "right middle lobe", where it is known: in CT phantoms.

    >>> case.lesions[0].finding, case.lesions[0].side
    ('pleural effusion', 'left')
    """

    finding: str
    side: str | None = None
    zone: str | None = None
    severity: str | None = None
    kind: str | None = None
    size_mm: float | None = None
    params: dict = field(default_factory=dict, compare=False)
    lobe: str | None = None


@dataclass(frozen=True)
class Scene:
    """All that decides a phantom's pixels.

    Attributes:
        seed: every stream derives from it.
        domain: "internal" (PA-like), "external" (AP-like, other exposure and noise) or "ct".
        anatomy: anatomical parameters, in image widths; of a CT phantom its shape, beam, exposure.
        lesions: at most one of each finding, in the order of `DRAWABLE`.
        view: "PA", "AP" or "LATERAL".
    """

    seed: int
    domain: str
    anatomy: dict
    lesions: tuple[Lesion, ...]
    view: str = "PA"

    __repr__ = short_repr


class Drawn(NamedTuple):
    """What a scene becomes at a size.

    Attributes:
        pixels: (size, size) float32 in [0, 1] on a grid of 1/255.
        masks: finding -> boolean (size, size).
        anatomy: "right lung", "left lung", "heart" -> boolean (size, size).
        occupancy: finding -> share of the attenuation along each ray, (size, size), if known.
    """

    pixels: np.ndarray
    masks: dict[str, np.ndarray]
    anatomy: dict[str, np.ndarray]
    occupancy: dict[str, np.ndarray]


class Wish(NamedTuple):
    """What a scene is asked for; None where the seed decides."""

    side: str | None = None
    zone: str | None = None
    severity: str | None = None
    kind: str | None = None


class _Draws:
    """The random stream of a scene's lesions, its wish, and its free (side, zone) places."""

    def __init__(self, rng: np.random.Generator, wish: Wish, domain: str) -> None:
        self.rng, self.wish, self.domain = rng, wish, domain
        self.free = [(side, zone) for side in LUNGS for zone in ZONES]

    def lung(self, bilateral: float = 0.0) -> str:
        """Draw a side, "bilateral" with a given chance."""
        if self.rng.random() < bilateral:
            return "bilateral"
        return str(self.rng.choice(LUNGS))

    def one_lung(self) -> str:
        """Return the side that was asked for if it is one lung, else draw one."""
        return self.wish.side if self.wish.side in LUNGS else self.lung()

    def severity(self, *weights: float) -> str:
        """Return the severity that was asked for, else draw one."""
        if self.wish.severity:
            return self.wish.severity
        return SEVERITIES[int(self.rng.choice(3, p=np.asarray(weights) / np.sum(weights)))]

    def place(self, zones: tuple[str, ...] = ZONES) -> tuple[str, str] | None:
        """Take a free place in the lung and zone asked for, or in one of `zones`, else any."""
        if not self.free:
            return None
        zones = (self.wish.zone,) if self.wish.zone in zones else zones
        sides = [side for side in LUNGS if self.wish.side in (None, "bilateral", side)]
        wanted = [place for place in self.free if place[0] in sides and place[1] in zones]
        options = wanted or self.free
        place = options[self.rng.integers(len(options))]
        self.free.remove(place)
        return place

    def pair(self, side: str, zone: str, chance: float) -> str:
        """Return "bilateral" when the mirrored place is free too and chance or wish says so."""
        other = ("left" if side == "right" else "right", zone)
        wish = self.wish.side
        wanted = wish == "bilateral" or (wish is None and self.rng.random() < chance)
        if wanted and other in self.free:
            self.free.remove(other)
            return "bilateral"
        return side

    def block(self, side: str, *zones: str) -> None:
        """Mark zones of one side, or of both, as taken."""
        sides = LUNGS if side == "bilateral" else (side,)
        self.free = [p for p in self.free if p[0] not in sides or p[1] not in zones]


def draw_findings(rng: np.random.Generator, domain: str) -> tuple[str, ...]:
    """Draw which findings a scene has; about a fifth of the scenes have none."""
    normal = rng.random() < _NORMAL_SHARE
    chance = dict(_PREVALENCE)
    if domain == "external":
        chance[DEVICE] = _EXTERNAL_DEVICE
    draws = rng.random(len(PHANTOM_FINDINGS))
    if normal:
        return ()
    found = [f for f, d in zip(PHANTOM_FINDINGS, draws, strict=True) if d < chance[f]]
    if CARDIOMEGALY in found and EDEMA not in found and rng.random() < 0.15:
        found.append(EDEMA)
    if not found:
        found = [str(rng.choice(PHANTOM_FINDINGS))]
    return tuple(f for f in PHANTOM_FINDINGS if f in found)


def check_findings(findings: Iterable[str]) -> tuple[str, ...]:
    """Return standard names in standard order.

    Raises:
        OptionError: a name is unknown, or phantoms cannot draw it.
    """
    names = {standard_name(name) for name in findings}
    names.discard("no finding")
    if extra := names - set(DRAWABLE):
        raise OptionError(
            f"phantoms cannot draw {', '.join(sorted(extra))}; they can draw: {', '.join(DRAWABLE)}"
        )
    return tuple(f for f in DRAWABLE if f in names)


def sample_lesions(
    rng: np.random.Generator,
    findings: tuple[str, ...],
    wish: Wish | None = None,
    domain: str = "internal",
) -> tuple[Lesion, ...]:
    """Give every finding a side, zone, severity and drawing parameters.

    A finding that finds no free place is left out.
    """
    draws = _Draws(rng, wish or Wish(), domain)
    if CARDIOMEGALY in findings:
        draws.block("left", "lower")
    lesions = {name: make(draws) for name, make in _MAKERS.items() if name in findings}
    return tuple(lesion for f in DRAWABLE if (lesion := lesions.get(f)) is not None)


def _effusion(draws: _Draws) -> Lesion:
    uniform = draws.rng.uniform
    side = draws.wish.side or draws.lung(bilateral=0.25)
    severity = draws.severity(0.4, 0.35, 0.25)
    height = {"small": (0.105, 0.135), "moderate": (0.20, 0.27), "large": (0.36, 0.46)}[severity]
    if severity != "small":
        draws.block(side, "lower")
    if severity == "large":
        draws.block(side, "mid")
    params = {lung: {"height": uniform(*height), "tilt": uniform(0.03, 0.06)} for lung in LUNGS}
    return Lesion(EFFUSION, side=side, severity=severity, params=params)


def _pneumothorax(draws: _Draws) -> Lesion:
    side = draws.one_lung()
    severity = draws.severity(0.35, 0.35, 0.3)
    gap = {"small": (0.040, 0.052), "moderate": (0.068, 0.095), "large": (0.125, 0.18)}[severity]
    draws.block(side, "upper")
    if severity == "large":
        draws.block(side, "mid")
    params = {"gap": draws.rng.uniform(*gap), "taper": draws.rng.uniform(0.25, 0.5)}
    return Lesion(PNEUMOTHORAX, side=side, severity=severity, params=params)


def _consolidation(draws: _Draws) -> Lesion | None:
    uniform = draws.rng.uniform
    place = draws.place()
    if place is None:
        return None
    side = draws.pair(*place, chance=0.15)
    severity = draws.severity(0.3, 0.4, 0.3)
    radius = {"small": (0.058, 0.07), "moderate": (0.078, 0.095), "large": (0.105, 0.13)}[severity]
    params = {
        lung: {
            "radius": uniform(*radius),
            "aspect": uniform(0.8, 1.25),
            "across": uniform(0.35, 0.65),
            "down": uniform(0.35, 0.65),
            "noise_seed": int(draws.rng.integers(2**31)),
            "amount": uniform(0.30, 0.42),
        }
        for lung in LUNGS
    }
    return Lesion(CONSOLIDATION, side=side, zone=place[1], severity=severity, params=params)


def _atelectasis(draws: _Draws) -> Lesion | None:
    uniform = draws.rng.uniform
    severity = draws.severity(0.6, 0.2, 0.2)
    zones = ("mid", "lower") if severity == "small" else ("upper", "lower")
    if draws.wish.kind in ("linear", "lobar"):
        zones = ("mid", "lower") if draws.wish.kind == "linear" else ("upper", "lower")
    elif draws.wish.zone in ("upper", "mid"):
        zones = (draws.wish.zone,)
    place = draws.place(zones)
    if place is None:
        return None
    zone = place[1]
    linear = zone == "mid" or (zone == "lower" and zones == ("mid", "lower"))
    side = draws.pair(*place, chance=0.3 if linear else 0.0)
    bands = int(draws.rng.integers(2, 4))
    reach = (0.72, 0.85) if severity == "large" else (0.5, 0.62)
    params = {
        lung: {
            "bands": bands,
            "down": np.sort(uniform(0.2, 0.85, bands)).tolist(),
            "tilt": uniform(-0.25, 0.25, bands).tolist(),
            "start": uniform(0.16, 0.3, bands).tolist(),
            "length": uniform(0.13, 0.20, bands).tolist(),
            "thick": uniform(0.0042, 0.0062, bands).tolist(),
            "amount": uniform(0.24, 0.34),
            "reach": uniform(*reach),
            "raise": uniform(0.03, 0.05),
        }
        for lung in LUNGS
    }
    kind = "linear" if linear else "lobar"
    return Lesion(ATELECTASIS, side=side, zone=zone, severity=severity, kind=kind, params=params)


def _own_nodule(draws: _Draws) -> Lesion | None:
    """Return the nodule of the scan where it is asked for, or chance and its place allow it."""
    wish, own = draws.wish, ("left", "mid")
    found = wish.kind == SCAN or (
        draws.domain == "ct" and wish.severity in (None, "large") and draws.rng.random() < 0.12
    )
    fits = own in draws.free and wish.side in (None, own[0]) and wish.zone in (None, own[1])
    if not (found and fits):
        return None
    draws.free.remove(own)
    return Lesion(NODULE, *own, severity="large", kind=SCAN, size_mm=24.6)


def _nodule(draws: _Draws) -> Lesion | None:
    uniform, own = draws.rng.uniform, _own_nodule(draws)
    place = None if own or draws.wish.kind == SCAN else draws.place()
    if place is None:
        return own
    severity = draws.severity(0.35, 0.4, 0.25)
    diameter = {"small": (13, 17), "moderate": (18, 24), "large": (25, 30)}[severity]
    size = float(np.round(uniform(*diameter), 1))
    params = {
        "radius": size / 2 / FIELD_MM,
        "across": uniform(0.2, 0.8),
        "down": uniform(0.15, 0.85),
        "amount": uniform(0.32, 0.42),
    }
    return Lesion(NODULE, *place, severity=severity, size_mm=size, params=params)


def _cardiomegaly(draws: _Draws) -> Lesion:
    severity = draws.severity(0.4, 0.35, 0.25)
    ratio = {"small": (0.55, 0.575), "moderate": (0.585, 0.62), "large": (0.63, 0.68)}[severity]
    params = {"ratio": draws.rng.uniform(*ratio)}
    return Lesion(CARDIOMEGALY, severity=severity, params=params)


def _edema(draws: _Draws) -> Lesion:
    severity = draws.severity(0.35, 0.35, 0.3)
    amount = {"small": (0.19, 0.22), "moderate": (0.27, 0.32), "large": (0.38, 0.45)}[severity]
    params = {
        "amount": draws.rng.uniform(*amount),
        "noise_seed": int(draws.rng.integers(2**31)),
        "spread": draws.rng.uniform(0.10, 0.13),
    }
    return Lesion(EDEMA, side="bilateral", severity=severity, params=params)


def _device(draws: _Draws) -> Lesion:
    rng = draws.rng
    kinds = [kind for kind, finding in KINDS.items() if finding == DEVICE]
    drawn, wished = str(rng.choice(kinds)), str(draws.wish.kind)
    kind = wished if wished in kinds else drawn
    side = None
    if kind == "pacemaker":
        side = "left" if rng.random() < 0.8 else "right"
    elif kind == "central venous catheter":
        side = "right" if rng.random() < 0.7 else "left"
    params = {k: float(rng.uniform()) for k in ("across", "down", "tip", "wave")}
    return Lesion(DEVICE, side=side, kind=kind, params=params)


def _fracture(draws: _Draws) -> Lesion:
    rng, side = draws.rng, draws.one_lung()
    ribs = int(rng.integers(3, 5))
    params = {
        "first": int(rng.integers(3, 5)),
        "lateral": rng.uniform(0.74, 0.86, ribs).tolist(),
        "radius": rng.uniform(0.017, 0.022, ribs).tolist(),
        "amount": rng.uniform(0.34, 0.44, ribs).tolist(),
        "step": rng.uniform(0.006, 0.010, ribs).tolist(),
    }
    return Lesion(FRACTURE, side=side, kind="rib", params=params)


#: In this order places are taken; the findings that are drawn on request come last, so that the
#: others are as they are without them.
_MAKERS: dict[str, Callable[[_Draws], Lesion | None]] = {
    EFFUSION: _effusion,
    PNEUMOTHORAX: _pneumothorax,
    CONSOLIDATION: _consolidation,
    ATELECTASIS: _atelectasis,
    NODULE: _nodule,
    CARDIOMEGALY: _cardiomegaly,
    EDEMA: _edema,
    DEVICE: _device,
    FRACTURE: _fracture,
}
