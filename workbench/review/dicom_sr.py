"""What reviewers said, as DICOM structured reports that other systems file beside the image.

    workbench review export runs/first --manifest m.parquet --dicom-sr --out sr

For each reviewed case: the model's report, and a reviewer's own where there is one, as Basic Text
(TID 2000); the verdicts and boxes of each reviewer as a measurement report (TID 1500), a group for
each verdict and a planar region for each box. Codes are those of `codes.yaml`. Nothing is verified
in DICOM's sense, and every document says what the model may be used for.

An image that is no DICOM file, or was turned before anybody saw it, is written too, as a secondary
capture that the documents refer to: boxes are in its pixels.

Source: DICOM PS3.3 A.35, C.18.6 (coordinates), PS3.16; Bridge, Highdicom, J Digit Imaging 2022.
"""

from __future__ import annotations

import os
from itertools import groupby
from pathlib import Path

import pandas as pd

from workbench.data.frames import save_frame
from workbench.errors import InputError, need_package
from workbench.imaging.writing import save_dicom
from workbench.review.error_queue import ErrorQueue
from workbench.review.verdicts import Annotations

INDEX = "index.csv"
COLUMNS = ("source", "id", "kind", "author", "file")


def save_dicom_sr(
    queue: ErrorQueue,
    annotations: Annotations,
    folder: str | os.PathLike[str],
    *,
    identified: bool = False,
) -> pd.DataFrame:
    """Write the current verdicts, boxes and reports about the cases of a queue as DICOM files.

    Args:
        queue: of the run, with the folder of its images.
        folder: made if needed; `index.csv` in it says which file is what.
        identified: write who the patient is, as the DICOM file of the image says; else documents
            contain the pseudonym of the manifest, and only the identifiers of study and image.

    Returns:
        One row for each file, columns `COLUMNS`.

    Raises:
        MissingDependencyError: highdicom is not installed.
        InputError: there are no verdicts about cases of this queue, or an image is not there.

    >>> wb.review.save_dicom_sr(queue, notes, "documents").columns.tolist()
    ['source', 'id', 'kind', 'author', 'file']
    """
    need_package("highdicom", "dicom", what="a DICOM structured report")
    from workbench.review.dicom_documents import ReviewedCase

    folder = Path(folder)
    rows_of = queue.joined.cases.to_dict("records")
    cases = {(row["source"], row["id"]): row for row in rows_of}
    given = [item for item in annotations.current() if (item.source, item.id) in cases]
    if not given:
        raise InputError(
            f"{len(annotations):,} verdicts, none about a case of this queue; judge entries first "
            "(`workbench app --run`), or open the queue of the run that they are about"
        )
    if queue.root is None:
        raise InputError(
            "documents refer to images, and it is not known where these are; name the manifest "
            "with manifest= and the folder of images with root="
        )
    given.sort(key=lambda item: (item.source, item.id, item.reviewer))
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    judged = groupby(given, key=lambda item: (item.source, item.id))
    for number, (key, items) in enumerate(judged, start=1):
        case = ReviewedCase(queue, key, cases[key], identified)
        for n, made in enumerate(case.documents(list(items)), start=1):
            name = f"{number:04d}-{n}-{made.kind}.dcm"
            save_dicom(made.dataset, folder / name)
            rows.append((*key, made.kind, made.author, name))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    save_frame(table, folder / INDEX)
    return table
