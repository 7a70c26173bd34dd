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
from workbench.data.columns import REPORT_SECTIONS
from workbench.data.download import Download
from workbench.data.frames import map_words
from workbench.data.mapping import codes_from_columns, marked_columns
from workbench.data.sections import sections

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
}
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
    raw = files.table(files.require("mimic-cxr-2.*-metadata.csv"), needed)
    frame, notes = _identity(raw), []
    found = files.table(files.require(LABEL_FILES[labels]), ["study_id"])
    if labels == "radiologist":
        kept = raw["study_id"].isin(found["study_id"]).to_numpy()
        raw, frame = raw[kept].reset_index(drop=True), frame[kept].reset_index(drop=True)
    frame = frame.assign(**_labels(card, found, raw["study_id"]))
    frame["provenance"] = "report-read" if labels == "radiologist" else "report-mined"
    frame["split"], note = _split(files, raw["dicom_id"])
    notes += note
    if reports:
        texts, note = _reports(files, raw, show=show)
        frame, notes = frame.assign(**texts), [*notes, note]
    return frame, notes


def _identity(raw: pd.DataFrame) -> pd.DataFrame:
    patient, study = "p" + raw["subject_id"], "s" + raw["study_id"]
    folder = "files/" + patient.str.slice(0, 3) + "/" + patient + "/" + study + "/"
    view = map_words(raw.get("ViewPosition"), VIEW, rows=len(raw), default="unknown")
    return pd.DataFrame(
        {
            "image_id": raw["dicom_id"],
            "path": folder + raw["dicom_id"] + ".jpg",
            "patient_id": patient,
            "study_id": study,
            "view": view,
        }
    )


def _labels(card: DataCard, found: pd.DataFrame, studies: pd.Series) -> dict:
    columns = [name for name in card.labels if name in found.columns]
    table = found.drop_duplicates("study_id").set_index("study_id")[columns]
    spread = table.reindex(studies).fillna("").reset_index(drop=True)
    codes = codes_from_columns(card, spread, columns)
    return codes | {"source_labels": marked_columns(spread, columns, ["1", "1.0"])}


def _split(files: Download, images: pd.Series) -> tuple[np.ndarray, list[str]]:
    path = files.find("mimic-cxr-2.*-split.csv")
    if path is None:
        return np.full(len(images), None, dtype=object), [
            "no mimic-cxr-2.*-split.csv here: the split is left empty"
        ]
    raw = files.table(path, ["dicom_id", "split"])
    known = dict(zip(raw["dicom_id"], raw["split"].str.strip(), strict=True))
    return images.map(known).to_numpy(object), []


def _reports(files: Download, raw: pd.DataFrame, *, show: bool) -> tuple[dict, str]:
    keys = raw[["subject_id", "study_id"]].drop_duplicates()
    total = len(keys)
    texts = dict(progress(_texts(files, keys), total=total, label="reports", show=show))
    split = {study: sections(text) for study, text in texts.items() if text}
    columns = {
        f"report_{name}": raw["study_id"].map({s: parts.get(name) for s, parts in split.items()})
        for name in REPORT_SECTIONS
    }
    columns["report_language"] = raw["study_id"].map(dict.fromkeys(split, "en"))
    return columns, f"{len(split):,} of {total:,} studies have a report here"


def _texts(files: Download, keys: pd.DataFrame) -> Iterable[tuple[str, str | None]]:
    """Yield (study, text) of every study; None where there is no report."""
    packed = files.find("mimic-cxr-reports.zip")
    archive = zipfile.ZipFile(packed) if packed is not None else None
    inside = set(archive.namelist()) if archive is not None else set()
    for subject, study in keys.itertuples(index=False):
        name = f"files/p{subject[:2]}/p{subject}/s{study}.txt"
        loose = files.folder / Path(name)
        if name in inside:
            yield study, archive.read(name).decode("utf-8", errors="replace")
        elif loose.is_file():
            yield study, loose.read_text(encoding="utf-8", errors="replace")
        else:
            yield study, None
    if archive is not None:
        archive.close()
