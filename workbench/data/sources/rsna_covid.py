"""SIIM-FISABIO-RSNA COVID-19: appearance of each study, boxes of each image.

Source: Lakhani et al., J Digit Imaging 2023. "Typical" states a pneumonia as COVID-19 makes it;
"indeterminate" and "atypical" leave that open (uncertain); "negative for pneumonia" denies it.

Does not know: patients; none are published.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from workbench.data.boxes import box_cells, parse_list
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import codes_from_masks, codes_or_cells, read_cells
from workbench.data.joins import join, plain_form
from workbench.data.mapping import marked_columns
from workbench.errors import InputError
from workbench.findings import ABSENT, PRESENT, UNCERTAIN

NEGATIVE, TYPICAL = "Negative for Pneumonia", "Typical Appearance"
OPEN = ("Indeterminate Appearance", "Atypical Appearance")
TICKED = {"1": PRESENT, "0": ABSENT}
APPEARANCES = (NEGATIVE, TYPICAL, *OPEN)


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each training image, and notes.

    Args:
        files: the download.
        card: data card "rsna-covid".
        labels: not used; there is one set.
        reports: not used; there are none.
        show: not used.

    Raises:
        InputError: a file is missing or not the published one.
    """
    path = files.require("train_study_level.csv")
    studies = files.table(path, ["id", *APPEARANCES])[["id", *APPEARANCES]]
    studies["id"] = studies["id"].str.replace(r"(?i)_study$", "", regex=True)
    images = files.table(
        files.require("train_image_level.csv"), ["id", "boxes", "StudyInstanceUID"]
    )
    name = images["id"].str.replace(r"(?i)_image$", "", regex=True)
    study = images["StudyInstanceUID"].str.replace(r"(?i)_study$", "", regex=True)
    known, note = join(
        study, studies, "id", what="labels", things="studies", said=path.name, form=plain_form
    )
    said = {column: read_cells(known[column], TICKED, rows=len(images)) for column in APPEARANCES}
    frame = pd.DataFrame(
        {
            "image_id": name,
            "path": _paths(files, study, name),
            "patient_id": study,
            "study_id": study,
            "view": "frontal",
            "source_labels": marked_columns(known, APPEARANCES, words=TICKED),
            "provenance": "radiologist",
        }
    ).assign(**_codes(said))
    frame["boxes"] = name.map(_boxes(name, images["boxes"]))
    return frame, [note]


def _codes(said: dict[str, np.ndarray]) -> dict:
    """Return finding -> (n,) codes; a cell that is no tick, or several ticks, stay as they are."""
    rows = len(said[NEGATIVE])
    ticked = {name: cells == PRESENT for name, cells in said.items()}
    several = sum(hit.astype(int) for hit in ticked.values()) > 1
    odd = pd.Series([""] * rows, dtype=object)
    for name, cells in said.items():
        read = pd.Series(cells).isin([PRESENT, ABSENT]) | pd.isna(cells)
        odd = odd.mask(~read, odd + "|" + pd.Series(cells).astype(object))
        odd = odd.mask(several & ticked[name], odd + "|" + name)
    odd = odd.str.removeprefix("|").to_numpy(object)
    unsure = ticked[OPEN[0]] | ticked[OPEN[1]]
    negative, typical = ticked[NEGATIVE], ticked[TYPICAL]
    pneumonia = {PRESENT: typical, UNCERTAIN: unsure, ABSENT: negative}
    opacity = {PRESENT: typical | unsure, ABSENT: negative}
    found = {"lung opacity": opacity, "pneumonia": pneumonia, "covid-19 pneumonia": pneumonia}
    return {
        finding: codes_or_cells(
            np.where(odd == "", np.asarray(codes_from_masks(rows, masks), object), odd)
        )
        for finding, masks in found.items()
    }


def _paths(files: Download, study: pd.Series, name: pd.Series) -> pd.Series:
    """Return train/study/series/image.dcm; the series is found on disk, or left out."""
    if not (files.folder / "train").is_dir():
        return "train/" + study + "/" + name + ".dcm"
    where = {
        path.stem: path.relative_to(files.folder).as_posix()
        for path in (files.folder / "train").glob("*/*/*")
    }
    default = "train/" + study + "/" + name + ".dcm"
    return name.map(where).fillna(default)


def _boxes(names: pd.Series, cells: pd.Series) -> dict:
    """Return image -> cell of boxes.

    Raises:
        InputError: a cell is no list of boxes; the message names the row.
    """
    edges = ["x", "y", "width", "height"]
    rows = []
    for number, (name, cell) in enumerate(zip(names, cells, strict=True), start=1):
        boxes = parse_list(cell)
        for box in [None] if boxes is None else boxes:
            try:
                found = {edge: float(box[edge]) for edge in edges}
                whole = all(map(math.isfinite, found.values()))
                whole = whole and min(found["width"], found["height"]) >= 0
            except (KeyError, TypeError, ValueError):
                whole = False
            if not whole:
                raise InputError(
                    f"train_image_level.csv, row {number}, column 'boxes': no list of boxes; "
                    "expected [{'x': 1.0, 'y': 2.0, 'width': 3.0, 'height': 4.0}], or nothing"
                )
            rows.append({"image_id": name} | found)
    frame = pd.DataFrame(rows, columns=["image_id", *edges]).assign(label="opacity")
    return box_cells(frame, finding="lung opacity").to_dict()
