"""`workbench benchmark`: which maps and detectors tell the truth, and what mitigation does."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.errors import OptionError

if TYPE_CHECKING:
    from workbench.bench import BenchTable, SaliencyTable


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
    parser.add_argument("what", choices=tuple(_SIZES), help="what to measure")
    sizes = ", ".join(f"{n} for {what}" for what, n in _SIZES.items())
    parser.add_argument("--n", type=int, help=f"phantoms to draw ({sizes})")
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
        "--keep", type=Path, metavar="FILE", help="store finished phantoms here; resumes from it"
    )
    parser.add_argument("--out", type=Path, help="also save the table, its figures and a page here")
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="write the randomisation verdicts to a file"
    )
    parser.add_argument(
        "--samples", type=int, default=8, help="reports sampled for self-consistency (8)"
    )
    shared.add_model_arguments(parser)
    shared.add_json_argument(parser)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _jobs(n: int) -> int:
    """Return a process for each core, where there is work for it to be worth starting."""
    return max(1, min(os.cpu_count() or 1, n // 8, 8))


def run(args: argparse.Namespace) -> int:
    """Measure, save what was asked for, and print the table."""
    _check(args)
    shared.loading(args)
    measure = {"saliency": _saliency, "hallucination": _hallucination, "mitigation": _mitigation}
    table = measure[args.what](args, _SIZES[args.what] if args.n is None else args.n)
    if args.out:
        table.save(args.out)
    if args.json:
        shared.emit_json(table.to_dict())
    else:
        shared.say(str(table))
    return 0


def _check(args: argparse.Namespace) -> None:
    """Refuse options of the one benchmark for the other, and what cannot be measured.

    Raises:
        OptionError: the option has no meaning for this benchmark, or its value is not allowed.
    """
    shared.at_least(args, n=1, jobs=1, slow=1, seed=0, randomised=0, samples=0)
    given = {"--methods": args.methods, "--record": args.record}
    wrong = [name for name, value in given.items() if value is not None]
    if args.what != "saliency" and wrong:
        raise OptionError(f"{wrong[0]} belongs to benchmark saliency; leave it out")
    if args.methods is not None:
        from workbench.bench.saliency import check_methods

        check_methods(args.methods)


def _saliency(args: argparse.Namespace, n: int) -> SaliencyTable:
    from workbench.bench import benchmark_saliency

    table = benchmark_saliency(
        shared.open_model(args),
        n=n,
        seed=args.seed,
        methods=args.methods,
        slow_cases=args.slow,
        randomised_cases=args.randomised,
        jobs=args.jobs or _jobs(n),
        kept=args.keep,
        progress=not args.json,
    )
    if args.record:
        table.record(args.record)
    return table


def _hallucination(args: argparse.Namespace, n: int) -> BenchTable:
    from workbench.bench import benchmark_hallucination

    return benchmark_hallucination(
        shared.open_model(args),
        n=n,
        seed=args.seed,
        samples=args.samples,
        jobs=args.jobs or _jobs(n),
        kept=args.keep,
        progress=not args.json,
    )


def _mitigation(args: argparse.Namespace, n: int) -> BenchTable:
    from workbench.bench import benchmark_mitigation

    return benchmark_mitigation(
        shared.open_model(args),
        n=n,
        seed=args.seed,
        jobs=args.jobs or _jobs(n),
        kept=args.keep,
        progress=not args.json,
    )
