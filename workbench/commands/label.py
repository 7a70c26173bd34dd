"""`workbench label`: read findings out of a column of report texts.

One row for each finding that a text states, denies or leaves open; one row `no mention` for a text
that speaks of none. A finding without a row is unknown, not absent. Every row of the file comes out
again, with its number and a status: "labelled", "no mention" or "no text".

Files of any length are read and written row by row. The result appears under its name once it is
whole; identifiers that a spreadsheet would run as a formula get an apostrophe in front.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
import workbench.commands._shared as texts
from workbench._tables import neutral
from workbench.findings import ABSENT, NOT_MENTIONED, PRESENT, UNCERTAIN

if TYPE_CHECKING:
    from workbench.reports.readers import Reader

COLUMNS = (
    "id", "finding", "code", "side", "start", "end", "rule", "zone", "severity", "temporality",
    "cue_start", "cue_end", "compared", "kind", "row", "status",
)  # fmt: skip
LABELLED, NO_MENTION, NO_TEXT = "labelled", "no mention", "no text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench label`."""
    parser.epilog = "example: workbench label reports.csv --text-column report --out labels.csv"
    texts.add_arguments(parser)
    shared.option(parser, "--backend B", "rules (default) or radgraph", default="rules")
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Label every row, write the CSV, and say how often each finding was stated."""
    from workbench.reports import reader

    read = reader(args.backend)
    found = texts.read_texts(args.file, text_column=args.text_column, id_column=args.id_column)
    tally = Tally(out=args.out)
    rows = (
        row
        for number, (key, text) in enumerate(shared.progress(found, label="texts"), start=1)
        for row in tally.counted(list(label_rows(key, text, number, read)))
    )
    listed = {}
    if args.json and not args.out:
        listed = {"labels": list(rows)}
    else:
        with texts.open_result(args.out) as handle:
            writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    summary = tally.summary()
    return shared.answer(args, listed | summary, _lines(summary) if args.out else ())


def label_rows(key: str, text: str, number: int, read: Reader) -> Iterator[dict]:
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


def _lines(summary: dict) -> Iterator[str]:
    codes = (PRESENT, ABSENT, UNCERTAIN)
    body = [[name, *[n[code] for code in codes]] for name, n in summary["findings"].items()]
    yield shared.table(body, header=("finding", *codes))
    empty = f", {summary['no_text']} of them empty" if summary["no_text"] else ""
    yield f"{summary['texts']} texts, {summary['no_mention']} without any finding{empty}"
    yield f"wrote {summary['out']}"
