"""`workbench evaluate`: score reports against references, finding by finding.

Does not know: how anything is read, counted or drawn (`workbench.evaluation`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.errors import InputError

if TYPE_CHECKING:
    from workbench.evaluation.comparison import Comparison
    from workbench.evaluation.intervals import Estimate
    from workbench.evaluation.scorecard_result import FindingRow, ScoreCard

POLICIES = (
    "joint-definite",
    "uncertain-as-positive",
    "uncertain-as-negative",
    "blank-as-negative",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench evaluate`."""
    parser.epilog = (
        "FILE is CSV, TSV or Parquet with an id column and a text column, or with labels: one\n"
        "column per finding (present, absent, uncertain, blank; or 1, 0, -1), or what\n"
        "`workbench label` writes. Omission is counted under every policy.\n"
        "example: workbench evaluate --predictions run.csv --references truth.csv --out card"
    )
    parser.add_argument(
        "--predictions", type=Path, required=True, metavar="FILE", help="what a system wrote"
    )
    parser.add_argument(
        "--references", type=Path, required=True, metavar="FILE", help="reports or labels"
    )
    parser.add_argument(
        "--policy", choices=POLICIES, default=POLICIES[0], help="what is scored (joint-definite)"
    )
    parser.add_argument(
        "--compare", type=Path, nargs="+", default=[], metavar="OTHER",
        help="predictions of other systems, compared with the first",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="write page, tables and figures")
    columns = parser.add_argument_group("columns and numbers")
    columns.add_argument("--id-column", default="id", metavar="I", help="identifiers (default id)")
    columns.add_argument(
        "--text-column", default="text", metavar="C", help="texts, where there are any (text)"
    )
    columns.add_argument(
        "--patient-column", metavar="P", help="patients, in either file (default: every id is one)"
    )
    columns.add_argument(
        "--findings", type=_names, metavar="A,B", help="what to score (all but no finding)"
    )
    columns.add_argument("--resamples", type=int, default=1000, help="of the bootstrap (1000)")
    columns.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")
    columns.add_argument(
        "--no-text-metrics", action="store_true", help="leave out BLEU, ROUGE-L and the like"
    )
    shared.add_json_argument(parser)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def run(args: argparse.Namespace) -> int:
    """Score, compare, write and say."""
    for path in (args.predictions, args.references, *args.compare):
        shared.need(path, "no such file; expected reports or labels as CSV, TSV or Parquet")
    from workbench.evaluation.comparison import compare
    from workbench.evaluation.report_set import read_reports
    from workbench.evaluation.scorecard import score
    from workbench.evaluation.scorecard_html import save_card

    columns = {"id_column": args.id_column, "text_column": args.text_column}
    columns["patient_column"] = args.patient_column
    references = read_reports(args.references, role="references", **columns)
    names = _system_names([args.predictions, *args.compare])
    systems = [
        read_reports(path, role="predictions", name=name, **columns)
        for path, name in zip([args.predictions, *args.compare], names, strict=True)
    ]
    findings = args.findings or _common(systems, references)
    cards = [
        score(
            system,
            references,
            policy=args.policy,
            patients=args.patient_column,
            findings=findings,
            resamples=args.resamples,
            seed=args.seed,
            text_metrics=not args.no_text_metrics,
        )
        for system in systems
    ]
    compared = tuple(compare(cards[0], card) for card in cards[1:])
    written = {}
    if args.out:
        written = save_card(cards[0], args.out, compared=compared, cards=tuple(cards[1:]))
    if args.json:
        result = cards[0].to_dict() | {"comparisons": [found.to_dict() for found in compared]}
        shared.emit_json(result | {"files": sorted(path.as_posix() for path in written.values())})
        return 0
    _say(cards[0], compared)
    if written:
        shared.say(f"wrote {written['scorecard.html']} and {len(written) - 1} more files")
    return 0


def _system_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each file: its stem, with the folder where stems are equal.

    Raises:
        InputError: a file is given twice.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("a file of predictions is given twice; give each system once")
    stems = [path.stem for path in paths]
    names = [path.stem if stems.count(path.stem) == 1 else path.as_posix() for path in paths]
    return names


def _common(systems: Sequence, references) -> tuple[str, ...] | None:
    """Return the findings that every label table has, None where there are only texts."""
    from workbench.evaluation.scorecard import SCORED_FINDINGS

    tables = [side.findings for side in (*systems, references) if side.findings is not None]
    if not tables:
        return None
    return tuple(name for name in SCORED_FINDINGS if all(name in table for table in tables)) or None


def _say(card: ScoreCard, compared: Sequence[Comparison]) -> None:
    rows = [_table_row(row) for row in card.per_finding.values() if row.mentioned]
    header = ("finding", "n", "cover", "pos", "TP", "FP", "TN", "FN", "prec", "rec", "F1 [95 %]")
    shared.say(f"{card.name}: {len(card.pairs.ids)} pairs, {card.policy.name}")
    shared.say(shared.table(rows, header=(*header, "omitted")))
    for name, item in card.averages.items():
        shared.say(f"{name} F1 {item.f1.text()} over {len(item.members)} findings")
    for found in compared:
        difference = found.averages["macro"].difference
        shared.say(f"{found.a} - {found.b}: macro F1 {difference.text()} on the same pairs")
    if card.texts is not None:
        known = [f"{m.name} {m.value:.3f}" for m in card.texts.metrics if m.value is not None]
        missing = [m.name for m in card.texts.metrics if m.value is None]
        shared.say(f"wording: {', '.join(known) or 'nothing measured'}")
        shared.say(f"not available: {', '.join(missing) or 'none'} (--json says what each needs)")
    shared.say(f"rows in: {', '.join(f'{n} {s}' for s, n in card.statuses.items() if n)}")
    for warning in card.warnings:
        shared.note(f"note: {warning}")


def _table_row(row: FindingRow) -> list:
    counts = [row.support, row.tp, row.fp, row.tn, row.fn]
    rates = [_short(row.precision), _short(row.recall), row.f1.text()]
    omitted = f"{row.omitted}/{row.omission.n}"
    return [row.finding, row.n, _share(row.coverage), *counts, *rates, omitted]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _short(found: Estimate) -> str:
    return "-" if found.value is None else f"{found.value:.2f}"
