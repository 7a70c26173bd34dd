"""Tables of text: every row fits its header, or the file is refused with the row's number.

Nothing is guessed: a table with a comma in a text without quotes, a quote that is never closed or a
line break without quotes is not read at all. Spreadsheets run a cell of a CSV file that begins with
=, +, - or @; `neutral` puts an apostrophe in front. Source: OWASP, CSV Injection.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, TextIO, cast

from workbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Rows that are turned into columns at once.
_BLOCK = 20_000
#: Bytes that are parsed at once.
_BYTES = 1 << 26
_SENTENCE = re.compile(r"[.!?;:,]\s|[\n\r\t]")
#: What `csv` says of a fault, and what is said here.
_FAULTS = {
    "unexpected end of data": "a quote is opened and never closed",
    "expected after": "a quote is closed in the middle of a cell",
}
_DAMAGES = (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error)


def read_rows(path: Path, *, delimiter: str | None = None) -> Iterator[list[str]]:
    """Yield the header, its names without blanks around them, then every row, reading as it goes.

    Each row has as many cells as the header. Empty lines are left out; empty cells behind the last
    column are cut, and columns without a name may be missing.

    Args:
        path: a CSV or TSV file in UTF-8, as it is, gzipped, or alone in a zip file.
        delimiter: between cells; None for a tab in a .tsv file and a comma in any other.

    Raises:
        InputError: not UTF-8, a row that does not fit the header, or quotes that do not close; the
            message names the row, and never quotes it.
    """
    csv.field_size_limit(2**31 - 1)
    guessed, delimiter = delimiter is None, delimiter or _delimiter(path)
    number, line = -1, 0
    try:
        with open_text(path) as handle:
            reader = csv.reader(_without_nul(handle), delimiter=delimiter, strict=True)
            names: list[str] | None = None
            for row in reader:
                if names is None and row:
                    names = [name.strip() for name in row]
                    if guessed:
                        _refuse_other_marks(names, path)
                    yield names
                    number = 0
                elif names and not _is_blank(row, len(names)):
                    number += 1
                    if len(row) != len(names):
                        row = _fitted(row, names, path, _place(number, line + 1))
                    yield row
                line = reader.line_num
    except csv.Error as error:
        said = next((text for fault, text in _FAULTS.items() if fault in str(error)), str(error))
        raise InputError(
            f"{path.name}, {_place(number + 1, line + 1)}: {said}; nothing was read. "
            'Save it as CSV UTF-8 again, with "quotes" around texts and quotes in them doubled'
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name} is not a CSV file in UTF-8 (byte {error.start} of a block: "
            f"{error.reason}); save it as CSV UTF-8 and try again"
        ) from None
    except _DAMAGES:
        raise InputError(f"{path.name} is damaged: it cannot be unpacked; fetch it again") from None


def read_frame(path: Path, *, delimiter: str | None = None) -> pd.DataFrame:
    """Return a table, every cell as the text that stands there; an empty cell is an empty text.

    Columns without a name are called "Unnamed: 0" and so on, by their place.

    Raises:
        InputError: as `read_rows`, there is no header, or two columns have one name.
    """
    import pandas as pd

    header, columns = read_columns(path, delimiter=delimiter)
    names = [name or f"Unnamed: {at}" for at, name in enumerate(header)]
    for name in names:
        if names.count(name) > 1:
            places = [at for at, other in enumerate(names, start=1) if other == name]
            raise InputError(
                f"{path.name}: two columns, {places[0]} and {places[1]}, are called {name!r}; keep "
                "one of them"
            )
    return pd.DataFrame(
        {name: pd.Series(cells, dtype="str") for name, cells in zip(names, columns, strict=True)}
    )


def read_columns(
    path: Path, *, delimiter: str | None = None
) -> tuple[list[str], list[pa.ChunkedArray]]:
    """Return the header, and the columns; errors as of `read_frame`."""
    import pyarrow as pa

    rows = read_rows(path, delimiter=delimiter)
    names = next(rows, [])
    if not names:
        raise InputError(f"{path.name} is empty; expected a header")
    columns = _parsed(path, len(names), delimiter or _delimiter(path))
    if columns is None:
        blocks: list[list[pa.Array]] = [[] for _ in names]
        while block := list(islice(rows, _BLOCK)):
            for cells, column in zip(blocks, zip(*block, strict=True), strict=True):
                cells.append(pa.array(column, pa.large_string()))
        columns = [pa.chunked_array(cells, pa.large_string()) for cells in blocks]
    return names, columns


def _parsed(path: Path, wide: int, delimiter: str) -> list[pa.ChunkedArray] | None:
    """Return the columns of a table without any fault, as Arrow reads it, which is faster.

    None for a table that needs a closer look: `read_rows` names its fault, or reads it.
    """
    import pyarrow as pa
    import pyarrow.csv

    try:
        with _open_bytes(path) as handle:
            data = handle.read().removeprefix(codecs.BOM_UTF8)
    except _DAMAGES:
        return None
    if not _is_plain(data, delimiter):
        return None
    names = [str(at) for at in range(wide)]
    options = pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.large_string()), strings_can_be_null=False
    )
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(data),
            pyarrow.csv.ReadOptions(use_threads=False, block_size=_BYTES, column_names=names),
            pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            options,
        )
    except pa.ArrowException:
        return None
    return table.slice(1).columns


def _is_plain(data: bytes, delimiter: str) -> bool:
    """Return whether every quote opens a cell, closes one or is doubled, and lines end in \\n.

    A quote that is opened and one that is closed take turns; a doubled one closes and opens again.
    """
    import numpy as np

    if b"\0" in data or data.count(b"\r") != data.count(b"\r\n"):
        return False
    quotes = np.flatnonzero(np.frombuffer(data, np.uint8) == ord('"'))
    around = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    edges = np.frombuffer(b'"\r\n' + delimiter.encode(), np.uint8)
    before, behind = around[quotes[::2]], around[quotes[1::2] + 2]
    return len(quotes) % 2 == 0 and bool(
        np.isin(before, edges).all() and np.isin(behind, edges).all()
    )


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file in UTF-8, unpacked; line ends stay as they are."""
    with _open_bytes(path) as data, io.TextIOWrapper(data, "utf-8-sig", newline="") as handle:
        yield handle


@contextmanager
def _open_bytes(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix.lower() == ".gz":
        with gzip.open(path) as handle:
            yield cast("IO[bytes]", handle)
    elif path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            inside = [name for name in archive.namelist() if not name.endswith("/")]
            if len(inside) != 1:
                raise InputError(f"{path.name} holds {len(inside)} files; expected one table")
            with archive.open(inside[0]) as handle:
                yield handle
    else:
        with path.open("rb") as handle:
            yield handle


def _delimiter(path: Path) -> str:
    return "\t" if ".tsv" in (part.lower() for part in path.suffixes) else ","


def listed(names: Iterable[object], *, most: int = 12) -> str:
    """Return names of columns for a message.

    A file without a header has a row of data there: of what reads like a text, only the length.
    """
    found = [brief(name) for name in names]
    more = f", and {len(found) - most} more" if len(found) > most else ""
    return (", ".join(found[:most]) + more) or "none"


def brief(cell: object) -> str:
    """Return a short cell as it may be printed, else its length."""
    text = str(cell)
    short = len(text) <= 40 and len(text.split()) <= 4 and not _SENTENCE.search(text)
    return text if short else f"({len(text)} characters, not shown)"


def _refuse_other_marks(names: list[str], path: Path) -> None:
    """Raise where the first line tells what separates cells, or something else separates them."""
    if names[0].casefold().startswith("sep="):
        raise InputError(
            f"{path.name}: the first line names a separator, as spreadsheets write it; expected "
            "the header. Save it as CSV UTF-8 with commas, without that line"
        )
    for mark, said in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "commas")):
        if len(names) == 1 and mark in names[0]:
            raise InputError(
                f"{path.name}: the header has one column, but {said} in it, which separate no "
                "cells here; save it as CSV UTF-8 with commas, or as .tsv with tabs"
            )


def _without_nul(lines: Iterable[str]) -> Iterator[str]:
    for text in lines:
        if "\0" in text:
            raise csv.Error("a NUL character")
        yield text


def _is_blank(row: list[str], wide: int) -> bool:
    return not row or (len(row) == 1 < wide and not row[0].strip())


def _fitted(row: list[str], names: list[str], path: Path, place: str) -> list[str]:
    """Return a row whose missing or additional cells are empty and have no name."""
    wide = len(names)
    if len(row) > wide and not any(cell.strip() for cell in row[wide:]):
        return row[:wide]
    if len(row) < wide and not any(names[len(row) :]):
        return row + [""] * (wide - len(row))
    cause = 'a text with a comma needs "quotes" around it'
    if len(row) < wide:
        cause = 'it is cut, or a text with a line break has no "quotes" around it'
    raise InputError(
        f"{path.name}, {place}: {len(row)} cells, but the header has {wide}; {cause}. Nothing was "
        "read; correct the row, or save the file as CSV again"
    )


def _place(number: int, line: int) -> str:
    return "the header" if number < 1 else f"row {number} (line {line})"


#: What a cell that is run as a formula begins with.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")


def neutral(value: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    if not value.startswith(FORMULA_STARTS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
