"""`mini` without false-premise turns: what one ingredient of the training was good for.

The shipped model goes through another short stretch of its last stage (`settle`, the encoder
frozen), in which every question takes for granted only what is there (`false_premise` off). What it
forgets in it, the false-premise turns had taught.

Does not know: how far it then yields (`workbench.hallucination.probe_presupposition`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workbench.finetune.mini.language_side import train_language_side
from workbench.finetune.mini.recipe import MiniRecipe

#: First seed of its phantoms: the shipped model was trained on none of them, and none is reserved.
FIRST_SEED = 60_000


def train_credulous(
    out: str | Path, *, images: int = 1_280, phantoms: int = 800, threads: int = 2
) -> Path:
    """Train `mini` on without false-premise turns; goes on where it was stopped.

    About five minutes on one core; lesson 08 uses the result.

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
        settle_images=images,
        threads=threads,
    )
    name = "mini, credulous"
    return train_language_side(out, recipe, ("settle",), name=name, start="shipped")
