"""Records that are only ever added: one JSON object on a line, private, safe for several writers.

A line is written with one call to a file opened for appending, under a lock that other processes
and tabs wait for, and then forced to disk. A line that was cut off (power, full disk) stays where
it is: the next record begins on a line of its own, and readers pass the torn one over and count it.

Does not know: what the records mean.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from workbench._files import parse_json
from workbench.errors import RunError

#: Seconds to wait for another writer; a write takes milliseconds.
_PATIENCE = 30


class AppendedLines:
    """A JSON Lines file that only grows.

    Args:
        path: made at the first record, readable by its owner only (0600).
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)

    def add(self, record: Mapping[str, Any]) -> None:
        """Write one record behind all others.

        Raises:
            RunError: the file cannot be written, or another process holds it for too long; what
                was written before is kept.
        """
        line = json.dumps(record, ensure_ascii=True, allow_nan=False).encode("ascii") + b"\n"
        lock = FileLock(f"{self.path}.lock", timeout=_PATIENCE, mode=0o600)
        try:
            if not self.path.parent.is_dir():
                raise FileNotFoundError(2, "its folder is gone")
            with lock:
                self._append(line)
        except Timeout:
            raise RunError(
                f"{self.path.name}: another process has held this file for {_PATIENCE} seconds; "
                "end it and try again"
            ) from None
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            raise RunError(
                f"{self.path.name}: the record cannot be written ({reason}); what was written "
                "before is kept. Make room, or make the folder writable, and try again"
            ) from error

    def read(self) -> tuple[list[dict], int]:
        """Return the records in the order they were written, and how many lines are torn."""
        if not self.path.is_file():
            return [], 0
        records, torn = [], 0
        for line in self.path.read_bytes().split(b"\n"):
            if not line.strip():
                continue
            try:
                record = parse_json(line)
            except ValueError:
                record = None
            if isinstance(record, dict):
                records.append(record)
            else:
                torn += 1
        return records, torn

    def _append(self, line: bytes) -> None:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line
            written = os.write(file, line)
            if written < len(line):
                raise OSError(28, "no space left on device")
            os.fsync(file)
        finally:
            os.close(file)
