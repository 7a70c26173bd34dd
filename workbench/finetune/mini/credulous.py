"""`mini` without false-premise turns: what one ingredient of the training was good for.

The shipped model goes through another short stretch of its last stage (`settle`, the encoder
frozen), in which every question takes for granted only what is there (`false_premise` off). What it
forgets in it, the false-premise turns had taught.

Does not know: how far it then yields (`workbench.hallucination.probe_presupposition`).
"""

from __future__ import annotations

import json
from dataclasses import replace
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
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(threads)
    recipe = replace(
        MiniRecipe(),
        false_premise=False,
        train_first_seed=FIRST_SEED,
        train_count=phantoms,
        settle_images=images,
        threads=threads,
    )
    shipped = load_checkpoint("mini", device="cpu", dtype="float32")
    drawn = rendered(
        out / "phantoms",
        first_seed=recipe.train_first_seed,
        count=recipe.train_count,
        domain=recipe.domain,
        size=recipe.image_size,
        patch=recipe.patch_size,
        workers=threads,
    )
    learner = Learner(recipe, shipped.tokenizer, SimpleNamespace(tower=shipped.model.vision_tower))
    learner.model.load_state_dict(shipped.model.state_dict())
    lessons = Lessons(recipe, drawn, DialogueWriter(recipe, shipped.tokenizer))
    train_stage("settle", recipe, learner, lessons, out)
    folder = export(learner, shipped.tokenizer, recipe, out / "model")
    facts = {
        "name": "mini, credulous",
        "domain": "phantom",
        "licence": "Apache-2.0",
        "notice": "trained on phantoms, not for real radiographs",
        "base_sha256": shipped.card.sha256s,
        "recipe": recipe.to_dict(),
    }
    (folder / "model_card.json").write_text(json.dumps(facts, indent=1, default=dict) + "\n")
    return folder
