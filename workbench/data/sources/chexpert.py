"""CheXpert: labels of the CheXpert labeler, and radiologists' labels of the small official sets.

Source: Irvin et al., AAAI 2019 (arXiv 1901.07031). 1 is present, 0 absent, -1 uncertain, and an
empty cell is not mentioned.

Does not know: the reports (CheXpert Plus, under its own licence).
"""

from __future__ import annotations

import pandas as pd

from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import map_words
from workbench.data.mapping import codes_from_columns, marked_columns
from workbench.errors import InputError

SEX = {"Male": "male", "Female": "female"}
FILES = {
    "train": ("train.csv", "chexpert_train.csv"),
    "validate": ("valid.csv",),
    "test": ("test.csv", "groundtruth.csv"),
}


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of every official file that is there, and notes.

    Args:
        files: the download.
        card: data card "chexpert".
        labels: not used; there is one set.
        reports: not used; there are none.
        show: not used.

    Raises:
        InputError: none of the files is there.
    """
    parts = []
    for split, names in FILES.items():
        path = files.find(*names)
        if path is not None:
            parts.append(_part(files, card, files.table(path, ["Path"]), split))
    if not parts:
        files.require(*FILES["train"], *FILES["validate"])
    found = [str(part["split"].iloc[0]) for part in parts if len(part)]
    frame = pd.concat(parts, ignore_index=True)
    notes = [f"official sets found: {', '.join(found)}"]
    without = [name for name, (finding,) in card.labels.items() if finding not in frame]
    notes += [f"no column {', '.join(without)}: not mentioned"] if without else []
    return frame, notes


def _part(files: Download, card: DataCard, raw: pd.DataFrame, split: str) -> pd.DataFrame:
    columns = [name for name in card.labels if name in raw.columns]
    if not columns:
        raise InputError(
            f"the CSV file of the {split} set has none of the label columns of CheXpert; expected "
            f"{', '.join(list(card.labels)[:3])}, ..."
        )
    rows = len(raw)
    place = raw["Path"].str.extract(r"(patient\d+)/(study\d+)/([^/]+)$")
    view = map_words(
        raw.get("AP/PA"),
        {"AP": "AP", "PA": "PA", "LL": "lateral", "RL": "lateral"},
        rows=rows,
        default="unknown",
    )
    side = raw["Frontal/Lateral"] if "Frontal/Lateral" in raw else place[2]
    lateral = side.str.contains("lateral", case=False).fillna(False).to_numpy(bool)
    view[lateral] = "lateral"
    view[~lateral & (view == "unknown")] = "frontal"
    folder = {"train": "train", "validate": "valid", "test": "test"}[split]
    key = folder + "/" + place[0] + "/" + place[1] + "/" + place[2]
    frame = pd.DataFrame(
        {
            "image_id": key.str.rsplit(".", n=1).str[0].fillna(raw["Path"]),
            "path": _below_root(files, raw["Path"]),
            "patient_id": place[0].fillna(raw["Path"]),
            "study_id": (place[0] + "/" + place[1]).fillna(raw["Path"]),
            "view": view,
            "sex": map_words(raw.get("Sex"), SEX, rows=rows, default="unknown"),
            "age": raw.get("Age"),
            "split": split,
            "source_labels": marked_columns(raw, columns, ["1", "1.0"]),
            "provenance": "report-mined" if split == "train" else "radiologist",
        }
    )
    return frame.assign(**codes_from_columns(card, raw, columns))


def _below_root(files: Download, paths: pd.Series) -> pd.Series:
    """Cut the name of the release off the paths where the folder that was given is that release."""
    first = paths.iloc[0].split("/") if len(paths) else []
    inside = len(first) > 2 and not (files.folder / first[0]).exists()
    if inside and (files.folder / first[1]).is_dir():
        return paths.str.partition("/")[2]
    return paths
