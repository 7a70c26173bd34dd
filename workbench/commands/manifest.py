"""`workbench manifest`: build, check, divide, freeze and verify manifests of data sets."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.findings import ABSENT, PRESENT, UNCERTAIN

if TYPE_CHECKING:
    from workbench.data import Manifest

FORMATS = "a manifest, .parquet or .csv"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench manifest`."""
    parser.epilog = (
        "example: workbench manifest build nih --source downloads/nih --out nih.parquet\n"
        "`workbench manifest card` lists the sources; `manifest ACTION --help` explains each."
    )
    shared.add_actions(parser, ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Run one action."""
    for name in ("file", "against"):
        shared.need(getattr(args, name, None), shared.MANIFEST)
    shared.need(getattr(args, "list", None), "no such list of identifiers")
    frozen = "no such cohort; expected what `workbench manifest freeze` wrote"
    shared.need(getattr(args, "cohort", None), frozen)
    shared.need(getattr(args, "root", None), "no such folder of images", folder=True)
    return args.act(args)


# --- arguments -----------------------------------------------------------------------------------


def _add_build(parser: argparse.ArgumentParser) -> None:
    option = partial(shared.option, parser)
    option("name SOURCE", "e.g. nih; `manifest card` lists them")
    option("--source DIR", "the downloaded files", type=Path, required=True)
    _add_out(parser)
    option("--labels SET", "which labels, where a source has several")
    option("--no-reports", "leave report texts out", action="store_true")
    option("--no-hash", "do not read the image files", action="store_true")
    option("--repair", "empty impossible ages", action="store_true")
    option("--licence TEXT", "of your own data")
    option("--provenance P", "of the labels of your own data, e.g. radiologist")
    option("--workers N", "threads (2)", default=2)


def _add_check(parser: argparse.ArgumentParser) -> None:
    option = _add_file(parser)
    option("--root DIR", "also look for the image files", type=Path)
    option("--against OTHER", "also look for patients and images of OTHER", type=Path)
    option("--limit N", "listed problems of each rule (100)", default=100)


def _add_split(parser: argparse.ArgumentParser) -> None:
    option = _add_file(parser)
    _add_out(parser)
    for name, share in (("train", 0.7), ("validate", 0.1), ("test", 0.2)):
        option(f"--{name} SHARE", f"share of images ({share})", type=float)
    option("--seed N", "decides what the shares leave open", default=0)
    option("--within PART", "divide one part of an existing split")
    option("--replace", "throw an existing split away", action="store_true")
    option("--list LIST", "apply a published list instead of dividing", type=Path)
    option("--name PART", "part that listed rows go to (test)", default="test")
    option("--column COLUMN", "column of a list that is a CSV file")


def _add_subset(parser: argparse.ArgumentParser) -> None:
    option = _add_file(parser)
    _add_out(parser)
    option("--per-finding N", "images each (50)", default=50)
    option("--findings A,B", "which (every one that is present)", type=shared.names)
    option("--seed N", "decides which images", default=0)


def _add_freeze(parser: argparse.ArgumentParser) -> None:
    option = _add_file(parser)
    option("--out COHORT.json", "result", type=Path, required=True)
    option("--name NAME", "what the cohort is called (the name of the file)")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    option = _add_file(parser)
    option("--cohort COHORT.json", "what was frozen", type=Path, required=True)
    option("--root DIR", "also compare the image files", type=Path)


def _add_quality(parser: argparse.ArgumentParser) -> None:
    option = _add_file(parser)
    option("--root DIR", "folder of the images (that of FILE)", type=Path)
    option("--out DIR", "results (out/quality)", default=Path("out/quality"))
    option("--workers N", "processes (2)", default=2)
    option("--fit", "for the crop loss", choices=("crop", "pad"), default="crop")


def _add_card(parser: argparse.ArgumentParser) -> None:
    shared.option(parser, "name SOURCE", "which; all are listed without", nargs="?")
    shared.option(parser, "--out DIR", "write the cards to a folder", type=Path)


def _add_file(parser: argparse.ArgumentParser) -> Callable[..., None]:
    """Add FILE, and return what adds the rest."""
    shared.option(parser, "file FILE", FORMATS, type=Path)
    return partial(shared.option, parser)


def _add_out(parser: argparse.ArgumentParser) -> None:
    shared.option(parser, "--out FILE", FORMATS, type=Path, required=True)


# --- actions -------------------------------------------------------------------------------------


def _build(args: argparse.Namespace) -> int:
    from workbench.data import build

    manifest = build(
        args.name,
        source=args.source,
        labels=args.labels,
        reports=not args.no_reports,
        hash_files=not args.no_hash,
        repair=args.repair,
        licence=args.licence,
        provenance=args.provenance,
        workers=args.workers,
        show=True,
    )
    manifest.save(args.out)
    return _show(args, manifest)


def _check(args: argparse.Namespace) -> int:
    from workbench.data import check

    other = None if args.against is None else _loaded(args.against, reports=False)
    manifest = _loaded(args.file, reports=False)
    result = check(manifest, root=args.root, against=other, limit=args.limit)
    said = [f"{one.sentence()}\n{shared.wrap(one.repair)}" for one in result.problems]
    return shared.answer(args, result.to_dict(), [*said, str(result)], good=result.ok)


def _split(args: argparse.Namespace) -> int:
    from workbench.data import apply_split, split

    manifest = _loaded(args.file)
    if args.list is not None:
        divided = apply_split(manifest, args.list, name=args.name, column=args.column)
    else:
        given = {name: getattr(args, name) for name in ("train", "validate", "test")}
        shares = {name: share for name, share in given.items() if share is not None}
        divided = split(
            manifest,
            fractions=shares or None,
            seed=args.seed,
            within=args.within,
            replace=args.replace,
        )
    divided.save(args.out)
    return _show(args, divided)


def _subset(args: argparse.Namespace) -> int:
    from workbench.data import subset

    picked = subset(
        _loaded(args.file), per_finding=args.per_finding, findings=args.findings, seed=args.seed
    )
    picked.save(args.out)
    return _show(args, picked)


def _freeze(args: argparse.Namespace) -> int:
    from workbench.data import freeze

    cohort = freeze(_loaded(args.file), args.out, name=args.name)
    parts = {split: len(names) for split, names in cohort.images.items()}
    record = {"name": cohort.name, "rows": cohort.rows, "patients": cohort.patients}
    record |= {"splits": parts, "digest": cohort.digest, "out": args.out}
    said = [
        f"{cohort.name}: {cohort.rows:,} rows, {cohort.patients:,} patients",
        f"digest {cohort.digest}",
        f"wrote {args.out}",
    ]
    return shared.answer(args, record, said)


def _verify(args: argparse.Namespace) -> int:
    from workbench.data import verify

    found = verify(_loaded(args.file), args.cohort, root=args.root, show=True)
    record = {"ok": found.ok, "digest": found.digest, "problems": list(found.problems)}
    said = [*found.problems, f"{'verified' if found.ok else 'differs'}: {found.digest}"]
    return shared.answer(args, record, said, good=found.ok)


def _quality(args: argparse.Namespace) -> int:
    from workbench.data import quality
    from workbench.data.frames import write_csv

    manifest = _loaded(args.file)
    table = quality(
        manifest, root=args.root, out=args.out, workers=args.workers, fit=args.fit, show=True
    )
    args.out.mkdir(parents=True, exist_ok=True)
    write_csv(table.frame, args.out / "quality.csv")
    summary = table.summary() | {"out": args.out / "quality.csv"}
    if len(table.suspects):
        summary["sheet"] = args.out / "suspects.png"
        table.plot().savefig(summary["sheet"], bbox_inches="tight")
    said = [
        f"{one['image_id']}: {one['reasons']}" for one in table.suspects.head(20).to_dict("records")
    ]
    said.append(str(table))
    if summary["warnings"]:
        counted = ", ".join(f"{code} {n:,}" for code, n in summary["warnings"].items())
        said.append(f"warnings: {counted}")
    said += [f"wrote {summary[name]}" for name in ("out", "sheet") if name in summary]
    return shared.answer(args, summary, said)


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


# --- what is said --------------------------------------------------------------------------------


def _loaded(path: Path, *, reports: bool = True) -> Manifest:
    """Load a manifest as it is; the check is an action of its own."""
    from workbench.data import load

    return load(path, check=False, reports=reports)


def _show(args: argparse.Namespace, manifest: Manifest) -> int:
    """Say what a manifest contains."""
    summary = manifest.summary() | {"out": args.out}
    notes = {"expected": list(manifest.expected), "notes": list(manifest.notes)}
    return shared.answer(args, summary | notes, _shown(manifest, summary))


def _shown(manifest: Manifest, summary: dict) -> Iterator[str]:
    codes = (PRESENT, ABSENT, UNCERTAIN)
    body = [
        [name, *[counts[code] for code in codes]]
        for name, counts in summary["findings"].items()
        if any(counts[code] for code in codes)
    ]
    if body:
        yield shared.table(body, header=("finding", *codes))
    counted = ("rows", "patients", "studies", "boxes", "masks", "report_texts")
    yield ", ".join(f"{summary[name]:,} {name.replace('_', ' ')}" for name in counted)
    yield ", ".join(f"{name} {n:,}" for name, n in summary["splits"].items())
    for count in manifest.expected:
        verdict = "as published" if count["ok"] else f"expected {count['expected']:,}"
        yield f"{count['what']}: {count['found']:,}, {verdict}"
    yield from manifest.notes
    yield f"wrote {summary['out']}"


ACTIONS: shared.Actions = {
    "build": ("build the manifest of a source from its official files", _add_build, _build),
    "check": ("name what is wrong: row, column, rule and repair; exit code 1", _add_check, _check),
    "split": ("divide patients into train, validate and test", _add_split, _split),
    "subset": ("pick a small manifest with N images of each finding", _add_subset, _subset),
    "freeze": ("write a hashed cohort file", _add_freeze, _freeze),
    "verify": ("compare a manifest with a frozen cohort; exit code 1", _add_verify, _verify),
    "quality": (
        "read every image and list the suspects, with a contact sheet",
        _add_quality,
        _quality,
    ),
    "card": ("list the sources, or print what is known of one", _add_card, _card),
}
