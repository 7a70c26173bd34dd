"""`workbench doctor`: is the installation sound, does a checkpoint compute right, how good is mini.

Without options it checks the installation. `--parity DIR` compares checkpoints with reference
vectors, array by array. `--mini` examines the model on phantoms kept for evaluation.

Does not know: tolerances (`workbench.generation.parity`) or scores (`workbench.bench`).
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import workbench.commands._shared as shared
from workbench.commands.environment import FAIL, OK, check_environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench doctor`."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--parity",
        type=Path,
        metavar="DIR",
        help="compare with reference vectors: a folder with checkpoints/, golden/ and images/, or "
        "one of its checkpoints; exit 1 on any miss",
    )
    what.add_argument("--mini", action="store_true", help="examine the model on unseen phantoms")
    exam = parser.add_argument_group("with --mini")
    exam.add_argument("--n", type=int, default=500, help="phantoms in each domain (500)")
    exam.add_argument(
        "--seed", type=int, default=10_000_000, help="first phantom; below 10,000,000 is not unseen"
    )
    exam.add_argument("--batch-size", type=int, default=16, help="phantoms at a time (16)")
    shared.add_model_arguments(parser)
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Do the check that was asked for."""
    if args.parity:
        return _parity(args)
    if args.mini:
        return _exam(args)
    return _environment(args)


def _environment(args: argparse.Namespace) -> int:
    rows = check_environment()
    sound = not any(row.status == FAIL for row in rows)
    if args.json:
        shared.emit_json({"ok": sound, "rows": [asdict(row) for row in rows]})
        return 0 if sound else 1
    for row in rows:
        shared.say(f"{row.status:4}  {row.check:13}  {row.found}")
        if row.repair:
            shared.say(f"{'':19}  -> {row.repair}")
    worried = sum(row.status != OK for row in rows)
    shared.say("everything is in order" if not worried else f"{worried} of {len(rows)} need a look")
    return 0 if sound else 1


def _parity(args: argparse.Namespace) -> int:
    from workbench.generation.parity import compare

    report = compare(args.parity, progress=not args.json)
    if args.json:
        shared.emit_json(report.to_dict())
        return 0 if report.ok else 1
    cells = []
    for row in report.rows:
        numbers = _number(row.max_abs_diff), _number(row.tolerance)
        verdict = "ok" if row.ok else "MISS"
        cells.append((row.case, row.array, *numbers, row.measure, verdict, row.note))
    header = ("case", "array", "difference", "tolerance", "measured as", "verdict", "note")
    shared.say(shared.table(cells, header=header))
    shared.say(str(report))
    return 0 if report.ok else 1


def _exam(args: argparse.Namespace) -> int:
    shared.at_least(args, n=1, batch_size=1, seed=0)
    shared.loading(args)
    from workbench.bench import examine

    model = shared.open_model(args)
    exam = examine(model, n=args.n, seed=args.seed, batch_size=args.batch_size)
    if args.json:
        shared.emit_json(exam.to_dict())
    else:
        shared.say(str(exam))
    return 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2e}"
