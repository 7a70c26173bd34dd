"""`workbench label`: read the findings out of a column of report texts.

One row for each finding that a text states, denies or leaves open; one row `no mention` for a text
that speaks of none. A finding without a row is unknown, not absent.

Does not know: how a text is read; that is `workbench.reports`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import workbench.commands._shared as shared
from workbench.errors import InputError
from workbench.findings import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN

COLUMNS = ("id", "finding", "code", "side", "start", "end", "rule")
NO_MENTION = "no mention"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench label`."""
    parser.epilog = "example: workbench label reports.csv --text-column report --out labels.csv"
    parser.add_argument("file", type=Path, metavar="FILE", help="CSV (or .tsv) with a header")
    parser.add_argument("--text-column", default="text", metavar="C", help="texts (default text)")
    parser.add_argument(
        "--id-column", metavar="I", help="identifiers (default id, or the row number without one)"
    )
    parser.add_argument("--out", type=Path, metavar="OUT.csv", help="result (default stdout)")
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Label every row, write the CSV, and say how often each finding was stated."""
    texts = read_texts(args.file, text_column=args.text_column, id_column=args.id_column)
    rows = [
        row for key, text in shared.progress(texts, label="texts") for row in label_rows(key, text)
    ]
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("w", newline="", encoding="utf-8") as handle:
            _write(rows, handle)
    elif not args.json:
        _write(rows, sys.stdout)
    summary = summarise(rows, texts=len(texts), out=args.out)
    if args.json:
        shared.emit_json(summary if args.out else summary | {"labels": rows})
    elif args.out:
        _say(summary)
    return 0


def read_texts(
    path: Path, *, text_column: str = "text", id_column: str | None = None
) -> list[tuple[str, str]]:
    """Return (identifier, text) of each row.

    Raises:
        InputError: no such file, not readable as text, or a column is missing; the message lists
            the columns there are.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected a CSV file with a header")
    csv.field_size_limit(2**31 - 1)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, delimiter=delimiter)
            columns = list(reader.fieldnames or [])
            for name in [text_column] + ([id_column] if id_column else []):
                if name not in columns:
                    there = ", ".join(columns) or "none"
                    raise InputError(
                        f"{path.name} has no column {name!r}; it has: {there} "
                        "(choose with --text-column and --id-column)"
                    )
            key = id_column or ("id" if "id" in columns else None)
            return [
                (row[key] if key else str(number), row[text_column] or "")
                for number, row in enumerate(reader, start=1)
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path.name} is not a CSV file in UTF-8 ({error}); save it as CSV UTF-8 and try again"
        ) from None


def label_rows(key: str, text: str) -> Iterator[dict]:
    """Yield the output rows of one text, in the order of the text; at least one."""
    from workbench.reports import label

    found = label(text).rows
    if not found:
        yield {"id": key, "finding": NO_MENTION, "code": NOT_MENTIONED}
    for row in found:
        yield {"id": key} | {name: getattr(row, name) for name in COLUMNS[1:]}


def summarise(rows: list[dict], *, texts: int, out: Path | None) -> dict:
    """Count the codes of each finding."""
    findings: dict[str, dict[str, int]] = defaultdict(lambda: {PRESENT: 0, ABSENT: 0, UNCERTAIN: 0})
    silent = 0
    for row in rows:
        if row["finding"] == NO_MENTION:
            silent += 1
        else:
            findings[row["finding"]][row["code"]] += 1
    return {
        "texts": texts,
        "rows": len(rows),
        "no_mention": silent,
        "findings": dict(sorted(findings.items())),
        "out": out,
    }


def _write(rows: list[dict], handle: TextIO) -> None:
    writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _say(summary: dict) -> None:
    codes = (PRESENT, ABSENT, UNCERTAIN)
    body = [[name, *[n[code] for code in codes]] for name, n in summary["findings"].items()]
    shared.say(shared.table(body, header=("finding", *codes)))
    shared.say(f"{summary['texts']} texts, {summary['no_mention']} without any finding")
    shared.say(f"wrote {summary['out']}")
