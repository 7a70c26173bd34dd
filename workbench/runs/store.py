"""The folder of a run: rows in SQLite while it lasts, Parquet at the end, one process at a time.

`rows.sqlite` is in WAL mode with full synchronisation: a block and the mark that it is finished are
one transaction, so a process killed at any instant leaves whole blocks only. `run.lock` is held by
the process that writes; the kernel lets go of it when the process dies, however it dies. The folder
is private (0700), and so are its files (0600).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from workbench._store import open_private, whole_file
from workbench.errors import InputError, RunError
from workbench.runs.record import NAME

DATABASE, LOCK, RESULTS = "rows.sqlite", "run.lock", "results.parquet"
_OWN = (DATABASE, DATABASE + "-wal", DATABASE + "-shm", LOCK, RESULTS, NAME)

#: Column -> type in SQLite and in Parquet. `seconds` and the two peaks are measurements; every
#: other column is the same each time.
COLUMNS = {
    "row": ("INTEGER", pa.int64()),
    "id": ("TEXT", pa.string()),
    "source": ("TEXT", pa.string()),
    "task": ("TEXT", pa.string()),
    "status": ("TEXT", pa.string()),
    "text": ("TEXT", pa.string()),
    "error": ("TEXT", pa.string()),
    "tokens": ("INTEGER", pa.int32()),
    "mean_logprob": ("REAL", pa.float64()),
    "finish_reason": ("TEXT", pa.string()),
    "seed": ("INTEGER", pa.int64()),
    "warnings": ("TEXT", pa.string()),
    "domain": ("TEXT", pa.string()),
    "view": ("TEXT", pa.string()),
    "crop_loss": ("REAL", pa.float64()),
    "seconds": ("REAL", pa.float64()),
    "peak_rss_mb": ("REAL", pa.float64()),
    "peak_gpu_mb": ("REAL", pa.float64()),
}
DONE, FAILED = "done", "failed"
SCHEMA = pa.schema([(name, kind) for name, (_, kind) in COLUMNS.items()])
_CHUNK = 20_000
_TABLES = (
    "CREATE TABLE IF NOT EXISTS rows (block INTEGER, position INTEGER, "
    + ", ".join(f'"{name}" {kind}' for name, (kind, _) in COLUMNS.items())
    + ', PRIMARY KEY ("row", position)) WITHOUT ROWID',
    "CREATE TABLE IF NOT EXISTS blocks (block INTEGER PRIMARY KEY)",
    "CREATE INDEX IF NOT EXISTS statuses ON rows (status, block)",
)


class RunStore:
    """The rows of a run, opened for writing by one process.

    Entering takes the lock, and makes the folder where it is not there.

    Raises:
        RunError: another process has it, it holds something else, or it cannot be written.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)

    def __enter__(self) -> RunStore:
        with self.writing(), ExitStack() as stack:
            self._make_folder()
            self._take_lock(stack)
            self._database = stack.enter_context(closing(self._connected()))
            for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", *_TABLES):
                self._database.execute(statement)
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Raise a RunError that says what could not be written, and why."""
        try:
            yield
        except UnicodeDecodeError as error:  # what sqlite said of a schema that is no text
            raise RunError(
                f"{self.folder.name}/{DATABASE}: is damaged; restore it, or run again in another "
                "folder"
            ) from error
        except (sqlite3.Error, OSError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise RunError(
                f"{self.folder.name}: the results cannot be written ({reason.lower()}); what was "
                "finished is kept. Make room, or make the folder writable, and start the same "
                "command again: it resumes"
            ) from error

    def add(self, block: int, rows: Sequence[dict]) -> None:
        """Write the rows of a block, as values by column, and the mark that it is finished."""
        names = ("block", "position", *COLUMNS)
        marks = ", ".join("?" * len(names))
        values = [tuple(block if n == "block" else row.get(n) for n in names) for row in rows]
        with self.writing(), self._database as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO blocks VALUES (?)", (block,))
            database.executemany(f"INSERT INTO rows VALUES ({marks})", values)

    def finished(self, block: int) -> bool:
        """Say whether a block was written down."""
        found = self._database.execute("SELECT 1 FROM blocks WHERE block = ?", (block,))
        return found.fetchone() is not None

    def counts(self) -> dict[str, int]:
        """Return the number of rows that are done and that failed."""
        return count_rows(self._database)

    def forget_failures(self) -> int:
        """Take back every block with a failed row, whole, and return their number."""
        with self.writing(), self._database as database:
            database.execute("BEGIN IMMEDIATE")
            chosen = "SELECT DISTINCT block FROM rows WHERE status = 'failed'"
            gone = database.execute(f"DELETE FROM blocks WHERE block IN ({chosen})").rowcount
            database.execute("DELETE FROM rows WHERE block NOT IN (SELECT block FROM blocks)")
        return gone

    def export(self) -> Path:
        """Write `results.parquet`, whole or not; measured values apart, rows decide its bytes."""
        path = self.folder / RESULTS
        with self.writing(), whole_file(path) as partial, open_private(partial) as handle:
            with pq.ParquetWriter(
                handle, SCHEMA, compression="zstd", compression_level=3, version="2.6"
            ) as writer:
                for table in read_tables(self._database):
                    writer.write_table(table, row_group_size=_CHUNK)
            handle.flush()
            os.fsync(handle.fileno())
        return path

    def _make_folder(self) -> None:
        folder = self.folder
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            return
        if not folder.is_dir():
            raise RunError(f"{folder.name}: expected a folder for the run, but it is a file")
        own = {name.removesuffix(".partial") for name in os.listdir(folder)} & set(_OWN)
        if not own and any(folder.iterdir()):
            raise RunError(
                f"{folder.name}: the folder holds other files and no run; name a new or an empty "
                "folder"
            )
        if not own:
            folder.chmod(0o700)

    def _take_lock(self, stack: ExitStack) -> None:
        try:
            stack.enter_context(FileLock(self.folder / LOCK, timeout=0, mode=0o600))
        except Timeout:
            raise RunError(
                f"{self.folder.name}: another process is running in this folder; wait for it, end "
                "it, or name another folder"
            ) from None

    def _connected(self) -> sqlite3.Connection:
        path = self.folder / DATABASE
        # SQLite gives its own files the permissions of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return _connect(path, "rw", isolation_level=None, timeout=30)


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the rows of a run to read them while another process may write; else an InputError."""
    path = Path(folder) / DATABASE
    if not path.is_file():
        raise InputError(
            f"{Path(folder).name}: no run in this folder; expected what `workbench run --out` wrote"
        )
    try:
        with closing(_connect(path, "ro")) as database:
            database.execute("SELECT 1 FROM rows").fetchone()
            yield database
    # a damaged schema can make sqlite say something that is no text
    except (sqlite3.Error, pa.ArrowException, UnicodeDecodeError):
        raise InputError(
            f"{path.parent.name}/{DATABASE}: cannot be read as the rows of a run; restore it, or "
            "run again in another folder"
        ) from None


def _connect(path: Path, mode: str, **options: Any) -> sqlite3.Connection:
    """Open a database that is there, whatever its folder is called."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode={mode}", uri=True, **options)


def count_rows(database: sqlite3.Connection) -> dict[str, int]:
    """Return the number of rows that are done and that failed."""
    found = dict(database.execute("SELECT status, COUNT(*) FROM rows GROUP BY status").fetchall())
    return {DONE: found.get(DONE, 0), FAILED: found.get(FAILED, 0)}


def read_tables(database: sqlite3.Connection) -> Iterator[pa.Table]:
    """Yield the rows in the order of manifest and tasks, 20,000 at a time."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    cursor = database.execute(f'SELECT {names} FROM rows ORDER BY "row", position')
    while rows := cursor.fetchmany(_CHUNK):
        columns = zip(*rows, strict=True)
        arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
        yield pa.Table.from_arrays(arrays, schema=SCHEMA)
