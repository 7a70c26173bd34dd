"""PadChest: labels in lists, places of each finding, Spanish reports.

Source: Bustos et al., Med Image Anal 2020 (arXiv 1901.07441). Labels are published in English; the
Spanish vocabulary of the reports is mapped too, with or without accents, through the card. The
report text is the publisher's, without stop words.
"""

from __future__ import annotations

from types import NoneType

import pandas as pd

from workbench.data import mapping
from workbench.data.cards import DataCard, plain
from workbench.data.download import Download
from workbench.data.frames import map_unique

METHOD = {"Physician": "report-read", "RNN_model": "report-mined"}
FILE = "PADCHEST_chest_x_ray_images_labels_160K_*.csv"
NEEDED = ["ImageID", "ImageDir", "StudyID", "PatientID", "Projection", "MethodLabel", "Labels"]
KNOWN = ["StudyDate_DICOM", "PatientBirth", "PatientSex_DICOM", "Report"]
SENTENCES = "LabelsLocalizationsBySentence"


def read(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return all images, or those whose labels a physician gave."""
    raw = files.table(files.require(FILE), NEEDED, [*KNOWN, SENTENCES])
    method = mapping.read_cells(raw["MethodLabel"], METHOD)
    if files.labels == "physician":
        kept = method == "report-read"
        raw, method = raw[kept].reset_index(drop=True), method[kept]
    lists = pd.Series(map_unique(raw["Labels"], _joined), dtype=object)
    frame = _identity(raw, files).assign(**mapping.codes_from_lists(files.card, lists))
    frame["source_labels"] = lists
    frame["provenance"] = method
    frame["locations"] = map_unique(raw[SENTENCES], lambda cell: _locations(files.card, cell))
    if files.reports:
        text = raw["Report"].str.strip()
        frame["report_findings"] = text.mask(text.isin(["", "nan"]))
        frame["report_language"] = frame["report_findings"].notna().map({True: "es"})
    labels = {label for text in lists.dropna().unique() for label in text.split("|")} - {""}
    unmapped = sum(files.card.findings_of(label) is None for label in labels)
    note = f"{unmapped} labels are not in the vocabulary; the check names them"
    return frame, [note] if unmapped else []


def _joined(cell: str) -> str:
    """Return labels joined by |; a cell that is no list stays as it is, for the check to name."""
    found = mapping.parse_list(cell)
    found = [cell] if found is None else found
    return mapping.join_labels(str(label).replace("|", "/") for label in found if label is not None)


def _identity(raw: pd.DataFrame, files: Download) -> pd.DataFrame:
    dates = raw["StudyDate_DICOM"]
    born, odd_born = mapping.read_numbers(raw["PatientBirth"])
    taken, odd_taken = mapping.read_numbers(dates.str.slice(0, 4))
    age = (taken - born).astype("Int64").astype(object)
    age = age.mask(odd_born, raw["PatientBirth"]).mask(odd_taken, dates)
    nested = raw["ImageDir"] + "/" + raw["ImageID"]
    flat = len(raw) > 0 and (files.folder / raw["ImageID"].iloc[0]).is_file()
    return pd.DataFrame(
        {
            "image_id": raw["ImageID"].str.removesuffix(".png"),
            "path": raw["ImageID"] if flat else nested,
            "patient_id": raw["PatientID"],
            "study_id": raw["StudyID"],
            "view": raw["Projection"],
            "sex": raw["PatientSex_DICOM"],
            "age": age,
        }
    )


def _locations(card: DataCard, cell: str) -> str | None:
    """Return finding -> sides and zones that stand in the same sentence, as JSON.

    Where all stands in one list, nothing says which place belongs to which finding.
    """
    places: dict[str, set[str]] = {}
    sentences = mapping.parse_list(cell)
    if sentences is None or not all(isinstance(item, (list, str, NoneType)) for item in sentences):
        return f"unreadable: {cell.strip()}"
    for sentence in sentences:
        words = [str(word).strip() for word in sentence] if isinstance(sentence, list) else []
        named = [word for word in words if word.lower().startswith("loc ")]
        found = {place for word in named for place in (place_of(card, word) or {}).values()}
        for word in set(words) - set(named):
            for finding in card.findings_of(word) or ():
                places.setdefault(finding, set()).update(found)
    return mapping.to_cell({name: sorted(words) for name, words in places.items() if words})


def place_of(card: DataCard, word: str) -> dict[str, str] | None:
    """Return side and zone of a published or Spanish place; None for one the card does not know."""
    name = word.strip()
    name = name[4:].strip() if name.lower().startswith("loc ") else name
    published = card.location_translations.get(plain(name), name)
    found = card.locations.get(published)
    return None if found is None else dict(found)
