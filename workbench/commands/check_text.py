"""`workbench check-text`: find what no single image can show in a column of report texts.

One row for each place that a rule found; a text without any has no row. Files of any length are
read and written row by row; cells that a spreadsheet would run get an apostrophe in front.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterable, Iterator

import workbench.commands._shared as shared
import workbench.commands._shared as texts
from workbench._tables import neutral

COLUMNS = ("id", "rule", "start", "end", "text")
#: Under which the texts themselves are counted.
_TEXTS = "texts"


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
    from workbench.hallucination.text_checks import CHECKS

    found = texts.read_texts(args.file, text_column=args.text_column, id_column=args.id_column)
    counts: Counter = Counter()
    rows = _rows(shared.progress(found, label="texts"), counts)
    listed = {}
    if args.json and not args.out:
        listed = {"rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows]}
    else:
        with texts.open_result(args.out) as handle:
            writer = csv.writer(handle)
            writer.writerow(COLUMNS)
            for key, rule, start, end, text in rows:
                writer.writerow((neutral(key), rule, start, end, neutral(text)))
    rules = {name: counts[name] for name in CHECKS if counts[name]}
    total = sum(rules.values())
    summary = {"texts": counts[_TEXTS], "issues": total, "rules": rules, "out": args.out}
    said = [
        shared.table(list(rules.items()), header=("rule", "found")),
        f"{total} issues in {counts[_TEXTS]} texts; wrote {args.out}",
    ]
    return shared.answer(args, summary | listed, said if args.out else ())


def _rows(found: Iterable[tuple[str, str]], counts: Counter) -> Iterator[tuple]:
    """Yield the rows of each text as it is read, and count texts and rules on the way."""
    from workbench.hallucination.text_checks import check_text

    for key, text in found:
        counts[_TEXTS] += 1
        for issue in check_text(text).issues:
            counts[issue.rule] += 1
            yield key, issue.rule, issue.start, issue.end, issue.text
