"""Tables on their way out: CSV that no spreadsheet runs, or Parquet.

Does not know: what is in them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from workbench._store import whole_file
from workbench.data.frames import write_csv
from workbench.errors import InputError


def save_frame(frame: pd.DataFrame, path: str | os.PathLike) -> Path:
    """Write a table as .csv or .parquet; the file appears whole or not at all.

    Raises:
        InputError: the name ends in something else.
    """
    path = Path(path)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise InputError(f"{path.name}: tables are written as .csv or .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        if path.suffix.lower() == ".csv":
            write_csv(frame, partial)
        else:
            frame.to_parquet(partial, index=False)
    return path
