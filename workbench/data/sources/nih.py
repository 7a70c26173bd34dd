"""NIH ChestX-ray14: mined labels, hand-drawn boxes, official lists, adjudicated labels.

Sources: Wang et al., CVPR 2017 (arXiv 1705.02315); adjudicated labels by Majkowska et al.,
Radiology 2020. A label that was not mined is "not mentioned": the program that read the reports
did not say that the finding was absent. The reports were never published.
"""

from __future__ import annotations

import pandas as pd

from workbench.data import mapping
from workbench.data.download import Download
from workbench.data.frames import join
from workbench.errors import InputError
from workbench.findings import ABSENT, PRESENT, UNCERTAIN

ENTRY_FILES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
ADJUDICATED_FILES = (
    "four_findings_expert_labels_test_labels.csv",
    "four_findings_expert_labels_validation_labels.csv",
    "four_findings_expert_labels/test_labels.csv",
    "four_findings_expert_labels/validation_labels.csv",
    "google2019_nih-chest-xray-labels.csv",
)
ADJUDICATED = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
ADJUDICATED_WORDS = {"yes": PRESENT, "no": ABSENT, "hedge": UNCERTAIN}
BOX_EDGES = ("Bbox [x", "y", "w", "h]")
KNOWN = ["Follow-up #", "Patient Age", "Patient Gender", "View Position"]
FOLDERS = ("images", "images_*/images", "images_*", "")


def read(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return the images of the entry file, or those of the adjudicated labels."""
    if files.labels == "adjudicated":
        return _adjudicated(files)
    path = files.require(*ENTRY_FILES)
    raw = files.table(path, ["Image Index", "Finding Labels", "Patient ID"], KNOWN)
    names, labels = raw["Image Index"], raw["Finding Labels"]
    frame = _identity(raw, files).assign(**mapping.codes_from_lists(files.card, labels))
    frame["split"], split_note = _official_split(files, names)
    boxes, box_note = _boxes(files, names)
    frame["boxes"] = names.map(mapping.box_cells(boxes))
    frame["source_labels"] = mapping.with_unknown(files.card, labels, names, boxes)
    return frame, [split_note, box_note]


def _identity(raw: pd.DataFrame, files: Download) -> pd.DataFrame:
    patient = raw["Patient ID"].str.strip()
    return pd.DataFrame(
        {
            "image_id": raw["Image Index"].str.removesuffix(".png"),
            "path": files.locate(raw["Image Index"], FOLDERS),
            "patient_id": patient,
            "study_id": patient + "/" + raw["Follow-up #"].str.strip(),
            "view": raw["View Position"],
            "sex": raw["Patient Gender"],
            "age": _years(raw["Patient Age"]),
        }
    )


def _years(ages: pd.Series) -> pd.Series:
    """Return ages in years, also of "058Y", "003M" and "012D" as in the first release."""
    unit = ages.str.extract(r"^\s*0*(\d+)\s*([YMWD]?)\s*$", expand=True)
    number = pd.to_numeric(unit[0], errors="coerce")
    per_year = unit[1].map({"Y": 1, "": 1, "M": 12, "W": 52, "D": 365}).astype(float).fillna(1)
    found = number // per_year
    return found.astype(object).where(found.notna(), ages)


def _official_split(files: Download, names: pd.Series) -> tuple[pd.Series | None, str]:
    lists = {"train": files.lines("train_val_list.txt"), "test": files.lines("test_list.txt")}
    if not any(lines is not None for lines in lists.values()):
        return None, "no train_val_list.txt and test_list.txt here: the split is left empty"
    rows = [(line, split) for split, lines in lists.items() for line in lines or ()]
    table = pd.DataFrame(rows, columns=["image", "split"], dtype="str")
    said = "train_val_list.txt and test_list.txt"
    found, note = join(names, table, "image", what="split", things="images", said=said)
    return found["split"], note


def _boxes(files: Download, images: pd.Series) -> tuple[pd.DataFrame, str]:
    path = files.find("BBox_List_2017.csv")
    if path is None:
        columns = ["image_id", "label", *mapping.EDGES]
        return pd.DataFrame(columns=columns), "no BBox_List_2017.csv here: no boxes"
    names = ("Image Index", "Finding Label")
    raw = files.table(path, [*names, *BOX_EDGES])
    boxes = mapping.read_boxes(
        files.card, raw, images, names, BOX_EDGES, things="boxes", said=path.name
    )
    note = f"{len(boxes):,} of {len(raw):,} boxes of {path.name} are on these images"
    return boxes.assign(reader="radiologist"), note


def _adjudicated(files: Download) -> tuple[pd.DataFrame, list[str]]:
    tables = []
    for path in filter(None, map(files.find, ADJUDICATED_FILES)):
        table = files.table(path, ["Image Index", *ADJUDICATED], [*KNOWN, "Patient ID", "Set Id"])
        tables.append(table.assign(split="test" if "test" in path.name else "validate"))
    if not tables:
        raise InputError(
            f"no four_findings_expert_labels in {files.folder.name}; fetch test_labels.csv and "
            "validation_labels.csv as the card says: `workbench manifest card nih`"
        )
    raw = pd.concat(tables, ignore_index=True)
    raw = raw.drop_duplicates(["Image Index", *ADJUDICATED], ignore_index=True)
    if raw["Set Id"].ne("").any():
        raw["split"] = raw["Set Id"]
    if raw["Patient ID"].eq("").all():
        raw["Patient ID"] = raw["Image Index"].str.slice(0, 8).str.lstrip("0")
    codes = mapping.codes_from_columns(files.card, raw, ADJUDICATED, words=ADJUDICATED_WORDS)
    frame = _identity(raw, files).assign(**codes, provenance="adjudicated", split=raw["split"])
    return frame, ["the split is that of the adjudicated labels, not the official one"]
