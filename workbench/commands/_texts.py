"""What commands over a column of texts share: their arguments, reading row by row, the result.

Does not know: what is done with a text.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from workbench._files import whole_file
from workbench.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add FILE, --text-column, --id-column and --out."""
    parser.add_argument("file", type=Path, metavar="FILE", help="CSV (or .tsv) with a header")
    parser.add_argument("--text-column", default="text", metavar="C", help="texts (default text)")
    parser.add_argument(
        "--id-column", metavar="I", help="identifiers (default id, or the row number without one)"
    )
    parser.add_argument("--out", type=Path, metavar="OUT.csv", help="result (default stdout)")


def read_texts(
    path: Path, *, text_column: str = "text", id_column: str | None = None
) -> Iterator[tuple[str, str]]:
    """Yield (identifier, text) of each row, reading as it goes.

    Raises:
        InputError: no such file, not readable as text, or a column is missing; the message lists
            the columns there are.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a CSV file with a header")
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    with path.open(newline="", encoding="utf-8-sig") as handle:
        try:
            reader = csv.DictReader(handle, delimiter=delimiter)
            key = _checked(path, list(reader.fieldnames or []), text_column, id_column)
            for number, row in enumerate(reader, start=1):
                yield (row[key] or "" if key else str(number)), row[text_column] or ""
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(
                f"{path.name} is not a CSV file in UTF-8 ({error}); save it as CSV UTF-8 and try "
                "again"
            ) from None


def _checked(path: Path, columns: list[str], text: str, key: str | None) -> str | None:
    """Return the column of identifiers, None where rows are numbered.

    Raises:
        InputError: a column is missing, or there twice.
    """
    for name in [text] + ([key] if key else []):
        if columns.count(name) != 1:
            there = ", ".join(columns) or "none"
            has = "no" if name not in columns else "more than one"
            raise InputError(
                f"{path.name} has {has} column {name!r}; it has: {there} "
                "(choose with --text-column and --id-column)"
            )
    return key or ("id" if "id" in columns else None)


@contextmanager
def open_result(out: Path | None) -> Iterator[TextIO]:
    """Open the result; a file gets its name only once it is whole; None is stdout."""
    if out is None:
        yield sys.stdout
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(out) as partial, partial.open("w", newline="", encoding="utf-8") as handle:
        yield handle
