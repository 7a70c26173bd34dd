"""What many texts say about each finding: read once, kept beside the run, and then only looked up.

Reading is the slow part of opening a queue. Equal texts, and equal sentences of plain texts, are
read once, and what was read is kept in `readings.parquet`, by the hash of the text; the file
belongs to one version of the reader and its lexicon, and is written again when those change.

Does not know: whose the texts are, or which of them is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from filelock import FileLock

from workbench._progress import progress
from workbench._repr import short_repr
from workbench._store import open_private, whole_file
from workbench.findings import NOT_MENTIONED, SIDES
from workbench.review.bulk import CODE, FINDINGS, BulkReader

SIDE_NAMES = ("", *SIDES)
FILE = "readings.parquet"
_CHUNK = 2000


@dataclass(frozen=True, eq=False)
class Readings:
    """What texts say.

    Attributes:
        codes: (texts, findings) int8, index of `findings.CODES`; a missing text mentions nothing.
        sides: (texts, findings) int8, index of `SIDE_NAMES`; 0 where none is given.
        read: how many texts had to be read now, rather than looked up.
    """

    codes: np.ndarray
    sides: np.ndarray
    read: int

    __repr__ = short_repr


def read_texts(texts: pd.Series, *, folder: Path | None = None, show: bool = False) -> Readings:
    """Return what each text says of each finding.

    Args:
        texts: (n,) reports; missing values say nothing.
        folder: where readings are kept; None keeps nothing. A folder that cannot be written is
            no error, it only costs the time again.
        show: whether a bar may appear.
    """
    numbers, unique = pd.factorize(texts.to_numpy(object), use_na_sentinel=True)
    keys = [_key(text) for text in unique]
    kept = _load(folder)
    known = dict(kept)
    fresh = [at for at, key in enumerate(keys) if key not in known]
    reader = BulkReader()
    for start in progress(range(0, len(fresh), _CHUNK), label="reading reports", show=show):
        chunk = fresh[start : start + _CHUNK]
        for at, cells in zip(chunk, reader.read([unique[at] for at in chunk]), strict=True):
            known[keys[at]] = cells.tobytes()
    if fresh and folder is not None:
        _save(folder, known)
    table = np.empty((len(unique) + 1, 2, len(FINDINGS)), dtype=np.int8)
    if unique.size:
        joined = b"".join(known[key] for key in keys)
        table[:-1] = np.frombuffer(joined, dtype=np.int8).reshape(len(unique), 2, len(FINDINGS))
    table[-1, 0], table[-1, 1] = CODE[NOT_MENTIONED], 0
    chosen = table[numbers]
    return Readings(chosen[:, 0], chosen[:, 1], len(fresh))


@cache
def reader_version() -> str:
    """Return a hash of the reader and its lexicon, 64 hexadecimal digits."""
    home = files("workbench.reports")
    every = (*home.iterdir(), *(home / "lexicons").iterdir())
    read = [item for item in every if item.name.endswith((".py", ".yaml"))]
    parts = [item.read_bytes() for item in sorted(read, key=lambda item: item.name)]
    parts.append(files("workbench.review").joinpath("bulk.py").read_bytes())
    return hashlib.sha256(b"\0".join((*parts, "|".join(FINDINGS).encode()))).hexdigest()


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _load(folder: Path | None) -> Iterable[tuple[bytes, bytes]]:
    """Return (key, cells) of what was kept; nothing where it is of another reader or damaged."""
    path = None if folder is None else folder / FILE
    if path is None or not path.is_file():
        return ()
    try:
        table = pa.parquet.read_table(path, use_threads=False)
        version = (table.schema.metadata or {}).get(b"reader", b"")
        keys, cells = table["key"].to_pylist(), table["cells"].to_pylist()
    except (pa.ArrowException, OSError, KeyError):
        return ()
    sizes = {len(cell) if isinstance(cell, bytes) else None for cell in cells}
    fits = version == reader_version().encode() and sizes <= {2 * len(FINDINGS)}
    return zip(keys, cells, strict=True) if fits else ()


def _save(folder: Path, known: dict[bytes, bytes]) -> None:
    table = pa.table(
        {
            "key": pa.array(list(known), pa.binary(16)),
            "cells": pa.array(list(known.values()), pa.binary(2 * len(FINDINGS))),
        }
    ).replace_schema_metadata({"reader": reader_version()})
    path = folder / FILE
    try:
        with (
            FileLock(f"{path}.lock", timeout=30, mode=0o600),
            whole_file(path) as partial,
            open_private(partial) as handle,
        ):
            pa.parquet.write_table(table, handle, compression="zstd")
    except OSError:  # a full disk or a read-only folder: read again next time
        return
