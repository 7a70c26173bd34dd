"""Cases for probes: an image and what is true of it, from phantoms or from any pairs.

A finding that the truth does not speak of is unknown, and is neither asked about nor counted.

Does not know: models.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.data import FINDING_COLUMNS, Manifest
from workbench.errors import InputError
from workbench.findings import ABSENT, ALL_FINDINGS, CODES, PAPER_FINDINGS, PRESENT, standard_name
from workbench.phantom.case import Phantom, phantom


@dataclass(frozen=True, eq=False)
class ProbeCase:
    """One image with its truth.

    Attributes:
        name: of the case.
        image: what a model accepts as an image.
        truth: finding -> "present" or "absent"; others are unknown.
    """

    name: str
    image: Any
    truth: Mapping[str, str]

    def known(self, code: str, findings: Sequence[str] = PAPER_FINDINGS) -> list[str]:
        """Return the findings that are known to be present, or absent."""
        return [name for name in findings if self.truth.get(name) == code]


def probe_cases(cases: Manifest | Iterable[Any]) -> tuple[ProbeCase, ...]:
    """Return the cases of a manifest or an iterable.

    Args:
        cases: a `Manifest` with the folder of its images; or phantoms, `ProbeCase`, or pairs
            (image, truth) where truth maps findings to "present", "absent", "uncertain" or "not
            mentioned". Images of a manifest are read when they are asked about.

    Raises:
        InputError: there is no case, or one is none of these; the message shows it.
        OptionError: a finding is unknown.
    """
    if isinstance(cases, Manifest):
        cases = _rows(cases)
    found = tuple(_case(number, case) for number, case in enumerate(cases))
    if not found:
        raise InputError("there is no case; give phantoms, or pairs of an image and its truth")
    return found


def phantom_cases(
    n: int, *, seed: int, domain: str = "internal", size: int = 512
) -> tuple[Phantom, ...]:
    """Draw `n` phantoms with the seeds seed .. seed + n - 1, as cases."""
    return tuple(phantom(seed + at, domain=domain, size=size) for at in range(n))


def _rows(manifest: Manifest) -> Iterator[ProbeCase]:
    """Yield a case for each row of a manifest; what it does not say stays unknown."""
    names = [name for name in FINDING_COLUMNS if name in ALL_FINDINGS]
    rows = manifest.frame[["image_id", *names]].itertuples(index=False, name=None)
    for row, (image_id, *codes) in enumerate(rows):
        truth = dict(zip(names, map(str, codes), strict=True))
        known = {name: code for name, code in truth.items() if code in (PRESENT, ABSENT)}
        yield ProbeCase(str(image_id), manifest.path(row), known)


def _case(number: int, case: Any) -> ProbeCase:
    if isinstance(case, ProbeCase):
        return case
    if isinstance(case, Phantom):
        return ProbeCase(case.image.contract.source, case, case.labels)
    if not (isinstance(case, tuple) and len(case) == 2 and isinstance(case[1], Mapping)):
        raise InputError(
            f"case {number} is {type(case).__name__}; expected a phantom or a pair (image, truth), "
            "with truth such as {'pneumothorax': 'absent'}"
        )
    image, truth = case
    if wrong := [code for code in truth.values() if code not in CODES]:
        raise InputError(
            f"case {number} has code {wrong[0]!r}; expected one of: {', '.join(CODES)}"
        )
    known = {standard_name(name): code for name, code in truth.items()}
    return ProbeCase(f"case {number}", image, known)


def frequencies(cases: Sequence[ProbeCase], findings: Sequence[str]) -> dict[str, float]:
    """Return how often each finding is present among the cases in which it is known."""
    found = {}
    for name in findings:
        codes = [case.truth.get(name) for case in cases]
        known = [code == PRESENT for code in codes if code in (PRESENT, ABSENT)]
        found[name] = float(np.mean(known)) if known else 0.0
    return found


def together(cases: Sequence[ProbeCase], findings: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return, for each finding, how often each other one is present where it is."""
    found: dict[str, dict[str, float]] = {}
    for name in findings:
        own = [case for case in cases if case.truth.get(name) == PRESENT]
        found[name] = frequencies(own, findings)
    return found
