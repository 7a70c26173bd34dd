"""Cases of a benchmark: an image and what is known of it; any part but the image may be missing.

A benchmark goes through keys. A key is small and plain: it is stored with the result of its case,
it is sent to other processes, and it opens its case there. Phantoms are the source of cases so far;
another source adds a key of its own whose `open` returns a `Case`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from workbench._repr import short_repr
from workbench.findings import ABSENT, NOT_MENTIONED, PRESENT, ZONES
from workbench.phantom.case import DOMAINS, phantom
from workbench.phantom.scene import Lesion
from workbench.phantom.wording import merged_side, statements
from workbench.radiograph import Radiograph


class Place(NamedTuple):
    """Where a finding is: side, and zones joined by ", " (None where it has none)."""

    side: str | None
    zone: str | None


@dataclass(frozen=True, eq=False)
class Case:
    """One image and what is known of it.

    Attributes:
        id: names the case.
        image: what a model is shown.
        seed: decides what an analysis of this case leaves to chance.
        group: stratum of the case; intervals come from resamples that keep each group's size.
        labels: finding -> code; an unnamed finding is unknown, or absent where `complete`.
        complete: whether everything that is present has a label.
        masks: finding -> (H, W), True where it is; a box is a filled rectangle.
        places: finding -> side and zone of what is present.
        report: the reference report.
        patient: whose image it is.
    """

    id: str
    image: Radiograph
    seed: int = 0
    group: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    complete: bool = False
    masks: Mapping[str, Bool[np.ndarray, "H W"]] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    report: str | None = None
    patient: str | None = None

    __repr__ = short_repr

    def code(self, finding: str) -> str:
        """Return the code of a finding; "not mentioned" where nothing is known of it."""
        return self.labels.get(finding, ABSENT if self.complete else NOT_MENTIONED)

    @property
    def present(self) -> tuple[str, ...]:
        """Findings that are there."""
        return tuple(name for name, code in self.labels.items() if code == PRESENT)


@dataclass(frozen=True)
class PhantomKey:
    """A phantom that has not been drawn yet.

    Attributes:
        seed: see `workbench.phantom`.
        domain: "internal" or "external".
        findings: what to draw; None lets the seed decide.
    """

    seed: int
    domain: str = "internal"
    findings: tuple[str, ...] | None = None

    def open(self, size: int) -> Case:
        """Draw the phantom, `size` pixels along each edge."""
        drawn = phantom(self.seed, findings=self.findings, domain=self.domain, size=size)
        name = f"phantom seed {self.seed} ({self.domain})"
        return Case(
            id=name,
            image=drawn.image,
            seed=self.seed,
            group=self.domain,
            labels=drawn.labels,
            complete=True,
            masks=drawn.masks,
            places=places(drawn.lesions),
            report=drawn.report,
            patient=name,
        )


def places(lesions: Iterable[Lesion]) -> dict[str, Place]:
    """Return finding -> place of what is drawn, several lesions of a finding taken together."""
    return {
        finding: Place(
            merged_side(item.side for item in group),
            ", ".join(zone for zone in ZONES if any(item.zone == zone for item in group)) or None,
        )
        for finding, group in statements(lesions).items()
    }


def both_domains(n: int, seed: int) -> list[PhantomKey]:
    """Return `n` phantoms, half of each domain.

    Internal ones have the seeds seed .. seed + ceil(n / 2) - 1, external ones those that follow.
    """
    half = (n + 1) // 2
    return [PhantomKey(seed + at, DOMAINS[at >= half]) for at in range(n)]
