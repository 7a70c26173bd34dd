"""`wb.finetune.run`: one recipe, trained, measured and written down.

Several processes are started from outside, by `torchrun --nproc-per-node 2 -m workbench train ...`
or `accelerate launch`; the ledger says how many there were.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.errors import OptionError
from workbench.finetune.finding_stage import FindingStage
from workbench.finetune.ledger import Run
from workbench.finetune.preview import Preview
from workbench.finetune.recipe import Recipe, read_recipe
from workbench.finetune.session import claim
from workbench.finetune.trainer import world_size
from workbench.finetune.writing_stages import WritingStage

if TYPE_CHECKING:
    from transformers import TrainerCallback

logger = logging.getLogger(__name__)


def run(
    recipe: str | os.PathLike | Recipe,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    device: str = "auto",
    show: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Run | None:
    """Train by a recipe; return None on every process but the first where there are several.

    Args:
        recipe: a YAML file, the name of a shipped recipe, or a recipe.
        out: folder of the run; `runs/NAME` by default. It gets recipe.yaml, checkpoints, the
            adapter, evidence.json and ledger.json.
        resume: take up an earlier part of the same run in the folder; the result is that of a run
            that was never stopped.
        device: "auto", "cpu", "cuda" or "cuda:N".
        show: whether bars may appear.

    Raises:
        OptionError: the recipe is wrong; the message names the field.
        TrainingError: the folder is taken, a part of the data is empty, or a step cannot be shared
            out among the processes.
        InputError, CheckpointError, DeviceError: data or base cannot be used.
    """
    recipe = read_recipe(recipe)
    out = Path(out) if out is not None else Path("runs") / recipe.name
    claim(out, recipe, resume=resume)
    logger.info("%s on %d process(es)", recipe.name, world_size())
    stage = FindingStage if recipe.stage == "encoder" else WritingStage
    return stage(recipe, out, device=device, show=show).train(resume=resume, callbacks=callbacks)


def preview(recipe: str | os.PathLike | Recipe, *, rows: int = 4, device: str = "auto") -> Preview:
    """Show what a model will see, token by token, before anything is trained.

    Args:
        recipe, device: as in `run`; a recipe of stage "projector" or "instruct".
        rows: turns to show, shared out among the tasks.

    Raises:
        OptionError: the recipe trains the encoder, which sees no text.
    """
    recipe = read_recipe(recipe)
    if recipe.stage == "encoder":
        raise OptionError("stage encoder sees no text; preview a projector or instruct recipe")
    return WritingStage(recipe, Path(), device=device).preview(rows)
