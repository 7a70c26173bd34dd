"""`workbench check-text`: find what no single image can show in a column of report texts.

One row for each place that a rule found; a text without any has no row.

Does not know: the rules; they are in `workbench.hallucination.text_checks`.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import workbench.commands._shared as shared

COLUMNS = ("id", "rule", "start", "end", "text")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench check-text`."""
    parser.epilog = (
        "Rules: prior comparison, invented measurement, invented date, invented history, unseen\n"
        "view, invented communication, placeholder, contradiction, laterality conflict,\n"
        "repetition. English only; start and end are characters of the text.\n"
        "example: workbench check-text reports.csv --text-column report --out issues.csv"
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="CSV (or .tsv) with a header")
    parser.add_argument("--text-column", default="text", metavar="C", help="texts (default text)")
    parser.add_argument(
        "--id-column", metavar="I", help="identifiers (default id, or the row number without one)"
    )
    parser.add_argument("--out", type=Path, metavar="OUT.csv", help="result (default stdout)")
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Check every row, write the CSV, and say how often each rule found something."""
    from workbench.commands.label import read_texts
    from workbench.hallucination.text_checks import CHECKS, check_text

    texts = list(read_texts(args.file, text_column=args.text_column, id_column=args.id_column))
    found = [
        (key, issue) for key, text in shared.progress(texts, label="texts")
        for issue in check_text(text).issues
    ]  # fmt: skip
    rows = [(key, issue.rule, issue.start, issue.end, issue.text) for key, issue in found]
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        with args.out.open("w", newline="", encoding="utf-8") as handle:
            _write(rows, handle)
    elif not args.json:
        _write(rows, sys.stdout)
    counts = Counter(issue.rule for _, issue in found)
    summary = {
        "texts": len(texts),
        "issues": len(rows),
        "rules": {name: counts[name] for name in CHECKS if counts[name]},
        "out": args.out,
    }
    if args.json:
        listed = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        shared.emit_json(summary if args.out else summary | {"rows": listed})
    elif args.out:
        shared.say(shared.table(list(summary["rules"].items()), header=("rule", "found")))
        shared.say(f"{len(rows)} issues in {len(texts)} texts; wrote {args.out}")
    return 0


def _write(rows: Sequence[tuple], handle: TextIO) -> None:
    writer = csv.writer(handle)
    writer.writerow(COLUMNS)
    writer.writerows(rows)
