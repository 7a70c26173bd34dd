"""Files that survive a kill, a full disk and a second writer; their hash; JSON read with care.

`whole_file` replaces a file whole or not at all. `JsonLines` only ever adds: a line is written with
one call to a file opened for appending, under a lock that other processes and tabs wait for, and
then forced to disk. A line that was cut off (power, full disk) stays where it is: the next record
begins on a line of its own, and readers pass the torn one over and count it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from filelock import FileLock, Timeout

from workbench.errors import OptionError, RunError

#: Largest JSON file that is read, bytes; a cohort of a million images is half of it.
MAX_JSON_BYTES = 200_000_000
#: Seconds to wait for another writer; a write takes milliseconds.
_PATIENCE = 30

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name to write to; the file takes the place of `path`, or vanishes if that fails."""
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    with whole_file(path) as partial, open_private(partial) as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def open_private(path: Path) -> BinaryIO:
    """Open an empty file for writing bytes that only its owner can read."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes whenever a file that only grows has changed; None for no file."""
    with suppress(OSError):
        seen = path.stat()
        return seen.st_size, seen.st_mtime_ns
    return None


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        ValueError: it is not JSON in UTF-8, is nested too deeply, or is too large.
    """
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"larger than {MAX_JSON_BYTES // 10**6} MB")
    text = path.read_text(encoding="utf-8")
    value = parse_json(text)
    if "\\ud" in text.lower():  # half a character, which no file and no page can show
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def write_json(path: Path, value: object) -> None:
    """Write plain values; what JSON has no form for is written as its text."""
    path.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_yaml(package: str, name: str) -> Any:
    """Return the value of a YAML file that lies in a package."""
    import yaml  # which commands that need no list do without

    text = (files(package) / name).read_text("utf-8")
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # 30 times as fast


class JsonLines:
    """A file of JSON objects, one on a line, that only grows and that its owner alone can read."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def read(self) -> tuple[list[dict[str, Any]], int]:
        """Return the records in the order they were written, and how many lines are torn."""
        records, torn = [], 0
        for line in self.path.read_bytes().split(b"\n") if self.path.is_file() else ():
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

    def add(self, record: Mapping[str, object]) -> None:
        """Write one record behind all others.

        Raises:
            RunError: the file cannot be written, or another process has held it for too long; the
                records before are kept.
        """
        line = json.dumps(record, default=dict).encode("ascii") + b"\n"
        try:
            if not self.path.parent.is_dir():
                raise FileNotFoundError(2, "its folder is gone")
            with FileLock(f"{self.path}.lock", timeout=_PATIENCE, mode=0o600):
                self._append(line)
        except OSError as error:
            name, reason = self.path.name, (error.strerror or type(error).__name__).lower()
            if isinstance(error, Timeout):
                reason = f"another process has held it for {_PATIENCE} seconds"
            raise RunError(
                f"{name}: the record cannot be written ({reason}); what was written before is "
                "kept. Make room, or make the folder writable, and try again"
            ) from error

    def _append(self, line: bytes) -> None:
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(file, line) < len(line):
                raise OSError(28, "no space left on device")
            os.fsync(file)
        finally:
            os.close(file)


class StoredResults(dict[Key, Result]):
    """Finished work by key; what is set is also written to a file, so that a stopped run resumes.

    Args:
        path: of the `JsonLines`, whose errors come; None stores nothing.
        head: plain values that all results depend on, such as the hash of the weights; a line of
            them begins the file.
        encode: takes key and result to plain values; `decode` takes these back.

    Raises:
        OptionError: the file has another head.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        head: Mapping[str, object],
        *,
        encode: Callable[[Key, Result], Mapping[str, object]],
        decode: Callable[[dict[str, Any]], tuple[Key, Result]],
    ) -> None:
        super().__init__()
        self._encode = encode
        self._lines = None if path is None else JsonLines(path)
        if self._lines is None:
            return
        wanted = json.loads(json.dumps(head, default=dict))
        records, _ = self._lines.read()
        found = records[0] if records else wanted
        if differing := [n for n in wanted | found if wanted.get(n) != found.get(n)]:
            raise OptionError(
                f"{path} was written for other weights or options ({', '.join(differing)}); "
                "name another file"
            )
        self.update(decode(record) for record in records if record != wanted)
        if not records:
            self._lines.add(wanted)

    def __setitem__(self, key: Key, result: Result) -> None:
        super().__setitem__(key, result)
        if self._lines is not None:
            self._lines.add(self._encode(key, result))
