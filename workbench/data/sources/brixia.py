"""BrixIA COVID-19: severity of lung abnormality in six zones, 0 to 3.

Source: Signoroni et al., Med Image Anal 2021 (doi 10.1016/j.media.2021.102046); score: Borghesi and
Maroldi, Radiol Med 2020. Zones A to C are the patient's right lung from top to bottom, D to F the
left. A global score above 0 states a lung opacity, a score of 0 its absence.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from workbench._tables import read_rows
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import join, map_unique, meet, name_form
from workbench.data.mapping import WORDS, codes_from_masks, read_cells, read_numbers, to_cell
from workbench.findings import ABSENT, PRESENT, cell_key

ZONES = "ABCDEF"
AGE = "AgeAtStudyDateFiveYear"
KNOWN = ["StudyId", "Subject", "Sex", "ViewPosition", AGE, "ConsensusTestset"]
FOLDERS = ("dicom_clean", "data/dicom_clean", "")


def read(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return the scores of one reader, or the most frequent ones of the consensus set."""
    path = files.require("metadata_global_v*.csv", "metadata_global.csv")
    raw = files.table(path, ["Filename", "BrixiaScore"], KNOWN, sep=_separator(path))
    scores, notes = pd.Series(map_unique(raw["BrixiaScore"], _padded), dtype=object), []
    if files.labels == "consensus":
        path = files.require("metadata_consensus_v*.csv")
        modes = [f"Mode{zone}" for zone in ZONES]
        agreed = files.table(path, ["Filename", *modes], sep=_separator(path))[["Filename", *modes]]
        left, right = meet(raw["Filename"], agreed["Filename"], name_form)
        met = left.isin(set(right) - {""})
        raw = (raw[met] if met.any() else raw).reset_index(drop=True)
        found, note = join(
            raw["Filename"], agreed, "Filename", what="consensus", things="images", said=path.name
        )
        digits = found[modes].apply(lambda cells: map_unique(cells, cell_key))
        scores, notes = digits.agg("".join, axis=1), [note]
    return _rows(files, raw, scores), notes


def _padded(score: str) -> str:
    """Return a score with the zeros in front that spreadsheets eat; an empty one stays empty."""
    digits = cell_key(score)
    return digits.zfill(6) if digits.isdigit() else score if digits else ""


def _separator(path: Path) -> str:
    header = next(read_rows(path, delimiter=";"), [])
    return ";" if len(header) > 1 else ","


def _rows(files: Download, raw: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    clear = (scores == "000000").to_numpy(bool)
    above = map_unique(scores, _is_score).astype(bool) & ~clear
    group, odd = read_numbers(raw[AGE])
    label = pd.Series(np.where(above, "score above 0", ""), dtype=object)
    return pd.DataFrame(
        {
            "image_id": raw["Filename"].str.removesuffix(".dcm"),
            "path": files.locate(raw["Filename"], FOLDERS),
            "patient_id": _known(raw, "Subject"),
            "study_id": _known(raw, "StudyId"),
            "view": read_cells(raw["ViewPosition"], WORDS["view"], empty="frontal"),
            "sex": raw["Sex"],
            "age": (group * 5).astype("Int64").astype(object).mask(odd, raw[AGE]),
            # The authors left all images but the test set to the user.
            "split": read_cells(raw["ConsensusTestset"], {"1": "test", "0": "train"}),
            "lung opacity": codes_from_masks({PRESENT: above, ABSENT: clear}),
            "source_labels": label.where(above | clear | (scores == ""), "score " + scores),
            "severity": map_unique(scores, _severity),
            "locations": map_unique(scores, lambda score: _places(files.card, score)),
        }
    )


def _known(raw: pd.DataFrame, name: str) -> pd.Series:
    """Return a column, or the names of the files where all of it is empty."""
    return raw["Filename"] if raw[name].eq("").all() else raw[name]


def _is_score(score: str) -> bool:
    return len(score) == len(ZONES) and set(score) <= set("0123")


def _severity(score: str) -> str | None:
    if score and not _is_score(score):
        return to_cell({"unreadable": score})
    zones = {zone: int(digit) for zone, digit in zip(ZONES, score, strict=False)}
    return to_cell(zones | {"global": sum(zones.values())}) if zones else None


def _places(card: DataCard, score: str) -> str | None:
    if not _is_score(score):
        return None
    hit = [card.locations[zone] for zone, digit in zip(ZONES, score, strict=True) if digit != "0"]
    places = sorted({word for place in hit for word in place.values()})
    return to_cell({"lung opacity": places} if places else {})
