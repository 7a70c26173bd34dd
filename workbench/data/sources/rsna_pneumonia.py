"""RSNA pneumonia detection challenge: boxes around opacities that suggest pneumonia.

Source: Shih et al., Radiol Artif Intell 2019 (doi 10.1148/ryai.2019180041). Target 1 states a lung
opacity suspicious of pneumonia, Target 0 that none was seen.

Does not know: which NIH patient a film belongs to.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.data.boxes import box_cells, read_edges
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import agreed, codes_or_cells, read_cells
from workbench.data.joins import join
from workbench.findings import ABSENT, PRESENT

FILES = ("stage_2_train_labels.csv", "kaggle_stage_2_train_labels.csv")
CLASSES = "stage_2_detailed_class_info.csv"
EDGES = ("x", "y", "width", "height")
TICKED = {"1": PRESENT, "0": ABSENT}
NORMAL = {"Normal": PRESENT, "Lung Opacity": ABSENT, "No Lung Opacity / Not Normal": ABSENT}
HEADERS = "kaggle_stage_2_train_images_dicom_headers.csv"


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each image, and notes.

    Args:
        files: the download.
        card: data card "rsna-pneumonia".
        labels: not used; there is one set.
        reports: not used; there are none.
        show: not used.

    Raises:
        InputError: the label file is missing or not the published one.
    """
    path = files.require(*FILES)
    raw = files.table(path, ["patientId", *EDGES, "Target"])
    edges = read_edges(raw, EDGES, path.name).assign(image_id=raw["patientId"])
    said = read_cells(raw["Target"], TICKED, rows=len(raw))
    said[(said == ABSENT) & edges["x"].notna().to_numpy()] = f"{ABSENT}, with a box"
    target = agreed(raw["patientId"], said)
    images = pd.Series(sorted(raw["patientId"].unique()), dtype=object)
    said = images.map(target).astype(object).where(lambda cells: cells.notna(), None)
    codes = codes_or_cells(said.to_numpy(object))
    frame = pd.DataFrame(
        {
            "image_id": images,
            "path": files.locate(images + ".dcm", ("stage_2_train_images", "")),
            "patient_id": images,
            "study_id": images,
            "lung opacity": codes,
            "pneumonia": codes,
            "source_labels": np.where(said == PRESENT, "Target", None),
            "provenance": "radiologist",
        }
    )
    frame["boxes"] = images.map(box_cells(edges, finding="lung opacity"))
    notes = []
    for add in (_classes, _headers):
        columns, note = add(files, images, frame["source_labels"])
        frame, notes = frame.assign(**columns), [*notes, note]
    return frame, notes


def _classes(files: Download, images: pd.Series, labels: pd.Series) -> tuple[dict, str]:
    """Return what the class file adds: normal, or not normal for another reason."""
    path = files.find(CLASSES)
    if path is None:
        return {}, f"no {CLASSES} here: nothing is known of normal films"
    raw = files.table(path, ["patientId", "class"])[["patientId", "class"]]
    found, note = join(images, raw, "patientId", what="classes", things="images", said=path.name)
    codes = codes_or_cells(read_cells(found["class"], NORMAL, rows=len(images)))
    labels = found["class"].astype(object).where(found["class"] != "", labels)
    return {"no finding": codes, "source_labels": labels}, note


def _headers(files: Download, images: pd.Series, _: pd.Series) -> tuple[dict, str]:
    path = files.find(HEADERS)
    if path is None:
        return {"view": "frontal"}, "no table of DICOM headers here: age, sex and view are unknown"
    known = ["PatientID", "PatientAge", "PatientSex", "ViewPosition"]
    raw = files.table(path, known)[known]
    table, note = join(images, raw, "PatientID", what="headers", things="images", said=path.name)
    rows = len(images)
    sexes, views = {"M": "male", "F": "female"}, {"PA": "PA", "AP": "AP"}
    return {
        "age": table["PatientAge"],
        "sex": read_cells(table["PatientSex"], sexes, rows=rows),
        "view": read_cells(table["ViewPosition"], views, rows=rows, empty="frontal"),
    }, note
