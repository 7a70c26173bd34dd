"""CheXpert: labels of the CheXpert labeler, and radiologists' labels of the small official sets.

Source: Irvin et al., AAAI 2019 (arXiv 1901.07031). 1 is present, 0 absent, -1 uncertain, and an
empty cell is not mentioned. The reports (CheXpert Plus) are under a licence of their own.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.data.download import Download
from workbench.data.mapping import WORDS, codes_from_columns, read_cells

KNOWN = ["Sex", "Age", "Frontal/Lateral", "AP/PA"]
#: Split -> its folder, and the names of its file.
FILES = {
    "train": ("train", ("train.csv", "chexpert_train.csv")),
    "validate": ("valid", ("valid.csv",)),
    "test": ("test", ("test.csv", "groundtruth.csv")),
}


def read(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of every official file that is there."""
    parts, notes, found = [], [], []
    for split, (folder, names) in FILES.items():
        path = files.find(*names)
        if path is not None:
            raw = files.table(path, ["Path"], KNOWN, files.card.labels)
            part, note = _part(files, raw, split, folder)
            parts, notes = [*parts, part], [*notes, *note]
            found += [split] if len(part) else []
    if not parts:
        files.require(*FILES["train"][1], *FILES["validate"][1])
    frame = pd.concat(parts, ignore_index=True)
    notes = [f"official sets found: {', '.join(found)}", *notes]
    without = [name for name, (finding,) in files.card.labels.items() if finding not in frame]
    notes += [f"no column {', '.join(without)}: not mentioned"] if without else []
    return frame, notes


def _part(
    files: Download, raw: pd.DataFrame, split: str, folder: str
) -> tuple[pd.DataFrame, list[str]]:
    path = raw["Path"].str.replace("\\", "/", regex=False).str.removeprefix("./")
    place = path.str.extract(r"(?i)(patient\d+)/(study\d+)/([^/]+)$").astype("str")
    study = place[0] + "/" + place[1]
    key = folder + "/" + study + "/" + place[2].str.replace(r"\.[^.]*$", "", regex=True)
    frame = pd.DataFrame(
        {
            "image_id": key.fillna(path),
            "path": _below_root(files, path),
            "patient_id": place[0].fillna(path),
            "study_id": study.fillna(path),
            "view": _views(raw, place[2]),
            "sex": raw["Sex"],
            "age": raw["Age"],
            "split": split,
            "provenance": "report-mined" if split == "train" else "radiologist",
        }
    )
    odd = int(place[0].isna().sum())
    note = f"{odd:,} paths of {split} name no patient and study: each counts as a patient"
    return frame.assign(**codes_from_columns(files.card, raw)), [note] * bool(odd)


def _views(raw: pd.DataFrame, names: pd.Series) -> np.ndarray:
    """Return (n,) views: lateral where that is said, else the projection, else frontal."""
    projection = read_cells(raw["AP/PA"], WORDS["view"])
    side = read_cells(raw["Frontal/Lateral"], WORDS["view"])
    named = names.str.lower().str.extract("(lateral|frontal)", expand=False)
    side = np.where(pd.isna(side), named, side)
    said = np.where(pd.isna(projection), side, projection)
    return np.where(pd.isna(side) | (side == "frontal"), said, side)


def _below_root(files: Download, paths: pd.Series) -> pd.Series:
    """Cut the name of the release off the paths where the folder that was given is that release."""
    first = paths.iloc[0].split("/") if len(paths) else []
    inside = len(first) > 2 and not (files.folder / first[0]).exists()
    if inside and (files.folder / first[1]).is_dir():
        return paths.str.partition("/")[2]
    return paths
