"""`workbench manifest`: build, check, divide, freeze and describe manifests of data sets."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.commands._shared import chosen, given
from workbench.findings import CODES

if TYPE_CHECKING:
    from workbench.data import Manifest

FORMATS = "a manifest, .parquet or .csv"
FILE = given("file FILE", FORMATS, type=Path)
OUT = given("--out FILE", FORMATS, type=Path, required=True)
ACTIONS = shared.Actions()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "example: workbench manifest build nih --source downloads/nih --out nih.parquet\n"
        "`workbench manifest card` lists the sources; `manifest ACTION --help` explains each."
    )
    ACTIONS.add_to(parser)


def run(args: argparse.Namespace) -> int:
    shared.need_paths(args)
    return args.act(args)


@ACTIONS.add(
    "build the manifest of a source from its official files",
    given("name SOURCE", "e.g. nih; `manifest card` lists them"),
    given("--source DIR", "the downloaded files", type=Path, required=True),
    OUT,
    given("--labels SET", "which labels, where a source has several"),
    given("--no-reports", "leave report texts out", action="store_true"),
    given("--no-hash", "do not read the image files", action="store_true"),
    given("--repair", "empty impossible ages", action="store_true"),
    given("--licence TEXT", "of your own data"),
    given("--provenance P", "of the labels of your own data, e.g. radiologist"),
    given("--workers N", "threads (2)", default=2),
)
def _build(args: argparse.Namespace) -> int:
    from workbench.data import build

    manifest = build(
        args.name,
        reports=not args.no_reports,
        hash_files=not args.no_hash,
        show=True,
        **chosen(args, "source labels repair licence provenance workers"),
    )
    return _saved(args, manifest)


@ACTIONS.add(
    "name what is wrong: row, column, rule and repair; exit code 1",
    FILE,
    given("--root DIR", "also look for the image files", type=Path),
    given("--against OTHER", "also look for patients and images of OTHER", type=Path),
    given("--limit N", "listed problems of each rule (100)", default=100),
)
def _check(args: argparse.Namespace) -> int:
    from workbench.data import check

    other = None if args.against is None else _loaded(args.against, reports=False)
    manifest = _loaded(args.file, reports=False)
    result = check(manifest, root=args.root, against=other, limit=args.limit)
    said = [f"{one.sentence()}\n{shared.wrap(one.repair)}" for one in result.problems]
    return shared.answer(args, result.to_dict(), [*said, str(result)], good=result.ok)


@ACTIONS.add(
    "divide patients into train, validate and test",
    FILE,
    OUT,
    given("--train SHARE", "share of images (0.7)", type=float),
    given("--validate SHARE", "share of images (0.1)", type=float),
    given("--test SHARE", "share of images (0.2)", type=float),
    given("--seed N", "decides what the shares leave open", default=0),
    given("--within PART", "divide one part of an existing split"),
    given("--replace", "throw an existing split away", action="store_true"),
    given("--list LIST", "apply a published list instead of dividing", type=Path),
    given("--name PART", "part that listed rows go to (test)", default="test"),
    given("--column COLUMN", "column of a list that is a CSV file"),
)
def _split(args: argparse.Namespace) -> int:
    from workbench.data import apply_split, split

    manifest = _loaded(args.file)
    if args.list is not None:
        return _saved(args, apply_split(manifest, args.list, **chosen(args, "name column")))
    shares = chosen(args, "train validate test").items()
    shares = {name: share for name, share in shares if share is not None}
    options = chosen(args, "seed within replace")
    return _saved(args, split(manifest, fractions=shares or None, **options))


@ACTIONS.add(
    "pick a small manifest with N images of each finding",
    FILE,
    OUT,
    given("--per-finding N", "images each (50)", default=50),
    given("--findings A,B", "which (every one that is present)", type=shared.names),
    given("--seed N", "decides which images", default=0),
)
def _subset(args: argparse.Namespace) -> int:
    from workbench.data import subset

    options = chosen(args, "per_finding findings seed")
    return _saved(args, subset(_loaded(args.file), **options))


@ACTIONS.add(
    "write a hashed cohort file",
    FILE,
    given("--out COHORT.json", "result", type=Path, required=True),
    given("--name NAME", "what the cohort is called (the name of the file)"),
)
def _freeze(args: argparse.Namespace) -> int:
    from workbench.data import freeze

    cohort = freeze(_loaded(args.file), args.out, name=args.name)
    record: dict = chosen(cohort, "name rows patients digest") | {"out": args.out}
    record["splits"] = {split: len(names) for split, names in cohort.images.items()}
    said = f"{cohort.name}: {cohort.rows:,} rows, {cohort.patients:,} patients"
    return shared.answer(args, record, [said, f"digest {cohort.digest}", f"wrote {args.out}"])


@ACTIONS.add(
    "compare a manifest with a frozen cohort; exit code 1",
    FILE,
    given("--cohort COHORT.json", "what was frozen", type=Path, required=True),
    given("--root DIR", "also compare the image files", type=Path),
)
def _verify(args: argparse.Namespace) -> int:
    from workbench.data import verify

    found = verify(_loaded(args.file), args.cohort, root=args.root, show=True)
    said = [*found.problems, f"{'verified' if found.ok else 'differs'}: {found.digest}"]
    return shared.answer(args, found, said, good=found.ok)


@ACTIONS.add(
    "describe a manifest for data catalogues (Croissant, JSON-LD)",
    FILE,
    given("--out FILE.json", "the description; keep it beside FILE", type=Path, required=True),
    given("--name NAME", "of the data set (the name of the file)"),
)
def _croissant(args: argparse.Namespace) -> int:
    from workbench.data import save_croissant

    save_croissant(args.file, args.out, name=args.name)
    return shared.answer(args, chosen(args, "file out"), [f"wrote {args.out}"])


@ACTIONS.add(
    "read every image and list the suspects, with a contact sheet",
    FILE,
    given("--root DIR", "folder of the images (that of FILE)", type=Path),
    given("--out DIR", "results (out/quality)", default=Path("out/quality")),
    given("--workers N", "processes (2)", default=2),
    given("--fit", "for the crop loss", choices=("crop", "pad"), default="crop"),
)
def _quality(args: argparse.Namespace) -> int:
    from workbench.data import quality
    from workbench.data.frames import write_csv

    manifest = _loaded(args.file)
    table = quality(manifest, show=True, **chosen(args, "root out workers fit"))
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(table.frame, args.out / "quality.csv")
    summary = table.summary() | {"out": args.out / "quality.csv"}
    if len(table.suspects):
        summary["sheet"] = args.out / "suspects.png"
        table.plot().savefig(summary["sheet"], bbox_inches="tight")
    suspects = table.suspects.head(20).to_dict("records")
    said = [f"{one['image_id']}: {one['reasons']}" for one in suspects] + [str(table)]
    counted = ", ".join(f"{code} {n:,}" for code, n in summary["warnings"].items())
    said += [f"warnings: {counted}"] if counted else []
    said += [f"wrote {summary[name]}" for name in ("out", "sheet") if name in summary]
    return shared.answer(args, summary, said)


@ACTIONS.add(
    "list the sources, or print what is known of one",
    given("name SOURCE", "which; all are listed without", nargs="?"),
    given("--out DIR", "write the cards to a folder", type=Path),
)
def _card(args: argparse.Namespace) -> int:
    from workbench.data.cards import SOURCES, card, card_text

    names = SOURCES if args.name is None else (card(args.name).key,)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        for name in names:
            (args.out / f"{name}.yaml").write_text(card_text(name), encoding="utf-8")
        said = f"wrote {len(names)} cards to {args.out}"
    elif args.name is None:
        body = [[name, card(name).title, card(name).licence] for name in names]
        said = shared.table(body, header=("source", "title", "licence"))
    else:
        said = card_text(names[0]).rstrip()
    return shared.answer(args, {"cards": [card(name).to_dict() for name in names]}, [said])


def _loaded(path: Path, *, reports: bool = True) -> Manifest:
    """Load a manifest as it is; the check is an action of its own."""
    from workbench.data import load

    return load(path, check=False, reports=reports)


def _saved(args: argparse.Namespace, manifest: Manifest) -> int:
    manifest.save(args.out)
    summary = manifest.summary() | {"out": args.out}
    notes = {"expected": list(manifest.expected), "notes": list(manifest.notes)}
    return shared.answer(args, summary | notes, _lines(manifest, summary))


def _lines(manifest: Manifest, summary: dict) -> Iterator[str]:
    codes = CODES[:3]
    body = [[name, *(counts[c] for c in codes)] for name, counts in summary["findings"].items()]
    if body := [row for row in body if any(row[1:])]:
        yield shared.table(body, header=("finding", *codes))
    counted = ("rows", "patients", "studies", "boxes", "masks", "report_texts")
    yield ", ".join(f"{summary[name]:,} {name.replace('_', ' ')}" for name in counted)
    yield ", ".join(f"{name} {n:,}" for name, n in summary["splits"].items())
    for count in manifest.expected:
        verdict = "as published" if count["ok"] else f"expected {count['expected']:,}"
        yield f"{count['what']}: {count['found']:,}, {verdict}"
    yield from manifest.notes
    yield f"wrote {summary['out']}"
