"""Finding names, synonyms and label codes: the one vocabulary every part shares.

Names are lower case and spelled out. A code is never 0 for unknown: a finding that a text does
not speak of is `NOT_MENTIONED`, which is not `ABSENT`.

Source: the 14 categories of CheXpert (Irvin et al., AAAI 2019, arXiv 1901.07031), plus nodule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from workbench.errors import OptionError, unknown_name

PRESENT = "present"
ABSENT = "absent"
UNCERTAIN = "uncertain"
NOT_MENTIONED = "not mentioned"
CODES = (PRESENT, ABSENT, UNCERTAIN, NOT_MENTIONED)

#: What stands in a cell that says nothing, in lower case.
EMPTY_CELLS = ("", "nan", "none", "null", "na", "n/a", "<na>", "nat")
#: Cells of the label files of CheXpert and MIMIC-CXR-JPG, as `cell_key` writes them.
TICKS = {"1": PRESENT, "0": ABSENT, "-1": UNCERTAIN}
#: The codes themselves.
CODE_CELLS = {code: code for code in CODES}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII)

ATELECTASIS = "atelectasis"
CARDIOMEGALY = "cardiomegaly"
CONSOLIDATION = "consolidation"
EDEMA = "pulmonary edema"
EFFUSION = "pleural effusion"
PNEUMOTHORAX = "pneumothorax"
NODULE = "nodule"
DEVICE = "support device"
FRACTURE = "fracture"
NO_FINDING = "no finding"

#: The six findings that the CXR-LLaVA paper asks for and scores.
PAPER_FINDINGS = (ATELECTASIS, CARDIOMEGALY, CONSOLIDATION, EDEMA, EFFUSION, PNEUMOTHORAX)

#: What the phantoms can draw, in this order everywhere (columns of label arrays too).
PHANTOM_FINDINGS = (*PAPER_FINDINGS, NODULE, DEVICE)

#: What phantoms draw when asked for it by name and never by chance: `mini` has not met it, so that
#: it can be taught.
ON_REQUEST = (FRACTURE,)

ALL_FINDINGS = (
    *PAPER_FINDINGS, "pneumonia", "lung opacity", "lung lesion", NODULE,
    "enlarged cardiomediastinum", "pleural other", FRACTURE, DEVICE, NO_FINDING,
)  # fmt: skip

#: A finding and the wider one that it belongs to (Irvin et al. 2019, figure 1; nodule is ours).
PARENTS = {
    CARDIOMEGALY: "enlarged cardiomediastinum",
    EDEMA: "lung opacity",
    CONSOLIDATION: "lung opacity",
    ATELECTASIS: "lung opacity",
    "lung lesion": "lung opacity",
    "pneumonia": CONSOLIDATION,
    NODULE: "lung lesion",
}

#: Sides are the patient's own: the patient's right lung is on the left of a frontal image.
SIDES = ("left", "right", "bilateral")
ZONES = ("upper", "mid", "lower")
SEVERITIES = ("small", "moderate", "large")
#: The kind of a nodule that is the one of the CT's patient.
SCAN = "scan"
#: Kinds that phantoms have and that can be asked for -> finding.
KINDS = {
    "linear": ATELECTASIS,
    "lobar": ATELECTASIS,
    "pacemaker": DEVICE,
    "central venous catheter": DEVICE,
    "endotracheal tube": DEVICE,
    SCAN: NODULE,
}

#: In which zones a lobe is seen.
LOBE_ZONES = {
    "upper lobe": ("upper",),
    "middle lobe": ("mid", "lower"),
    "lingula": ("mid", "lower"),
    "lower lobe": ("mid", "lower"),
}

#: Names a person may type for a phantom finding or a question, mapped to the standard name.
SYNONYMS = {
    "effusion": EFFUSION,
    "pleural fluid": EFFUSION,
    "edema": EDEMA,
    "oedema": EDEMA,
    "pulmonary oedema": EDEMA,
    "enlarged heart": CARDIOMEGALY,
    "enlarged cardiac silhouette": CARDIOMEGALY,
    "airspace consolidation": CONSOLIDATION,
    "collapse": ATELECTASIS,
    "pulmonary nodule": NODULE,
    "lung nodule": NODULE,
    "device": DEVICE,
    "support devices": DEVICE,
    "normal": NO_FINDING,
}


def same_zone(zone: str | None, lobe: str | None, stated: str | None, named: str | None) -> bool:
    """Say whether the stated zone or the lobe that was named is where a finding is.

    A lobe is right where it is the true one; where only the zone is known, any lobe seen there is.

    Args:
        zone, lobe: where it is; a lobe may have its side in front.
        stated, named: zone and lobe of a text.

    >>> wb.findings.same_zone("lower", None, "lower", None)
    True
    """
    if named is None:
        return zone == stated
    if lobe is None:
        return zone == stated or zone in LOBE_ZONES.get(named, ())
    own = lobe.removeprefix("left ").removeprefix("right ")
    return own == named or (named == "lingula" and lobe == "left upper lobe" and zone != "upper")


def cell_key(cell: object) -> str:
    """Return how a cell of a closed vocabulary is compared: lower case, single blanks, 1 for 1.0.

    True is 1 and False is 0; a cell that says nothing is an empty text.

    >>> wb.findings.cell_key("  Left   LUNG ")
    'left lung'
    """
    key = "" if cell is None else " ".join(str(cell).casefold().split())
    if key in EMPTY_CELLS:
        return ""
    if key in ("true", "false"):
        return "1" if key == "true" else "0"
    if _NUMBER.fullmatch(key):
        return f"{float(key) + 0.0:.12g}"
    return key


def read_cell(cell: object, words: Mapping[str, str]) -> str | None:
    """Return what a cell of a closed vocabulary says, by `words`: its `cell_key` -> what it says.

    "" for a cell that says nothing; None for one that is not understood, which is never the same.

    >>> wb.findings.read_cell("Yes", {"yes": "present", "no": "absent"})
    'present'
    """
    key = cell_key(cell)
    return words.get(key, None if key else "")


def standard_name(name: str) -> str:
    """Return the standard name of a finding, given that or a synonym in any case.

    Raises:
        OptionError: it is no text, or not known; the message lists the names that are.

    >>> wb.findings.standard_name("Edema")
    'pulmonary edema'
    """
    if not isinstance(name, str):
        raise OptionError(
            f"a finding is named by a text, such as {ALL_FINDINGS[0]!r}; got {name!r}"
        )
    key = " ".join(name.lower().replace("_", " ").split())
    found = SYNONYMS.get(key, key)
    if found not in ALL_FINDINGS:
        raise OptionError(unknown_name("finding", name, ALL_FINDINGS, also=SYNONYMS))
    return found
