"""VinDr-CXR and VinBigData: boxes and labels of several readers, and the consensus of these.

Source: Nguyen et al., Sci Data 2022 (arXiv 2012.15029). Each reader looked for the same list, so a
label that nobody gave is absent. By default a finding is present where more than half of the
readers marked it and uncertain where fewer did.

Does not know: patients; none are published.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.data.boxes import box_cells
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.mapping import codes_from_votes
from workbench.errors import InputError

CHALLENGE = ("vinbigdata-train.csv", "train.csv")
EDGES = ("x_min", "y_min", "x_max", "y_max")
#: What a box is called where its class states no finding of the manifest.
OTHER = "other"


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each image, and notes.

    Args:
        files: the download.
        card: data card "vindr-cxr".
        labels: the consensus rule: "majority", "any" or "unanimous".
        reports: not used; there are none.
        show: not used.

    Raises:
        InputError: no label file is there.
    """
    parts, notes = [], [f"consensus: {card.variants[labels]}"]
    train = _release(files, "train")
    test = _release(files, "test")
    challenge = files.find(*CHALLENGE) if train is None else None
    if train is not None:
        parts.append(_readers(files, card, *train, "train", labels))
    elif challenge is not None:
        marks = files.table(challenge, ["image_id", "class_name", "rad_id", *EDGES])
        parts.append(_readers(files, card, _wide(marks), marks, "train", labels))
    if test is not None:
        parts.append(_readers(files, card, *test, "test", "any").assign(provenance="adjudicated"))
    if not parts:
        raise InputError(
            f"no annotations in {files.folder.name}; expected train.csv of the challenge, or "
            "annotations/image_labels_train.csv and annotations_train.csv of PhysioNet"
        )
    return pd.concat(parts, ignore_index=True), notes


def _release(files: Download, split: str) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Return labels and boxes of the PhysioNet release, None where they are not here."""
    path = files.find(f"image_labels_{split}.csv")
    if path is None:
        return None
    boxes = files.require(f"annotations_{split}.csv")
    return files.table(path, ["image_id"]), files.table(boxes, ["image_id", "class_name", *EDGES])


def _wide(marks: pd.DataFrame) -> pd.DataFrame:
    """Return (image, reader) rows with one 0/1 column for each class of the challenge."""
    ticked = pd.crosstab([marks["image_id"], marks["rad_id"]], marks["class_name"]).gt(0)
    return ticked.astype(int).astype(str).reset_index()


def _readers(
    files: Download,
    card: DataCard,
    wide: pd.DataFrame,
    marks: pd.DataFrame,
    split: str,
    consensus: str,
) -> pd.DataFrame:
    columns = [name for name in wide.columns if name not in ("image_id", "rad_id")]
    ticked = wide[columns].isin(["1", "1.0"]).astype(int)
    votes = ticked.groupby(wide["image_id"], sort=True).sum()
    readers = wide.groupby("image_id", sort=True).size().to_numpy()
    images = votes.index.to_series().reset_index(drop=True)
    codes = codes_from_votes(card, votes, readers, consensus=consensus)
    frame = pd.DataFrame(
        {
            "image_id": images,
            "path": files.locate(_file_names(files, images, split), (split, "")),
            "patient_id": images,
            "study_id": images,
            "view": "PA",
            "split": split,
            "provenance": "radiologist",
        }
    ).assign(**codes)
    frame["source_labels"] = _labels(votes)
    frame["boxes"] = images.map(_boxes(card, marks))
    return frame


def _file_names(files: Download, images: pd.Series, split: str) -> pd.Series:
    for suffix in (".dicom", ".png", ".jpg"):
        if len(images) and (files.folder / split / (images.iloc[0] + suffix)).is_file():
            return images + suffix
    return images + ".dicom"


def _labels(votes: pd.DataFrame) -> np.ndarray:
    marked = votes.to_numpy() > 0
    names = np.array([str(name) for name in votes.columns])
    return np.array(["|".join(names[row]) for row in marked], dtype=object)


def _boxes(card: DataCard, marks: pd.DataFrame) -> dict:
    edges = {name: pd.to_numeric(marks[name], errors="coerce") for name in EDGES}
    finding = {
        name: (card.labels.get(name) or (OTHER,))[0] for name in marks["class_name"].unique()
    }
    boxes = pd.DataFrame(
        {
            "image_id": marks["image_id"],
            "finding": marks["class_name"].map(finding),
            "label": marks["class_name"],
            "x": edges["x_min"],
            "y": edges["y_min"],
            "width": edges["x_max"] - edges["x_min"],
            "height": edges["y_max"] - edges["y_min"],
            "reader": marks.get("rad_id", "consensus"),
        }
    )
    return box_cells(boxes).to_dict()
