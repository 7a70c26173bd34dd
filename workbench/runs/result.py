"""`RunResult`: what a run came to, and the way to its rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from workbench.radiograph.contract import NO_WORDS
from workbench.runs.record import read_record
from workbench.runs.store import DONE, FAILED, RESULTS, SCHEMA, count_rows, read_tables, reading

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RunResult:
    """A run in its folder.

    Attributes:
        rows: finished ones, one for each image and task; `done` have a text, `failed` an error.
        seconds: of the last session, from the call to the end, loading the model included; 0.0
            where the run has not ended.
    """

    folder: Path
    rows: int
    done: int
    failed: int
    seconds: float

    @property
    def ended(self) -> bool:
        """True when results.parquet is there."""
        return (self.folder / RESULTS).is_file()

    @property
    def unreadable(self) -> int:
        """Images whose file could not be read; each is a failed row of every task."""
        return self._counted('COUNT(DISTINCT "row")', "status = ? AND domain IS NULL", FAILED)

    @property
    def without_words(self) -> int:
        """Rows that are done although the model wrote no word: they answer nothing."""
        found = "status = ? AND instr('|' || warnings || '|', ?)"
        return self._counted("COUNT(*)", found, DONE, f"|{NO_WORDS}|")

    def _counted(self, what: str, where: str, *values: str) -> int:
        with reading(self.folder) as database:
            query = f"SELECT {what} FROM rows WHERE {where}"
            return database.execute(query, values).fetchone()[0]

    @property
    def record(self) -> dict:
        """What run.json says: "fixed" settings, "sessions", and "outcome" when it has ended."""
        return read_record(self.folder)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each image and task; before the run has ended, those finished so far.

        Columns: row (in the manifest), id, source, task, status ("done", "failed"), text, error,
        tokens, mean_logprob (natural, of the tokens, at temperature 1), finish_reason, seed,
        warnings (codes of the input contract and "no-words", joined with "|"), domain, view,
        crop_loss, seconds (from the start of the batch to the row's last token), peak_rss_mb and
        peak_gpu_mb (of the worker until then).
        """
        with reading(self.folder) as database:
            tables = list(read_tables(database))
        return pa.concat_tables([SCHEMA.empty_table(), *tables]).to_pandas()

    def errors(self) -> pd.DataFrame:
        """Return how often each error came, and the first row that has it."""
        frame = self.to_frame()
        failed = frame[frame["status"] == FAILED]
        grouped = failed.groupby("error", sort=False)
        found = grouped.agg(rows=("row", "size"), first_id=("id", "first"), task=("task", "first"))
        return found.sort_values("rows", ascending=False, kind="stable").reset_index()

    def summary(self) -> dict:
        """Return counts as plain values."""
        return {
            "rows": self.rows,
            "done": self.done,
            "failed": self.failed,
            "without_words": self.without_words,
            "unreadable_images": self.unreadable,
            "seconds": round(self.seconds, 3),
            "ended": self.ended,
            "folder": self.folder.as_posix(),
        }

    def __repr__(self) -> str:
        state = "" if self.ended else ", not ended"
        return (
            f"<RunResult {self.folder.name!r}: {self.done:,} done, {self.failed:,} failed{state}>"
        )

    def _repr_html_(self) -> str:
        from workbench.figures.tables import facts_table

        fixed = self.record.get("fixed", {})
        model = fixed.get("model", {})
        facts = {
            "model": f"{model.get('id', '')} ({str(model.get('sha256', ''))[:12]})",
            "tasks": ", ".join(task["name"] for task in fixed.get("tasks", [])),
            "rows": f"{self.done:,} done ({self.without_words:,} without a word), "
            f"{self.failed:,} failed",
            "seconds": f"{self.seconds:,.1f}" if self.ended else "the run has not ended",
            "decoding": json.dumps(fixed.get("decoding", {})),
        }
        notice = escape(model.get("notice", ""))
        head = f"<p><b>Run {escape(self.folder.name)}</b>. {notice}</p>"
        return head + facts_table(list(facts.items()))


def load(folder: str | Path) -> RunResult:
    """Open the folder of a run, ended or not; another process may be writing to it.

    Raises:
        InputError: there is no run in it.
        RunError: its run.json is damaged.

    >>> wb.runs.load("runs/first").to_frame()["status"].unique().tolist()
    ['done']
    """
    folder = Path(folder)
    with reading(folder) as database:
        counts = count_rows(database)
    seconds = read_record(folder).get("outcome", {}).get("seconds", 0.0)
    return RunResult(folder, sum(counts.values()), counts[DONE], counts[FAILED], seconds)
