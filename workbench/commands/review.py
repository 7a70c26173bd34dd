"""`workbench review`: the errors of a run, what reviewers said of them, and reader studies."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.commands._shared import chosen, given
from workbench.errors import OptionError
from workbench.findings import NO_FINDING, standard_name

if TYPE_CHECKING:
    from workbench.review import ErrorQueue

KNOWN = "what is known of the images (the manifest of the run, where it lies beside it)"
OF_RUN = (
    given("run RUN", "folder of `workbench run`", type=Path),
    given("--manifest FILE", KNOWN, type=Path),
    given("--task TASK", "task whose answers are reports (report)", default="report"),
)
EXPORTED = (
    "verdicts as a table (default); the corrected reference, for `workbench evaluate`; or the "
    "reviewed rows of the manifest with corrected labels, for fine-tuning"
)
DICOM_SR = "DICOM structured reports instead (and images that are none yet), in the folder --out"
SEED = given("--seed N", "of the bootstrap (0)", default=0)
ACTIONS = shared.Actions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: workbench review queue runs/first --manifest manifest.parquet --sample 50 \\\n"
        "             --out look_at_these.csv\n"
        "`workbench review ACTION --help` explains each. The first opening of a queue reads\n"
        "all texts and keeps what it read in the folder of the run."
    )
    ACTIONS.add_to(parser)


def run(args: argparse.Namespace) -> int:
    args.refused = 2
    shared.need_paths(args)
    return args.act(args)


@ACTIONS.add(
    "list suspected errors of a run, and where it errs more than elsewhere",
    *OF_RUN,
    given("--kind K", "only one kind, e.g. 'missed finding'"),
    given("--finding F", "only one finding"),
    given("--whole", "every report, with or without a suspected error", action="store_true"),
    given("--sample N", "draw N, every kind having a turn", type=int),
    given("--seed N", "of the draw (0)", default=0),
    given("--out FILE", "write it as .csv or .parquet", type=Path),
)
def _queue(args: argparse.Namespace) -> int:
    from workbench.review import queue as open_queue
    from workbench.review.suspects import WITHOUT, check_kinds

    # reading all texts may take minutes
    check_kinds([args.kind] if args.kind else [])
    args.whole |= args.kind == WITHOUT
    standard_name(args.finding or NO_FINDING)
    shared.at_least(args, sample=1)
    queue = open_queue(args.run, progress=True, **chosen(args, "manifest task whole"))
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
    few = "no slice has enough patients and errors to be compared with the rest"
    tested = summary["slices_tested"]
    yield f"{len(worse)} of {tested:,} slices are worse than the rest" if tested else few
    for item in worse[:5]:
        yield shared.wrap(f"{item}, p {item.p:.1g}")
    for text in summary["notes"]:
        shared.note(f"note: {args.parser.spoken(text)}")
    if args.out:
        yield f"wrote {args.out}"


@ACTIONS.add(
    "measure how far reviewers agree",
    given("run RUN", "folder of a run with verdicts", type=Path),
    SEED,
)
def _agreement(args: argparse.Namespace) -> int:
    from workbench.figures.numbers import fixed
    from workbench.review import open_annotations

    notes = open_annotations(args.run)
    found = notes.agreement(seed=args.seed)
    rows = [
        [name, *(fixed(row[key], 3) for key in ("value", "low", "high")), int(row["n"])]
        for name, row in found.to_frame().to_dict("index").items()
    ]
    said = f"{', '.join(found.raters)}: {found.items:,} entries judged by two or more"
    table = shared.table(rows, header=("measure", "value", "low", "high", "n"))
    return shared.answer(args, found.to_dict() | {"torn_lines": notes.torn}, [said, table])


@ACTIONS.add(
    "write verdicts, the corrected reference, or a manifest to train on",
    *OF_RUN,
    given("--what", EXPORTED, choices=("verdicts", "reference", "manifest"), default="verdicts"),
    given("--dicom-sr", DICOM_SR, action="store_const", dest="what", const="dicom-sr"),
    given("--out FILE", "a .csv or .parquet file; a folder for DICOM", type=Path, required=True),
    given("--provenance P", "of changed rows: the reviewers, e.g. radiologist", default="unknown"),
    given("--root DIR", "folder of the images, for DICOM (that of the run)", type=Path),
    given("--identified", "say in DICOM who the patient is, as its file does", action="store_true"),
)
def _export(args: argparse.Namespace) -> int:
    from workbench.data import load
    from workbench.review import corrected_reference, open_annotations, queue, save_dicom_sr

    if args.what == "manifest" and args.manifest is None:
        raise OptionError("--what manifest needs --manifest: its rows are what is exported")
    if args.what != "dicom-sr" and (args.root or args.identified):
        raise OptionError("root and identified belong to --dicom-sr; leave them out")
    notes = made = open_annotations(args.run)
    record: dict = {"what": args.what, "verdicts": len(notes), "out": args.out}
    if args.what != "verdicts":
        opened = queue(args.run, progress=True, **chosen(args, "manifest task root"))
    if args.what == "dicom-sr":
        table = save_dicom_sr(opened, notes, args.out, identified=args.identified)
        record |= {"files": len(table), "kinds": table["kind"].value_counts().to_dict()}
        counted = ", ".join(f"{n:,} {kind}" for kind, n in record["kinds"].items())
        return shared.answer(args, record, [counted, f"wrote {args.out}"])
    if args.what != "verdicts":
        found = made = corrected_reference(opened, notes)
        record |= {"reviewed": int(found.reviewed.sum()), "changes": len(found.changes)}
    if args.what == "manifest":
        made = found.to_manifest(load(args.manifest, check=False), provenance=args.provenance)
        record |= {"rows": len(made), "notes": list(made.notes)}
    made.save(args.out)
    counted = ", ".join(f"{record[k]:,} {k}" for k in ("verdicts", "changes") if k in record)
    return shared.answer(args, record, [counted, f"wrote {args.out}"])


@ACTIONS.add(
    "plan how many cases a reader study needs",
    given("--half-width W", "of the 95 %% interval, 0.05", type=float, required=True),
    given("--expected SHARE", "acceptable reports (0.73)", default=0.73),
    given("--readers N", "readings of each report (1)", default=1),
    given("--icc R", "correlation of readings (0.3)", default=0.3),
)
def _size(args: argparse.Namespace) -> int:
    from workbench.review import sample_size

    found = sample_size(args.half_width, **chosen(args, "expected readers icc"))
    said = f"{found.cases:,} cases, {found.readings:,} readings: +- {found.reached:.4f}"
    return shared.answer(args, found, [said])


@ACTIONS.add(
    "prepare a blinded reader study",
    *OF_RUN,
    given("--readers AB,CD", "initials", type=shared.names, required=True),
    given("--out DIR", "a new folder", type=Path, required=True),
    given("--cases N", "drawn by lot (all)", type=int),
    given("--readers-per-case N", "of each case (all)", type=int),
    given("--repeats SHARE", "share graded twice (0.1)", default=0.1),
    given("--washout N", "reports between two readings", type=int),
    given("--title TITLE", "what readers see", default="Reader study"),
)
def _study(args: argparse.Namespace) -> int:
    from workbench.figures.numbers import fixed
    from workbench.review import reader_study

    asked = chosen(args, "out readers manifest task cases readers_per_case repeats washout title")
    study = reader_study(args.run, **asked)
    progress, signs = study.progress(), study.surface_features()
    readings = dict(zip(progress["reader"], progress["total"].tolist(), strict=True))
    cases = len(study.key["cases"])
    said = [f"{cases:,} cases; {args.out / 'key.json'} names the author of each report"]
    for reader, count in readings.items():
        said.append(f"{reader}: {count:,} readings, hand out {study.reader_file(reader)} only")
    said.append("what tells the arms apart without the image (AUROC, 0.5 is nothing):")
    rows = [[name, fixed(value)] for name, value in signs["auroc"].items()]
    said.append(shared.table(rows, header=("feature", "AUROC")))
    record = {"cases": cases, "out": args.out, "readings": readings}
    record["surface_features"] = signs.reset_index().to_dict("records")
    return shared.answer(args, record, said)


@ACTIONS.add(
    "unblind and analyse a reader study",
    given("study STUDY", "folder of a study, with its key", type=Path),
    given("--out PAGE.html", "write the report", type=Path),
    given("--partial", "although readers are not done", action="store_true"),
    SEED,
)
def _analyse(args: argparse.Namespace) -> int:
    from workbench.review import open_study

    result = open_study(args.study).analyse(partial=args.partial, seed=args.seed)
    said = [f"{arm}: acceptable {found.text()}" for arm, found in result.success.items()]
    said.append(f"model minus reference {result.difference.text()}")
    pairs = {"between readers": result.between} if result.between is not None else {}
    pairs |= {f"within {reader}": found for reader, found in result.within.items()}
    said += [f"{who}: {found.measure} {found.kappa.text()}" for who, found in pairs.items()]
    if args.out:
        result.save(args.out)
        said.append(f"wrote {args.out}")
    return shared.answer(args, result.to_dict() | {"out": args.out}, said)
