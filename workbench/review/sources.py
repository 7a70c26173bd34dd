"""Open what is to be reviewed: the rows of a run, from its folder, its result or a table.

Does not know: references (`references`) or what an error is (`suspects`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from workbench._repr import short_repr
from workbench._tables import listed
from workbench.errors import InputError, OptionError
from workbench.runs.record import read_record
from workbench.runs.result import RunResult, load
from workbench.runs.store import DATABASE, DONE, FAILED, RESULTS

#: Columns of a run that a review needs, and what stands where a table does not have them.
COLUMNS = {
    "id": None,
    "text": None,
    "source": "",
    "task": "report",
    "status": DONE,
    "error": None,
    "tokens": None,
    "mean_logprob": None,
    "finish_reason": None,
    "warnings": "",
    "domain": None,
    "view": None,
}
_NUMBERS = ("tokens", "mean_logprob")


@dataclass(frozen=True, eq=False)
class RunRows:
    """The rows of one task of a run.

    Attributes:
        frame: columns `COLUMNS`, one row for each image whose task was done.
        task: which task.
        folder: of the run; None for a table.
        record: what run.json says; empty for a table.
        failed: rows of the task that have no text.
    """

    frame: pd.DataFrame
    task: str
    folder: Path | None = None
    record: dict = field(default_factory=dict)
    failed: int = 0

    __repr__ = short_repr


def open_run(run: Any, *, task: str = "report") -> RunRows:
    """Open the rows of one task.

    Args:
        run: folder of `wb.run`, its result, or a table with the columns id and text.
        task: name of the task; what it says must be a report for codes to mean anything.

    Raises:
        InputError: there is no run, a column is missing, or an id stands twice.
        OptionError: the run has no such task.
    """
    folder, record = None, {}
    if isinstance(run, pd.DataFrame):
        frame = run
    elif isinstance(run, (str, os.PathLike, RunResult)):
        folder = run.folder if isinstance(run, RunResult) else Path(run)
        frame, record = _read(folder), read_record(folder) or {}
    else:
        raise InputError(
            f"expected the folder of a run, its result or a table with the columns id and text; "
            f"got {type(run).__name__}"
        )
    frame = _typed(frame)
    tasks = [str(name) for name in frame["task"].unique()]
    if len(frame) and task not in tasks:
        raise OptionError(f"the run has no task {task!r}; it has: {', '.join(tasks)}")
    frame = frame[frame["task"] == task]
    done = (frame["status"] == DONE) & frame["text"].notna()
    rows = frame[done].reset_index(drop=True)
    twice = rows.duplicated(["source", "id"])
    if twice.any():
        raise InputError(
            f"id {rows.loc[twice, 'id'].iloc[0]!r} stands twice in the run; a review needs one row "
            "for each image, give every row of the manifest an image_id of its own"
        )
    return RunRows(rows, task, folder, record, int((frame["status"] == FAILED).sum()))


def _read(folder: Path) -> pd.DataFrame:
    """Return the rows of a folder: results.parquet where the run has ended, else its database."""
    path = folder / RESULTS
    if not path.is_file():
        if not (folder / DATABASE).is_file():
            raise InputError(
                f"{folder.name}: no run in this folder; expected what `workbench run --out` wrote"
            )
        return load(folder).to_frame()
    try:
        names = pa.parquet.read_schema(path).names
        kept = [name for name in COLUMNS if name in names]
        table = pa.parquet.read_table(path, columns=kept, use_threads=False)
        table.validate(full=True)
        return table.to_pandas()
    except (pa.ArrowException, OSError, ValueError):
        raise InputError(
            f"{folder.name}/{RESULTS}: cannot be read as Parquet; delete it and start the run "
            "again, which writes it from its rows"
        ) from None


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in ("id", "text") if name not in frame.columns]
    if missing:
        raise InputError(f"the table has no column {missing[0]!r}; it has: {listed(frame.columns)}")
    columns: dict[str, Any] = {}
    for name, default in COLUMNS.items():
        values = frame[name] if name in frame.columns else pd.Series(default, index=frame.index)
        if name in _NUMBERS:
            columns[name] = pd.to_numeric(values, errors="coerce").astype("float64")
        else:
            text = values.astype("object").where(values.notna(), default)
            columns[name] = text
    columns["id"] = columns["id"].astype(str)
    return pd.DataFrame(columns).reset_index(drop=True)
