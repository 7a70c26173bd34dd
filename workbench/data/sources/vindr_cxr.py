"""VinDr-CXR and VinBigData: boxes and labels of several readers, and the consensus of these.

Source: Nguyen et al., Sci Data 2022 (arXiv 2012.15029). Each reader looked for the same list, so a
label that nobody gave is absent. By default a finding is present where more than half of the
readers marked it and uncertain where fewer did. Patients are not published.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.data import mapping
from workbench.data.cards import DataCard
from workbench.data.columns import VOCABULARY, shown
from workbench.data.download import Download
from workbench.data.frames import map_unique
from workbench.errors import InputError
from workbench.findings import ABSENT, PRESENT, UNCERTAIN

CHALLENGE = ("vinbigdata-train.csv", "train.csv")
EDGES = ("x_min", "y_min", "x_max", "y_max")
#: What a reader may have said of a label; nothing, where the cell is empty.
KNOWN = np.array([PRESENT, ABSENT], dtype=object)
#: Findings that each imply a lung opacity; see the card.
OPACITIES = VOCABULARY["opacities"]


def read(files: Download) -> tuple[pd.DataFrame, list[str]]:
    """Return the images of PhysioNet's training and test set, or of the challenge.

    The consensus of readers is "majority", "any" or "unanimous"; test images have one already.
    """
    parts, notes = [], [f"consensus: {files.card.variants[files.labels]}"]
    for split, consensus in (("train", files.labels), ("test", "any")):
        release = _release(files, split)
        challenge = files.find(*CHALLENGE) if split == "train" and release is None else None
        if release is not None:
            parts.append(_readers(files, *release, split, consensus))
            boxes = mapping.count_items(parts[-1]["boxes"])
            drawn = int((release[1]["x_min"] != "").sum())
            notes.append(f"{boxes:,} of {drawn:,} boxes of {split} are on these images")
        elif challenge is not None:
            marks = files.table(challenge, ["image_id", "class_name", "rad_id", *EDGES])
            wide = _wide(files.card, marks)
            parts.append(_readers(files, wide, marks, challenge.name, split, consensus))
    if not parts:
        raise InputError(
            f"no annotations in {files.folder.name}; expected train.csv of the challenge, or "
            "annotations/image_labels_train.csv and annotations_train.csv of PhysioNet"
        )
    return pd.concat(parts, ignore_index=True), notes


def _release(files: Download, split: str) -> tuple[pd.DataFrame, pd.DataFrame, str] | None:
    """Return labels, boxes and their file of the PhysioNet release; None where it is not here."""
    path = files.find(f"image_labels_{split}.csv")
    if path is None:
        return None
    labels = files.table(path, ["image_id"], ["rad_id"], files.card.labels)
    path = files.require(f"annotations_{split}.csv")
    boxes = files.table(path, ["image_id", "class_name", *EDGES], ["rad_id"])
    return labels, boxes, path.name


def _wide(card: DataCard, marks: pd.DataFrame) -> pd.DataFrame:
    """Return (image, reader) rows with one 0/1 column for each class of the challenge."""
    classes = map_unique(marks["class_name"], lambda name: card.published(name) or name)
    readers = marks["rad_id"].str.strip().str.casefold()
    given = marks.groupby(["image_id", readers, classes]).size().unstack(fill_value=0)
    return given.gt(0).astype(int).astype(str).reset_index()


def _readers(
    files: Download, wide: pd.DataFrame, marks: pd.DataFrame, said: str, split: str, consensus: str
) -> pd.DataFrame:
    """Return one row for each image: the consensus of its readers, and the boxes of each.

    `wide` has (image, reader) rows with a column of ticks for each label; `marks` a row for each
    box, in the table that `said` names.
    """
    nameless = np.flatnonzero((marks["class_name"] == "").to_numpy(bool))
    if nameless.size:
        raise InputError(
            f"{said}, row {nameless[0] + 1}, column 'class_name': empty; expected what the reader "
            "marked, or 'No finding'"
        )
    wide = _one_row_each(wide, split)
    columns = [name for name in wide.columns if name not in ("image_id", "rad_id")]
    cells = {name: mapping.read_cells(wide[name], mapping.TICKED) for name in columns}
    ticked = pd.DataFrame({name: found == PRESENT for name, found in cells.items()})
    looked = pd.DataFrame({name: np.isin(found, KNOWN) for name, found in cells.items()})
    votes = ticked.astype(int).groupby(wide["image_id"], sort=True).sum()
    asked = looked.astype(int).groupby(wide["image_id"], sort=True).sum()
    images = votes.index.to_series().reset_index(drop=True)
    frame = pd.DataFrame(
        {
            "image_id": images,
            "path": files.locate(_file_names(files, images, split), (split, "")),
            "view": "PA",
            "split": split,
            "provenance": "adjudicated" if split == "test" else "radiologist",
        }
    ).assign(**_codes(files.card, votes, asked, consensus))
    frame = frame.assign(**_odd_cells(files.card, frame, wide["image_id"], cells))
    boxes = mapping.read_boxes(
        files.card, marks, images, ("image_id", "class_name"), EDGES,
        things="annotations", said=said, corners=True,
    )  # fmt: skip
    boxes["reader"] = "consensus" if split == "test" else marks["rad_id"]
    labels = mapping.marked({name: votes[name].to_numpy() > 0 for name in columns}, len(votes))
    frame["source_labels"] = mapping.with_unknown(files.card, labels, images, boxes)
    frame["boxes"] = images.map(mapping.box_cells(boxes))
    return frame


def _odd_cells(
    card: DataCard, frame: pd.DataFrame, images: pd.Series, cells: dict[str, np.ndarray]
) -> dict[str, pd.Series]:
    """Return finding -> (n,) codes, with the cells that are no ticks for the check to name."""
    found = {}
    for label, said in cells.items():
        odd = pd.Series(said).mask(np.isin(said, KNOWN), None)
        strange = frame["image_id"].map(mapping.agreed(images, odd).to_dict())
        for finding in card.findings_of(label) or ():
            if strange.notna().any():
                codes = found.get(finding, frame[finding])
                found[finding] = codes.mask(strange.notna(), strange)
    return found


def _codes(
    card: DataCard, votes: pd.DataFrame, asked: pd.DataFrame, consensus: str
) -> dict[str, np.ndarray]:
    """Return finding -> (n,) codes from how many readers marked each label, of how many `asked`.

    `consensus` is "majority" (more than half), "any" or "unanimous"; fewer marks are uncertain.
    """
    masks: dict[str, dict[str, np.ndarray]] = {}
    none = np.zeros(len(votes), bool)
    for label in votes.columns:
        count, readers = votes[label].to_numpy(), asked[label].to_numpy()
        majority = readers // 2 + 1
        needed = {"any": np.ones_like(readers), "unanimous": readers}.get(consensus, majority)
        some = count > 0
        present = some & (count >= needed)
        for finding in card.findings_of(label) or ():
            known = masks.setdefault(finding, {PRESENT: none, UNCERTAIN: none, ABSENT: ~none})
            known[PRESENT] = known[PRESENT] | present
            known[UNCERTAIN] = known[UNCERTAIN] | (some & ~present)
            known[ABSENT] = known[ABSENT] & ~some & (readers > 0)
    if "lung opacity" in masks:
        for known in (masks[name] for name in OPACITIES if name in masks):
            implied = known[PRESENT] | known[UNCERTAIN]
            masks["lung opacity"][ABSENT] = masks["lung opacity"][ABSENT] & ~implied
    return {finding: mapping.codes_from_masks(known) for finding, known in masks.items()}


def _one_row_each(wide: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return the rows without those that say the same again."""
    wide = wide.drop_duplicates(ignore_index=True)
    again = np.flatnonzero(wide.duplicated(["image_id", "rad_id"]).to_numpy(bool))
    if again.size:
        image = shown("image_id", wide["image_id"].iloc[again[0]])
        raise InputError(
            f"image_labels_{split}.csv: two different rows of one reader for {image}; keep one"
        )
    return wide


def _file_names(files: Download, images: pd.Series, split: str) -> pd.Series:
    for suffix in (".dicom", ".png", ".jpg"):
        if len(images) and (files.folder / split / (images.iloc[0] + suffix)).is_file():
            return images + suffix
    return images + ".dicom"
