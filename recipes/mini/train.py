"""`workbench train mini`: every stage from seeds to a checkpoint directory, with resume."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from recipes.mini.data import PhantomSet, rendered
from recipes.mini.encoder import train_encoder
from recipes.mini.export import STARTED, export, write_card
from recipes.mini.language import Lessons, train_stage
from recipes.mini.learner import Learner
from recipes.mini.recipe import ALL_STAGES, MiniRecipe
from recipes.mini.sides import STAGES as SIDES
from recipes.mini.sides import train_sides
from recipes.mini.texts import DialogueWriter, train_tokenizer
from workbench.errors import OptionError, TrainingError, unknown_name
from workbench.model.load import load_checkpoint
from workbench.model.tokenizer import CxrTokenizer
from workbench.phantom.case import CT

logger = logging.getLogger(__name__)


def train_mini(
    out: str | Path,
    *,
    recipe: MiniRecipe | None = None,
    resume: bool = False,
    stages: tuple[str, ...] | None = None,
    start: str | Path | None = None,
) -> Path:
    """Train `mini` from seeds.

    Args:
        out: folder of the run: phantoms, checkpoints of every stage, histories, `model/`.
        recipe: settings; the shipped ones by default.
        resume: continue a run that the folder holds a part of.
        stages: run up to the last of these; all by default.
        start: checkpoint of this recipe's shape that stands for all stages before "ct".

    Returns:
        folder of the checkpoint (or of the run, when export was left out).

    Raises:
        OptionError: an unknown stage.
        TrainingError: the folder is not empty without resume, or holds another recipe's run.
    """
    recipe = recipe or MiniRecipe()
    stages = tuple(stages or ALL_STAGES)
    if unknown := set(stages) - set(ALL_STAGES):
        raise OptionError(unknown_name("stage", sorted(unknown)[0], ALL_STAGES, of="some of"))
    last = max(ALL_STAGES.index(stage) for stage in stages)
    out = Path(out)
    _claim(out, recipe, resume)
    torch.set_num_threads(recipe.threads)
    if start is not None:
        learner, tokenizer = _begun(str(start), recipe, out)
        return _run(ALL_STAGES[ALL_STAGES.index("ct") : last + 1], out, recipe, learner, tokenizer)
    train, validation = _phantoms("phantoms", out, recipe)
    if last == 0:
        return out
    encoder = train_encoder(recipe, train, validation, out)
    if last == 1:
        return out
    tokenizer = _tokenizer(out, recipe)
    learner = Learner(recipe, tokenizer, encoder.tower)
    return _run(ALL_STAGES[2 : last + 1], out, recipe, learner, tokenizer)


def _run(
    stages: Sequence[str], out: Path, recipe: MiniRecipe, learner: Learner, tokenizer: CxrTokenizer
) -> Path:
    """Run stages behind the first encoder; return the checkpoint, or `out` without export."""
    for stage in stages:
        if stage == "export":
            folder = export(learner, tokenizer, recipe, out / "model")
            return write_card(folder, recipe, out).parent
        train, validation = _phantoms(stage, out, recipe)
        if stage in SIDES:
            train_sides(stage, recipe, learner.model, train, validation, out)
        else:
            lessons = Lessons(recipe, train, DialogueWriter(recipe, tokenizer))
            train_stage(stage, recipe, learner, lessons, out)
    return out


def _begun(start: str, recipe: MiniRecipe, out: Path) -> tuple[Learner, CxrTokenizer]:
    found = load_checkpoint(start, device="cpu", dtype="float32")
    (out / STARTED).write_text(json.dumps(found.card.facts.get("history", {})))
    learner = Learner(recipe, found.tokenizer, found.model.vision_tower)
    learner.model.load_state_dict(found.model.state_dict())
    return learner, found.tokenizer


def _claim(out: Path, recipe: MiniRecipe, resume: bool) -> None:
    note = out / "recipe.json"
    if note.exists():
        if not resume:
            raise TrainingError(f"{out} already holds a run; add --resume to continue it")
        begun, wanted = json.loads(note.read_text()), recipe.to_dict()
        if unknown := sorted(set(begun) - set(wanted)):
            raise TrainingError(
                f"{out} holds a run that another version of this recipe began (it has "
                f"{', '.join(unknown)}); finish it with that version, or choose another --out"
            )
        if begun != wanted:
            raise TrainingError(
                f"{out} holds a run of another recipe; choose another --out, "
                "since mixing two recipes would make weights nobody can reproduce"
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(recipe.to_dict(), indent=1) + "\n")


def _phantoms(stage: str, out: Path, recipe: MiniRecipe) -> tuple[PhantomSet, PhantomSet]:
    """Return what a stage learns from, and what it is watched on."""
    if stage in ("ct", "polish_ct"):
        seen = _rendered(out, recipe, "ct", recipe.ct_first_seed, recipe.ct_count, CT)
        drawn = _rendered(out, recipe, "beside ct", recipe.ct_first_seed, recipe.ct_drawn)
        held = recipe.val_count // 4
        validation = _rendered(out, recipe, "ct validation", recipe.val_first_seed, held, CT)
        return seen + drawn, validation
    validation = _rendered(out, recipe, "validation", recipe.val_first_seed, recipe.val_count)
    if stage in ("sides", "polish_again"):
        fresh = _rendered(out, recipe, "sides", recipe.sides_first_seed, recipe.sides_count)
        return fresh, validation
    train = _rendered(out, recipe, "train", recipe.train_first_seed, recipe.train_count)
    return train, validation


def _rendered(
    out: Path,
    recipe: MiniRecipe,
    name: str,
    first_seed: int,
    count: int,
    domain: str | None = None,
) -> PhantomSet:
    return rendered(
        out / "phantoms" / name,
        first_seed=first_seed,
        count=count,
        domain=domain or recipe.domain,
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
