"""A phantom scene: every parameter of one phantom, sampled before any pixel exists.

A scene is plain data: replace or drop a lesion and draw again, and nothing else moves, because
anatomy, lesions and noise take their numbers from separate seeded streams. Focal lesions take free
places (side and zone), so that no lesion hides another and every stated side, zone and severity can
be seen in the image. Prevalence is a teaching choice, not epidemiology.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

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
    NODULE,
    ON_REQUEST,
    PHANTOM_FINDINGS,
    PNEUMOTHORAX,
    SEVERITIES,
    SIDES,
    ZONES,
    standard_name,
)
from workbench.phantom.anatomy import FIELD_MM

#: Chance of each finding in a scene that is not normal.
PREVALENCE = {
    ATELECTASIS: 0.25,
    CARDIOMEGALY: 0.27,
    CONSOLIDATION: 0.25,
    EDEMA: 0.20,
    EFFUSION: 0.28,
    PNEUMOTHORAX: 0.22,
    NODULE: 0.25,
    DEVICE: 0.25,
}
NORMAL_SHARE = 0.22
EXTERNAL_DEVICE = 0.50
LUNGS = ("right", "left")

#: What can be drawn, in standard order.
DRAWABLE = (*PHANTOM_FINDINGS, *ON_REQUEST)


@dataclass(frozen=True)
class Lesion:
    """One drawn finding.

    Attributes:
        finding: standard name, one of `DRAWABLE`.
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


class Places:
    """Free (side, zone) places of one scene."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.free = [(side, zone) for side in LUNGS for zone in ZONES]

    def take(self, wanted: list[tuple[str, str]]) -> tuple[str, str] | None:
        """Take one of the wanted places that is still free; None when there is none."""
        options = [place for place in wanted if place in self.free]
        if not options:
            return None
        place = options[self.rng.integers(len(options))]
        self.free.remove(place)
        return place

    def block(self, side: str, *zones: str) -> None:
        """Mark zones of one side, or of both, as taken."""
        sides = LUNGS if side == "bilateral" else (side,)
        self.free = [p for p in self.free if p[0] not in sides or p[1] not in zones]


#: "side", "zone" and "severity" -> the value that is asked for, or None.
Wish = dict[str, str | None]


def _side(rng: np.random.Generator, bilateral: float = 0.0) -> str:
    if rng.random() < bilateral:
        return "bilateral"
    return str(rng.choice(LUNGS))


def _severity(rng: np.random.Generator, weights: tuple[float, float, float]) -> str:
    return SEVERITIES[int(rng.choice(3, p=np.asarray(weights) / np.sum(weights)))]


def draw_findings(rng: np.random.Generator, domain: str) -> tuple[str, ...]:
    """Draw which findings a scene has; about a fifth of the scenes have none."""
    normal = rng.random() < NORMAL_SHARE
    chance = dict(PREVALENCE)
    if domain == "external":
        chance[DEVICE] = EXTERNAL_DEVICE
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
    *,
    side: str | None = None,
    zone: str | None = None,
    severity: str | None = None,
) -> tuple[Lesion, ...]:
    """Give every finding a side, zone, severity and drawing parameters.

    Args:
        rng: the scene's lesion stream.
        findings: standard names.
        side, zone, severity: wished-for values, followed by every finding that has the property.

    Raises:
        OptionError: a wish has an unknown value.
    """
    for value, allowed, name in (
        (side, SIDES, "side"),
        (zone, ZONES, "zone"),
        (severity, SEVERITIES, "severity"),
    ):
        if value is not None and value not in allowed:
            raise OptionError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    places = Places(rng)
    if CARDIOMEGALY in findings:
        places.block("left", "lower")
    wish: Wish = {"side": side, "zone": zone, "severity": severity}
    lesions = {name: make(rng, places, wish) for name, make in _MAKERS.items() if name in findings}
    return tuple(lesion for f in DRAWABLE if (lesion := lesions.get(f)) is not None)


def _effusion(rng: np.random.Generator, places: Places, wish: Wish) -> Lesion:
    side = wish["side"] or _side(rng, 0.25)
    severity = wish["severity"] or _severity(rng, (0.4, 0.35, 0.25))
    height = {"small": (0.105, 0.135), "moderate": (0.20, 0.27), "large": (0.36, 0.46)}[severity]
    if severity != "small":
        places.block(side, "lower")
    if severity == "large":
        places.block(side, "mid")
    params = {s: {"height": rng.uniform(*height), "tilt": rng.uniform(0.03, 0.06)} for s in LUNGS}
    return Lesion(EFFUSION, side=side, severity=severity, params=params)


def _pneumothorax(rng: np.random.Generator, places: Places, wish: Wish) -> Lesion:
    side = wish["side"] if wish["side"] in LUNGS else _side(rng)
    severity = wish["severity"] or _severity(rng, (0.35, 0.35, 0.3))
    gap = {"small": (0.040, 0.052), "moderate": (0.068, 0.095), "large": (0.125, 0.18)}[severity]
    places.block(side, "upper")
    if severity == "large":
        places.block(side, "mid")
    params = {"gap": rng.uniform(*gap), "taper": rng.uniform(0.25, 0.5)}
    return Lesion(PNEUMOTHORAX, side=side, severity=severity, params=params)


def _wanted(wish: Wish, zones: tuple[str, ...] = ZONES) -> list[tuple[str, str]]:
    sides = [side for side in LUNGS if wish["side"] in (None, "bilateral", side)]
    chosen = [zone for zone in zones if zone == wish["zone"]] or zones
    return [(side, zone) for side in sides for zone in chosen]


def _pair(places: Places, place: tuple[str, str], chance: float, wish: Wish) -> str:
    """Return "bilateral" when the mirrored place is free too and chance or wish says so."""
    side, zone = place
    other = ("left" if side == "right" else "right", zone)
    wanted = wish["side"] == "bilateral" or (wish["side"] is None and places.rng.random() < chance)
    if wanted and other in places.free:
        places.free.remove(other)
        return "bilateral"
    return side


def _consolidation(rng: np.random.Generator, places: Places, wish: Wish) -> Lesion | None:
    place = places.take(_wanted(wish)) or places.take(_wanted({"side": None, "zone": None}))
    if place is None:
        return None
    side = _pair(places, place, 0.15, wish)
    severity = wish["severity"] or _severity(rng, (0.3, 0.4, 0.3))
    radius = {"small": (0.058, 0.07), "moderate": (0.078, 0.095), "large": (0.105, 0.13)}[severity]
    params = {
        s: {
            "radius": rng.uniform(*radius),
            "aspect": rng.uniform(0.8, 1.25),
            "across": rng.uniform(0.35, 0.65),
            "down": rng.uniform(0.35, 0.65),
            "noise_seed": int(rng.integers(2**31)),
            "amount": rng.uniform(0.30, 0.42),
        }
        for s in LUNGS
    }
    return Lesion(CONSOLIDATION, side=side, zone=place[1], severity=severity, params=params)


def _atelectasis(rng: np.random.Generator, places: Places, wish: Wish) -> Lesion | None:
    severity = wish["severity"] or _severity(rng, (0.6, 0.2, 0.2))
    kind = "linear" if severity == "small" else "lobar"
    zones = ("mid", "lower") if kind == "linear" else ("upper", "lower")
    if wish["zone"] == "upper":
        kind, zones = "lobar", ("upper",)
    elif wish["zone"] == "mid":
        kind, zones = "linear", ("mid",)
    place = places.take(_wanted(wish, zones)) or places.take(_wanted({"side": None, "zone": None}))
    if place is None:
        return None
    if place[1] not in zones:
        kind = "linear" if place[1] == "mid" else "lobar"
    side = _pair(places, place, 0.3 if kind == "linear" else 0.0, wish)
    bands = int(rng.integers(2, 4))
    params = {
        s: {
            "bands": bands,
            "down": np.sort(rng.uniform(0.2, 0.85, bands)).tolist(),
            "tilt": rng.uniform(-0.25, 0.25, bands).tolist(),
            "start": rng.uniform(0.16, 0.3, bands).tolist(),
            "length": rng.uniform(0.13, 0.20, bands).tolist(),
            "thick": rng.uniform(0.0042, 0.0062, bands).tolist(),
            "amount": rng.uniform(0.24, 0.34),
            "reach": rng.uniform(0.5, 0.62) if severity != "large" else rng.uniform(0.72, 0.85),
            "raise": rng.uniform(0.03, 0.05),
        }
        for s in LUNGS
    }
    return Lesion(
        ATELECTASIS, side=side, zone=place[1], severity=severity, kind=kind, params=params
    )


def _nodule(rng: np.random.Generator, places: Places, wish: Wish) -> Lesion | None:
    place = places.take(_wanted(wish)) or places.take(_wanted({"side": None, "zone": None}))
    if place is None:
        return None
    severity = wish["severity"] or _severity(rng, (0.35, 0.4, 0.25))
    low, high = {"small": (13, 17), "moderate": (18, 24), "large": (25, 30)}[severity]
    size = float(np.round(rng.uniform(low, high), 1))
    params = {
        "radius": size / 2 / FIELD_MM,
        "across": rng.uniform(0.2, 0.8),
        "down": rng.uniform(0.15, 0.85),
        "amount": rng.uniform(0.32, 0.42),
    }
    return Lesion(
        NODULE, side=place[0], zone=place[1], severity=severity, size_mm=size, params=params
    )


def _cardiomegaly(rng: np.random.Generator, places: Places, wish: Wish) -> Lesion:
    severity = wish["severity"] or _severity(rng, (0.4, 0.35, 0.25))
    ratio = {"small": (0.55, 0.575), "moderate": (0.585, 0.62), "large": (0.63, 0.68)}[severity]
    return Lesion(CARDIOMEGALY, severity=severity, params={"ratio": rng.uniform(*ratio)})


def _edema(rng: np.random.Generator, places: Places, wish: Wish) -> Lesion:
    severity = wish["severity"] or _severity(rng, (0.35, 0.35, 0.3))
    amount = {"small": (0.19, 0.22), "moderate": (0.27, 0.32), "large": (0.38, 0.45)}[severity]
    params = {
        "amount": rng.uniform(*amount),
        "noise_seed": int(rng.integers(2**31)),
        "spread": rng.uniform(0.10, 0.13),
    }
    return Lesion(EDEMA, side="bilateral", severity=severity, params=params)


def _device(rng: np.random.Generator, places: Places, wish: Wish) -> Lesion:
    kind = str(rng.choice(["pacemaker", "central venous catheter", "endotracheal tube"]))
    side = None
    if kind == "pacemaker":
        side = "left" if rng.random() < 0.8 else "right"
    elif kind == "central venous catheter":
        side = "right" if rng.random() < 0.7 else "left"
    params = {k: float(rng.uniform()) for k in ("across", "down", "tip", "wave")}
    return Lesion(DEVICE, side=side, kind=kind, params=params)


def _fracture(rng: np.random.Generator, places: Places, wish: Wish) -> Lesion:
    side = wish["side"] if wish["side"] in LUNGS else _side(rng)
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
_MAKERS: dict[str, Callable[[np.random.Generator, Places, Wish], Lesion | None]] = {
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
