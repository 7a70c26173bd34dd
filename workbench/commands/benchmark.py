"""`workbench benchmark saliency`: which saliency methods tell the truth, on phantoms.

Does not know: methods and scores (`workbench.evaluation.saliency_benchmark`).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import workbench.commands._shared as shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench benchmark`."""
    parser.epilog = (
        "Draws phantoms with one finding each, lets the model report, and scores the map of every\n"
        "method against what was drawn, beside fixed maps and maps of another phrase.\n"
        "300 phantoms with all methods take over an hour on two CPU cores; --methods shortens it."
    )
    parser.add_argument("what", choices=("saliency",), help="what to measure")
    parser.add_argument("--n", type=int, default=300, help="phantoms to draw (300)")
    parser.add_argument(
        "--seed", type=int, default=10_000_000, help="first phantom; below 10,000,000 is not unseen"
    )
    parser.add_argument(
        "--methods", type=lambda text: tuple(text.split(",")), metavar="A,B", help="some methods"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes, one thread each (1)")
    parser.add_argument(
        "--randomised", type=int, default=16, help="cases checked with random weights (16)"
    )
    parser.add_argument("--out", type=Path, help="also save the table (JSON) and its figure here")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write the randomisation verdicts to a file"
    )
    shared.add_model_arguments(parser)
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, and print the table."""
    from workbench.evaluation.saliency_benchmark import benchmark_saliency

    model = shared.open_model(args)
    table = benchmark_saliency(
        model,
        n=args.n,
        seed=args.seed,
        methods=args.methods,
        randomised_cases=args.randomised,
        jobs=args.jobs,
        progress=not args.json,
    )
    if args.record:
        table.record(args.record)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "saliency.json").write_text(shared.to_json(table.to_dict()) + "\n")
        table.plot().figure.savefig(args.out / "saliency.png")
    if args.json:
        shared.emit_json(table.to_dict())
        return 0
    shared.say(str(table))
    shared.say(f"{table.cases} true positives of {table.drawn} phantoms from seed {table.seed:,}")
    return 0
