"""One `read(files)` for each source, from its official files to loose columns of a manifest.

A reader takes a `Download`, which also holds the data card and what is wanted, and returns one row
for each image, and notes for a person. Nothing is downloaded.

Every reader raises InputError where a file is missing or is not the one that is published.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from workbench.data.download import Download
from workbench.data.sources import (
    brixia,
    challenges,
    chexpert,
    mimic_cxr,
    nih,
    openi,
    own,
    padchest,
    vindr_cxr,
)

#: Source key -> reader.
READERS: dict[str, Callable[[Download], tuple[pd.DataFrame, list[str]]]] = {
    "nih": nih.read,
    "chexpert": chexpert.read,
    "mimic-cxr": mimic_cxr.read,
    "padchest": padchest.read,
    "vindr-cxr": vindr_cxr.read,
    "brixia": brixia.read,
    "rsna-covid": challenges.read_covid,
    "openi": openi.read,
    "rsna-pneumonia": challenges.read_pneumonia,
    "siim-pneumothorax": challenges.read_pneumothorax,
    "phantom": own.read_phantoms,
    "folder": own.read_folder,
    "csv": own.read_csv,
}
