"""PadChest: labels in lists, places of each finding, Spanish reports.

Source: Bustos et al., Med Image Anal 2020 (arXiv 1901.07441). Labels are published in English; the
Spanish vocabulary of the reports is mapped too, with or without accents, through the card.

Does not know: Spanish grammar. The report text is the publisher's, without stop words.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.data.boxes import parse_list, to_cell
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import join_labels, map_unique, map_words
from workbench.data.mapping import findings_of, plain, present_from_lists

SEX = {"M": "male", "F": "female", "O": "other"}
VIEW = {
    "PA": "PA",
    "AP": "AP",
    "AP_horizontal": "AP",
    "L": "lateral",
    "COSTAL": "other",
    "EXCLUDE": "other",
}
FILES = ("PADCHEST_chest_x_ray_images_labels_160K_*.csv",)
NEEDED = ["ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "MethodLabel", "Labels"]


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
    raw = files.table(files.require(*FILES), NEEDED)
    if labels == "physician":
        raw = raw[raw["MethodLabel"] == "Physician"].reset_index(drop=True)
    lists = pd.Series(map_unique(raw["Labels"], _joined))
    frame = _identity(raw, files).assign(**present_from_lists(card, lists))
    frame["source_labels"] = lists
    frame["provenance"] = np.where(raw["MethodLabel"] == "Physician", "report-read", "report-mined")
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
    return join_labels(str(label).replace("|", "/") for label in parse_list(cell))


def _identity(raw: pd.DataFrame, files: Download) -> pd.DataFrame:
    rows = len(raw)
    born = pd.to_numeric(raw.get("PatientBirth"), errors="coerce")
    taken = pd.to_numeric(
        raw.get("StudyDate_DICOM", pd.Series([""] * rows)).str.slice(0, 4), errors="coerce"
    )
    nested = raw["ImageDir"] + "/" + raw["ImageID"]
    flat = len(raw) > 0 and (files.folder / raw["ImageID"].iloc[0]).is_file()
    return pd.DataFrame(
        {
            "image_id": raw["ImageID"].str.removesuffix(".png"),
            "path": raw["ImageID"] if flat else nested,
            "patient_id": raw["PatientID"],
            "study_id": raw["StudyID"],
            "view": map_words(raw["Projection"], VIEW, rows=rows, default="unknown"),
            "sex": map_words(raw.get("PatientSex_DICOM"), SEX, rows=rows, default="unknown"),
            "age": taken - born,
        }
    )


def _locations(card: DataCard, cell: str) -> str | None:
    """Return finding -> sides and zones that stand in the same sentence, as JSON."""
    places: dict[str, list[str]] = {}
    for sentence in parse_list(cell):
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
