"""`workbench review`: the errors of a run, what reviewers said of them, and reader studies."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.errors import OptionError
from workbench.findings import NO_FINDING, standard_name

if TYPE_CHECKING:
    from workbench.review import ErrorQueue, StudyResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench review`."""
    parser.epilog = (
        "example: workbench review queue runs/first --manifest manifest.parquet --sample 50 \\\n"
        "             --out look_at_these.csv\n"
        "`workbench review ACTION --help` explains each. The first opening of a queue reads\n"
        "all texts and keeps what it read in the folder of the run."
    )
    shared.add_actions(parser, ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    try:
        if "run" in args:
            shared.need(args.run, shared.RUN, folder=True)
        if "study" in args:
            shared.need(args.study, "no such folder of a study", folder=True)
        shared.need(getattr(args, "manifest", None), shared.MANIFEST)
        return args.act(args)
    except OptionError as error:
        shared.note(f"workbench: {args.parser.spoken(str(error))}")
        return 2


# --- arguments -----------------------------------------------------------------------------------


def _add_queue(parser: argparse.ArgumentParser) -> None:
    option = _add_run(parser)
    option("--kind K", "only one kind, e.g. 'missed finding'")
    option("--finding F", "only one finding")
    option("--sample N", "draw N, every kind having a turn", type=int)
    option("--seed N", "of the draw (0)", default=0)
    option("--out FILE", "write it as .csv or .parquet", type=Path)


def _add_agreement(parser: argparse.ArgumentParser) -> None:
    shared.option(parser, "run RUN", "folder of a run with verdicts", type=Path)
    shared.option(parser, "--seed N", "of the bootstrap (0)", default=0)


def _add_export(parser: argparse.ArgumentParser) -> None:
    option = _add_run(parser)
    kinds = ("verdicts", "reference", "manifest")
    what = (
        "verdicts as a table (default); the corrected reference, for `workbench evaluate`; or the "
        "reviewed rows of the manifest with corrected labels, for fine-tuning"
    )
    reviewers = "of changed rows: the reviewers, e.g. radiologist"
    option("--what", what, choices=kinds, default="verdicts")
    option("--out FILE", "a .csv or .parquet file", type=Path, required=True)
    option("--provenance P", reviewers, default="unknown")


def _add_size(parser: argparse.ArgumentParser) -> None:
    option = partial(shared.option, parser)
    option("--half-width W", "of the 95 %% interval, 0.05", type=float, required=True)
    option("--expected SHARE", "acceptable reports (0.73)", default=0.73)
    option("--readers N", "readings of each report (1)", default=1)
    option("--icc R", "correlation of readings (0.3)", default=0.3)


def _add_study(parser: argparse.ArgumentParser) -> None:
    option = _add_run(parser)
    option("--readers AB,CD", "initials", type=shared.names, required=True)
    option("--out DIR", "a new folder", type=Path, required=True)
    option("--cases N", "drawn by lot (all)", type=int)
    option("--readers-per-case N", "of each case (all)", type=int)
    option("--repeats SHARE", "share graded twice (0.1)", default=0.1)
    option("--washout N", "reports between two readings", type=int)
    option("--title TITLE", "what readers see", default="Reader study")


def _add_analyse(parser: argparse.ArgumentParser) -> None:
    option = partial(shared.option, parser)
    option("study STUDY", "folder of a study, with its key", type=Path)
    option("--out PAGE.html", "write the report", type=Path)
    option("--partial", "although readers are not done", action="store_true")
    option("--seed N", "of the bootstrap (0)", default=0)


def _add_run(parser: argparse.ArgumentParser) -> Callable[..., None]:
    """Add what most actions take, and return what adds the rest."""
    option = partial(shared.option, parser)
    known = "what is known of the images (the manifest of the run, where it lies beside it)"
    option("run RUN", "folder of `workbench run`", type=Path)
    option("--manifest FILE", known, type=Path)
    option("--task TASK", "task whose answers are reports (report)", default="report")
    return option


# --- actions -------------------------------------------------------------------------------------


def _queue(args: argparse.Namespace) -> int:
    from workbench.review.suspects import check_kinds

    # reading all texts may take minutes
    check_kinds([args.kind] if args.kind else [])
    standard_name(args.finding or NO_FINDING)
    shared.at_least(args, sample=1)
    queue = _opened(args)
    if args.kind or args.finding:
        queue = queue.select(kind=args.kind, finding=args.finding)
    if args.sample is not None:
        queue = queue.sample(args.sample, seed=args.seed)
    if args.out:
        queue.save(args.out)
    summary = queue.summary() | {"out": args.out}
    return shared.answer(args, summary, _queued(args, queue, summary))


def _queued(args: argparse.Namespace, queue: ErrorQueue, summary: dict) -> Iterator[str]:
    yield f"{summary['entries']:,} entries about {summary['cases']:,} reports"
    rows = [[kind, count] for kind, count in summary["kinds"].items() if count]
    if rows:
        yield shared.table(rows, header=("kind", "entries"))
    known = ("known", "disputed", "unknown")
    pairs = ", ".join(f"{summary[f'{name}_pairs']:,} {name}" for name in known)
    yield f"pairs of report and finding: {pairs}"
    worse = queue.slices.worse
    yield f"{len(worse)} of {summary['slices_tested']:,} slices are worse than the rest"
    for item in worse[:5]:
        yield shared.wrap(f"{item}, p {item.p:.1g}")
    for text in summary["notes"]:
        shared.note(f"note: {args.parser.spoken(text)}")
    yield from _wrote(args)


def _agreement(args: argparse.Namespace) -> int:
    from workbench.figures.numbers import fixed
    from workbench.review import open_annotations

    notes = open_annotations(args.run)
    found = notes.agreement(seed=args.seed)
    rows = [
        [name, *(fixed(row[key], 3) for key in ("value", "low", "high")), int(row["n"])]
        for name, row in found.to_frame().to_dict("index").items()
    ]
    said = [
        f"{', '.join(found.raters)}: {found.items:,} entries judged by two or more",
        shared.table(rows, header=("measure", "value", "low", "high", "n")),
    ]
    return shared.answer(args, found.to_dict() | {"torn_lines": notes.torn}, said)


def _export(args: argparse.Namespace) -> int:
    from workbench.data import load
    from workbench.review import corrected_reference, open_annotations

    if args.what == "manifest" and args.manifest is None:
        raise OptionError("--what manifest needs --manifest: its rows are what is exported")
    notes = open_annotations(args.run)
    record: dict = {"what": args.what, "verdicts": len(notes), "out": args.out}
    if args.what == "verdicts":
        notes.save(args.out)
    else:
        found = corrected_reference(_opened(args), notes)
        record |= {"reviewed": int(found.reviewed.sum()), "changes": len(found.changes)}
        if args.what == "reference":
            found.save(args.out)
        else:
            manifest = load(args.manifest, check=False)
            made = found.to_manifest(manifest, provenance=args.provenance)
            made.save(args.out)
            record |= {"rows": len(made), "notes": list(made.notes)}
    counted = ", ".join(f"{record[k]:,} {k}" for k in ("verdicts", "changes") if k in record)
    return shared.answer(args, record, [counted, *_wrote(args)])


def _size(args: argparse.Namespace) -> int:
    from workbench.review import sample_size

    found = sample_size(args.half_width, expected=args.expected, readers=args.readers, icc=args.icc)
    names = ("cases", "readings", "half_width", "reached", "expected", "readers", "icc")
    said = f"{found.cases:,} cases, {found.readings:,} readings: +- {found.reached:.4f}"
    return shared.answer(args, {name: getattr(found, name) for name in names}, [said])


def _study(args: argparse.Namespace) -> int:
    from workbench.figures.numbers import fixed
    from workbench.review import reader_study

    chosen = ("out", "readers", "manifest", "task", "cases", "readers_per_case")
    chosen += ("repeats", "washout", "title")
    study = reader_study(args.run, **{name: getattr(args, name) for name in chosen})
    progress, signs = study.progress(), study.surface_features()
    readings = dict(zip(progress["reader"], progress["total"].tolist(), strict=True))
    cases = len(study.key["cases"])
    rows = [[name, fixed(value)] for name, value in signs["auroc"].items()]
    said = [
        f"{cases:,} cases; {args.out / 'key.json'} names the author of each report",
        *(
            f"{reader}: {count:,} readings, hand out {study.reader_file(reader)} only"
            for reader, count in readings.items()
        ),
        "what tells the arms apart without the image (AUROC, 0.5 is nothing):",
        shared.table(rows, header=("feature", "AUROC")),
    ]
    record = {"cases": cases, "out": args.out, "readings": readings}
    record["surface_features"] = signs.reset_index().to_dict("records")
    return shared.answer(args, record, said)


def _analyse(args: argparse.Namespace) -> int:
    from workbench.review import open_study

    result = open_study(args.study).analyse(partial=args.partial, seed=args.seed)
    if args.out:
        result.save(args.out)
    return shared.answer(args, result.to_dict() | {"out": args.out}, _analysed(args, result))


def _analysed(args: argparse.Namespace, result: StudyResult) -> Iterator[str]:
    for arm, found in result.success.items():
        yield f"{arm}: acceptable {found.text()}"
    yield f"model minus reference {result.difference.text()}"
    if result.between is not None:
        yield f"between readers: {result.between.measure} {result.between.kappa.text()}"
    for reader, found in result.within.items():
        yield f"within {reader}: {found.measure} {found.kappa.text()}"
    yield from _wrote(args)


def _opened(args: argparse.Namespace) -> ErrorQueue:
    from workbench.review import queue

    return queue(args.run, manifest=args.manifest, task=args.task, progress=True)


def _wrote(args: argparse.Namespace) -> list[str]:
    return [f"wrote {args.out}"] if args.out else []


ACTIONS: shared.Actions = {
    "queue": (
        "list suspected errors of a run, and where it errs more than elsewhere",
        _add_queue,
        _queue,
    ),
    "agreement": ("measure how far reviewers agree", _add_agreement, _agreement),
    "export": (
        "write verdicts, the corrected reference, or a manifest to train on",
        _add_export,
        _export,
    ),
    "size": ("plan how many cases a reader study needs", _add_size, _size),
    "study": ("prepare a blinded reader study", _add_study, _study),
    "analyse": ("unblind and analyse a reader study", _add_analyse, _analyse),
}
