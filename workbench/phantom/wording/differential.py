"""A short ranked differential diagnosis for the findings that were drawn.

Teaching material, not medicine: each pattern names textbook causes in a usual order. Findings that
one disease explains together (heart failure) are explained once.

Does not know: history, age, prior studies or laboratory values.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from workbench.findings import (
    ATELECTASIS,
    CARDIOMEGALY,
    CONSOLIDATION,
    DEVICE,
    EDEMA,
    EFFUSION,
    NODULE,
    PNEUMOTHORAX,
)
from workbench.phantom.scene import Lesion
from workbench.phantom.wording.mentions import mentions
from workbench.phantom.wording.phrases import joined, name, sentence

_CAUSES = {
    PNEUMOTHORAX: ("spontaneous pneumothorax", "trauma", "emphysema"),
    EDEMA: ("congestive heart failure", "fluid overload", "lung injury"),
    CONSOLIDATION: ("pneumonia", "aspiration", "pulmonary hemorrhage"),
    NODULE: ("granuloma", "primary lung malignancy", "metastasis"),
    EFFUSION: ("heart failure", "infection", "malignancy"),
    ATELECTASIS: ("hypoventilation", "mucus plugging", "an airway lesion"),
    CARDIOMEGALY: ("cardiomyopathy", "valve disease", "hypertension"),
}
_FAILURE = (CARDIOMEGALY, EDEMA, EFFUSION)


def write_differential(lesions: Iterable[Lesion], rng: np.random.Generator) -> str:
    """Write a ranked differential diagnosis, most pressing finding first, at most three lines.

    Without a finding it says "No acute cardiopulmonary disease; ..." and names devices, if any.
    """
    groups = mentions(lesions)
    found = [finding for finding in _CAUSES if finding in groups]
    if not found:
        devices = [name(item) for item in groups.get(DEVICE, ())]
        rest = f"{joined(devices)} in place" if devices else "no further diagnosis is needed"
        return f"No acute cardiopulmonary disease; {rest}."
    lines = []
    failure = [finding for finding in _FAILURE if finding in groups]
    if EDEMA in failure and len(failure) > 1:
        found = [finding for finding in found if finding not in failure]
        lines.append(f"congestive heart failure, given {joined(failure)}")
    lines += [f"{_ranked(finding, groups, rng)}, given {finding}" for finding in found]
    openings = ("Most likely", "Also consider", "Less likely")
    return " ".join(
        sentence(f"{opening}: {line}") for opening, line in zip(openings, lines, strict=False)
    )


def _ranked(finding: str, groups: dict, rng: np.random.Generator) -> str:
    first, second, third = _CAUSES[finding]
    if finding == PNEUMOTHORAX and DEVICE in groups:
        first, second = "a procedure", "spontaneous pneumothorax"
    elif finding == EFFUSION and CONSOLIDATION in groups:
        first, second = "infection", "heart failure"
    elif finding == ATELECTASIS and EFFUSION in groups:
        first, second = "compression by the effusion", "hypoventilation"
    if rng.random() < 0.3:
        return joined((first, second), word="or")
    return joined((first, second, third), word="or")
