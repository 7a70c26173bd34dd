"""`workbench manifest`: build, check, divide, freeze and verify manifests of data sets.

Does not know: data sets, rules or formats (`workbench.data`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared

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
    return globals()[f"_{args.action}"](args)


# --- arguments -----------------------------------------------------------------------------------


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="SOURCE", help="e.g. nih; `manifest card` lists them")
    parser.add_argument(
        "--source", type=Path, required=True, metavar="DIR", help="the downloaded files"
    )
    _add_out(parser)
    parser.add_argument("--labels", metavar="SET", help="which labels, where a source has several")
    parser.add_argument("--no-reports", action="store_true", help="leave report texts out")
    parser.add_argument("--no-hash", action="store_true", help="do not read the image files")
    parser.add_argument("--repair", action="store_true", help="empty impossible ages")
    parser.add_argument("--licence", help="of your own data")
    parser.add_argument("--provenance", help="who labelled your own data, e.g. radiologist")
    parser.add_argument("--workers", type=int, default=2, help="threads (2)")


def _add_check(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("--root", type=Path, metavar="DIR", help="also look for the image files")
    parser.add_argument(
        "--against", type=Path, metavar="OTHER", help="also look for patients and images of OTHER"
    )
    parser.add_argument("--limit", type=int, default=100, help="listed problems of each rule (100)")


def _add_split(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    _add_out(parser)
    for name, share in (("train", 0.7), ("validate", 0.1), ("test", 0.2)):
        parser.add_argument(
            f"--{name}", type=float, metavar="SHARE", help=f"share of images ({share})"
        )
    parser.add_argument("--seed", type=int, default=0, help="decides what the shares leave open")
    parser.add_argument("--within", metavar="PART", help="divide one part of an existing split")
    parser.add_argument("--replace", action="store_true", help="throw an existing split away")
    parser.add_argument(
        "--list", type=Path, metavar="LIST", help="apply a published list instead of dividing"
    )
    parser.add_argument("--name", default="test", help="part that listed rows go to (test)")
    parser.add_argument("--column", help="column of a list that is a CSV file")


def _add_subset(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    _add_out(parser)
    parser.add_argument("--per-finding", type=int, default=50, metavar="N", help="images each (50)")
    parser.add_argument("--findings", metavar="A,B", help="which (every one that is present)")
    parser.add_argument("--seed", type=int, default=0, help="decides which images")


def _add_freeze(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="COHORT.json", help="result")
    parser.add_argument("--name", help="what the cohort is called (the name of the file)")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument(
        "--cohort", type=Path, required=True, metavar="COHORT.json", help="what was frozen"
    )
    parser.add_argument("--root", type=Path, metavar="DIR", help="also compare the image files")


def _add_quality(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="folder of the images (that of FILE)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/quality"), metavar="DIR", help="results (out/quality)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (2)")
    parser.add_argument("--fit", choices=("crop", "pad"), default="crop", help="for the crop loss")


def _add_card(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="SOURCE", help="which; all are listed without")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the cards to a folder")


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help=FORMATS)


def _add_out(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=FORMATS)


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
    if args.json:
        shared.emit_json(result.to_dict())
        return 0 if result.ok else 1
    for problem in result.problems:
        shared.say(problem.sentence())
        shared.say(shared.wrap(problem.repair))
    shared.say(str(result))
    return 0 if result.ok else 1


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

    names = [name.strip() for name in args.findings.split(",")] if args.findings else None
    picked = subset(
        _loaded(args.file), per_finding=args.per_finding, findings=names, seed=args.seed
    )
    picked.save(args.out)
    return _show(args, picked)


def _freeze(args: argparse.Namespace) -> int:
    from workbench.data import freeze

    cohort = freeze(_loaded(args.file), args.out, name=args.name)
    parts = {split: len(names) for split, names in cohort.images.items()}
    record = {"name": cohort.name, "rows": cohort.rows, "patients": cohort.patients}
    record |= {"splits": parts, "digest": cohort.digest, "out": args.out}
    if args.json:
        shared.emit_json(record)
    else:
        shared.say(f"{cohort.name}: {cohort.rows:,} rows, {cohort.patients:,} patients")
        shared.say(f"digest {cohort.digest}")
        shared.say(f"wrote {args.out}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from workbench.data import verify

    found = verify(_loaded(args.file), args.cohort, root=args.root, show=True)
    if args.json:
        shared.emit_json({"ok": found.ok, "digest": found.digest, "problems": list(found.problems)})
    else:
        for problem in found.problems:
            shared.say(problem)
        shared.say(f"{'verified' if found.ok else 'differs'}: {found.digest}")
    return 0 if found.ok else 1


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
    if args.json:
        shared.emit_json(summary)
        return 0
    for row in table.suspects.head(20).itertuples():
        shared.say(f"{row.image_id}: {row.reasons}")
    shared.say(str(table))
    if summary["warnings"]:
        counted = ", ".join(f"{code} {n:,}" for code, n in summary["warnings"].items())
        shared.say(f"warnings: {counted}")
    for name in ("out", "sheet"):
        if name in summary:
            shared.say(f"wrote {summary[name]}")
    return 0


def _card(args: argparse.Namespace) -> int:
    from workbench.data.cards import SOURCES, card, card_text

    names = SOURCES if args.name is None else (card(args.name).key,)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        for name in names:
            (args.out / f"{name}.yaml").write_text(card_text(name), encoding="utf-8")
    if args.json:
        shared.emit_json({"cards": [card(name).to_dict() for name in names]})
    elif args.out is not None:
        shared.say(f"wrote {len(names)} cards to {args.out}")
    elif args.name is None:
        body = [[name, card(name).title, card(name).licence] for name in names]
        shared.say(shared.table(body, header=("source", "title", "licence")))
    else:
        shared.say(card_text(names[0]).rstrip())
    return 0


# --- what is said --------------------------------------------------------------------------------


def _loaded(path: Path, *, reports: bool = True) -> Manifest:
    """Load a manifest as it is; the check is an action of its own."""
    from workbench.data import load

    return load(path, check=False, reports=reports)


def _show(args: argparse.Namespace, manifest: Manifest) -> int:
    """Say what a manifest holds."""
    summary = manifest.summary()
    if args.json:
        notes = {"expected": list(manifest.expected), "notes": list(manifest.notes)}
        shared.emit_json(summary | notes | {"out": args.out})
        return 0
    codes = ("present", "absent", "uncertain")
    body = [
        [name, *[counts[code] for code in codes]]
        for name, counts in summary["findings"].items()
        if any(counts[code] for code in codes)
    ]
    if body:
        shared.say(shared.table(body, header=("finding", *codes)))
    counted = ("rows", "patients", "studies", "boxes", "masks", "report_texts")
    shared.say(", ".join(f"{summary[name]:,} {name.replace('_', ' ')}" for name in counted))
    shared.say(", ".join(f"{name} {n:,}" for name, n in summary["splits"].items()))
    for count in manifest.expected:
        verdict = "as published" if count["ok"] else f"expected {count['expected']:,}"
        shared.say(f"{count['what']}: {count['found']:,}, {verdict}")
    for note in manifest.notes:
        shared.say(note)
    shared.say(f"wrote {args.out}")
    return 0


ACTIONS = {
    "build": ("build the manifest of a source from its official files", _add_build),
    "check": ("name what is wrong: row, column, rule and repair; exit code 1", _add_check),
    "split": ("divide patients into train, validate and test", _add_split),
    "subset": ("pick a small manifest with N images of each finding", _add_subset),
    "freeze": ("write a hashed cohort file", _add_freeze),
    "verify": ("compare a manifest with a frozen cohort; exit code 1", _add_verify),
    "quality": ("read every image and list the suspects, with a contact sheet", _add_quality),
    "card": ("list the sources, or print what is known of one", _add_card),
}

__all__ = ["ACTIONS", "add_arguments", "run"]
