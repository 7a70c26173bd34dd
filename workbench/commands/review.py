"""`workbench review`: the errors of a run, what reviewers said of them, and reader studies.

Does not know: what an error is, or how people agree (`workbench.review`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.errors import OptionError
from workbench.findings import NO_FINDING, standard_name

if TYPE_CHECKING:
    from workbench.review import ErrorQueue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench review`."""
    parser.epilog = (
        "example: workbench review queue runs/first --manifest films.parquet --sample 50 \\\n"
        "             --out look_at_these.csv\n"
        "`workbench review ACTION --help` explains each. The first opening of a queue reads\n"
        "all texts and keeps what it read in the folder of the run."
    )
    shared.add_actions(parser, ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    action: Callable[[argparse.Namespace], int] = globals()[f"_{args.action}"]
    try:
        if "run" in args:
            shared.need(args.run, shared.RUN, folder=True)
        if "study" in args:
            shared.need(args.study, "no such folder of a study", folder=True)
        shared.need(getattr(args, "manifest", None), shared.MANIFEST)
        return action(args)
    except OptionError as error:
        shared.note(f"workbench: {args.parser.spoken(str(error))}")
        return 2


# --- arguments -----------------------------------------------------------------------------------


def _add_queue(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument("--kind", metavar="K", help="only one kind, e.g. 'missed finding'")
    parser.add_argument("--finding", metavar="F", help="only one finding")
    parser.add_argument("--sample", type=int, metavar="N", help="draw N, every kind having a turn")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it as .csv or .parquet")


def _add_agreement(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run with verdicts")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")


def _add_export(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument(
        "--what", choices=("verdicts", "reference", "manifest"), default="verdicts",
        help="verdicts as a table (default); the corrected reference, for `workbench evaluate`; "
        "or the reviewed rows of the manifest with corrected labels, for fine-tuning",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a .csv or .parquet file"
    )
    parser.add_argument(
        "--provenance", default="unknown", help="who reviewed, e.g. radiologist (of changed rows)"
    )


def _add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--half-width", type=float, required=True, metavar="W", help="of the 95 %% interval, 0.05"
    )
    parser.add_argument("--expected", type=float, default=0.73, help="acceptable reports (0.73)")
    parser.add_argument("--readers", type=int, default=1, help="readings of each report (1)")
    parser.add_argument("--icc", type=float, default=0.3, help="correlation of readings (0.3)")


def _add_study(parser: argparse.ArgumentParser) -> None:
    _add_run(parser)
    parser.add_argument("--readers", required=True, metavar="AB,CD", help="initials")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="a new folder")
    parser.add_argument("--cases", type=int, metavar="N", help="drawn by lot (all)")
    parser.add_argument("--readers-per-case", type=int, metavar="N", help="of each case (all)")
    parser.add_argument("--repeats", type=float, default=0.1, help="share graded twice (0.1)")
    parser.add_argument("--washout", type=int, metavar="N", help="reports between two readings")
    parser.add_argument("--title", default="Reader study", help="what readers see")


def _add_analyse(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", type=Path, metavar="STUDY", help="folder of a study, with its key")
    parser.add_argument("--out", type=Path, metavar="PAGE.html", help="write the report")
    parser.add_argument("--partial", action="store_true", help="although readers are not done")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (0)")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of `workbench run`")
    parser.add_argument(
        "--manifest", type=Path, metavar="FILE",
        help="what is known of the images (the manifest of the run, where it lies beside it)",
    )  # fmt: skip
    parser.add_argument("--task", default="report", help="task whose answers are reports (report)")


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
    if args.json:
        shared.emit_json(summary)
        return 0
    rows = [[kind, count] for kind, count in summary["kinds"].items() if count]
    shared.say(f"{summary['entries']:,} entries about {summary['cases']:,} reports")
    if rows:
        shared.say(shared.table(rows, header=("kind", "entries")))
    known = ("known", "disputed", "unknown")
    pairs = ", ".join(f"{summary[f'{name}_pairs']:,} {name}" for name in known)
    shared.say(f"pairs of report and finding: {pairs}")
    worse = queue.slices.worse
    shared.say(f"{len(worse)} of {summary['slices_tested']:,} slices are worse than the rest")
    for item in worse[:5]:
        shared.say(shared.wrap(f"{item}, p {item.p:.1g}"))
    for text in summary["notes"]:
        shared.note(f"note: {args.parser.spoken(text)}")
    return _wrote(args)


def _agreement(args: argparse.Namespace) -> int:
    from workbench.review import open_annotations

    notes = open_annotations(args.run)
    found = notes.agreement(seed=args.seed)
    if args.json:
        shared.emit_json(found.to_dict() | {"torn_lines": notes.torn})
        return 0
    shared.say(f"{', '.join(found.raters)}: {found.items:,} entries judged by two or more")
    rows = [
        [name, _value(row["value"]), _value(row["low"]), _value(row["high"]), int(row["n"])]
        for name, row in found.to_frame().iterrows()
    ]
    shared.say(shared.table(rows, header=("measure", "value", "low", "high", "n")))
    return 0


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
    if args.json:
        shared.emit_json(record)
        return 0
    shared.say(", ".join(f"{record[k]:,} {k}" for k in ("verdicts", "changes") if k in record))
    return _wrote(args)


def _size(args: argparse.Namespace) -> int:
    from workbench.review import sample_size

    found = sample_size(args.half_width, expected=args.expected, readers=args.readers, icc=args.icc)
    if args.json:
        names = ("cases", "readings", "half_width", "reached", "expected", "readers", "icc")
        shared.emit_json({name: getattr(found, name) for name in names})
        return 0
    shared.say(f"{found.cases:,} cases, {found.readings:,} readings: +- {found.reached:.4f}")
    return 0


def _study(args: argparse.Namespace) -> int:
    from workbench.review import reader_study

    names = [name.strip() for name in args.readers.split(",") if name.strip()]
    study = reader_study(
        args.run,
        out=args.out,
        readers=names,
        manifest=args.manifest,
        task=args.task,
        cases=args.cases,
        readers_per_case=args.readers_per_case,
        repeats=args.repeats,
        washout=args.washout,
        title=args.title,
    )
    progress, signs = study.progress(), study.giveaways()
    record = {"cases": len(study.key["cases"]), "out": args.out}
    record |= {"readings": dict(zip(progress["reader"], progress["total"].tolist(), strict=True))}
    if args.json:
        signs = signs.astype(object).where(signs.notna(), None)
        shared.emit_json(record | {"giveaways": signs.reset_index().to_dict("records")})
        return 0
    shared.say(f"{record['cases']:,} cases; {args.out / 'key.json'} says who wrote what")
    for reader, count in record["readings"].items():
        shared.say(f"{reader}: {count:,} readings, hand out {study.reader_file(reader)} only")
    rows = [[name, f"{row['auroc']:.2f}"] for name, row in signs.iterrows()]
    shared.say("what the surface gives away (AUROC, 0.5 is nothing):")
    shared.say(shared.table(rows, header=("feature", "AUROC")))
    return 0


def _analyse(args: argparse.Namespace) -> int:
    from workbench.review import open_study

    result = open_study(args.study).analyse(partial=args.partial, seed=args.seed)
    if args.out:
        result.save(args.out)
    if args.json:
        shared.emit_json(result.to_dict() | {"out": args.out})
        return 0
    for arm, found in result.success.items():
        shared.say(f"{arm}: acceptable {found.text()}")
    shared.say(f"model minus reference {result.difference.text()}")
    if result.between is not None:
        shared.say(f"between readers: {result.between.measure} {result.between.kappa.text()}")
    for reader, found in result.within.items():
        shared.say(f"within {reader}: {found.measure} {found.kappa.text()}")
    return _wrote(args)


def _opened(args: argparse.Namespace) -> ErrorQueue:
    from workbench.review import queue

    return queue(args.run, manifest=args.manifest, task=args.task, progress=True)


def _wrote(args: argparse.Namespace) -> int:
    if args.out:
        shared.say(f"wrote {args.out}")
    return 0


def _value(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


ACTIONS = {
    "queue": ("list suspected errors of a run, and where it errs more than elsewhere", _add_queue),
    "agreement": ("measure how far reviewers agree", _add_agreement),
    "export": ("write verdicts, the corrected reference, or a manifest to train on", _add_export),
    "size": ("plan how many cases a reader study needs", _add_size),
    "study": ("prepare a blinded reader study", _add_study),
    "analyse": ("unblind and analyse a reader study", _add_analyse),
}

__all__ = ["ACTIONS", "add_arguments", "run"]
