"""`workbench check-text`: find what no single image can show in a column of report texts.

One row for each place that a rule found; a text without any has no row.

Does not know: the rules; they are in `workbench.hallucination.text_checks`.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter

import workbench.commands._shared as shared
import workbench.commands._texts as texts

COLUMNS = ("id", "rule", "start", "end", "text")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench check-text`."""
    parser.epilog = (
        "Rules: prior comparison, invented measurement, invented date, invented history, unseen\n"
        "view, invented communication, placeholder, contradiction, laterality conflict,\n"
        "repetition. English only; start and end are characters of the text.\n"
        "example: workbench check-text reports.csv --text-column report --out issues.csv"
    )
    texts.add_arguments(parser)
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Check every row, write the CSV, and say how often each rule found something."""
    from workbench.hallucination.text_checks import CHECKS, check_text

    read = list(texts.read_texts(args.file, text_column=args.text_column, id_column=args.id_column))
    found = [
        (key, issue) for key, text in shared.progress(read, label="texts")
        for issue in check_text(text).issues
    ]  # fmt: skip
    rows = [(key, issue.rule, issue.start, issue.end, issue.text) for key, issue in found]
    if args.out or not args.json:
        with texts.open_result(args.out) as handle:
            writer = csv.writer(handle)
            writer.writerow(COLUMNS)
            writer.writerows(rows)
    counts = Counter(issue.rule for _, issue in found)
    summary = {
        "texts": len(read),
        "issues": len(rows),
        "rules": {name: counts[name] for name in CHECKS if counts[name]},
        "out": args.out,
    }
    if args.json:
        listed = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        shared.emit_json(summary if args.out else summary | {"rows": listed})
    elif args.out:
        shared.say(shared.table(list(summary["rules"].items()), header=("rule", "found")))
        shared.say(f"{len(rows)} issues in {len(read)} texts; wrote {args.out}")
    return 0
