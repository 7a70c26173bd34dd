"""SIIM-ACR pneumothorax segmentation: outlines as run-length codes.

Source: Filice et al., J Digit Imaging 2020 (doi 10.1007/s10278-019-00299-9). Every image was looked
at for a pneumothorax, so one without an outline is absent.

Does not know: patients; none are published.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from workbench.data.boxes import to_cell
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import agreed, codes_or_cells, map_unique
from workbench.errors import InputError
from workbench.findings import ABSENT, PNEUMOTHORAX, PRESENT, cell_key

FILES = ("train-rle.csv", "siim-pneumothorax-train-rle.csv")
SIZE = 1024
UNREADABLE = "unreadable"


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each image, and notes.

    Args:
        files: the download.
        card: data card "siim-pneumothorax".
        labels: not used; there is one set.
        reports: not used; there are none.
        show: not used.

    Raises:
        InputError: the file is missing or not the published one.
    """
    path = files.require(*FILES)
    raw = files.table(path, ["ImageId", "EncodedPixels"])
    runs = raw["EncodedPixels"]
    said = pd.Series(map_unique(runs, _code), dtype=object)
    wrong = np.flatnonzero((said == UNREADABLE).to_numpy(bool))
    if wrong.size:
        raise InputError(
            f"{path.name}, row {wrong[0] + 1}, column 'EncodedPixels': no run-length code; "
            "expected pairs of numbers, or -1 where there is no pneumothorax"
        )
    outlined = raw[said == PRESENT]
    groups: dict[str, list[dict]] = {}
    for image, run in zip(outlined["ImageId"], outlined["EncodedPixels"], strict=True):
        mask = {"finding": PNEUMOTHORAX, "rle": run, "size": [SIZE, SIZE]}
        groups.setdefault(image, []).append(mask)
    masks = {image: to_cell(group) for image, group in groups.items()}
    images = pd.Series(sorted(raw["ImageId"].unique()), dtype=object)
    found = images.map(agreed(raw["ImageId"], said)).astype(object)
    found = found.where(found.notna(), None).to_numpy(object)
    frame = pd.DataFrame(
        {
            "image_id": images,
            "path": files.locate(images + ".dcm", ("dicom-images-train", "train", "")),
            "patient_id": images,
            "study_id": images,
            "view": "frontal",
            PNEUMOTHORAX: codes_or_cells(found),
            "source_labels": np.where(found == PRESENT, "Pneumothorax", None),
            "masks": images.map(masks),
            "provenance": "radiologist",
        }
    )
    return frame, [f"{len(outlined):,} outlines on {len(masks):,} images"]


def _code(runs: str) -> str | None:
    """Return what a cell says; None for an empty one."""
    numbers = runs.split()
    if len(numbers) < 2:
        key = cell_key(runs)
        return {"": None, "-1": ABSENT}.get(key, UNREADABLE)
    joined = "".join(numbers)
    paired = len(numbers) % 2 == 0 and joined.isascii() and joined.isdigit()
    return PRESENT if paired else UNREADABLE
