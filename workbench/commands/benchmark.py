"""`workbench benchmark`: which maps and detectors tell the truth, and what mitigation does."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import Any

import workbench.commands._shared as shared
from workbench.commands.evaluate import POLICIES
from workbench.errors import OptionError
from workbench.settings import FIRST_HELD_OUT_SEED

#: What can be measured, and on how many phantoms unless something else is asked for.
_SIZES = {"saliency": 300, "hallucination": 1000, "mitigation": 400}

#: Options that not every benchmark takes.
_OWNERS = {
    **dict.fromkeys(("methods", "record", "causal"), ("saliency",)),
    "fit": ("hallucination",),
    "policy": ("hallucination", "mitigation"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "saliency\n"
        "Draws phantoms with one finding each, lets the model report, and scores the map of every\n"
        "method against what was drawn, beside fixed maps and maps of another phrase.\n"
        "Fast methods are run on every case, slow ones on --slow of them. With --manifest every\n"
        "finding that a row codes present, with a box or a mask, is a case. A box holds more than\n"
        "the finding: never compare energy or pointing against boxes with those against masks.\n"
        "With the defaults this takes about half an hour on two CPU cores, and about ten minutes\n"
        "for 60 cases; --methods shortens it.\n\n"
        "hallucination\n"
        "Draws phantoms of both drawn domains (or takes the labelled rows of --manifest),\n"
        "lets the model report, and asks every detector which\n"
        "stated findings are false; needs about one and a half seconds a phantom and CPU core.\n"
        "A combination is also fitted on a share of the patients and measured on the others.\n\n"
        "mitigation\n"
        "Draws phantoms of both drawn domains, lets the model report with and without every\n"
        "mitigation, and counts what each mends and breaks; needs about five seconds a phantom\n"
        "and CPU core."
    )
    option = partial(shared.option, parser)
    sizes = ", ".join(f"{n} for {what}" for what, n in _SIZES.items())
    option("what", "what to measure", choices=tuple(_SIZES))
    option("--n N", f"phantoms to draw ({sizes}), or cases of a manifest (all)", type=int)
    option("--manifest FILE", "take its radiographs instead: labels, boxes or masks", type=Path)
    option("--root DIR", "folder of its images (that of the manifest)", type=Path)
    option("--domain", "draw phantoms of one domain", choices=shared.DOMAINS)
    option("--causal", "tell which reports rest on what the masks show", action="store_true")
    option("--seed N", "first phantom; below 10,000,000 is not unseen", default=FIRST_HELD_OUT_SEED)
    option("--methods A,B", "some methods instead of all", type=shared.names)
    option("--jobs N", "processes, one thread each (default: one for each core)", type=int)
    option("--slow N", "cases for slow methods too (a third, 16 to 48)", type=int)
    option("--randomised N", "cases checked with random weights (a tenth, 10 at most)", type=int)
    option("--keep FILE", "store finished phantoms here; resumes from it", type=Path)
    option("--out DIR", "also save the table, its figures and a page here", type=Path)
    option("--record FILE", "write the randomisation verdicts to a file", type=Path)
    option("--samples N", "reports sampled for self-consistency, semantic entropy (8)", default=8)
    option("--policy", "which stated findings are false (joint-definite)", choices=POLICIES)
    option("--fit SHARE", "patients to fit detectors on (0.5); others measure", type=float)
    shared.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    _check(args)
    shared.loading(args)
    table = _measure(args)
    if args.record:
        table.record(args.record)
    if args.out:
        table.save(args.out)
    return shared.answer(args, table.to_dict(), [str(table)])


def _check(args: argparse.Namespace) -> None:
    shared.at_least(args, n=1, jobs=1, slow=1, seed=0, randomised=0, samples=0)
    for name, owners in _OWNERS.items():
        if args.what not in owners and getattr(args, name) not in (None, False):
            raise OptionError(f"--{name} belongs to benchmark {owners[0]}; leave it out")
    if args.domain and args.manifest:
        raise OptionError("--domain is of phantoms, and --manifest takes none; leave one out")
    if args.root and not args.manifest:
        raise OptionError("--root is the folder of the images of --manifest; give that too")
    if args.methods is not None:
        from workbench.bench.saliency import check_methods

        check_methods(args.methods)


def _measure(args: argparse.Namespace) -> Any:
    """Return the table; that of saliency can also be recorded."""
    from workbench import bench

    # a process for each core, where there is enough work for it to be worth starting
    work = (args.n or _SIZES[args.what]) // 8
    jobs = args.jobs or max(1, min(os.cpu_count() or 1, work, 8))
    options: dict[str, Any] = {"n": args.n, "seed": args.seed, "jobs": jobs, "kept": args.keep}
    options["domain"] = args.domain
    if args.manifest:
        options["radiographs"] = bench.Radiographs(args.manifest, args.root)
    if args.what == "saliency":
        options |= {"methods": args.methods, "slow_cases": args.slow}
        options |= {"randomised_cases": args.randomised, "causal": args.causal}
    elif args.what == "hallucination":
        options |= {"samples": args.samples} | ({} if args.fit is None else {"fit": args.fit})
    if args.policy:
        options["policy"] = args.policy
    measure = getattr(bench, f"benchmark_{args.what}")
    return measure(shared.open_model(args), progress=not args.json, **options)
