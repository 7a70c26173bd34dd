"""`workbench label`: read findings out of a column of report texts.

One row for each finding that a text states, denies or leaves open; one row `no mention` for a text
that speaks of none. A finding without a row is unknown, not absent. Every row of the file comes out
again, with its number and a status. Files of any length are read and written row by row.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import workbench.commands._shared as shared
from workbench.findings import CODES, NOT_MENTIONED

if TYPE_CHECKING:
    from workbench.reports.readers import Reader

COLUMNS = (
    "id", "finding", "code", "side", "start", "end", "rule", "zone", "severity", "temporality",
    "cue_start", "cue_end", "compared", "kind", "row", "status",
)  # fmt: skip
LABELLED, NO_MENTION, NO_TEXT = "labelled", "no mention", "no text"
_CODES = CODES[:3]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: workbench label reports.csv --text-column report --out labels.csv"
    shared.add_text_arguments(parser)
    shared.option(parser, "--backend B", "rules (default) or radgraph", default="rules")


def run(args: argparse.Namespace) -> int:
    from workbench.reports import reader

    read = reader(args.backend)
    statuses, codes = Counter(), Counter()
    texts = shared.read_texts(args.file, **shared.chosen(args, "text_column id_column"))
    shown = shared.write_rows(args, COLUMNS, _rows(texts, read, statuses, codes))
    silent = statuses[NO_MENTION] + statuses[NO_TEXT]
    names = sorted({name for name, _ in codes})
    found: dict[str, Any] = {} if args.out else {"labels": shown}
    found |= {"texts": statuses.total(), "rows": codes.total() + silent}
    found |= {"no_mention": silent, "no_text": statuses[NO_TEXT], "out": args.out}
    found["findings"] = {name: {code: codes[name, code] for code in _CODES} for name in names}
    body = [[name, *counts.values()] for name, counts in found["findings"].items()]
    empty = f", {found['no_text']} of them empty" if found["no_text"] else ""
    table = shared.table(body, header=("finding", *_CODES))
    said = f"{found['texts']} texts, {silent} without any finding{empty}"
    return shared.answer(args, found, [table, said, f"wrote {args.out}"] if args.out else ())


def _rows(
    texts: Iterable[tuple[str, str]], read: Reader, statuses: Counter, codes: Counter
) -> Iterator[dict]:
    for number, (key, text) in enumerate(texts, start=1):
        found = read(text).rows if text.strip() else ()
        status = LABELLED if found else NO_MENTION if text.strip() else NO_TEXT
        statuses[status] += 1
        common = {"id": key, "row": number, "status": status}
        for row in found:
            codes[row.finding, row.code] += 1
            yield common | {name: getattr(row, name) for name in COLUMNS[1:-2]}
        if not found:
            yield common | {"finding": NO_MENTION, "code": NOT_MENTIONED}
