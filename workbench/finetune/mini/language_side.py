"""Another language side behind the shipped eyes: the frame of variants of `mini`.

The vision tower is the shipped one and stays frozen; projector and language model go through some
stages of the recipe, from nothing or from the shipped weights.

Does not know: what a variant is for (`held_out`, `credulous`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import torch

from workbench.finetune.mini.data import rendered
from workbench.finetune.mini.export import export
from workbench.finetune.mini.language import Lessons, train_stage
from workbench.finetune.mini.learner import Learner
from workbench.finetune.mini.recipe import MiniRecipe
from workbench.finetune.mini.texts import DialogueWriter
from workbench.model.load import load_checkpoint


def train_language_side(
    out: str | Path, recipe: MiniRecipe, stages: Sequence[str], *, name: str, start: str
) -> Path:
    """Train projector and language model behind the shipped vision tower; goes on where it stopped.

    Args:
        out: folder of the run.
        recipe: its shape must be that of the shipped model.
        stages: some of `language.STAGES`, in order.
        name: of the model card.
        start: "nothing", or "shipped" for the shipped weights.

    Returns:
        folder of the checkpoint, which loads like any other.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.threads)
    shipped = load_checkpoint("mini", device="cpu", dtype="float32")
    phantoms = rendered(
        out / "phantoms",
        first_seed=recipe.train_first_seed,
        count=recipe.train_count,
        domain=recipe.domain,
        size=recipe.image_size,
        patch=recipe.patch_size,
        workers=recipe.threads,
    )
    learner = Learner(recipe, shipped.tokenizer, SimpleNamespace(tower=shipped.model.vision_tower))
    if start == "shipped":
        learner.model.load_state_dict(shipped.model.state_dict())
    lessons = Lessons(recipe, phantoms, DialogueWriter(recipe, shipped.tokenizer))
    for stage in stages:
        train_stage(stage, recipe, learner, lessons, out)
    folder = export(learner, shipped.tokenizer, recipe, out / "model")
    facts = {
        "name": name,
        "domain": "phantom",
        "licence": "Apache-2.0",
        "notice": "trained on phantoms, not for real radiographs",
        "base_sha256": dict(shipped.card.sha256s),
        "held_out": recipe.held_out,
        "recipe": recipe.to_dict(),
    }
    (folder / "model_card.json").write_text(json.dumps(facts, indent=1) + "\n")
    return folder
