"""NIH ChestX-ray14: mined labels, hand-drawn boxes, official lists, adjudicated labels.

Sources: Wang et al., CVPR 2017 (arXiv 1705.02315); adjudicated labels by Majkowska et al.,
Radiology 2020. A label that was not mined is "not mentioned": the program that read the reports
did not say that the finding was absent.

Does not know: the reports, which were never published.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.data.boxes import box_cells
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import map_words
from workbench.data.mapping import codes_from_columns, marked_columns, present_from_lists
from workbench.errors import InputError
from workbench.findings import ABSENT, PRESENT, UNCERTAIN

SEX = {"M": "male", "F": "female"}
VIEW = {"PA": "PA", "AP": "AP"}
ENTRY_FILES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
ADJUDICATED_FILES = (
    "four_findings_expert_labels_test_labels.csv",
    "four_findings_expert_labels_validation_labels.csv",
    "four_findings_expert_labels/test_labels.csv",
    "four_findings_expert_labels/validation_labels.csv",
)
ADJUDICATED = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
FOLDERS = ("images", "images_*/images", "images_*", "")


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the manifest and notes.

    Args:
        files: the download.
        card: data card "nih".
        labels: "mined" or "adjudicated".
        reports: not used; there are none.
        show: not used.

    Raises:
        InputError: a file is missing or not the published one.
    """
    if labels == "adjudicated":
        return _adjudicated(files, card)
    raw = files.table(files.require(*ENTRY_FILES), ["Image Index", "Finding Labels", "Patient ID"])
    frame = _identity(raw, files)
    frame["source_labels"] = raw["Finding Labels"]
    frame["provenance"] = "report-mined"
    frame = frame.assign(**present_from_lists(card, raw["Finding Labels"]))
    notes = []
    frame["split"], note = _official_split(files, raw["Image Index"])
    notes += [note] if note else []
    boxes, note = _boxes(files, card, set(raw["Image Index"]))
    frame["boxes"] = raw["Image Index"].map(boxes)
    return frame, [*notes, note]


def _identity(raw: pd.DataFrame, files: Download) -> pd.DataFrame:
    rows = len(raw)
    patient = raw["Patient ID"].str.strip()
    follow_up = raw.get("Follow-up #", pd.Series([""] * rows)).str.strip()
    return pd.DataFrame(
        {
            "image_id": raw["Image Index"].str.removesuffix(".png"),
            "path": files.locate(raw["Image Index"], FOLDERS),
            "patient_id": patient,
            "study_id": patient + "/" + follow_up,
            "view": map_words(raw.get("View Position"), VIEW, rows=rows, default="unknown"),
            "sex": map_words(raw.get("Patient Gender"), SEX, rows=rows, default="unknown"),
            "age": years(raw["Patient Age"]) if "Patient Age" in raw else None,
        }
    )


def years(ages: pd.Series) -> pd.Series:
    """Return ages in years; "058Y", "003M" and "012D" of the first release are understood.

    What is no age stays as it is, for the check to name.
    """
    unit = ages.str.extract(r"^\s*0*(\d+)\s*([YMWD]?)\s*$", expand=True)
    number = pd.to_numeric(unit[0], errors="coerce")
    per_year = unit[1].map({"Y": 1, "": 1, "M": 12, "W": 52, "D": 365}).astype(float).fillna(1)
    found = np.floor(number / per_year)
    return found.astype(object).where(found.notna(), ages)


def _official_split(files: Download, names: pd.Series) -> tuple[np.ndarray, str | None]:
    train, test = files.lines("train_val_list.txt"), files.lines("test_list.txt")
    split = np.full(len(names), None, dtype=object)
    if train is None and test is None:
        return split, "no train_val_list.txt and test_list.txt here: the split is left empty"
    split[names.isin(train or []).to_numpy()] = "train"
    split[names.isin(test or []).to_numpy()] = "test"
    return split, None


def _boxes(files: Download, card: DataCard, known: set[str]) -> tuple[dict, str]:
    path = files.find("BBox_List_2017.csv")
    if path is None:
        return {}, "no BBox_List_2017.csv here: no boxes"
    raw = files.table(path, ["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"])
    boxes = pd.DataFrame(
        {
            "image_id": raw["Image Index"],
            "finding": [(card.findings_of(label) or (None,))[0] for label in raw["Finding Label"]],
            "label": raw["Finding Label"],
            "x": pd.to_numeric(raw["Bbox [x"], errors="coerce"),
            "y": pd.to_numeric(raw["y"], errors="coerce"),
            "width": pd.to_numeric(raw["w"], errors="coerce"),
            "height": pd.to_numeric(raw["h]"], errors="coerce"),
            "reader": "radiologist",
        }
    )
    here = boxes["image_id"].isin(known)
    note = f"{int(here.sum()):,} of {len(boxes):,} boxes of {path.name} are on these images"
    return box_cells(boxes[here]).to_dict(), note


def _adjudicated(files: Download, card: DataCard) -> tuple[pd.DataFrame, list[str]]:
    tables = []
    for name in (*ADJUDICATED_FILES, "google2019_nih-chest-xray-labels.csv"):
        path = files.find(name)
        if path is not None:
            table = files.table(path, ["Image Index", *ADJUDICATED])
            test = "test" in path.name
            tables.append(table.assign(split="test" if test else "validate"))
    if not tables:
        raise InputError(
            f"no four_findings_expert_labels in {files.folder.name}; fetch test_labels.csv and "
            "validation_labels.csv as the card says: `workbench manifest card nih`"
        )
    raw = pd.concat(tables, ignore_index=True).drop_duplicates("Image Index", ignore_index=True)
    if "Set Id" in raw:
        raw["split"] = raw["Set Id"].map({"val": "validate", "test": "test"})
    if "Patient ID" not in raw:
        raw["Patient ID"] = raw["Image Index"].str.slice(0, 8).str.lstrip("0")
    frame = _identity(raw, files)
    words = {"YES": PRESENT, "NO": ABSENT, "HEDGE": UNCERTAIN}
    frame = frame.assign(**codes_from_columns(card, raw, ADJUDICATED, words=words))
    frame["source_labels"] = marked_columns(raw, ADJUDICATED, ["YES"])
    frame["provenance"] = "adjudicated"
    frame["split"] = raw["split"]
    return frame, ["the split is that of the adjudicated labels, not the official one"]
