"""Variants of `mini`: another language side behind the shipped vision tower, which stays frozen.

`train_held_out` makes one that has never named a finding, the ground for teaching it later.
`train_without_false_premises` shows what the false-premise turns of the training were good for:
what the model forgets without them, they had taught (`workbench.hallucination.probe_presupposition`
measures it).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from recipes.mini.data import rendered
from recipes.mini.export import export
from recipes.mini.language import Lessons, train_stage
from recipes.mini.learner import Learner
from recipes.mini.recipe import MiniRecipe
from recipes.mini.texts import DialogueWriter
from workbench.model.load import load_checkpoint

#: First seed of their phantoms: the shipped model has seen none of them, and none is reserved.
FIRST_SEED = 60_000

#: A quarter of the images that the shipped language side has seen.
SHORT = {
    "train_first_seed": FIRST_SEED,
    "train_count": 1_500,
    "language_texts": 3_840,
    "align_images": 240,
    "instruct_images": 4_000,
    "polish_images": 1_600,
}


def held_out_recipe(finding: str, **changes: object) -> MiniRecipe:
    """Return the cut-down recipe of `train_held_out`."""
    return replace(MiniRecipe(), held_out=finding, **{**SHORT, **changes})


def train_held_out(out: str | Path, recipe: MiniRecipe) -> Path:
    """Train a language side that never names `recipe.held_out`; resumes where it was stopped.

    The vision tower knows the finding. Projector and language model start from nothing, on texts
    from which every sentence and question about it is left out. The word pieces are the shipped
    ones: they were cut from texts that do name it, but a piece has no meaning before it is trained.

    Args:
        out: folder of the run.
        recipe: from `held_out_recipe`; its shape must be that of the shipped model.

    Returns:
        folder of the checkpoint, which loads like any other.
    """
    stages = ("language", "align", "instruct", "polish")
    name = f"mini without {recipe.held_out}"
    return train_language_side(out, recipe, stages, name=name, shipped_start=False)


def train_without_false_premises(
    out: str | Path, *, images: int = 1_280, phantoms: int = 800, threads: int = 2
) -> Path:
    """Train `mini` further without false-premise turns; resumes where it was stopped.

    The shipped model goes through another short stretch of its last stage, in which every question
    takes for granted only what is there. About five minutes on one core; lesson 08 uses the result.

    Args:
        out: folder of the run.
        images: that the stretch sees, repeats included.
        phantoms: distinct ones, drawn first.
        threads: CPU threads.

    Returns:
        folder of the checkpoint, for `wb.load_model`.
    """
    recipe = replace(
        MiniRecipe(),
        false_premise=False,
        train_first_seed=FIRST_SEED,
        train_count=phantoms,
        polish_again_images=images,
        threads=threads,
    )
    name = "mini without false premises"
    return train_language_side(out, recipe, ("polish_again",), name=name, shipped_start=True)


def train_language_side(
    out: str | Path, recipe: MiniRecipe, stages: Sequence[str], *, name: str, shipped_start: bool
) -> Path:
    """Train projector and language model behind the shipped vision tower.

    Args:
        out: folder of the run.
        recipe: its shape must be that of the shipped model.
        stages: some of `language.STAGES`, in order.
        name: of the model card.
        shipped_start: whether they start from the shipped weights, else from nothing.

    Returns:
        folder of the checkpoint, which loads like any other.
    """
    out = Path(out)
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
    learner = Learner(recipe, shipped.tokenizer, shipped.model.vision_tower)
    if shipped_start:
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
