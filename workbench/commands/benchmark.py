"""`workbench benchmark saliency`: which saliency methods tell the truth, on phantoms.

Does not know: methods and scores (`workbench.evaluation.saliency_benchmark`).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import workbench.commands._shared as shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench benchmark`."""
    parser.epilog = (
        "Draws phantoms with one finding each, lets the model report, and scores the map of every\n"
        "method against what was drawn, beside fixed maps and maps of another phrase.\n"
        "Fast methods are run on every phantom, slow ones on --slow of them. With the defaults\n"
        "this takes about half an hour on two CPU cores; --methods shortens it."
    )
    parser.add_argument("what", choices=("saliency",), help="what to measure")
    parser.add_argument("--n", type=int, default=300, help="phantoms to draw (300)")
    parser.add_argument(
        "--seed", type=int, default=10_000_000, help="first phantom; below 10,000,000 is not unseen"
    )
    parser.add_argument("--methods", type=_names, metavar="A,B", help="some methods instead of all")
    parser.add_argument(
        "--jobs", type=int, help="processes, one thread each (default: one for each core)"
    )
    parser.add_argument(
        "--slow", type=int, default=48, help="phantoms for slow methods too (48); N for all"
    )
    parser.add_argument(
        "--randomised", type=int, default=10, help="cases checked with random weights (10)"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="keep finished phantoms here, and go on from it"
    )
    parser.add_argument("--out", type=Path, help="also save the table (JSON) and its figure here")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write the randomisation verdicts to a file"
    )
    shared.add_model_arguments(parser)
    shared.add_json_argument(parser)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _jobs(n: int) -> int:
    """Return a process for each core, where there is work for it to be worth starting."""
    return max(1, min(os.cpu_count() or 1, n // 8, 8))


def run(args: argparse.Namespace) -> int:
    """Measure, and print the table."""
    from workbench.evaluation.saliency_benchmark import benchmark_saliency

    model = shared.open_model(args)
    table = benchmark_saliency(
        model,
        n=args.n,
        seed=args.seed,
        methods=args.methods,
        slow_cases=args.slow,
        randomised_cases=args.randomised,
        jobs=args.jobs or _jobs(args.n),
        kept=args.keep,
        progress=not args.json,
    )
    if args.record:
        table.record(args.record)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "saliency.json").write_text(shared.to_json(table.to_dict()) + "\n")
        table.plot().figure.savefig(args.out / "saliency.png", bbox_inches="tight")
    if args.json:
        shared.emit_json(table.to_dict())
        return 0
    shared.say(str(table))
    shared.say(f"{table.cases} true positives of {table.drawn} phantoms from seed {table.seed:,}")
    return 0
