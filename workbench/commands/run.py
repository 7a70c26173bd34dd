"""`workbench run`: a model over a manifest, in a folder that survives a crash.

Does not know: how a run works; that is `wb.run`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._answers as answers
import workbench.commands._shared as shared
from workbench.errors import OptionError

if TYPE_CHECKING:
    from workbench.runs import RunResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench run`."""
    parser.epilog = (
        "example: workbench run --manifest films.parquet --out runs/first --task report \\\n"
        "             --task 'ask:Is there a pneumothorax?'\n"
        "An interrupted run resumes when the same command is given again. Exit code 0 also when\n"
        "some rows failed, 1 when all did; results.parquet says which, and why."
    )
    parser.add_argument(
        "--manifest", type=Path, required=True, metavar="FILE", help="a manifest, .parquet or .csv"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the run, new or begun"
    )
    parser.add_argument(
        "--root",
        type=Path,
        metavar="DIR",
        help="folder that the paths of the manifest start at; kept in the run (default: the one "
        "kept there, else the folder of the manifest)",
    )
    parser.add_argument(
        "--task",
        action="append",
        metavar="TASK",
        help="report (default), differential, or ask:QUESTION; may be given several times",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, metavar="N", help="answers at once (8)"
    )
    answers.add_image_arguments(parser)
    parser.add_argument("--cohort", type=Path, metavar="COHORT.json", help="must be this cohort")
    parser.add_argument("--retry-failed", action="store_true", help="try failed rows again")
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="local (default)"
    )
    group.add_argument("--workers", type=int, metavar="N", help="of ray (one for each GPU)")
    group.add_argument("--address", help="of a Ray cluster, e.g. auto; without it loopback only")
    answers.add_decoding_arguments(parser)
    shared.add_model_arguments(parser)
    group = parser.add_argument_group("memory")
    group.add_argument(
        "--quantize",
        choices=("8bit", "4bit", "int8"),
        help="fewer bits (a GPU in practice; int8 is for a CPU)",
    )
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Run, and say what it came to; a run without one row done has failed."""
    try:
        _check(args)
        result = _run(args)
    except OptionError as error:
        shared.note(f"workbench: {args.parser.spoken(str(error))}")
        return 2
    if args.json:
        shared.emit_json(result.summary())
    else:
        _say(args, result)
    return 0 if result.done else 1


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be run, before anything is imported or loaded.

    Raises:
        InputError: a file or folder is not there.
        OptionError: a task is not known, or an option has no meaning here.
    """
    from workbench.generation.options import decoding_settings
    from workbench.runs.plan import RunPlan, read_tasks

    decoding = decoding_settings(answers.decoding_options(args))
    RunPlan(read_tasks(args.task or ["report"]), decoding, args.batch_size)
    if args.engine == "local" and (args.workers, args.address) != (None, None):
        raise OptionError("workers and address belong to engine='ray'; leave them out")
    shared.need(args.manifest, shared.MANIFEST)
    shared.need(args.cohort, "no such cohort; expected what `workbench manifest freeze` wrote")
    shared.need(args.root, "no such folder; expected the one that the manifest's paths start at",
                folder=True)  # fmt: skip
    shared.loading(args)


def _run(args: argparse.Namespace) -> RunResult:
    from workbench.runs import run as run_manifest
    from workbench.settings import Settings

    settings = Settings.from_env()
    return run_manifest(
        args.manifest,
        model=args.model,
        tasks=args.task or ["report"],
        out=args.out,
        root=args.root,
        cohort=args.cohort,
        engine=args.engine,
        batch_size=args.batch_size,
        fit=args.fit,
        upright=args.upright,
        retry_failed=args.retry_failed,
        progress=True,
        workers=args.workers,
        address=args.address,
        device=args.device or settings.device,
        dtype=args.dtype or settings.dtype,
        quantize=args.quantize,
        **answers.decoding_options(args),
    )


def _say(args: argparse.Namespace, result: RunResult) -> None:
    shared.say(f"{result.done:,} of {result.rows:,} rows done, {result.failed:,} failed")
    if result.without_words:
        shared.say(
            f"in {result.without_words:,} of them the model wrote no word: no answer, and nothing "
            "is known of the image; check the checkpoint with `workbench doctor`"
        )
    if result.failed:
        shared.say(f"{result.unreadable:,} images could not be read")
        for row in result.errors().head(5).itertuples():
            error = args.parser.spoken(row.error)
            shared.say(shared.wrap(f"{row.rows:,} x {error} (first: {row.first_id})"))
    notice = result.record["fixed"]["model"]["notice"]
    shared.say(notice)
    shared.say(f"wrote {result.folder / 'results.parquet'}")
