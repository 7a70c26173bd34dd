"""Files that appear whole or not at all, private ones too; their hash; JSON read with care.

Does not know: what is in them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

#: Largest JSON file that is read, bytes; a cohort of a million images is half of it.
MAX_JSON_BYTES = 200_000_000


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


def open_private(path: Path):
    """Open an empty file for writing bytes that only its owner can read."""
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not JSON in UTF-8, is nested too deeply, or is too large.
    """
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"larger than {MAX_JSON_BYTES // 10**6} MB")
    text = path.read_text(encoding="utf-8")
    value = parse_json(text)
    if "\\ud" in text.lower():  # half a character, which no file and no page can show
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    return value


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
