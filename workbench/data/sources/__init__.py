"""One module for each source, each with `read(files, card, *, labels, reports, show)`.

`read` turns the official files of a source, as published, into loose columns of a manifest; nothing
is downloaded. The module of a source is imported when it is asked for.

Does not know: the whole manifest (`workbench.data.build`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

#: Source key -> module.
MODULES = {
    "nih": "nih",
    "chexpert": "chexpert",
    "mimic-cxr": "mimic_cxr",
    "padchest": "padchest",
    "vindr-cxr": "vindr_cxr",
    "brixia": "brixia",
    "rsna-covid": "rsna_covid",
    "openi": "openi",
    "rsna-pneumonia": "rsna_pneumonia",
    "siim-pneumothorax": "siim_pneumothorax",
    "phantom": "phantom",
    "folder": "folder",
    "csv": "csv_table",
}

#: What stands between a label and its qualifiers, where a source writes them.
QUALIFIERS = {"openi": "/"}


def reader(key: str) -> Callable:
    """Return the `read` function of a source."""
    return importlib.import_module(f"workbench.data.sources.{MODULES[key]}").read
