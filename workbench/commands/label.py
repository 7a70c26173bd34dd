"""`workbench label`: read the findings out of a column of report texts.

One row for each finding that a text states, denies or leaves open; one row `no mention` for a text
that speaks of none. A finding without a row is unknown, not absent. Every row of the file comes out
again, with its number and a status: "labelled", "no mention" or "no text".

Files of any length are read and written row by row. The result appears under its name once it is
whole; identifiers that a spreadsheet would run as a formula get an apostrophe in front.

Does not know: how a text is read; that is `workbench.reports`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import workbench.commands._shared as shared
from workbench.errors import InputError
from workbench.findings import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN
from workbench.spreadsheet import neutral

COLUMNS = (
    "id", "finding", "code", "side", "start", "end", "rule", "zone", "severity", "temporality",
    "cue_start", "cue_end", "compared", "kind", "row", "status",
)  # fmt: skip
LABELLED, NO_MENTION, NO_TEXT = "labelled", "no mention", "no text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench label`."""
    parser.epilog = "example: workbench label reports.csv --text-column report --out labels.csv"
    parser.add_argument("file", type=Path, metavar="FILE", help="CSV (or .tsv) with a header")
    parser.add_argument("--text-column", default="text", metavar="C", help="texts (default text)")
    parser.add_argument(
        "--id-column", metavar="I", help="identifiers (default id, or the row number without one)"
    )
    parser.add_argument("--out", type=Path, metavar="OUT.csv", help="result (default stdout)")
    parser.add_argument(
        "--backend", default="rules", metavar="B", help="rules (default), medspacy or radgraph"
    )
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Label every row, write the CSV, and say how often each finding was stated."""
    from workbench.reports import reader

    read = reader(args.backend)
    texts = read_texts(args.file, text_column=args.text_column, id_column=args.id_column)
    tally = Tally(out=args.out)
    rows = (
        row
        for number, (key, text) in enumerate(shared.progress(texts, label="texts"), start=1)
        for row in tally.counted(list(label_rows(key, text, number, read)))
    )
    if args.json and not args.out:
        shared.emit_json({"labels": list(rows)} | tally.summary())
        return 0
    with _result(args.out) as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if args.json:
        shared.emit_json(tally.summary())
    elif args.out:
        _say(tally.summary())
    return 0


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


def label_rows(key: str, text: str, number: int, read) -> Iterator[dict]:
    """Yield the output rows of one text, in the order of the text; at least one.

    Args:
        key: identifier.
        text: the report.
        number: of the row in the file, from 1.
        read: what labels a text; see `workbench.reports.reader`.
    """
    common = {"id": neutral(key), "row": number}
    found = read(text).rows if text.strip() else ()
    if not found:
        status = NO_MENTION if text.strip() else NO_TEXT
        yield common | {"finding": NO_MENTION, "code": NOT_MENTIONED, "status": status}
    for row in found:
        yield common | {name: getattr(row, name) for name in COLUMNS[1:-2]} | {"status": LABELLED}


@dataclass
class Tally:
    """Counts that are kept while rows pass by."""

    out: Path | None = None
    statuses: Counter = field(default_factory=Counter)
    rows: int = 0
    findings: dict = field(
        default_factory=lambda: defaultdict(lambda: {PRESENT: 0, ABSENT: 0, UNCERTAIN: 0})
    )

    def counted(self, rows: list[dict]) -> Iterable[dict]:
        """Count the rows of one text and return them."""
        self.statuses[rows[0]["status"]] += 1
        self.rows += len(rows)
        for row in rows:
            if row["status"] == LABELLED:
                self.findings[row["finding"]][row["code"]] += 1
        return rows

    def summary(self) -> dict:
        """Return the counts: texts, rows, by status, and codes of each finding."""
        silent = self.statuses[NO_MENTION] + self.statuses[NO_TEXT]
        return {
            "texts": self.statuses.total(),
            "rows": self.rows,
            "no_mention": silent,
            "no_text": self.statuses[NO_TEXT],
            "findings": dict(sorted(self.findings.items())),
            "out": self.out,
        }


@contextmanager
def _result(out: Path | None) -> Iterator[TextIO]:
    """Open the result; a file gets its name only once it is whole."""
    if out is None:
        yield sys.stdout
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.part")
    try:
        with partial.open("w", newline="", encoding="utf-8") as handle:
            yield handle
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _say(summary: dict) -> None:
    codes = (PRESENT, ABSENT, UNCERTAIN)
    body = [[name, *[n[code] for code in codes]] for name, n in summary["findings"].items()]
    shared.say(shared.table(body, header=("finding", *codes)))
    empty = f", {summary['no_text']} of them empty" if summary["no_text"] else ""
    shared.say(f"{summary['texts']} texts, {summary['no_mention']} without any finding{empty}")
    shared.say(f"wrote {summary['out']}")
