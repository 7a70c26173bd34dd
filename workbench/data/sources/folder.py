"""A folder of images of one's own: one row for each file, nothing known of any finding.

Does not know: labels. A folder that also holds a table of labels is the source `csv`.
"""

from __future__ import annotations

import pandas as pd

from workbench.data.cards import DataCard
from workbench.data.download import Download
from workbench.errors import InputError


def read(
    files: Download, card: DataCard, *, labels: str, reports: bool, show: bool
) -> tuple[pd.DataFrame, list[str]]:
    """Return one row for each image file, and notes.

    Args:
        files: the folder.
        card: data card "folder".
        labels: not used; there are none.
        reports: not used; there are none.
        show: not used.

    Raises:
        InputError: there is no image.
    """
    paths = [files.only.name] if files.only else files.images()
    if not paths:
        raise InputError(
            f"no images in {files.folder.name}; expected {', '.join(card.files)} below it"
        )
    path = pd.Series(paths, dtype=object)
    stem = path.str.rsplit(".", n=1).str[0]
    nested = path.str.contains("/")
    patient = path.str.partition("/")[0].where(nested, stem)
    frame = pd.DataFrame(
        {
            "image_id": stem.where(~stem.duplicated(keep=False), path),
            "path": path,
            "patient_id": patient,
            "study_id": path.str.rsplit("/", n=1).str[0].where(nested, stem),
        }
    )
    notes = []
    if not nested.any():
        notes.append("no sub-folders: every file counts as a patient of its own")
    tables = sorted(item.name for end in ("csv", "tsv") for item in files.folder.glob(f"*.{end}"))
    if tables and files.only is None:
        notes.append(f"not read: {', '.join(tables)}; the source `csv` reads a table")
    return frame, notes
