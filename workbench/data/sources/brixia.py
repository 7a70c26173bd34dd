"""BrixIA COVID-19: severity of lung abnormality in six zones, 0 to 3.

Source: Signoroni et al., Med Image Anal 2021 (doi 10.1016/j.media.2021.102046); score: Borghesi and
Maroldi, Radiol Med 2020. Zones A to C are the patient's right lung from top to bottom, D to F the
left. A global score above 0 states a lung opacity, a score of 0 its absence.

Does not know: any other finding.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from workbench.data.boxes import to_cell
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import codes_from_masks, map_unique, map_words
from workbench.findings import ABSENT, PRESENT

ZONES = "ABCDEF"
FOLDERS = ("dicom_clean", "data/dicom_clean", "")


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each image, and notes.

    Args:
        files: the download.
        card: data card "brixia".
        labels: "shift" or "consensus".
        reports: not used; there are none.
        show: not used.

    Raises:
        InputError: a file is missing or not the published one.
    """
    path = files.require("metadata_global_v*.csv", "metadata_global.csv")
    raw = files.table(path, ["Filename", "BrixiaScore"], sep=_separator(path))
    scores, provenance = raw["BrixiaScore"].str.strip().str.zfill(6), "radiologist"
    if labels == "consensus":
        agreed = files.table(files.require("metadata_consensus_v*.csv"), ["Filename", "ModeA"])
        modes = agreed[[f"Mode{zone}" for zone in ZONES]].apply(lambda c: c.str.slice(0, 1))
        joined = dict(zip(agreed["Filename"], modes.agg("".join, axis=1), strict=True))
        raw = raw[raw["Filename"].isin(joined)].reset_index(drop=True)
        scores = raw["Filename"].map(joined)
    return _rows(files, card, raw, scores).assign(provenance=provenance), []


def _separator(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as handle:
        head = handle.readline()
    return ";" if head.count(";") > head.count(",") else ","


def _rows(files: Download, card: DataCard, raw: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    rows = len(raw)
    valid = scores.str.fullmatch(r"[0-3]{6}").fillna(False).to_numpy(bool)
    total = np.array([sum(map(int, s)) if ok else 0 for s, ok in zip(scores, valid, strict=True)])
    group = pd.to_numeric(raw.get("AgeAtStudyDateFiveYear"), errors="coerce")
    study = raw.get("StudyId", raw["Filename"])
    return pd.DataFrame(
        {
            "image_id": raw["Filename"].str.removesuffix(".dcm"),
            "path": files.locate(raw["Filename"], FOLDERS),
            "patient_id": raw.get("Subject", raw["Filename"]),
            "study_id": study,
            "view": map_words(
                raw.get("ViewPosition"), {"AP": "AP", "PA": "PA"}, rows=rows, default="frontal"
            ),
            "sex": map_words(
                raw.get("Sex"), {"M": "male", "F": "female"}, rows=rows, default="unknown"
            ),
            "age": group * 5 if group is not None else None,
            "split": _split(raw),
            "lung opacity": codes_from_masks(
                rows, {PRESENT: valid & (total > 0), ABSENT: valid & (total == 0)}
            ),
            "source_labels": np.where(
                valid, np.where(total > 0, "score above 0", None), "score " + scores
            ),
            "severity": map_unique(scores, _severity),
            "locations": map_unique(scores, lambda score: _places(card, score)),
        }
    )


def _split(raw: pd.DataFrame) -> np.ndarray:
    """Return the official test set; the authors left the rest to the user."""
    flag = raw.get("ConsensusTestset")
    if flag is None:
        return np.full(len(raw), None, dtype=object)
    test = flag.str.strip().str.lower().isin(["1", "1.0", "true"])
    return np.where(test, "test", "train").astype(object)


def _severity(score: str) -> str | None:
    if len(score) != 6 or not set(score) <= set("0123"):
        return to_cell({"unreadable": score})
    zones = {zone: int(digit) for zone, digit in zip(ZONES, score, strict=True)}
    return to_cell(zones | {"global": sum(zones.values())})


def _places(card: DataCard, score: str) -> str | None:
    places = [
        word
        for zone, digit in zip(ZONES, score, strict=False)
        if digit in "123"
        for word in card.locations[zone].values()
    ]
    return to_cell({"lung opacity": sorted(set(places))} if places else {})
