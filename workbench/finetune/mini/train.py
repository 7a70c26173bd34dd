"""`workbench train mini`: every stage from seeds to a checkpoint directory, with resume."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch

from workbench.errors import OptionError, TrainingError
from workbench.finetune.mini.data import PhantomSet, rendered
from workbench.finetune.mini.encoder import FindingEncoder, train_encoder
from workbench.finetune.mini.export import export, write_card
from workbench.finetune.mini.language import STAGES, Lessons, train_stage
from workbench.finetune.mini.learner import Learner
from workbench.finetune.mini.recipe import ALL_STAGES, MiniRecipe
from workbench.finetune.mini.sharpen import train_sharpen
from workbench.finetune.mini.texts import DialogueWriter, train_tokenizer
from workbench.model.tokenizer import CxrTokenizer

logger = logging.getLogger(__name__)


def train_mini(
    out: str | Path,
    *,
    recipe: MiniRecipe | None = None,
    resume: bool = False,
    stages: tuple[str, ...] | None = None,
) -> Path:
    """Train `mini` from seeds.

    Args:
        out: folder of the run: phantoms, checkpoints of every stage, histories, `model/`.
        recipe: settings; the shipped ones by default.
        resume: go on in a folder that holds an earlier part of the same run.
        stages: run up to the last of these; all by default.

    Returns:
        folder of the checkpoint (or of the run, when export was left out).

    Raises:
        OptionError: an unknown stage.
        TrainingError: the folder is not empty without resume, or holds another recipe's run.
    """
    recipe = recipe or MiniRecipe()
    stages = tuple(stages or ALL_STAGES)
    if unknown := set(stages) - set(ALL_STAGES):
        raise OptionError(f"unknown stage {sorted(unknown)[0]!r}; one of {', '.join(ALL_STAGES)}")
    last = max(ALL_STAGES.index(stage) for stage in stages)
    out = Path(out)
    _claim(out, recipe, resume)
    torch.set_num_threads(recipe.threads)
    train, validation = _phantoms(out, recipe)
    if last == 0:
        return out
    encoder = train_encoder(recipe, train, validation, out)
    if last == 1:
        return out
    tokenizer = _tokenizer(out, recipe)
    learner = Learner(recipe, tokenizer, encoder)
    writer = DialogueWriter(recipe, tokenizer)
    for stage in ALL_STAGES[2 : last + 1]:
        if stage == "sharpen":
            train = _fresh_phantoms(out, recipe)
            train_sharpen(recipe, learner.model, train, validation, out)
        elif stage in STAGES:
            train_stage(stage, recipe, learner, Lessons(recipe, train, writer), out)
    if last < ALL_STAGES.index("export"):
        return out
    folder = export(learner, tokenizer, recipe, out / "model")
    write_card(folder, recipe, out)
    return folder


def _claim(out: Path, recipe: MiniRecipe, resume: bool) -> None:
    note = out / "recipe.json"
    if note.exists():
        if not resume:
            raise TrainingError(f"{out} already holds a run; add --resume to go on with it")
        if json.loads(note.read_text()) != recipe.to_dict():
            raise TrainingError(
                f"{out} holds a run of another recipe; choose another --out, "
                "since mixing two recipes would make weights nobody can reproduce"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(recipe.to_dict(), indent=1) + "\n")


def _phantoms(out: Path, recipe: MiniRecipe) -> tuple[PhantomSet, PhantomSet]:
    validation = _rendered(out, recipe, "validation", recipe.val_first_seed, recipe.val_count)
    train = _rendered(out, recipe, "train", recipe.train_first_seed, recipe.train_count)
    return train, validation


def _fresh_phantoms(out: Path, recipe: MiniRecipe) -> PhantomSet:
    return _rendered(out, recipe, "sharpen", recipe.sharpen_first_seed, recipe.sharpen_count)


def _rendered(out: Path, recipe: MiniRecipe, name: str, first_seed: int, count: int) -> PhantomSet:
    return rendered(
        out / "phantoms" / name,
        first_seed=first_seed,
        count=count,
        domain=recipe.domain,
        size=recipe.image_size,
        patch=recipe.patch_size,
        workers=recipe.threads,
    )


def _tokenizer(out: Path, recipe: MiniRecipe) -> CxrTokenizer:
    folder = out / "tokenizer"
    if not (folder / "tokenizer.model").exists():
        folder.mkdir(parents=True, exist_ok=True)
        train_tokenizer(recipe).save(folder)
    return CxrTokenizer.from_directory(folder)


__all__ = ["ALL_STAGES", "FindingEncoder", "train_mini"]
