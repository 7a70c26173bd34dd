"""What many texts say about each finding: read once, stored beside the run, then only looked up.

Reading is the slow part of opening a queue. The results are stored in `readings.parquet` by the
hash of the text. The file belongs to one version of the reader and its lexicon, and is written
again when those change.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
from filelock import FileLock

from workbench._progress import progress
from workbench._store import open_private, whole_file
from workbench.findings import ALL_FINDINGS, CODES, NO_FINDING, NOT_MENTIONED, SIDES
from workbench.reports import label
from workbench.reports.labeler import labeler_version

FILE = "readings.parquet"
SIDE_NAMES = ("", *SIDES)
#: Findings that are compared; "no finding" follows from the others.
FINDINGS = tuple(name for name in ALL_FINDINGS if name != NO_FINDING)
#: Codes and sides as small numbers, and back.
CODE_NAMES = np.array(CODES, dtype=object)
CODE = {code: number for number, code in enumerate(CODES)}
SIDE = {None: 0} | {side: number for number, side in enumerate(SIDES, start=1)}


class TextFindings(NamedTuple):
    """What texts say of each finding.

    Attributes:
        codes: (texts, findings) int8, index of `findings.CODES`; a missing text mentions nothing.
        sides: (texts, findings) int8, index of `SIDE_NAMES`; 0 where none is given.
        read: how many texts had to be read now, rather than looked up.
    """

    codes: np.ndarray
    sides: np.ndarray
    read: int


def read_texts(texts: pd.Series, *, folder: Path | None = None, show: bool = False) -> TextFindings:
    """Return the code and the side of each finding in each of (n,) texts, which may be missing.

    Readings are stored in `folder`, where there is one; one that cannot be written is no error: the
    texts are read again next time. `show` lets a bar appear.
    """
    numbers, unique = pd.factorize(texts.to_numpy(object), use_na_sentinel=True)
    keys = [_key(text) for text in unique]
    known = {} if folder is None else _load(folder)
    fresh = [at for at, key in enumerate(keys) if key not in known]
    for at in progress(fresh, label="reading reports", show=show):
        known[keys[at]] = _read(unique[at]).tobytes()
    if fresh and folder is not None:
        _save(folder, known)
    silent = np.repeat(np.array([CODE[NOT_MENTIONED], 0], dtype=np.int8), len(FINDINGS))
    joined = b"".join([*(known[key] for key in keys), silent.tobytes()])
    chosen = np.frombuffer(joined, dtype=np.int8).reshape(-1, 2, len(FINDINGS))[numbers]
    return TextFindings(chosen[:, 0], chosen[:, 1], len(fresh))


def _read(text: str) -> np.ndarray:
    """Return (2, findings) int8: codes and sides of a text as in `CODE` and `SIDE`."""
    cells = np.zeros((2, len(FINDINGS)), np.int8)
    cells[0] = CODE[NOT_MENTIONED]
    for row in label(text).rows:
        if row.finding != NO_FINDING:
            cells[:, FINDINGS.index(row.finding)] = CODE[row.code], SIDE[row.side]
    return cells


@cache
def reader_version() -> str:
    """Return a hash of the reader and its lexicon, 64 hexadecimal digits."""
    own = files("workbench.review").joinpath("readings.py").read_bytes()
    parts = (labeler_version().encode(), own, "|".join(FINDINGS).encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _load(folder: Path) -> dict[bytes, bytes]:
    """Return the stored cells by key; nothing where they are of another reader or damaged."""
    try:
        table = parquet.read_table(folder / FILE, use_threads=False)
        version = (table.schema.metadata or {}).get(b"reader", b"")
        keys, cells = table["key"].to_pylist(), table["cells"].to_pylist()
    except (pa.ArrowException, OSError, KeyError):
        return {}
    sizes = {len(cell) if isinstance(cell, bytes) else None for cell in cells}
    fits = version == reader_version().encode() and sizes <= {2 * len(FINDINGS)}
    return dict(zip(keys, cells, strict=True)) if fits else {}


def _save(folder: Path, known: dict[bytes, bytes]) -> None:
    keys = pa.array(list(known), pa.binary(16))
    cells = pa.array(list(known.values()), pa.binary(2 * len(FINDINGS)))
    table = pa.table({"key": keys, "cells": cells})
    table = table.replace_schema_metadata({"reader": reader_version()})
    path = folder / FILE
    try:
        with (
            FileLock(f"{path}.lock", timeout=30, mode=0o600),
            whole_file(path) as partial,
            open_private(partial) as handle,
        ):
            parquet.write_table(table, handle, compression="zstd")
    except OSError:  # a full disk or a read-only folder: read again next time
        return
