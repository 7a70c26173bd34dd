"""A `mini` whose language side has never named one finding: the ground for teaching it later.

The vision tower is the shipped one, which knows the finding, and stays frozen. Projector and
language model start from nothing and go through the language stages of `mini` (language, align,
instruct, polish), on texts from which every sentence and question about the finding is left out.
The word pieces are the shipped ones: they were cut from texts that do name it, but a piece has no
meaning before it is trained.

Does not know: how the vision tower learned (`encoder`, `sharpen`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workbench.finetune.mini.language_side import train_language_side
from workbench.finetune.mini.recipe import MiniRecipe

STAGES = ("language", "align", "instruct", "polish")

#: A quarter of the images that the shipped language side has seen, on phantoms of its own seeds.
SHORT = {
    "train_first_seed": 60_000,
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
    """Train a language side that never names `recipe.held_out`; goes on where it was stopped.

    Args:
        out: folder of the run.
        recipe: from `held_out_recipe`; its shape must be that of the shipped model.

    Returns:
        folder of the checkpoint, which loads like any other.
    """
    name = f"mini without {recipe.held_out}"
    return train_language_side(out, recipe, STAGES, name=name, start="nothing")
