"""What commands over a column of texts share: their arguments, reading row by row, the result."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

import workbench.commands._shared as shared
from workbench._store import whole_file
from workbench._tables import check_rows, listed, read_rows
from workbench.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add FILE, --text-column, --id-column and --out."""
    numbered = "identifiers (default id, or the row number without one)"
    shared.option(parser, "file FILE", "CSV (or .tsv) with a header", type=Path)
    shared.option(parser, "--text-column C", "texts (default text)", default="text")
    shared.option(parser, "--id-column I", numbered)
    shared.option(parser, "--out OUT.csv", "result (default stdout)", type=Path)


def read_texts(
    path: Path, *, text_column: str = "text", id_column: str | None = None
) -> Iterator[tuple[str, str]]:
    """Return (identifier, text) of each row, read as they are asked for.

    The whole file is looked through at once, so that a fault at its end is found before anything is
    written; no more than a row is held.

    Raises:
        InputError: no such file, not readable as text, a row does not fit the header, or a column
            is missing; the message names the row, or lists the columns there are.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a CSV file with a header")
    header = next(read_rows(path), [])
    key = _checked(path, header, text_column, id_column)
    check_rows(path)
    text_at, key_at = header.index(text_column), header.index(key) if key else None
    rows = enumerate(islice(read_rows(path), 1, None), start=1)
    return ((str(number) if key_at is None else row[key_at], row[text_at]) for number, row in rows)


def _checked(path: Path, columns: list[str], text: str, key: str | None) -> str | None:
    """Return the column of identifiers, None where rows are numbered.

    Raises:
        InputError: a column is missing, or there twice.
    """
    key = key or ("id" if "id" in columns else None)
    for name in [text] + ([key] if key else []):
        if columns.count(name) != 1:
            has = "no" if name not in columns else "more than one"
            raise InputError(
                f"{path.name} has {has} column {name!r}; it has: {listed(columns)} "
                "(choose with --text-column and --id-column)"
            )
    return key


@contextmanager
def open_result(out: Path | None) -> Iterator[TextIO]:
    """Open the result; a file gets its name only once it is whole; None is stdout."""
    if out is None:
        yield sys.stdout
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        yield handle
