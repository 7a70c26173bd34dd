"""MIMIC-CXR-JPG: metadata, official split, labels of two labelers or a radiologist, and reports.

Sources: Johnson et al., Sci Data 2019 (doi 10.1038/s41597-019-0322-0) and arXiv 1901.07042.
Labels and reports belong to a study; every image of it carries them.

Does not know: age and sex, which are in MIMIC-IV.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from workbench._progress import progress
from workbench.data.cards import DataCard
from workbench.data.columns import REPORT_SECTIONS, SPLITS
from workbench.data.download import Download
from workbench.data.frames import read_cells
from workbench.data.joins import join, number_form
from workbench.data.mapping import codes_from_columns, label_columns, marked_columns
from workbench.data.sections import sections
from workbench.errors import InputError

VIEW = {
    "PA": "PA",
    "AP": "AP",
    "LATERAL": "lateral",
    "LL": "lateral",
    "RL": "lateral",
    "LPO": "other",
    "RAO": "other",
    "LAO": "other",
    "SWIMMERS": "other",
    "XTABLE LATERAL": "lateral",
    "RPO": "other",
    "AP AXIAL": "other",
    "AP LLD": "other",
    "AP RLD": "other",
    "PA LLD": "other",
    "PA RLD": "other",
}
SPLIT = {name: name for name in SPLITS}
LABEL_FILES = {
    "chexpert": "mimic-cxr-2.*-chexpert.csv",
    "negbio": "mimic-cxr-2.*-negbio.csv",
    "radiologist": "mimic-cxr-2.*-test-set-labeled.csv",
}


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each image, and notes.

    Args:
        files: the download, with or without images and reports.
        card: data card "mimic-cxr".
        labels: "chexpert", "negbio" or "radiologist".
        reports: whether report sections are read.
        show: whether a bar may appear.

    Raises:
        InputError: metadata or labels are missing.
    """
    needed = ["dicom_id", "subject_id", "study_id"]
    raw = files.table(files.require("mimic-cxr-2.*-metadata.csv"), needed, ["ViewPosition"])
    raw = raw.assign(**{name: raw[name].map(number_form) for name in needed[1:]})
    path = files.require(LABEL_FILES[labels])
    found = files.table(path, ["study_id"], list(card.labels))
    if labels == "radiologist":
        kept = raw["study_id"].isin(set(found["study_id"].map(number_form)))
        raw = raw[kept | ~kept.any()].reset_index(drop=True)
    frame = _identity(raw)
    codes, note = _labels(card, found, raw["study_id"], path.name)
    frame, notes = frame.assign(**codes), [note]
    frame["provenance"] = "report-read" if labels == "radiologist" else "report-mined"
    frame["split"], note = _split(files, raw["dicom_id"])
    notes.append(note)
    if reports:
        texts, note = _reports(files, raw, whole=labels != "radiologist", show=show)
        frame, notes = frame.assign(**texts), [*notes, note]
    return frame, notes


def _identity(raw: pd.DataFrame) -> pd.DataFrame:
    patient, study = "p" + raw["subject_id"], "s" + raw["study_id"]
    folder = "files/" + patient.str.slice(0, 3) + "/" + patient + "/" + study + "/"
    image = raw["dicom_id"].str.replace(r"(?i)\.(?:jpe?g|dcm|png)$", "", regex=True)
    return pd.DataFrame(
        {
            "image_id": image,
            "path": folder + image + ".jpg",
            "patient_id": patient.where(raw["subject_id"] != "", ""),
            "study_id": study.where(raw["study_id"] != "", ""),
            "view": read_cells(raw.get("ViewPosition"), VIEW, rows=len(raw)),
        }
    )


def _labels(card: DataCard, found: pd.DataFrame, studies: pd.Series, said: str) -> tuple[dict, str]:
    columns = label_columns(card, found, said)
    spread, note = join(
        studies, found[["study_id", *columns]], "study_id",
        what="labels", things="studies", said=said, form=number_form,
    )  # fmt: skip
    codes = codes_from_columns(card, spread, columns)
    return codes | {"source_labels": marked_columns(spread, columns)}, note


def _split(files: Download, images: pd.Series) -> tuple[np.ndarray, str]:
    path = files.find("mimic-cxr-2.*-split.csv")
    if path is None:
        note = "no mimic-cxr-2.*-split.csv here: the split is left empty"
        return np.full(len(images), None, dtype=object), note
    raw = files.table(path, ["dicom_id", "split"])[["dicom_id", "split"]]
    found, note = join(images, raw, "dicom_id", what="split", things="images", said=path.name)
    return read_cells(found["split"], SPLIT, rows=len(images)), note


def _reports(files: Download, raw: pd.DataFrame, *, whole: bool, show: bool) -> tuple[dict, str]:
    keys = raw[["subject_id", "study_id"]].drop_duplicates()
    total = len(keys)
    texts = dict(progress(_texts(files, keys), total=total, label="reports", show=show))
    split = {study: sections(text) for study, text in texts.items() if text}
    columns = {
        f"report_{name}": raw["study_id"].map({s: parts.get(name) for s, parts in split.items()})
        for name in REPORT_SECTIONS
    }
    if whole and total and not split and _has_reports(files):
        raise InputError(
            f"reports for 0 of {total:,} studies: none of the texts here is called s<study_id>.txt "
            "of one of them; expected files/p10/p10000032/s50414267.txt and so on, or "
            "mimic-cxr-reports.zip, of the release of the metadata"
        )
    columns["report_language"] = raw["study_id"].map(dict.fromkeys(split, "en"))
    return columns, f"{len(split):,} of {total:,} studies have a report here"


def _has_reports(files: Download) -> bool:
    found = files.find("mimic-cxr-reports.zip")
    return found is not None or any((files.folder / "files").glob("**/*.txt"))


def _texts(files: Download, keys: pd.DataFrame) -> Iterable[tuple[str, str | None]]:
    """Yield (study, text) of every study; None where there is no report."""
    path = files.find("mimic-cxr-reports.zip")
    archive = zipfile.ZipFile(path) if path is not None else None
    packed = archive.namelist() if archive is not None else []
    inside = {Path(name).stem.lower(): name for name in packed if name.lower().endswith(".txt")}
    for subject, study in keys.itertuples(index=False):
        loose = files.folder / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}.txt"
        if f"s{study}" in inside:
            text = archive.read(inside[f"s{study}"])
            yield study, text.decode("utf-8", errors="replace")
        elif loose.is_file():
            yield study, loose.read_text(encoding="utf-8", errors="replace")
        else:
            yield study, None
    if archive is not None:
        archive.close()
