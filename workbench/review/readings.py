"""What many texts say about each finding: read once, stored beside the run, then only looked up.

Reading is the slow part of opening a queue, and the same sentences come again and again.
`workbench.reports.label` reads a text sentence by sentence and then merges what the sentences say.
Here each different sentence of all texts is read once, by the same function. That is only done for
plain texts: full stops behind words and nothing else that could end a sentence, no abbreviation
before a stop, no heading whose section is passed over. All other texts are read whole.

The results are stored in `readings.parquet` by the hash of the text. The file belongs to one
version of the reader and its lexicon, and is written again when those change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
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
from workbench.findings import (
    ABSENT,
    ALL_FINDINGS,
    CODES,
    NO_FINDING,
    NOT_MENTIONED,
    PRESENT,
    SIDES,
    UNCERTAIN,
)
from workbench.reports import label
from workbench.reports.labeler import labeler_version
from workbench.reports.lexicon import lexicon

FILE = "readings.parquet"
SIDE_NAMES = ("", *SIDES)
_CHUNK = 2000
#: Findings that are compared; "no finding" follows from the others.
FINDINGS = tuple(name for name in ALL_FINDINGS if name != NO_FINDING)
#: Codes and sides as small numbers, and back.
CODE_NAMES = np.array(CODES, dtype=object)
CODE = {code: number for number, code in enumerate(CODES)}
SIDE = {None: 0} | {side: number for number, side in enumerate(SIDES, start=1)}

_AT = {name: at for at, name in enumerate(FINDINGS)}
#: Strongest last: where a text says several things, this one counts.
_RANK = tuple(CODE[code] for code in (NOT_MENTIONED, ABSENT, UNCERTAIN, PRESENT))
#: Anything besides a full stop, behind a word and before a blank, that may end a sentence.
_NOT_PLAIN = re.compile(r"[!?\n\r]|(?<![a-z]{3})\.|\.(?! |$)")
_BEFORE_WORD = re.compile(r"[\s(\[]")
_SHORTENED = frozenset(("mrs", "prof", "approx", "fig", "incl", "resp", "max", "min", "avg", "etc"))

#: One mention of a finding: its number in `FINDINGS`, the place of its code in `_RANK`, its side.
_Said = tuple[int, int, int]


class BulkReader:
    """Reads texts and remembers what each sentence says."""

    def __init__(self) -> None:
        words = lexicon()
        self._skips = words.headings.skips
        stems = dict.fromkeys(stem for finding in words.findings for stem in finding.stems)
        # the same answer as `Lexicon.speaks`, in one search
        self._speaks = re.compile("|".join(map(re.escape, stems))).search
        # None: the texts that have such a sentence are read whole
        self._known: dict[str, tuple[_Said, ...] | None] = {}

    def read(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, 2, findings) int8: codes and sides as in `CODE` and `SIDE`."""
        ranks, sides = ([[0] * len(FINDINGS) for _ in texts] for _ in range(2))
        for text, rank, place in zip(texts, ranks, sides, strict=True):
            for finding, strength, side in self._said(text):
                if strength > rank[finding]:
                    rank[finding], place[finding] = strength, side
                elif strength == rank[finding] and side and side != place[finding]:
                    place[finding] = SIDE["bilateral"] if place[finding] else side
        codes = np.array(_RANK, dtype=np.int8)[np.array(ranks, dtype=int)]
        return np.stack([codes, np.array(sides, dtype=np.int8)], axis=1)

    def _said(self, text: str) -> Iterable[_Said]:
        if _NOT_PLAIN.search(text):
            return _read(text)
        *stopped, rest = map(str.strip, text.split("."))
        pieces = [f"{piece}." for piece in stopped] + ([rest] if rest else [])
        said: list[_Said] = []
        for piece in pieces:
            own = self._sentence(piece)
            if own is None:
                return _read(text)
            said += own
        return said

    def _sentence(self, sentence: str) -> tuple[_Said, ...] | None:
        if sentence not in self._known:
            word = _BEFORE_WORD.split(sentence[:-1])[-1].lower()
            alone = word in _SHORTENED or self._skips(sentence)
            said = _read(sentence) if not alone and self._speaks(sentence.lower()) else ()
            self._known[sentence] = None if alone else said
        return self._known[sentence]


def _read(text: str) -> tuple[_Said, ...]:
    return tuple(
        (_AT[row.finding], _RANK.index(CODE[row.code]), SIDE[row.side])
        for row in label(text).mentions
        if row.finding in _AT
    )


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
    reader = BulkReader()
    for start in progress(range(0, len(fresh), _CHUNK), label="reading reports", show=show):
        chunk = fresh[start : start + _CHUNK]
        for at, cells in zip(chunk, reader.read([unique[at] for at in chunk]), strict=True):
            known[keys[at]] = cells.tobytes()
    if fresh and folder is not None:
        _save(folder, known)
    silent = np.repeat(np.array([CODE[NOT_MENTIONED], 0], dtype=np.int8), len(FINDINGS))
    joined = b"".join([*(known[key] for key in keys), silent.tobytes()])
    chosen = np.frombuffer(joined, dtype=np.int8).reshape(-1, 2, len(FINDINGS))[numbers]
    return TextFindings(chosen[:, 0], chosen[:, 1], len(fresh))


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
