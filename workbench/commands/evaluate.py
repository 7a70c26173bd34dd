"""`workbench evaluate`: score reports against references, or what a model reports of cases."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.errors import InputError, OptionError
from workbench.settings import FIRST_HELD_OUT_SEED

if TYPE_CHECKING:
    from workbench.evaluation.comparison import Comparison
    from workbench.evaluation.judges import Judgement
    from workbench.evaluation.report_set import ReportSet
    from workbench.evaluation.scorecard import ScoreCard

POLICIES = ("joint-definite", "uncertain-as-positive", "uncertain-as-negative", "blank-as-negative")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "FILE is CSV, TSV or Parquet with an id column and a text column, or with labels: one\n"
        "column per finding (present, absent, uncertain, blank; or 1, 0, -1), or what\n"
        "`workbench label` writes. Predictions may be the folder of a run, references a manifest:\n"
        "its labels, by patient. Omission is counted under every policy.\n"
        "example: workbench evaluate --predictions run.csv --references truth.csv --out card\n"
        "two models: workbench evaluate --predictions runs/a --compare runs/b \\\n"
        "    --references manifest.parquet\n"
        "a model: workbench evaluate model --manifest m.parquet --root DIR, or on unseen phantoms\n"
        "    workbench evaluate model"
    )
    option = partial(shared.option, parser)
    what = "reports (default), or a model that is asked for reports of phantoms or of a manifest"
    option("what", what, nargs="?", choices=("reports", "model"), default="reports")
    others = "predictions of other systems, compared with the first"
    option("--predictions FILE", "what a system wrote, or the folder of a run", type=Path)
    option("--references FILE", "reports or labels, or a manifest", type=Path)
    option("--policy", "what is scored (joint-definite)", choices=POLICIES, default=POLICIES[0])
    option("--compare OTHER", others, type=Path, nargs="+", default=[])
    option("--out DIR", "write page, tables and figures", type=Path)
    option("--pairs FILE", "write both texts of each id, as RadEval reads them", type=Path)
    option("--model-card FILE", "write the run as a card of the Hugging Face hub", type=Path)
    option = partial(shared.option, parser.add_argument_group("columns and numbers"))
    option("--id-column I", "identifiers (default id)", default="id")
    option("--text-column C", "texts, where there are any (text)", default="text")
    option("--patient-column P", "patients, in either file (those of a manifest, or every id)")
    option("--findings A,B", "what to score (all but no finding)", type=shared.names)
    option("--resamples N", "of the bootstrap (1000)", default=1000)
    option("--seed N", "of the bootstrap (0); of `model` the first phantom (10,000,000)", type=int)
    option("--no-text-metrics", "leave out BLEU, ROUGE-L and the like", action="store_true")
    group = parser.add_argument_group("a judge")
    address = "address of an endpoint whose language model judges the texts; --name names it"
    shared.option(group, "--judge URL", address)
    shared.option(group, "--judge-by A,B", "crimson, radmatch (both)", type=shared.names)
    group = parser.add_argument_group("of `model`")
    shared.option(group, "--manifest FILE", "radiographs with labels, for phantoms", type=Path)
    shared.option(group, "--root DIR", "folder of its images (that of the manifest)", type=Path)
    add_exam_arguments(group)
    shared.add_model_arguments(parser)


def add_exam_arguments(group: argparse._ActionsContainer) -> None:
    """Add what an examination needs besides its seed and its model."""
    shared.option(group, "--n N", "phantoms in each domain (500), or rows (all)", type=int)
    one = "phantoms of one domain (all three)"
    shared.option(group, "--domain", one, choices=shared.DOMAINS)
    shared.option(group, "--batch-size N", "images at a time (16)", default=16)
    shared.option(group, "--keep FILE", "store finished cases, or judgements; resumes", type=Path)


def examine_model(args: argparse.Namespace) -> int:
    """Let a model report phantoms, or the radiographs of --manifest, and print what is right."""
    shared.at_least(args, n=1, batch_size=1, seed=0)
    radiographs = None
    if getattr(args, "manifest", None):
        if args.domain:
            raise OptionError("--domain is of phantoms, and --manifest takes none; leave one out")
        from workbench.bench.keys import Radiographs

        radiographs = Radiographs(args.manifest, args.root)
    shared.loading(args)
    from workbench.bench import examine

    seed = FIRST_HELD_OUT_SEED if args.seed is None else args.seed
    exam = examine(
        shared.open_model(args),
        radiographs=radiographs,
        seed=seed,
        kept=args.keep,
        progress=not args.json,
        **({"domains": (args.domain,)} if args.domain else {}),
        **shared.chosen(args, "n batch_size"),
    )
    if getattr(args, "out", None):
        exam.save(args.out)
    return shared.answer(args, exam.to_dict(), [str(exam)])


def run(args: argparse.Namespace) -> int:
    missing = [f"--{name}" for name in ("predictions", "references") if not getattr(args, name)]
    if args.what == "model" and len(missing) < 2:
        args.parser.error("a model is asked for its reports; leave out what was written")
    if args.what == "reports" and missing:
        args.parser.error(f"the following arguments are required: {', '.join(missing)}")
    shared.need_paths(args)
    if args.what == "model":
        return examine_model(args)
    if args.manifest or args.root:
        args.parser.error("--manifest belongs to `evaluate model`; it may be --references here")
    if args.model_card and not args.predictions.is_dir():
        raise InputError(
            f"{args.predictions}: --model-card describes a run; give --predictions the folder that "
            "`workbench run --out` wrote"
        )
    from workbench.evaluation.comparison import compare
    from workbench.evaluation.report_set import read_reports
    from workbench.evaluation.scorecard import score
    from workbench.evaluation.scorecard_page import save_card

    columns = shared.chosen(args, "id_column text_column patient_column")
    references = read_reports(args.references, role="references", **columns)
    paths = [args.predictions, *args.compare]
    systems = [
        read_reports(path, role="predictions", name=name, **columns)
        for path, name in zip(paths, _system_names(paths), strict=True)
    ]
    settings = shared.chosen(args, "policy resamples")
    settings["seed"] = args.seed or 0
    settings["findings"] = args.findings or _common(systems, references)
    settings |= {"patients": args.patient_column, "text_metrics": not args.no_text_metrics}
    card, *others = [score(system, references, **settings) for system in systems]
    compared = tuple(compare(card, other) for other in others)
    files = {}
    if args.out:
        files = save_card(card, args.out, compared=compared, cards=tuple(others))
    files |= _shared_files(args, systems[0], references, card)
    judged = _judged(args, systems[0], references)
    found = card.to_dict() | {"comparisons": [other.to_dict() for other in compared]}
    found["judged"] = [one.to_dict() for one in judged]
    found["files"] = sorted(path.as_posix() for path in files.values())
    return shared.answer(args, found, [*_lines(card, compared, files), *map(str, judged)])


def _shared_files(
    args: argparse.Namespace, predicted: ReportSet, expected: ReportSet, card: ScoreCard
) -> dict[str, Path]:
    """Write what --pairs and --model-card ask for; return name -> path."""
    from workbench.data.frames import save_frame
    from workbench.runs import model_card, report_pairs

    files = {}
    if args.pairs:
        references = expected if expected.kind == "texts" else args.references
        files["pairs"] = save_frame(report_pairs(predicted, references), args.pairs)
    if args.model_card:
        files["model card"] = args.model_card
        args.model_card.parent.mkdir(parents=True, exist_ok=True)
        args.model_card.write_text(model_card(args.predictions, card), encoding="utf-8")
    return files


def _judged(args: argparse.Namespace, predicted: ReportSet, expected: ReportSet) -> list[Judgement]:
    """Return what the judge of --judge makes of the first system, by each metric."""
    if not args.judge:
        return []
    from workbench.evaluation.judges import METRICS, judge
    from workbench.interface import load_model

    model = load_model(args.judge, name=args.name, allow_remote=args.allow_remote)
    options = {"resamples": args.resamples, "patients": args.patient_column}
    options["progress"] = not args.json
    kept = {one: args.keep and f"{args.keep}.{one}.jsonl" for one in args.judge_by or METRICS}
    return [
        judge(predicted, expected, model, metric=one, kept=path, **options)
        for one, path in kept.items()
    ]


def _system_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each file: its stem, with the folder where stems are equal."""
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("a file of predictions is given twice; give each system once")
    stems = [path.name if path.is_dir() else path.stem for path in paths]
    named = zip(stems, paths, strict=True)
    return [stem if stems.count(stem) == 1 else path.as_posix() for stem, path in named]


def _common(systems: Sequence[ReportSet], references: ReportSet) -> tuple[str, ...] | None:
    """Return the findings that every label table has, None where there are only texts."""
    from workbench.evaluation.scorecard import SCORED_FINDINGS

    tables = [side.findings for side in (*systems, references) if side.findings is not None]
    common = tuple(name for name in SCORED_FINDINGS if all(name in table for table in tables))
    return common if tables and common else None


def _lines(
    card: ScoreCard, compared: Sequence[Comparison], files: Mapping[str, Path]
) -> Iterator[str]:
    from workbench.figures.numbers import fixed, percent

    yield f"{card.name}: {len(card.pairs.ids)} pairs, {card.policy.name}"
    rows = []
    for row in card.per_finding.values():
        if row.mentioned:
            counts = [percent(row.coverage), row.support, row.tp, row.fp, row.tn, row.fn]
            rates = [fixed(row.precision.value), fixed(row.recall.value), row.f1.text()]
            rows.append([row.finding, row.n, *counts, *rates, f"{row.omitted}/{row.omission.n}"])
    header = ("finding", "n", "cover", "pos", "TP", "FP", "TN", "FN", "prec", "rec", "F1 [95 %]")
    yield shared.table(rows, header=(*header, "omitted"))
    for name, item in card.averages.items():
        yield f"{name} F1 {item.f1.text()} over {len(item.members)} findings"
    if card.variety is not None:
        yield f"variety: {card.variety.said}"
        spread = [(name, *pair) for name, pair in card.variety.spread.items()]
        said = ", ".join(f"{name} {own:.2f} ({true:.2f})" for name, own, true in spread)
        yield f"variance over reports (references): {said or 'nothing is stated'}"
    yield "protocol"
    yield from (shared.wrap(f"{name}: {line}") for name, line in card.protocol.items())
    for found in compared:
        difference = found.averages["macro"].difference
        yield f"{found.a} - {found.b}: macro F1 {difference.text()} on the same pairs"
        header, cells = found.table()
        yield shared.table(cells, header=header)
        yield found.protocols
    if card.texts is not None:
        known = [f"{m.name} {m.value:.3f}" for m in card.texts.metrics if m.value is not None]
        missing = [m.name for m in card.texts.metrics if m.value is None]
        yield f"wording: {', '.join(known) or 'nothing measured'}"
        yield f"not available: {', '.join(missing) or 'none'} (--json says what each needs)"
    yield f"rows in: {', '.join(f'{n} {s}' for s, n in card.statuses.items() if n)}"
    for warning in card.warnings:
        shared.note(f"note: {warning}")
    if files:
        first, *others = files.values()
        yield f"wrote {first}" + (f" and {len(others)} more files" if others else "")
