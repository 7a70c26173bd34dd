"""What many texts say about each finding: read once, stored beside the run, then only looked up.

Reading is the slow part of opening a queue, and the same sentences come again and again.
`workbench.reports.label` reads a text sentence by sentence and then merges what the sentences say.
Here each different sentence of all texts is read once, by the same function, and merged for all
texts together. That is only done for plain texts: full stops behind words and nothing else that
could end a sentence, no abbreviation before a stop, no heading whose section is passed over. All
other texts are read whole. A test compares both ways.

The results are stored in `readings.parquet` by the hash of the text. The file belongs to one
version of the reader and its lexicon, and is written again when those change.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
from filelock import FileLock

from workbench._progress import progress
from workbench._repr import short_repr
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
from workbench.reports.lexicon import lexicon

FILE = "readings.parquet"
SIDE_NAMES = ("", *SIDES)
_CHUNK = 2000
#: Findings that are compared; "no finding" follows from the others.
FINDINGS = tuple(name for name in ALL_FINDINGS if name != NO_FINDING)
#: Codes and sides as small numbers.
CODE = {code: number for number, code in enumerate(CODES)}
SIDE = {None: 0} | {side: number for number, side in enumerate(SIDES, start=1)}

_AT = {name: at for at, name in enumerate(FINDINGS)}
#: Strongest first: where a text says several things, this one counts.
_RANK = (PRESENT, UNCERTAIN, ABSENT)
_MENTIONED = 1 << len(SIDES)
#: Bytes of the findings of one sentence.
_CELL = len(FINDINGS) * len(_RANK)
#: Anything besides a full stop, behind a word and before a blank, that may end a sentence.
_NOT_PLAIN = re.compile(r"[!?\n\r]|(?<![a-z]{3})\.|\.(?! |$)")
_BEFORE_WORD = re.compile(r"[\s(\[]")
_SHORTENED = frozenset(("mrs", "prof", "approx", "fig", "incl", "resp", "max", "min", "avg", "etc"))


class BulkReader:
    """Reads texts and remembers sentences."""

    def __init__(self) -> None:
        words = lexicon()
        self._skips = words.headings.skips
        stems = dict.fromkeys(stem for finding in words.findings for stem in finding.stems)
        # the same answer as `Lexicon.speaks`, in one search
        self._speaks = re.compile("|".join(map(re.escape, stems))).search
        self._numbers: dict[str, int] = {}
        # of each sentence, one behind the other; number 0 stands for all that name nothing
        self._bits = bytearray(_CELL)
        self._alone: set[int] = set()

    def read(self, texts: Sequence[str]) -> np.ndarray:
        """Return (texts, 2, findings) int8: codes and sides as in `CODE` and `SIDE`."""
        cells = np.empty((len(texts), 2, len(FINDINGS)), dtype=np.int8)
        rows, starts, sentences = [], [], []
        for at, text in enumerate(texts):
            found = self._sentences(text)
            if found is None:
                cells[at] = _whole(text)
            else:
                rows.append(at)
                starts.append(len(sentences))
                sentences += found
        if rows:
            known = np.frombuffer(bytes(self._bits), np.uint8).reshape(
                -1, len(FINDINGS), len(_RANK)
            )
            bits = known[np.array(sentences)]
            cells[rows] = _merged(np.bitwise_or.reduceat(bits, starts, axis=0))
        return cells

    def _sentences(self, text: str) -> list[int] | None:
        """Return the numbers of the sentences of a text; None where it must be read whole."""
        if _NOT_PLAIN.search(text):
            return None
        *stopped, rest = text.split(".")
        pieces = [f"{piece}." for piece in map(str.strip, stopped)]
        if rest.strip():
            pieces.append(rest.strip())
        found = [self._number(piece) for piece in pieces]
        return found if found and self._alone.isdisjoint(found) else None

    def _number(self, sentence: str) -> int:
        number = self._numbers.get(sentence)
        if number is None:
            word = _BEFORE_WORD.split(sentence[:-1])[-1].lower()
            alone = word in _SHORTENED or self._skips(sentence)
            number = len(self._bits) // _CELL if alone or self._speaks(sentence.lower()) else 0
            self._numbers[sentence] = number
            if alone:
                self._alone.add(number)
            if number:
                self._bits += _sentence_bits(sentence).tobytes()
        return number


def _sentence_bits(sentence: str) -> np.ndarray:
    """Return (findings, codes by rank) uint8: a bit for each side, and one for being mentioned."""
    bits = np.zeros((len(FINDINGS), len(_RANK)), dtype=np.uint8)
    for row in label(sentence).mentions:
        if row.finding in _AT:
            side = 0 if row.side is None else 1 << (SIDE[row.side] - 1)
            bits[_AT[row.finding], _RANK.index(row.code)] |= _MENTIONED | side
    return bits


def _merged(bits: np.ndarray) -> np.ndarray:
    """Return (n, 2, findings) codes and sides out of (n, findings, codes by rank) bits."""
    mentioned = bits >= _MENTIONED
    rank = mentioned.argmax(axis=2)
    spoken = mentioned.any(axis=2)
    codes = np.array([CODE[code] for code in _RANK], dtype=np.int8)[rank]
    sides = np.take_along_axis(bits, rank[:, :, None], axis=2)[:, :, 0] & (_MENTIONED - 1)
    table = [SIDE["bilateral"]] * _MENTIONED
    table[0] = 0
    for side in SIDES:
        table[1 << (SIDE[side] - 1)] = SIDE[side]
    silent = np.int8(CODE[NOT_MENTIONED])
    return np.stack(
        [np.where(spoken, codes, silent), np.where(spoken, np.array(table, np.int8)[sides], 0)],
        axis=1,
    )


def _whole(text: str) -> np.ndarray:
    cells = np.zeros((2, len(FINDINGS)), dtype=np.int8)
    cells[0] = CODE[NOT_MENTIONED]
    for row in label(text).rows:
        if row.finding in _AT:
            cells[:, _AT[row.finding]] = CODE[row.code], SIDE[row.side]
    return cells


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
    """Return the code and the side of each finding in each text.

    Args:
        texts: (n,) reports; missing values say nothing.
        folder: where readings are stored; None stores nothing. A folder that cannot be written is
            no error: the texts are read again next time.
        show: whether a bar may appear.
    """
    numbers, unique = pd.factorize(texts.to_numpy(object), use_na_sentinel=True)
    keys = [_key(text) for text in unique]
    known = dict(_load(folder))
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
    parts.append(files("workbench.review").joinpath("readings.py").read_bytes())
    return hashlib.sha256(b"\0".join((*parts, "|".join(FINDINGS).encode()))).hexdigest()


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _load(folder: Path | None) -> Iterable[tuple[bytes, bytes]]:
    """Return the stored (key, cells); nothing where they are of another reader or damaged."""
    path = None if folder is None else folder / FILE
    if path is None or not path.is_file():
        return ()
    try:
        table = parquet.read_table(path, use_threads=False)
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
            parquet.write_table(table, handle, compression="zstd")
    except OSError:  # a full disk or a read-only folder: read again next time
        return
