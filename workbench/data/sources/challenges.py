"""Three challenges of RSNA and SIIM: pneumonia, pneumothorax and COVID-19.

RSNA pneumonia detection: Shih et al., Radiol Artif Intell 2019 (doi 10.1148/ryai.2019180041).
SIIM-ACR pneumothorax: Filice et al., J Digit Imaging 2020 (doi 10.1007/s10278-019-00299-9).
SIIM-FISABIO-RSNA COVID-19: Lakhani et al., J Digit Imaging 2023.

None of them publishes patients: each image, or each study, counts as one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter, ValidationError

from workbench.data import mapping
from workbench.data.download import Download
from workbench.data.frames import map_unique, plain_form
from workbench.errors import InputError
from workbench.findings import ABSENT, PNEUMOTHORAX, PRESENT, UNCERTAIN, cell_key

CLASSES = "stage_2_detailed_class_info.csv"
NORMAL = {"Normal": PRESENT, "Lung Opacity": ABSENT, "No Lung Opacity / Not Normal": ABSENT}
HEADERS = "kaggle_stage_2_train_images_dicom_headers.csv"

#: Edge of the images of the pneumothorax challenge in pixels.
SIZE = 1024
UNREADABLE = "unreadable"

NEGATIVE, TYPICAL = "Negative for Pneumonia", "Typical Appearance"
OPEN = ("Indeterminate Appearance", "Atypical Appearance")
APPEARANCES = [NEGATIVE, TYPICAL, *OPEN]


def read_pneumonia(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return boxes around opacities that suggest pneumonia.

    Target 1 states a lung opacity suspicious of pneumonia, Target 0 that none was seen. Which NIH
    patient an image belongs to is not known.
    """
    path = files.require("stage_2_train_labels.csv", "kaggle_stage_2_train_labels.csv")
    raw = files.table(path, ["patientId", *mapping.EDGES, "Target"])
    edges = mapping.read_edges(raw, mapping.EDGES, path.name)
    boxes = edges.assign(image_id=raw["patientId"], finding="lung opacity")
    said = mapping.read_cells(raw["Target"], mapping.TICKED)
    said[(said == ABSENT) & edges["x"].notna().to_numpy()] = f"{ABSENT}, with a box"
    frame, said = _images(files, raw["patientId"], said, ("stage_2_train_images", ""))
    frame["lung opacity"], frame["pneumonia"] = said, said
    frame["source_labels"] = mapping.marked({"Target": said == PRESENT}, len(frame))
    frame["boxes"] = frame["image_id"].map(mapping.box_cells(boxes))
    notes = []
    for add in (_classes, _headers):
        columns, note = add(files, frame)
        frame = frame.assign(**columns)
        notes.append(note)
    return frame, notes


def _images(
    files: Download, names: pd.Series, said: np.ndarray, folders: tuple[str, ...]
) -> tuple[pd.DataFrame, pd.Series]:
    """Return one row for each image, and (n,) what all rows of it say."""
    images = pd.Series(sorted(names.unique()), dtype=object)
    path = files.locate(images + ".dcm", folders)
    return pd.DataFrame({"image_id": images, "path": path}), images.map(mapping.agreed(names, said))


def _classes(files: Download, frame: pd.DataFrame) -> tuple[dict, str]:
    """Return what the class file adds: normal, or not normal for another reason."""
    path = files.find(CLASSES)
    if path is None:
        return {}, f"no {CLASSES} here: nothing is known of normal radiographs"
    found, note = files.look_up(frame["image_id"], path, "patientId", ["class"], what="classes")
    codes = mapping.read_cells(found["class"], NORMAL)
    labels = found["class"].astype(object).where(found["class"] != "", frame["source_labels"])
    return {"no finding": codes, "source_labels": labels}, note


def _headers(files: Download, frame: pd.DataFrame) -> tuple[dict, str]:
    path = files.find(HEADERS)
    if path is None:
        return {"view": "frontal"}, "no table of DICOM headers here: age, sex and view are unknown"
    known = ["PatientAge", "PatientSex", "ViewPosition"]
    table, note = files.look_up(frame["image_id"], path, "PatientID", known, what="headers")
    return {
        "age": table["PatientAge"],
        "sex": table["PatientSex"],
        "view": mapping.read_cells(table["ViewPosition"], mapping.WORDS["view"], empty="frontal"),
    }, note


def read_pneumothorax(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return outlines of pneumothoraces as run-length codes.

    Every image was looked at for a pneumothorax, so one without an outline is absent.
    """
    path = files.require("train-rle.csv", "siim-pneumothorax-train-rle.csv")
    raw = files.table(path, ["ImageId", "EncodedPixels"])
    said = map_unique(raw["EncodedPixels"], _outlined)
    wrong = np.flatnonzero(said == UNREADABLE)
    if wrong.size:
        raise InputError(
            f"{path.name}, row {wrong[0] + 1}, column 'EncodedPixels': no run-length code; "
            "expected pairs of numbers, or -1 where there is no pneumothorax"
        )
    outlined = raw[said == PRESENT]
    masks = outlined.groupby("ImageId")["EncodedPixels"].agg(_mask_cell)
    frame, found = _images(files, raw["ImageId"], said, ("dicom-images-train", "train", ""))
    frame["view"] = "frontal"
    frame[PNEUMOTHORAX] = found
    frame["source_labels"] = mapping.marked({"Pneumothorax": found == PRESENT}, len(frame))
    frame["masks"] = frame["image_id"].map(masks)
    return frame, [f"{len(outlined):,} outlines on {len(masks):,} images"]


def _mask_cell(runs: pd.Series) -> str | None:
    return mapping.to_cell(
        [{"finding": PNEUMOTHORAX, "rle": run, "size": [SIZE, SIZE]} for run in runs]
    )


def _outlined(runs: str) -> str | None:
    """Return what a cell says; None for an empty one."""
    numbers = runs.split()
    if len(numbers) < 2:
        return {"": None, "-1": ABSENT}.get(cell_key(runs), UNREADABLE)
    joined = "".join(numbers)
    paired = len(numbers) % 2 == 0 and joined.isascii() and joined.isdigit()
    return PRESENT if paired else UNREADABLE


def read_covid(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return the appearance of each study and the boxes of each training image.

    "Typical" states a pneumonia as COVID-19 makes it; "indeterminate" and "atypical" leave that
    open (uncertain); "negative for pneumonia" denies it.
    """
    path = files.require("train_study_level.csv")
    columns = ["id", "boxes", "StudyInstanceUID"]
    images = files.table(files.require("train_image_level.csv"), columns)
    name = images["id"].str.replace(r"(?i)_image$", "", regex=True)
    study = images["StudyInstanceUID"].str.replace(r"(?i)_study$", "", regex=True)
    known, note = files.look_up(
        study, path, "id", APPEARANCES, what="labels", things="studies", form=_study_form
    )
    said = {column: mapping.read_cells(known[column], mapping.TICKED) for column in APPEARANCES}
    frame = pd.DataFrame(
        {
            "image_id": name,
            "path": _paths(files, study, name),
            "patient_id": study,
            "study_id": study,
            "view": "frontal",
            "source_labels": mapping.marked(
                {n: c == PRESENT for n, c in said.items()}, len(images)
            ),
        }
    ).assign(**_codes(said))
    frame["boxes"] = name.map(_boxes(name, images["boxes"]))
    return frame, [note]


def _study_form(name: str) -> str:
    return plain_form(name).removesuffix("_study")


def _codes(said: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return finding -> (n,) codes; a cell that is no tick, or several ticks, stay as they are."""
    ticked = {name: cells == PRESENT for name, cells in said.items()}
    several = np.sum(list(ticked.values()), axis=0) > 1
    odd = pd.Series([""] * len(several), dtype=object)
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
        finding: np.where(odd == "", mapping.codes_from_masks(masks), odd)
        for finding, masks in found.items()
    }


def _paths(files: Download, study: pd.Series, name: pd.Series) -> pd.Series:
    """Return train/study/series/image.dcm; the series is found on disk, or left out."""
    where = {
        path.stem: path.relative_to(files.folder).as_posix()
        for path in (files.folder / "train").glob("*/*/*")
    }
    return name.map(where).astype(object).fillna("train/" + study + "/" + name + ".dcm")


class _Box(BaseModel):
    x: FiniteFloat
    y: FiniteFloat
    width: FiniteFloat = Field(ge=0)
    height: FiniteFloat = Field(ge=0)


_BOXES = TypeAdapter(list[_Box])


def _boxes(names: pd.Series, cells: pd.Series) -> dict[str, str | None]:
    rows = []
    for number, (name, cell) in enumerate(zip(names, cells, strict=True), start=1):
        try:
            found = _BOXES.validate_python(mapping.parse_list(cell))
        except ValidationError:
            raise InputError(
                f"train_image_level.csv, row {number}, column 'boxes': no list of boxes; "
                "expected [{'x': 1.0, 'y': 2.0, 'width': 3.0, 'height': 4.0}], or nothing"
            ) from None
        rows += [{"image_id": name} | box.model_dump() for box in found]
    boxes = pd.DataFrame(rows, columns=["image_id", *mapping.EDGES])
    return mapping.box_cells(boxes.assign(label="opacity", finding="lung opacity"))
