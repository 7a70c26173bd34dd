"""RSNA pneumonia detection challenge: boxes around opacities that suggest pneumonia.

Source: Shih et al., Radiol Artif Intell 2019 (doi 10.1148/ryai.2019180041). Target 1 states a lung
opacity suspicious of pneumonia, Target 0 that none was seen.

Does not know: which NIH patient a film belongs to.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.data.boxes import box_cells
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import codes_from_masks, map_words
from workbench.findings import ABSENT, PRESENT

FILES = ("stage_2_train_labels.csv", "kaggle_stage_2_train_labels.csv")
CLASSES = "stage_2_detailed_class_info.csv"
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
    raw = files.table(files.require(*FILES), ["patientId", "x", "y", "width", "height", "Target"])
    images = pd.Series(sorted(raw["patientId"].unique()), dtype=object)
    target = images.isin(raw.loc[raw["Target"] == "1", "patientId"]).to_numpy()
    rows = len(images)
    both = {PRESENT: target, ABSENT: ~target}
    frame = pd.DataFrame(
        {
            "image_id": images,
            "path": files.locate(images + ".dcm", ("stage_2_train_images", "")),
            "patient_id": images,
            "study_id": images,
            "lung opacity": codes_from_masks(rows, both),
            "pneumonia": codes_from_masks(rows, both),
            "source_labels": np.where(target, "Target", None),
            "provenance": "radiologist",
        }
    )
    boxes = raw.rename(columns={"patientId": "image_id"})
    for name in ("x", "y", "width", "height"):
        boxes[name] = pd.to_numeric(boxes[name], errors="coerce")
    frame["boxes"] = images.map(box_cells(boxes, finding="lung opacity"))
    notes = []
    for add in (_classes, _headers):
        columns, note = add(files, images)
        frame, notes = frame.assign(**columns), [*notes, *note]
    return frame, notes


def _classes(files: Download, images: pd.Series) -> tuple[dict, list[str]]:
    """Return what the class file adds: normal, or not normal for another reason."""
    path = files.find(CLASSES)
    if path is None:
        return {}, [f"no {CLASSES} here: nothing is known of normal films"]
    raw = files.table(path, ["patientId", "class"]).drop_duplicates("patientId")
    found = images.map(dict(zip(raw["patientId"], raw["class"], strict=True)))
    normal = (found == "Normal").to_numpy()
    codes = codes_from_masks(
        len(images), {PRESENT: normal, ABSENT: ~normal & found.notna().to_numpy()}
    )
    return {"no finding": codes, "source_labels": found}, []


def _headers(files: Download, images: pd.Series) -> tuple[dict, list[str]]:
    path = files.find(HEADERS)
    if path is None:
        return {"view": "frontal"}, [
            "no table of DICOM headers here: age, sex and view are unknown"
        ]
    raw = files.table(path, ["PatientID", "PatientAge", "PatientSex", "ViewPosition"])
    table = raw.drop_duplicates("PatientID").set_index("PatientID").reindex(images).reset_index()
    rows = len(images)
    sexes, views = {"M": "male", "F": "female"}, {"PA": "PA", "AP": "AP"}
    return {
        "age": table["PatientAge"],
        "sex": map_words(table["PatientSex"], sexes, rows=rows, default="unknown"),
        "view": map_words(table["ViewPosition"], views, rows=rows, default="frontal"),
    }, []
