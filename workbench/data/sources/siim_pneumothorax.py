"""SIIM-ACR pneumothorax segmentation: outlines as run-length codes.

Source: Filice et al., J Digit Imaging 2020 (doi 10.1007/s10278-019-00299-9). Every image was looked
at for a pneumothorax, so one without an outline is absent.

Does not know: patients; none are published.
"""

from __future__ import annotations

import pandas as pd

from workbench.data.boxes import to_cell
from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.data.frames import codes_from_masks
from workbench.findings import ABSENT, PNEUMOTHORAX, PRESENT

FILES = ("train-rle.csv", "siim-pneumothorax-train-rle.csv")
SIZE = 1024


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
    raw = files.table(files.require(*FILES), ["ImageId", "EncodedPixels"])
    runs = raw["EncodedPixels"].str.strip()
    outlined = raw[~runs.isin(["-1", ""])].assign(runs=runs)
    masks = {
        image: to_cell(
            [{"finding": PNEUMOTHORAX, "rle": run, "size": [SIZE, SIZE]} for run in group]
        )
        for image, group in outlined.groupby("ImageId", sort=True)["runs"]
    }
    images = pd.Series(sorted(raw["ImageId"].unique()), dtype=object)
    present = images.isin(list(masks)).to_numpy()
    frame = pd.DataFrame(
        {
            "image_id": images,
            "path": files.locate(images + ".dcm", ("dicom-images-train", "train", "")),
            "patient_id": images,
            "study_id": images,
            "view": "frontal",
            PNEUMOTHORAX: codes_from_masks(len(images), {PRESENT: present, ABSENT: ~present}),
            "source_labels": pd.Series(present).map({True: "Pneumothorax", False: None}),
            "masks": images.map(masks),
            "provenance": "radiologist",
        }
    )
    return frame, [f"{len(outlined):,} outlines on {len(masks):,} images"]
