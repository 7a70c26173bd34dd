"""`workbench check-text`: find what no single image can show in a column of report texts.

One row for each place that a rule found; a text without any has no row. Files of any length are
read and written row by row.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator

import workbench.commands._shared as shared

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
    shared.add_text_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Check every row, write the CSV, and say how often each rule found something."""
    from workbench.hallucination.text_checks import CHECKS

    counts: Counter = Counter()
    shown = shared.write_rows(args, COLUMNS, _rows(shared.texts_of(args), counts))
    rules = {name: counts[name] for name in CHECKS if counts[name]}
    total = sum(rules.values())
    found = {"texts": counts[_TEXTS], "issues": total, "rules": rules, "out": args.out}
    said = [
        shared.table(list(rules.items()), header=("rule", "found")),
        f"{total} issues in {counts[_TEXTS]} texts; wrote {args.out}",
    ]
    found |= {} if args.out else {"rows": shown}
    return shared.answer(args, found, said if args.out else ())


def _rows(texts: Iterable[tuple[str, str]], counts: Counter) -> Iterator[dict]:
    """Yield the rows of each text as it is read, and count texts and rules on the way."""
    from workbench.hallucination.text_checks import check_text

    for key, text in texts:
        counts[_TEXTS] += 1
        for issue in check_text(text).issues:
            counts[issue.rule] += 1
            yield {"id": key} | {name: getattr(issue, name) for name in COLUMNS[1:]}
