"""VinDr-CXR and VinBigData: boxes and labels of several readers, and the consensus of these.

Source: Nguyen et al., Sci Data 2022 (arXiv 2012.15029). Each reader looked for the same list, so a
label that nobody gave is absent. By default a finding is present where more than half of the
readers marked it and uncertain where fewer did.

Does not know: patients; none are published.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.data.boxes import OTHER, box_cells, count_items, read_edges
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import agreed, map_unique, read_cells
from workbench.data.joins import owners
from workbench.data.mapping import codes_from_votes, findings_of, with_unknown
from workbench.data.redact import shown
from workbench.errors import InputError
from workbench.findings import ABSENT, PRESENT

CHALLENGE = ("vinbigdata-train.csv", "train.csv")
EDGES = ("x_min", "y_min", "x_max", "y_max")
TICKED = {"1": PRESENT, "0": ABSENT}
#: What a reader may have said of a label; nothing, where the cell is empty.
KNOWN = np.array([PRESENT, ABSENT], dtype=object)


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
    train = _release(files, card, "train")
    test = _release(files, card, "test")
    challenge = files.find(*CHALLENGE) if train is None else None
    if train is not None:
        parts.append(_readers(files, card, *train, "train", labels))
        notes.append(_count(parts[-1], train[1], "train"))
    elif challenge is not None:
        marks = files.table(challenge, ["image_id", "class_name", "rad_id", *EDGES])
        _refuse_nameless(marks, challenge.name)
        labels_of = _wide(card, marks)
        parts.append(_readers(files, card, labels_of, marks, challenge.name, "train", labels))
    if test is not None:
        parts.append(_readers(files, card, *test, "test", "any").assign(provenance="adjudicated"))
        notes.append(_count(parts[-1], test[1], "test"))
    if not parts:
        raise InputError(
            f"no annotations in {files.folder.name}; expected train.csv of the challenge, or "
            "annotations/image_labels_train.csv and annotations_train.csv of PhysioNet"
        )
    return pd.concat(parts, ignore_index=True), notes


def _release(
    files: Download, card: DataCard, split: str
) -> tuple[pd.DataFrame, pd.DataFrame, str] | None:
    """Return labels, boxes and their file of the PhysioNet release; None where it is not here."""
    path = files.find(f"image_labels_{split}.csv")
    if path is None:
        return None
    labels = files.table(path, ["image_id"], ["rad_id", *card.labels])
    path = files.require(f"annotations_{split}.csv")
    boxes = files.table(path, ["image_id", "class_name", *EDGES], ["rad_id"])
    _refuse_nameless(boxes, path.name)
    return labels, boxes, path.name


def _refuse_nameless(marks: pd.DataFrame, said: str) -> None:
    empty = np.flatnonzero((marks["class_name"] == "").to_numpy(bool))
    if empty.size:
        raise InputError(
            f"{said}, row {empty[0] + 1}, column 'class_name': empty; expected what the reader "
            "marked, or 'No finding'"
        )


def _wide(card: DataCard, marks: pd.DataFrame) -> pd.DataFrame:
    """Return (image, reader) rows with one 0/1 column for each class of the challenge."""
    classes = map_unique(marks["class_name"], lambda name: card.published(name) or name)
    readers = marks["rad_id"].str.strip().str.casefold()
    given = marks.groupby(["image_id", readers, classes]).size().unstack(fill_value=0)
    return given.gt(0).astype(int).astype(str).reset_index()


def _readers(
    files: Download,
    card: DataCard,
    wide: pd.DataFrame,
    marks: pd.DataFrame,
    said: str,
    split: str,
    consensus: str,
) -> pd.DataFrame:
    """Return one row for each image: the consensus of its readers, and the boxes of each."""
    wide = _one_row_each(wide, split)
    columns = [name for name in wide.columns if name not in ("image_id", "rad_id")]
    cells = {name: read_cells(wide[name], TICKED, rows=len(wide)) for name in columns}
    ticked = pd.DataFrame({name: said == PRESENT for name, said in cells.items()})
    looked = pd.DataFrame({name: np.isin(said, KNOWN) for name, said in cells.items()})
    votes = ticked.astype(int).groupby(wide["image_id"], sort=True).sum()
    asked = looked.astype(int).groupby(wide["image_id"], sort=True).sum()
    images = votes.index.to_series().reset_index(drop=True)
    codes = codes_from_votes(card, votes, asked, consensus=consensus)
    boxes = _boxes(card, marks, images, said)
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
    for name, found in cells.items():
        odd = np.where(np.isin(found, KNOWN), None, found)
        strange = images.map(agreed(wide["image_id"], odd).to_dict())
        for finding in findings_of(card, name) or ():
            if strange.notna().any():
                frame[finding] = frame[finding].astype(object).mask(strange.notna(), strange)
    frame["source_labels"] = with_unknown(card, pd.Series(_labels(votes)), images, boxes)
    frame["boxes"] = images.map(box_cells(boxes).to_dict())
    return frame


def _one_row_each(wide: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows without those that say the same again.

    Raises:
        InputError: one reader says two things of an image.
    """
    keys = [name for name in ("image_id", "rad_id") if name in wide]
    wide = wide.drop_duplicates(ignore_index=True)
    again = np.flatnonzero(wide.duplicated(keys).to_numpy(bool))
    if again.size:
        image = shown("image_id", wide["image_id"].iloc[again[0]])
        raise InputError(
            f"image_labels_{split}.csv: two different rows of one reader for {image}; keep one"
        )
    return wide


def _count(part: pd.DataFrame, marks: pd.DataFrame, split: str) -> str:
    drawn = int((marks["x_min"] != "").sum())
    return f"{count_items(part['boxes']):,} of {drawn:,} boxes of {split} are on these images"


def _file_names(files: Download, images: pd.Series, split: str) -> pd.Series:
    for suffix in (".dicom", ".png", ".jpg"):
        if len(images) and (files.folder / split / (images.iloc[0] + suffix)).is_file():
            return images + suffix
    return images + ".dicom"


def _labels(votes: pd.DataFrame) -> np.ndarray:
    marked = votes.to_numpy() > 0
    names = np.array([str(name) for name in votes.columns])
    return np.array(["|".join(names[row]) for row in marked], dtype=object)


def _boxes(card: DataCard, marks: pd.DataFrame, images: pd.Series, said: str) -> pd.DataFrame:
    """Return columns as `box_cells` takes them, of the boxes that are on these images."""
    owner, met = owners(marks["image_id"], images, things="annotations", said=said)
    edges = read_edges(marks, EDGES, said, corners=True)
    finding = {
        name: (findings_of(card, name) or (OTHER,))[0] for name in marks["class_name"].unique()
    }
    return pd.DataFrame(
        {
            "image_id": owner,
            "finding": marks["class_name"].map(finding),
            "label": marks["class_name"],
            "x": edges["x_min"],
            "y": edges["y_min"],
            "width": edges["x_max"] - edges["x_min"],
            "height": edges["y_max"] - edges["y_min"],
            "reader": marks.get("rad_id", "consensus"),
        }
    )[met]
