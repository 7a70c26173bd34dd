"""`workbench train RECIPE`: fine-tune by a recipe; `workbench train mini`: make `mini` again.

Several GPUs: `torchrun --nproc-per-node N -m workbench train RECIPE`.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import workbench.commands._shared as shared
from workbench.errors import MissingDependencyError, OptionError, unknown_name
from workbench.settings import check_device

if TYPE_CHECKING:
    from workbench.finetune.planner import MemoryPlan
    from workbench.finetune.recipe import Recipe

MINI = "mini"


def setting(text: str) -> tuple[str, Any]:
    """Parse "training.epochs=3"."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"expected FIELD=VALUE, got {text}")
    return name, yaml.safe_load(value)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "RECIPE is a YAML file or one of: stage1_findings, stage2_projector, stage3_lora,\n"
        "stage3_full, stage3_qlora, and for any other model any_lora and any_projector, with\n"
        "--set base=DIR (in the package). `--fields` explains every field.\n"
        "`workbench train mini` makes the shipped model again: four to five hours on two cores.\n"
        "Stop either at any time; `--resume` continues it."
    )
    option = partial(shared.option, parser)
    option("recipe RECIPE", "what to train by, or mini", nargs="?")
    option("--out DIR", "folder of the run (runs/NAME)", type=Path)
    option("--resume", "continue the run in --out", action="store_true")
    option("--seed N", "another start than the recipe's", type=int)
    option = partial(shared.option, parser.add_argument_group("with a recipe"))
    shown = "show what the model would see, on a page or here"
    change = "change a field, e.g. training.epochs=3 (may be repeated)"
    option("--plan", "predict memory and load nothing", action="store_true")
    option("--preview HTML", shown, type=Path, nargs="?", const=Path("-"))
    option("--fields", "explain every field of a recipe", action="store_true")
    option("--set FIELD=VALUE", change, type=setting, action="append", default=[])
    option("--device", "auto (default), cpu, cuda or cuda:N", default="auto")
    option = partial(shared.option, parser.add_argument_group("with mini"))
    stages = (
        "run up to the last of these: phantoms, encoder, language, align, instruct, polish, sides, "
        "polish_again, ct, polish_ct, export (default: all)"
    )
    option("--stages A,B", stages, type=shared.names)
    option("--smoke", "a tiny run, to see every stage work", action="store_true")
    option("--threads N", "CPU threads (default 2)", type=int)


def run(args: argparse.Namespace) -> int:
    if args.recipe == MINI:
        return _mini(args)
    if args.fields:
        return _fields(args)
    from workbench.finetune.recipe import read_recipe

    if args.recipe is None and not args.plan:
        args.parser.error("name a RECIPE, or mini; --plan and --fields need none")
    changes = dict(args.set) | ({} if args.seed is None else {"seed": args.seed})
    check_device(args.device)
    # --plan without a recipe is about the full-size model
    recipe = read_recipe(args.recipe or "stage3_qlora", also=(MINI,)).replace(**nested(changes))
    if args.plan:
        return _plan(args, recipe)
    if args.preview is not None:
        return _preview(args, recipe)
    return _train(args, recipe)


def nested(changes: dict[str, Any]) -> dict[str, Any]:
    """Return {"training": {"epochs": 3}} from {"training.epochs": 3}, at any depth."""
    found: dict[str, Any] = {}
    for name, value in changes.items():
        *path, last = name.split(".")
        section = found
        for step in path:
            section = section.setdefault(step, {})
            if not isinstance(section, dict):
                raise OptionError(f"{name}: {step} is set to a value and cannot have fields")
        section[last] = value
    return found


def _train(args: argparse.Namespace, recipe: Recipe) -> int:
    from workbench.finetune.running import run as train

    logging.getLogger("workbench").setLevel(logging.INFO)
    done = train(recipe, out=args.out, resume=args.resume, device=args.device, show=not args.json)
    if done is None:  # another process of the same run reports
        return 0
    found = {"out": done.folder, "adapter": done.adapter} | done.ledger.to_dict()
    where = f"it is opened with wb.finetune.load_adapter({recipe.base!r}, {str(done.adapter)!r})"
    return shared.answer(args, found, [done.ledger.summary(), where])


def _plan(args: argparse.Namespace, recipe: Recipe) -> int:
    """Predict memory; CXR-LLaVA at its full size where the base is not on this machine."""
    from workbench.errors import CheckpointError
    from workbench.finetune.planner import plan, sizes_of
    from workbench.model.source import find_local

    name, config, tokens = "ECOFRI/CXR-LLAVA-v2 (full size)", None, 0
    with suppress(CheckpointError):
        if found := find_local(recipe.base):
            name, (config, tokens) = recipe.base, sizes_of(found.directory)
    planned = plan(
        config, image_tokens=tokens, name=name, tuning=recipe.tuning,
        keep=recipe.training.keep > 0,
    )  # fmt: skip
    return shared.answer(args, planned.to_dict(), _planned(planned))


def _planned(planned: MemoryPlan) -> Iterator[str]:
    from workbench.finetune.planner import GPUS, TEXT_TOKENS

    rows = []
    for need in planned.needs:
        sizes = (f"{need.learning / 1e6:,.1f} M", f"{need.total() / 1e9:.1f} GB")
        largest = (str(need.largest_batch(gpu) or "no") for gpu in GPUS)
        rows.append((need.strategy, "yes" if need.checkpointing else "no", *sizes, *largest))
    header = ("strategy", "checkpointing", "learning", "total", *(f"{g} GB" for g in GPUS))
    yield shared.table(rows, header=header)
    yield (
        f"\n{planned.model}: predicted, not measured. GPU columns: most images at a time, each "
        f'with {TEXT_TOKENS} tokens of text; "no" does not fit.'
    )


def _preview(args: argparse.Namespace, recipe: Recipe) -> int:
    from workbench.figures.page import html_page
    from workbench.finetune.running import preview

    shown = preview(recipe, device=args.device)
    found = {"turns": shown.turns, "findings": shown.findings}
    found["tokens"] = shown.to_frame().to_dict("records")
    if args.json or args.preview == Path("-"):
        return shared.answer(args, found, [shown.text()])
    args.preview.write_text(html_page(recipe.name, "", shown._repr_html_()), encoding="utf-8")
    return shared.answer(args, found, [f"the preview is in {args.preview}"])


def _fields(args: argparse.Namespace) -> int:
    from workbench.finetune.recipe import explain_recipe

    rows = explain_recipe()
    found = [{"field": f, "says": says, "default": d} for f, says, d in rows]
    cells = [(f, "" if d is None else str(d), says) for f, says, d in rows]
    shown = shared.table(cells, header=("field", "default", "what it is"))
    return shared.answer(args, found, [shown])


def _mini(args: argparse.Namespace) -> int:
    """Train `mini`, and say where the result is."""
    if importlib.util.find_spec("recipes") is None:
        raise MissingDependencyError(
            "the recipe of mini is not part of the installed package: clone the repository, "
            "run `make demo` there, and then `.venv/bin/workbench train mini`"
        )
    from recipes.mini.recipe import ALL_STAGES, MiniRecipe
    from recipes.mini.train import train_mini

    stages = ALL_STAGES if args.stages is None else args.stages or ("",)
    for name in stages:
        if name not in ALL_STAGES:
            args.parser.error(f"--stages: {unknown_name('stage', name, ALL_STAGES, of='some of')}")
    logging.getLogger("workbench").setLevel(logging.INFO)
    asked = {k: v for k, v in shared.chosen(args, "seed threads").items() if v is not None}
    recipe = replace(MiniRecipe().smoke() if args.smoke else MiniRecipe(), **asked)
    out = args.out or Path("runs/mini")
    folder = train_mini(out, recipe=recipe, resume=args.resume, stages=args.stages)
    model = folder if (folder / "model.safetensors").is_file() else None
    said = f"stages up to {stages[-1]} are in {folder}; continue with --resume"
    if model is not None:
        said = f"the model is in {folder}: workbench report IMAGE --model {folder}"
    return shared.answer(args, {"out": out, "model": model, "recipe": recipe.to_dict()}, [said])
