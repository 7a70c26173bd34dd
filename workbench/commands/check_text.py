"""`workbench check-text`: find what no single image can show in a column of report texts.

One row for each place that a rule found. Files of any length are read and written row by row.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator

import workbench.commands._shared as shared

COLUMNS = ("id", "rule", "start", "end", "text")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Rules: prior comparison, invented measurement, invented date, invented history, unseen\n"
        "view, invented communication, placeholder, contradiction, laterality conflict,\n"
        "repetition. English only; start and end are characters of the text.\n"
        "example: workbench check-text reports.csv --text-column report --out issues.csv"
    )
    shared.add_text_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from workbench.hallucination.text_checks import CHECKS

    counts: Counter = Counter()
    texts = shared.read_texts(args.file, **shared.chosen(args, "text_column id_column"))
    shown = shared.write_rows(args, COLUMNS, _rows(texts, counts))
    rules = {name: counts[name] for name in CHECKS if counts[name]}
    total, read = sum(rules.values()), counts["texts"]
    found = {"texts": read, "issues": total, "rules": rules, "out": args.out}
    if not args.out:
        return shared.answer(args, found | {"rows": shown}, ())
    table = shared.table(list(rules.items()), header=("rule", "found"))
    return shared.answer(args, found, [table, f"{total} issues in {read} texts; wrote {args.out}"])


def _rows(texts: Iterable[tuple[str, str]], counts: Counter) -> Iterator[dict]:
    from workbench.hallucination.text_checks import check_text

    for key, text in texts:
        counts["texts"] += 1
        for issue in check_text(text).issues:
            counts[issue.rule] += 1
            yield {"id": key} | {name: getattr(issue, name) for name in COLUMNS[1:]}
