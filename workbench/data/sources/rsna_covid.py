"""SIIM-FISABIO-RSNA COVID-19: appearance of each study, boxes of each image.

Source: Lakhani et al., J Digit Imaging 2023. "Typical" states a pneumonia as COVID-19 makes it;
"indeterminate" and "atypical" leave that open (uncertain); "negative for pneumonia" denies it.

Does not know: patients; none are published.
"""

from __future__ import annotations

import pandas as pd

from workbench.data.boxes import box_cells, parse_list
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import codes_from_masks
from workbench.data.mapping import marked_columns
from workbench.findings import ABSENT, PRESENT, UNCERTAIN

NEGATIVE, TYPICAL = "Negative for Pneumonia", "Typical Appearance"
OPEN = ("Indeterminate Appearance", "Atypical Appearance")
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
    studies = files.table(files.require("train_study_level.csv"), ["id", *APPEARANCES])
    images = files.table(
        files.require("train_image_level.csv"), ["id", "boxes", "StudyInstanceUID"]
    )
    name = images["id"].str.removesuffix("_image")
    study = images["StudyInstanceUID"]
    table = studies.assign(id=studies["id"].str.removesuffix("_study")).set_index("id")
    known = table[~table.index.duplicated()].reindex(study).fillna("").reset_index(drop=True)
    ticked = {column: known[column].isin(["1", "1.0"]).to_numpy() for column in APPEARANCES}
    negative, typical = ticked[NEGATIVE], ticked[TYPICAL]
    unsure = ticked[OPEN[0]] | ticked[OPEN[1]]
    rows = len(images)
    pneumonia = {PRESENT: typical, UNCERTAIN: unsure, ABSENT: negative}
    opacity = {PRESENT: typical | unsure, ABSENT: negative}
    frame = pd.DataFrame(
        {
            "image_id": name,
            "path": _paths(files, study, name),
            "patient_id": study,
            "study_id": study,
            "view": "frontal",
            "lung opacity": codes_from_masks(rows, opacity),
            "pneumonia": codes_from_masks(rows, pneumonia),
            "covid-19 pneumonia": codes_from_masks(rows, pneumonia),
            "source_labels": marked_columns(known, APPEARANCES, ["1", "1.0"]),
            "provenance": "radiologist",
        }
    )
    frame["boxes"] = name.map(_boxes(name, images["boxes"]))
    missing = int((known[NEGATIVE] == "").sum())
    return frame, [f"{missing} images have no study label; not mentioned"] * bool(missing)


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
    rows = [
        {"image_id": name} | box
        for name, cell in zip(names, cells, strict=True)
        for box in parse_list(cell.strip())
        if isinstance(box, dict)
    ]
    columns = ["image_id", "x", "y", "width", "height"]
    frame = pd.DataFrame(rows, columns=columns).assign(label="opacity")
    edges = frame[columns[1:]].apply(pd.to_numeric, errors="coerce")
    frame[columns[1:]] = edges
    frame = frame[edges.notna().all(axis=1)]
    return box_cells(frame, finding="lung opacity").to_dict()
