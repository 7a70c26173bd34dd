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

from workbench._tables import read_rows
from workbench.data.boxes import to_cell
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import codes_from_masks, map_unique, read_cells, read_numbers
from workbench.data.joins import join, meet, name_form
from workbench.findings import ABSENT, PRESENT, cell_key

ZONES = "ABCDEF"
KNOWN = [
    "StudyId",
    "Subject",
    "Sex",
    "ViewPosition",
    "AgeAtStudyDateFiveYear",
    "ConsensusTestset",
]
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
    raw = files.table(path, ["Filename", "BrixiaScore"], KNOWN, sep=_separator(path))
    scores, notes = pd.Series(map_unique(raw["BrixiaScore"], _padded), dtype=object), []
    if labels == "consensus":
        path = files.require("metadata_consensus_v*.csv")
        modes = [f"Mode{zone}" for zone in ZONES]
        agreed = files.table(path, ["Filename", *modes], sep=_separator(path))[["Filename", *modes]]
        names, others = raw["Filename"], agreed["Filename"]
        left, right = meet(names, others, name_form, distinct=names)
        met = left.isin(set(right) - {""})
        raw = raw[met | ~met.any()].reset_index(drop=True)
        found, note = join(
            raw["Filename"], agreed, "Filename", what="consensus", things="images", said=path.name
        )
        digits = found[modes].apply(lambda cells: map_unique(cells, cell_key))
        scores, notes = digits.agg("".join, axis=1), [note]
    return _rows(files, card, raw, scores).assign(provenance="radiologist"), notes


def _padded(score: str) -> str:
    """Return a score with the zeros in front that spreadsheets eat; an empty one stays empty."""
    digits = cell_key(score)
    return digits.zfill(6) if digits.isdigit() else score if digits else ""


def _separator(path: Path) -> str:
    header = next(read_rows(path, delimiter=";"), [])
    return ";" if len(header) > 1 else ","


def _rows(files: Download, card: DataCard, raw: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    rows = len(raw)
    valid = scores.astype("str").str.fullmatch(r"[0-3]{6}").fillna(False).to_numpy(bool)
    total = np.array([sum(map(int, s)) if ok else 0 for s, ok in zip(scores, valid, strict=True)])
    group, odd = read_numbers(raw.get("AgeAtStudyDateFiveYear"), rows=rows)
    study = raw.get("StudyId", raw["Filename"])
    return pd.DataFrame(
        {
            "image_id": raw["Filename"].str.removesuffix(".dcm"),
            "path": files.locate(raw["Filename"], FOLDERS),
            "patient_id": raw.get("Subject", raw["Filename"]),
            "study_id": study,
            "view": read_cells(
                raw.get("ViewPosition"), {"AP": "AP", "PA": "PA"}, rows=rows, empty="frontal"
            ),
            "sex": read_cells(raw.get("Sex"), {"M": "male", "F": "female"}, rows=rows),
            "age": (group * 5)
            .astype("Int64")
            .astype(object)
            .mask(odd, raw.get("AgeAtStudyDateFiveYear")),
            "split": _split(raw),
            "lung opacity": codes_from_masks(
                rows, {PRESENT: valid & (total > 0), ABSENT: valid & (total == 0)}
            ),
            "source_labels": np.where(
                valid | (scores == ""),
                np.where(total > 0, "score above 0", None),
                "score " + scores,
            ),
            "severity": map_unique(scores, _severity),
            "locations": map_unique(scores, lambda score: _places(card, score)),
        }
    )


def _split(raw: pd.DataFrame) -> np.ndarray:
    """Return the official test set; the authors left the rest to the user."""
    flag = raw.get("ConsensusTestset")
    return read_cells(flag, {"1": "test", "0": "train"}, rows=len(raw))


def _severity(score: str) -> str | None:
    if not score:
        return None
    if len(score) != 6 or not set(score) <= set("0123"):
        return to_cell({"unreadable": score})
    zones = {zone: int(digit) for zone, digit in zip(ZONES, score, strict=True)}
    return to_cell(zones | {"global": sum(zones.values())})


def _places(card: DataCard, score: str) -> str | None:
    if "unreadable" in (_severity(score) or ""):
        return None
    places = [
        word
        for zone, digit in zip(ZONES, score, strict=False)
        if digit in "123"
        for word in card.locations[zone].values()
    ]
    return to_cell({"lung opacity": sorted(set(places))} if places else {})
