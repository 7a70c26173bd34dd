"""PadChest: labels in lists, places of each finding, Spanish reports.

Source: Bustos et al., Med Image Anal 2020 (arXiv 1901.07441). Labels are published in English; the
Spanish vocabulary of the reports is mapped too, with or without accents, through the card.

Does not know: Spanish grammar. The report text is the publisher's, without stop words.
"""

from __future__ import annotations

from types import NoneType

import numpy as np
import pandas as pd

from workbench.data.boxes import parse_list, to_cell
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import join_labels, map_unique, read_cells, read_numbers
from workbench.data.mapping import findings_of, plain, present_from_lists

SEX = {"M": "male", "F": "female", "O": "other"}
VIEW = {
    "PA": "PA",
    "AP": "AP",
    "AP_horizontal": "AP",
    "L": "lateral",
    "COSTAL": "other",
    "EXCLUDE": "other",
    "UNK": "unknown",
}
METHOD = {"Physician": "report-read", "RNN_model": "report-mined"}
FILES = ("PADCHEST_chest_x_ray_images_labels_160K_*.csv",)
NEEDED = ["ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "MethodLabel", "Labels"]
KNOWN = [
    "StudyDate_DICOM",
    "PatientBirth",
    "PatientSex_DICOM",
    "Localizations",
    "LabelsLocalizationsBySentence",
    "Report",
]


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each image, and notes.

    Args:
        files: the download.
        card: data card "padchest".
        labels: "all" or "physician".
        reports: whether the Spanish report text is kept.
        show: not used.

    Raises:
        InputError: the file is missing or not the published one.
    """
    raw = files.table(files.require(*FILES), NEEDED, KNOWN)
    method = read_cells(raw["MethodLabel"], METHOD, rows=len(raw))
    if labels == "physician":
        raw, method = raw[method == "report-read"].reset_index(drop=True), None
    lists = pd.Series(map_unique(raw["Labels"], _joined), dtype=object)
    frame = _identity(raw, files).assign(**present_from_lists(card, lists))
    frame["source_labels"] = lists
    frame["provenance"] = "report-read" if method is None else method
    sentences = raw.get("LabelsLocalizationsBySentence")
    if sentences is not None:
        frame["locations"] = map_unique(sentences, lambda cell: _locations(card, cell))
    elif "Localizations" in raw:
        frame["locations"] = None
    if reports and "Report" in raw:
        text = raw["Report"].str.strip()
        frame["report_findings"] = text.mask(text.isin(["", "nan"]))
        frame["report_language"] = np.where(frame["report_findings"].notna(), "es", None)
    return frame, _notes(card, lists)


def _joined(cell: str) -> str:
    """Return labels joined by |; a cell that is no list stays as it is, for the check to name."""
    found = parse_list(cell)
    found = [cell] if found is None else found
    return join_labels(str(label).replace("|", "/") for label in found if label is not None)


def _identity(raw: pd.DataFrame, files: Download) -> pd.DataFrame:
    rows = len(raw)
    dates = raw.get("StudyDate_DICOM")
    born, odd_born = read_numbers(raw.get("PatientBirth"), rows=rows)
    taken, odd_taken = read_numbers(None if dates is None else dates.str.slice(0, 4), rows=rows)
    age = (taken - born).astype("Int64").astype(object)
    age = age.mask(odd_born, raw.get("PatientBirth")).mask(odd_taken, dates)
    nested = raw["ImageDir"] + "/" + raw["ImageID"]
    flat = len(raw) > 0 and (files.folder / raw["ImageID"].iloc[0]).is_file()
    return pd.DataFrame(
        {
            "image_id": raw["ImageID"].str.removesuffix(".png"),
            "path": raw["ImageID"] if flat else nested,
            "patient_id": raw["PatientID"],
            "study_id": raw["StudyID"],
            "view": read_cells(raw["Projection"], VIEW, rows=rows),
            "sex": read_cells(raw.get("PatientSex_DICOM"), SEX, rows=rows),
            "age": age,
        }
    )


def _locations(card: DataCard, cell: str) -> str | None:
    """Return finding -> sides and zones that stand in the same sentence, as JSON.

    Where all stands in one list, nothing says which place belongs to which finding. A cell that is
    no list stays as it is, which is no JSON, for the check to name.
    """
    places: dict[str, list[str]] = {}
    sentences = parse_list(cell)
    if sentences is None or not all(isinstance(item, (list, str, NoneType)) for item in sentences):
        return f"unreadable: {cell.strip()}"
    for sentence in sentences:
        words = [str(word).strip() for word in sentence] if isinstance(sentence, list) else []
        named = [place_of(card, word) for word in words if word.lower().startswith("loc ")]
        found = dict.fromkeys(
            finding
            for word in words
            if not word.lower().startswith("loc ")
            for finding in findings_of(card, word) or ()
        )
        for finding in found:
            for place in named:
                places.setdefault(finding, []).extend((place or {}).values())
    return to_cell({name: sorted(set(words)) for name, words in places.items() if words})


def place_of(card: DataCard, word: str) -> dict[str, str] | None:
    """Return side and zone of a published or Spanish place; None for one the card does not know."""
    name = word.strip()
    name = name[4:].strip() if name.lower().startswith("loc ") else name
    published = card.location_translations.get(plain(name), name)
    found = card.locations.get(published)
    return None if found is None else dict(found)


def _notes(card: DataCard, lists: pd.Series) -> list[str]:
    known: dict[str, bool] = {}
    for text in lists.dropna().unique():
        for label in text.split("|"):
            known.setdefault(label, not label or findings_of(card, label) is not None)
    unmapped = sorted(label for label, found in known.items() if not found)
    return [f"{len(unmapped)} labels are not in the vocabulary; the check names them"] * bool(
        unmapped
    )
