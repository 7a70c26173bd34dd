"""`workbench train mini`: make the shipped model again, from seeds to a checkpoint directory.

Does not know: the recipe; that is `workbench.finetune.mini`.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import workbench.commands._shared as shared
from workbench.finetune.mini.recipe import ALL_STAGES as STAGES


def stage_list(text: str) -> tuple[str, ...]:
    """Parse "phantoms,encoder".

    Raises:
        argparse.ArgumentTypeError: a stage is not known.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in STAGES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"expected one or more of {', '.join(STAGES)}, got {text}")
    return names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench train`."""
    parser.epilog = (
        "The whole recipe takes up to three hours on two CPU cores; stop it at any time,\n"
        "and `--resume` goes on where it was. Then: workbench report IMAGE --model runs/mini/model"
    )
    parser.add_argument("model", choices=("mini",), help="what to train")
    parser.add_argument("--out", type=Path, default=Path("runs/mini"), help="folder (runs/mini)")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument(
        "--stages",
        type=stage_list,
        metavar="A,B",
        help=f"run up to the last of these: {', '.join(STAGES)} (default: all)",
    )
    parser.add_argument("--smoke", action="store_true", help="a tiny run, to see every stage work")
    parser.add_argument("--seed", type=int, help="another start than the shipped one's")
    parser.add_argument("--threads", type=int, help="CPU threads (default 2)")
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Train, and say where the result is."""
    from workbench.finetune.mini.recipe import MiniRecipe
    from workbench.finetune.mini.train import train_mini

    logging.getLogger("workbench").setLevel(logging.INFO)
    recipe = MiniRecipe().smoke() if args.smoke else MiniRecipe()
    changes = {"seed": args.seed, "threads": args.threads}
    recipe = replace(
        recipe, **{name: value for name, value in changes.items() if value is not None}
    )
    folder = train_mini(args.out, recipe=recipe, resume=args.resume, stages=args.stages)
    finished = (folder / "model.safetensors").is_file()
    if args.json:
        shared.emit_json(
            {"out": args.out, "model": folder if finished else None, "recipe": recipe.to_dict()}
        )
    elif finished:
        shared.say(f"the model is in {folder}: workbench report IMAGE --model {folder}")
    else:
        shared.say(f"stages up to {args.stages[-1]} are in {folder}; go on with --resume")
    return 0
