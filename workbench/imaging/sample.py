"""The real chest DICOM that demonstrations and tests use: a file of the package `pydicom-data`.

A computed radiograph (CR, PA, MONOCHROME1, 15 of 16 bits, 1955 x 1841) from the compression test
set of the DICOM working group 4, de-identified by its publisher.

Does not know: any network; the file is there when the package is installed, and not otherwise.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from workbench.errors import MissingDependencyError

_PACKAGE = "data_store"
_FILE = "RG1_UNCR.dcm"


def sample_dicom() -> Path:
    """Find the chest DICOM inside the installed package `pydicom-data`.

    Raises:
        MissingDependencyError: the package is not installed; the message names the command.
    """
    spec = find_spec(_PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        path = Path(folder) / "data" / _FILE
        if path.is_file():
            return path
    raise MissingDependencyError(
        f"the sample chest DICOM ({_FILE}) comes with the package pydicom-data, which is not "
        "installed here; run: pip install pydicom-data"
    )
