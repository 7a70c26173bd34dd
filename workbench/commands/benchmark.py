"""`workbench benchmark`: which maps and detectors tell the truth, and what mitigation does."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench.commands._shared as shared
from workbench.errors import OptionError
from workbench.settings import FIRST_HELD_OUT_SEED

if TYPE_CHECKING:
    from workbench.bench import BenchTable

#: What can be measured, and on how many phantoms unless something else is asked for.
_SIZES = {"saliency": 300, "hallucination": 1000, "mitigation": 400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench benchmark`."""
    parser.epilog = (
        "saliency\n"
        "Draws phantoms with one finding each, lets the model report, and scores the map of every\n"
        "method against what was drawn, beside fixed maps and maps of another phrase.\n"
        "Fast methods are run on every phantom, slow ones on --slow of them. With the defaults\n"
        "this takes about half an hour on two CPU cores; --methods shortens it.\n\n"
        "hallucination\n"
        "Draws phantoms of both domains, lets the model report, and asks every detector which\n"
        "stated findings are false; needs about one and a half seconds a phantom and CPU core.\n\n"
        "mitigation\n"
        "Draws phantoms of both domains, lets the model report with and without every mitigation,\n"
        "and counts what each mends and breaks; needs about five seconds a phantom and CPU core."
    )
    option = partial(shared.option, parser)
    sizes = ", ".join(f"{n} for {what}" for what, n in _SIZES.items())
    unseen = "first phantom; below 10,000,000 is not unseen"
    option("what", "what to measure", choices=tuple(_SIZES))
    option("--n N", f"phantoms to draw ({sizes})", type=int)
    option("--seed N", unseen, default=FIRST_HELD_OUT_SEED)
    option("--methods A,B", "some methods instead of all", type=shared.names)
    option("--jobs N", "processes, one thread each (default: one for each core)", type=int)
    option("--slow N", "phantoms for slow methods too (48); that of --n for all", default=48)
    option("--randomised N", "cases checked with random weights (10)", default=10)
    option("--keep FILE", "store finished phantoms here; resumes from it", type=Path)
    option("--out DIR", "also save the table, its figures and a page here", type=Path)
    option("--record FILE", "write the randomisation verdicts to a file", type=Path)
    option("--samples N", "reports sampled for self-consistency (8)", default=8)
    shared.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, save what was asked for, and print the table."""
    _check(args)
    shared.loading(args)
    table = _measure(args)
    if args.out:
        table.save(args.out)
    return shared.answer(args, table.to_dict(), [str(table)])


def _check(args: argparse.Namespace) -> None:
    """Refuse options of the one benchmark for the other, and what cannot be measured."""
    shared.at_least(args, n=1, jobs=1, slow=1, seed=0, randomised=0, samples=0)
    given = {"--methods": args.methods, "--record": args.record}
    wrong = [name for name, value in given.items() if value is not None]
    if args.what != "saliency" and wrong:
        raise OptionError(f"{wrong[0]} belongs to benchmark saliency; leave it out")
    if args.methods is not None:
        from workbench.bench.saliency import check_methods

        check_methods(args.methods)


def _measure(args: argparse.Namespace) -> BenchTable:
    from workbench import bench

    n = _SIZES[args.what] if args.n is None else args.n
    # a process for each core, where there is enough work for it to be worth starting
    jobs = args.jobs or max(1, min(os.cpu_count() or 1, n // 8, 8))
    common: dict[str, Any] = {"n": n, "seed": args.seed, "jobs": jobs, "kept": args.keep}
    common["progress"] = not args.json
    model = shared.open_model(args)
    if args.what == "saliency":
        some = {"slow_cases": args.slow, "randomised_cases": args.randomised}
        table = bench.benchmark_saliency(model, methods=args.methods, **some, **common)
        if args.record:
            table.record(args.record)
        return table
    if args.what == "hallucination":
        return bench.benchmark_hallucination(model, samples=args.samples, **common)
    return bench.benchmark_mitigation(model, **common)
