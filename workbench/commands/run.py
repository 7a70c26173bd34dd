"""`workbench run`: a model over a manifest, in a folder that survives a crash."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
import workbench.commands.report as answers
from workbench.errors import OptionError

if TYPE_CHECKING:
    from workbench.runs import RunResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: workbench run --manifest manifest.parquet --out runs/first --task report \\\n"
        "             --task 'ask:Is there a pneumothorax?'\n"
        "An interrupted run resumes when the same command is given again. Exit code 0 also when\n"
        "some rows failed, 1 when all did; results.parquet says which, and why."
    )
    option = partial(shared.option, parser)
    root = (
        "folder that the paths of the manifest start at; kept in the run (default: the one kept "
        "there, else the folder of the manifest)"
    )
    task = "report (default), differential, or ask:QUESTION; may be given several times"
    option("--manifest FILE", "a manifest, .parquet or .csv", type=Path, required=True)
    option("--out DIR", "folder of the run, new or begun", type=Path, required=True)
    option("--root DIR", root, type=Path)
    option("--task TASK", task, action="append")
    option("--batch-size N", "answers at once (8)", default=8)
    answers.add_image_arguments(parser)
    option("--cohort COHORT.json", "must be this cohort", type=Path)
    option("--retry-failed", "try failed rows again", action="store_true")
    engine = parser.add_argument_group("engine")
    shared.option(engine, "--engine", "local (default)", choices=("local", "ray"), default="local")
    shared.option(engine, "--workers N", "of ray (one for each GPU)", type=int)
    shared.option(engine, "--address", "of a Ray cluster, e.g. auto; without it loopback only")
    answers.add_decoding_arguments(parser)
    shared.add_model_arguments(parser)
    memory = parser.add_argument_group("memory")
    bits = "fewer bits (a GPU in practice; int8 is for a CPU)"
    shared.option(memory, "--quantize", bits, choices=("8bit", "4bit", "int8"))


def run(args: argparse.Namespace) -> int:
    """Run, and say what it came to; a run without one row done has failed."""
    from workbench.generation.options import decoding_settings
    from workbench.runs.plan import RunPlan, read_tasks

    args.refused = 2
    tasks, decoding = args.task or ["report"], answers.decoding_options(args)
    RunPlan(read_tasks(tasks), decoding_settings(decoding), args.batch_size)
    if args.engine == "local" and (args.workers, args.address) != (None, None):
        raise OptionError("workers and address belong to engine='ray'; leave them out")
    shared.need_paths(args)
    shared.loading(args)
    from workbench.model.source import is_endpoint
    from workbench.runs import run as run_manifest

    same = "model out root cohort engine batch_size fit upright retry_failed workers address"
    options = shared.chosen(args, f"{same} quantize") | shared.placement(args) | decoding
    if is_endpoint(args.model):
        options["model"] = shared.open_model(args)
    result = run_manifest(args.manifest, tasks=tasks, progress=True, **options)
    return shared.answer(args, result.summary(), _lines(args, result), good=bool(result.done))


def _lines(args: argparse.Namespace, result: RunResult) -> Iterator[str]:
    yield f"{result.done:,} of {result.rows:,} rows done, {result.failed:,} failed"
    if result.without_words:
        yield (
            f"in {result.without_words:,} of them the model wrote no word: no answer, and nothing "
            "is known of the image; check the checkpoint with `workbench doctor`"
        )
    if result.failed:
        yield f"{result.unreadable:,} images could not be read"
        for row in result.errors().head(5).to_dict("records"):
            error = args.parser.spoken(row["error"])
            yield shared.wrap(f"{row['rows']:,} x {error} (first: {row['first_id']})")
    yield result.record["fixed"]["model"]["notice"]
    yield f"wrote {result.folder / 'results.parquet'}"
