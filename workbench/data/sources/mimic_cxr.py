"""MIMIC-CXR-JPG: metadata, official split, labels of two labelers or a radiologist, and reports.

Sources: Johnson et al., Sci Data 2019 (doi 10.1038/s41597-019-0322-0) and arXiv 1901.07042.
Labels and reports belong to a study; every image of it carries them. Age and sex are in MIMIC-IV.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

import pandas as pd

from workbench._progress import progress
from workbench.data.columns import REPORT_SECTIONS
from workbench.data.download import Download
from workbench.data.frames import join, number_form
from workbench.data.mapping import codes_from_columns, sections
from workbench.errors import InputError

LABEL_FILES = {
    "chexpert": "mimic-cxr-2.*-chexpert.csv",
    "negbio": "mimic-cxr-2.*-negbio.csv",
    "radiologist": "mimic-cxr-2.*-test-set-labeled.csv",
}
ARCHIVE = "mimic-cxr-reports.zip"


def read(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return the images of the metadata, with or without images and reports at hand."""
    needed = ["dicom_id", "subject_id", "study_id"]
    raw = files.table(files.require("mimic-cxr-2.*-metadata.csv"), needed, ["ViewPosition"])
    raw = raw.assign(**{name: raw[name].map(number_form) for name in needed[1:]})
    path = files.require(LABEL_FILES[files.labels])
    found = files.table(path, ["study_id"], (), files.card.labels)
    by_hand = files.labels == "radiologist"
    if by_hand:
        kept = raw["study_id"].isin(set(found["study_id"].map(number_form)))
        raw = (raw[kept] if kept.any() else raw).reset_index(drop=True)
    labels = found.columns.intersection(list(files.card.labels))
    spread, note = join(
        raw["study_id"], found[["study_id", *labels]], "study_id",
        what="labels", things="studies", said=path.name, form=number_form,
    )  # fmt: skip
    frame = _identity(raw).assign(**codes_from_columns(files.card, spread))
    frame["provenance"] = "report-read" if by_hand else "report-mined"
    frame["split"], split_note = _split(files, raw["dicom_id"])
    notes = [note, split_note]
    if files.reports:
        texts, note = _reports(files, raw)
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
            "view": raw["ViewPosition"],
        }
    )


def _split(files: Download, images: pd.Series) -> tuple[pd.Series | None, str]:
    path = files.find("mimic-cxr-2.*-split.csv")
    if path is None:
        return None, "no mimic-cxr-2.*-split.csv here: the split is left empty"
    found, note = files.look_up(images, path, "dicom_id", ["split"], what="split")
    return found["split"], note


def _reports(files: Download, raw: pd.DataFrame) -> tuple[dict[str, pd.Series], str]:
    keys = raw[["subject_id", "study_id"]].drop_duplicates()
    total = len(keys)
    texts = dict(progress(_texts(files, keys), total=total, label="reports", show=files.show))
    split = {study: sections(text) for study, text in texts.items() if text}
    columns = {
        f"report_{name}": raw["study_id"].map({s: parts.get(name) for s, parts in split.items()})
        for name in REPORT_SECTIONS
    }
    if files.labels != "radiologist" and total and not split and _has_reports(files):
        raise InputError(
            f"reports for 0 of {total:,} studies: none of the texts here is called s<study_id>.txt "
            "of one of them; expected files/p10/p10000032/s50414267.txt and so on, or "
            f"{ARCHIVE}, of the release of the metadata"
        )
    columns["report_language"] = raw["study_id"].map(dict.fromkeys(split, "en"))
    return columns, f"{len(split):,} of {total:,} studies have a report here"


def _has_reports(files: Download) -> bool:
    return files.find(ARCHIVE) is not None or any((files.folder / "files").glob("**/*.txt"))


def _texts(files: Download, keys: pd.DataFrame) -> Iterable[tuple[str, str | None]]:
    """Yield (study, text) of every study; None where there is no report."""
    path = files.find(ARCHIVE)
    with zipfile.ZipFile(path) if path is not None else nullcontext() as archive:
        packed = archive.namelist() if archive is not None else []
        inside = {Path(name).stem.lower(): name for name in packed if name.lower().endswith(".txt")}
        for subject, study in keys.itertuples(index=False):
            loose = files.folder / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}.txt"
            if archive is not None and f"s{study}" in inside:
                yield study, archive.read(inside[f"s{study}"]).decode("utf-8", errors="replace")
            elif loose.is_file():
                yield study, loose.read_text(encoding="utf-8", errors="replace")
            else:
                yield study, None
