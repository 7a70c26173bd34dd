"""What fine-tuning must show, each in one command; results as JSON on stdout, and in --out.

    python benchmarks/finetune.py teach --finding fracture          stage 3 on 64 + 64 phantoms
    python benchmarks/finetune.py encoder --finding fracture        stage 1 + 3
    python benchmarks/finetune.py held-out "support device" --folder out/held_out
    python benchmarks/finetune.py teach --finding "support device" --base out/held_out/model
    python benchmarks/finetune.py real --root radiographs --base mini other_model

Seconds are wall time and, beside them, processor time, which other programs do not stretch.
Unseen phantoms have seeds from 10,000,000; nothing was trained or tuned on them.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from _folder import folder
from safetensors.torch import load_file

import workbench as wb
from workbench.evaluation.intervals import estimate
from workbench.findings import PHANTOM_FINDINGS, PRESENT
from workbench.finetune.comparing import unseen_cases
from workbench.finetune.datasets import Images, LabelRows
from workbench.finetune.finding_stage import predict
from workbench.finetune.measuring import aurocs, resampled_means
from workbench.finetune.recipe import Recipe, read_recipe
from workbench.settings import FIRST_HELD_OUT_SEED

UNSEEN = FIRST_HELD_OUT_SEED


def judged(before, after, finding: str, n: int, seed: int) -> dict:
    """Compare two models on unseen phantoms: the taught finding, and the others."""
    cpu = time.process_time()
    found = wb.finetune.examine(before, after, finding=finding, n=n, seed=seed)
    cases = unseen_cases(finding, n=n, seed=seed)
    rows = [
        {"what": row.skill, "before": row.before, "after": row.after, **asdict(row.change)}
        for row in found.rows
    ]
    return {
        "unseen": n,
        "first_seed": seed,
        "held_out": found.held_out,
        "positives": sum(case.code(finding) == PRESENT for case in cases),
        "rows": rows,
        "cpu_seconds_of_reports": time.process_time() - cpu,
    }


def teach(args: argparse.Namespace) -> dict:
    """Stage 3 LoRA with a finding that the language side has never named."""
    recipe = taught_recipe(args)
    with folder(args) as out:
        run = wb.finetune.run(recipe, out=out / "run")
        base = wb.load_model(args.base)
        result = judged(base, run.model(), args.finding, args.n, args.seed)
        return {"finding": args.finding, **run_facts(run), **result}


def taught_recipe(args: argparse.Namespace) -> Recipe:
    """Return the shipped recipe with the options of the command."""
    held = 16
    asked = {"epochs": args.epochs, "learning_rate": args.rate, "keep": args.keep_base,
             "taught_weight": args.weight}  # fmt: skip
    return read_recipe("stage3_lora").replace(
        name=f"teach {args.finding}",
        base=args.base,
        data={
            "phantoms": {
                "first_seed": args.first_seed, "count": 2 * args.each + held,
                "finding": args.finding, "share": 0.5,
                **({} if args.unlabelled is None else {"unlabelled": args.unlabelled}),
            },
            "validation": held / (2 * args.each + held),
            **({"tasks": args.tasks.split(",")} if args.tasks else {}),
        },
        training={name: value for name, value in asked.items() if value is not None},
        tuning={} if args.rank is None else {"rank": args.rank, "alpha": 2.0 * args.rank},
        evaluation={"forgetting": args.forgetting, "explained": args.explained},
    )  # fmt: skip


def encoder(args: argparse.Namespace) -> dict:
    """Stage 1 on the encoder with masks, then stage 3 on top of it."""
    held = 32
    findings = [*PHANTOM_FINDINGS, args.finding]
    first = read_recipe("stage2_projector").replace(
        name="stage 1", stage="encoder", base=args.base,
        data={
            "phantoms": {"first_seed": args.first_seed + 100_000,
                         "count": args.encoder_cases + held, "finding": args.finding},
            "findings": findings, "validation": held / (args.encoder_cases + held),
        },
        tuning={"language": "frozen", "projector": "full", "vision": "full"},
        training={"epochs": args.encoder_epochs, "batch_size": 16, "micro_batch": 16,
                  "learning_rate": args.encoder_rate, "vision_rate": args.encoder_vision_rate,
                  "augment": True, "feature_cache": False},
        evaluation={"times": 2, "forgetting": 0},
    )  # fmt: skip
    with folder(args) as out:
        one = wb.finetune.run(first, out=out / "stage1")
        middle = one.export(out / "stage1_model", dtype="float32")
        second = taught_recipe(args).replace(base=str(middle))
        two = wb.finetune.run(second, out=out / "stage3")
        base = wb.load_model(args.base)
        result = judged(base, two.model(), args.finding, args.n, args.seed)
        return {"finding": args.finding, "stage1": run_facts(one), "stage3": run_facts(two),
                **result}  # fmt: skip


def run_facts(run) -> dict:
    """Return what a run cost and moved."""
    ledger = run.ledger
    return {
        "cost": dict(ledger.cost),
        "learned": {part: row["parameters"] for part, row in ledger.trainable.items()},
        "frozen_equal": ledger.frozen["equal"],
        "memory": dict(ledger.memory),
        "best": dict(ledger.best),
        "ledger": [
            {"skill": row.skill, "n": row.n, "before": row.before, "after": row.after,
             "change": str(row.change)}
            for row in (*ledger.scores, *ledger.forgetting)
        ],
    }  # fmt: skip


def held_out(args: argparse.Namespace) -> dict:
    """Train a language side that has never named a finding."""
    from recipes.mini.variants import held_out_recipe, train_held_out

    model = train_held_out(args.folder, held_out_recipe(args.held_out, threads=1))
    return {"model": str(model)}


def real(args: argparse.Namespace) -> dict:
    """Stage 1 on real radiographs: phantom-trained, new and adapted towers on one test set.

    With two bases the second is compared with the first: what did its phantoms teach more?
    """
    terms = {"provenance": "report-mined", "licence": "as the source says"}
    radiographs = wb.data.build("csv", source=args.root, hash_files=False, **terms)
    fractions = {"train": 0.65, "validate": 0.1, "test": 0.25}
    radiographs = wb.data.split(radiographs, fractions=fractions, seed=args.split_seed)
    with folder(args) as out:
        table = radiographs.save(out / "manifest.parquet")
        recipe = read_recipe("stage1_findings").replace(
            data={"manifest": str(table), "root": str(args.root), "unlisted": args.unlisted},
            training={"epochs": args.epochs, "learning_rate": args.rate, "micro_batch": 24},
        )
        runs = {
            "from scratch": wb.finetune.run(
                recipe.replace(name="from scratch", from_scratch=True,
                               training={"learning_rate": args.scratch_rate}),
                out=out / "scratch"),
        } | {
            f"after {base}": wb.finetune.run(
                recipe.replace(name="adapted", base=base), out=out / f"adapted {at}")
            for at, base in enumerate(args.base)
        }  # fmt: skip
        return radiograph_scores(radiographs, runs, args)


def radiograph_scores(radiographs, runs: dict, args: argparse.Namespace) -> dict:
    """Return mean AUROC of every tower on the test radiographs, with paired intervals."""
    from workbench.cases import row_case
    from workbench.finetune.cases import manifest_cases
    from workbench.finetune.finding_stage import linear_probe
    from workbench.finetune.recipe import DataRecipe

    test = radiographs.select((radiographs.frame["split"] == "test").to_numpy())
    cases = [row_case(test, row) for row in range(len(test))]
    findings = tuple(runs["from scratch"].evidence["findings"])
    data = DataRecipe(manifest="radiographs", unlisted=args.unlisted)
    loaded = wb.load_model("mini").loaded
    known = {}
    for policy in ("absent", "unknown"):
        rows = LabelRows(Images(cases, loaded.processor), findings,
                         unlisted=policy, regions=False)  # fmt: skip
        known[policy] = rows.labels
    enough = (known["absent"] == 1).sum(0) >= args.positives
    pixels = Images(cases, loaded.processor)
    train = manifest_cases(radiographs, data).train
    images = Images(train, loaded.processor)
    labelled = LabelRows(images, findings, unlisted=args.unlisted, regions=False)
    scores = {
        f"before {base}": linear_probe(
            wb.load_model(base).loaded.model.vision_tower, labelled, pixels)
        for base in args.base
    } | {name: head_scores(run, findings, pixels) for name, run in runs.items()}  # fmt: skip
    first, last = args.base[0], args.base[-1]
    pairs = [(f"after {base}", f"before {base}") for base in args.base]
    pairs.append((f"after {last}", "from scratch"))
    if last != first:
        pairs += [(f"{when} {last}", f"{when} {first}") for when in ("before", "after")]
    patients = [case.patient for case in cases]
    result: dict = {
        "test_radiographs": len(cases),
        "train_radiographs": len(train),
        "patients": len(set(patients)),
        "findings": [f for f, e in zip(findings, enough, strict=True) if e],
    }
    for policy, labels in known.items():
        kept = labels[:, enough]
        drawn = {k: resampled_means(s[:, enough], kept, patients) for k, s in scores.items()}
        means = {
            k: estimate(float(np.nanmean(aurocs(s[:, enough], kept))), drawn[k], len(kept))
            for k, s in scores.items()
        }
        result[f"negatives: {policy}"] = {
            "mean_auroc": {k: asdict(v) for k, v in means.items()},
            "change": {
                f"{one} - {other}": asdict(estimate(means[one].value - means[other].value,
                                                    drawn[one] - drawn[other], len(cases)))
                for one, other in pairs
            },
            "per_finding": {
                name: {k: float(aurocs(s[:, [at]], labels[:, [at]])[0]) for k, s in scores.items()}
                | {"positives": int((labels[:, at] == 1).sum())}
                for at, name in enumerate(findings) if enough[at]
            },
        }  # fmt: skip
    result["cost"] = {name: dict(run.ledger.cost) for name, run in runs.items()}
    return result


def head_scores(run, findings: tuple[str, ...], pixels: Images) -> np.ndarray:
    """Return logits of a stage-1 run's own heads."""
    from workbench.finetune.finding_stage import FindingClassifier

    tower = run.model().loaded.model.vision_tower
    classifier = FindingClassifier(tower, findings)
    classifier.load_state_dict(load_file(run.adapter / "heads.safetensors"), strict=False)
    return predict(classifier, pixels)


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--out", type=Path, help="write the JSON here too")
    top.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    top.add_argument("--keep", help="folder for the runs; they are deleted without it")
    commands = top.add_subparsers(dest="command", required=True)
    for name in ("teach", "encoder"):
        sub = commands.add_parser(name)
        sub.add_argument("--finding", default="fracture")
        sub.add_argument("--base", default="mini")
        sub.add_argument("--each", type=int, default=64, help="phantoms with, and as many without")
        sub.add_argument("--unlabelled", type=int, help="phantoms without labels (as shipped)")
        sub.add_argument("--first-seed", type=int, default=7_000_000)
        sub.add_argument("--epochs", type=float, help="this and the next four: as shipped")
        sub.add_argument("--rate", type=float)
        sub.add_argument("--rank", type=int)
        sub.add_argument("--weight", type=float, help="of the sentence that decides")
        sub.add_argument("--keep-base", type=float, help="share that holds to the base")
        sub.add_argument("--tasks", default="")
        sub.add_argument("--n", type=int, default=300)
        sub.add_argument("--seed", type=int, default=UNSEEN)
        sub.add_argument("--forgetting", type=int, default=0)
        sub.add_argument("--explained", type=int, default=0)
        if name == "encoder":
            sub.add_argument("--encoder-cases", type=int, default=384)
            sub.add_argument("--encoder-epochs", type=float, default=4)
            sub.add_argument("--encoder-rate", type=float, default=3e-3)
            sub.add_argument("--encoder-vision-rate", type=float, default=0.1)
    sub = commands.add_parser("held-out")
    sub.add_argument("held_out")
    sub.add_argument("--folder", type=Path, required=True)
    sub = commands.add_parser("real")
    sub.add_argument("--root", type=Path, required=True)
    sub.add_argument("--base", nargs="+", default=["mini"], help="models whose tower is taken on")
    sub.add_argument("--epochs", type=float, default=8)
    sub.add_argument("--rate", type=float, default=3e-4)
    sub.add_argument("--scratch-rate", type=float, default=1e-3)
    sub.add_argument("--split-seed", type=int, default=1)
    sub.add_argument("--positives", type=int, default=20)
    sub.add_argument("--unlisted", default="absent", choices=("absent", "unknown"))
    return top


def main() -> None:
    """Run one command."""
    args = parser().parse_args()
    torch.set_num_threads(args.threads)
    made = {"teach": teach, "encoder": encoder, "held-out": held_out, "real": real}
    text = json.dumps(made[args.command](args), indent=1, default=float)
    sys.stdout.write(text + "\n")
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
