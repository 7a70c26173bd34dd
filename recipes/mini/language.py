"""Stages 2 and 3 of `mini`: language, projector, instruction.

language     the language model reads true patch cover through a linear map and learns to write
             (beyond the paper: it has a pretrained LLaMA, `mini` starts from nothing).
align        the projector alone learns to hand vision tokens over; it starts at the ridge
             solution that maps vision tokens to what the language model read before.
instruct     projector and language model learn reports, differentials and questions from images,
             the encoder stays frozen.
polish       the same, with more weight on the words that carry the truth (side, zone, severity,
             size, yes and no) than on the choice of phrase.
polish_again the same again, behind the encoder that stage `sides` has trained further.
polish_ct    the same again, behind stage `ct`, on drawn and CT phantoms.

Paper: Lee et al. 2025 (alignment, then instruction tuning).
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from recipes.mini.data import PhantomSet
from recipes.mini.encoder import block_matrices
from recipes.mini.learner import Learner
from recipes.mini.recipe import MiniRecipe
from recipes.mini.schedule import (
    load_state,
    optimisers,
    save_state,
    set_rate,
    trapezoid,
)
from recipes.mini.texts import DialogueWriter
from workbench.finetune.datasets import augment
from workbench.finetune.encoding import pack
from workbench.finetune.parts import fit_projector
from workbench.model.tokenizer import CxrTokenizer

logger = logging.getLogger(__name__)


class Lessons:
    """Batches of packed dialogues with what the model is shown."""

    def __init__(self, recipe: MiniRecipe, phantoms: PhantomSet, writer: DialogueWriter) -> None:
        self.recipe, self.phantoms, self.writer = recipe, phantoms, writer
        self.image_tokens = (recipe.image_size // recipe.patch_size) ** 2

    def rows(self, stage: int, step: int) -> np.ndarray:
        """Return the rows of a step: every phantom once before any comes again."""
        size, total = self.recipe.instruct_batch, len(self.phantoms)
        epoch, first = divmod(step * size, total)
        order = np.random.default_rng([self.recipe.seed, 31, stage, epoch]).permutation(total)
        return np.sort(order[first : first + size])

    def packed(self, rows: np.ndarray, epoch: int) -> dict[str, torch.Tensor]:
        """Return the packed dialogues of some rows."""
        blocks = [self.writer.blocks(self.phantoms.scene(row), epoch) for row in rows]
        return pack(self.writer.prefix, self.image_tokens, blocks)

    def pixels(self, rows: np.ndarray) -> torch.Tensor:
        """Return (B, S, S) in [0, 1]."""
        return torch.from_numpy(self.phantoms.pixels[rows].astype(np.float32) / 255)

    def cover(self, rows: np.ndarray) -> torch.Tensor:
        """Return (B, N, C) in [0, 1]."""
        return torch.from_numpy(self.phantoms.cover[rows].astype(np.float32) / 255)


def start_projector(learner: Learner, lessons: Lessons) -> float:
    """Set the projector to the ridge solution from vision tokens to symbolic features.

    Returns:
        share of the features' variance that it explains.
    """

    def pairs(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = learner.see(lessons.pixels(rows))
        return tokens.flatten(0, 1), learner.symbolic(lessons.cover(rows)).flatten(0, 1)

    return fit_projector(learner.model.mm_projector, len(lessons.phantoms), pairs)


STAGES = {"language": 1, "align": 2, "instruct": 3, "polish": 4, "polish_again": 5, "polish_ct": 6}

#: Peak learning rate of each stage, as a share of the recipe's.
STAGE_RATE = {
    "language": 1.0,
    "align": 1.0,
    "instruct": 0.6,
    "polish": 0.5,
    "polish_again": 0.5,
    "polish_ct": 0.5,
}

#: Words whose choice depends on the image and not on style.
CONTENT = frozenset(
    [
        "left",
        "right",
        "both",
        "bilateral",
        "Bilateral",
        "Left",
        "Right",
        "sides",
        "lungs",
        "upper",
        "mid",
        "lower",
        "small",
        "moderate",
        "large",
        "mild",
        "severe",
        "Small",
        "Moderate",
        "Large",
        "Mild",
        "Severe",
        "No",
        "no",
        "Yes",
        "There",
        "enlarged",
        "normal",
        "linear",
        "lobar",
        "0",
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
        "15",
        "20",
        "25",
        "30",
    ]
)


def content_weight(tokenizer: CxrTokenizer, weight: float) -> torch.Tensor:
    """Return (V,) token weights: `weight` for content words, 1 for the rest."""
    weights = torch.ones(tokenizer.vocab_size)
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    for index, piece in enumerate(pieces):
        if piece.lstrip("\u2581") in CONTENT:
            weights[index] = weight
    return weights


def trainable(learner: Learner, stage: str) -> list[nn.Parameter]:
    """Freeze what a stage leaves alone; return the matrices that Muon updates."""
    model = learner.model
    learner.requires_grad_(False)
    if stage == "language":
        learner.symbols.requires_grad_(True)
    else:
        model.mm_projector.requires_grad_(True)
    if stage == "align":
        return []
    model.llama.requires_grad_(True)
    model.lm_head.requires_grad_(True)
    return block_matrices(model.llama.layers)


def train_stage(
    stage: str, recipe: MiniRecipe, learner: Learner, lessons: Lessons, out: Path
) -> None:
    """Run one stage with checkpoints; resumes where it was stopped.

    Args:
        stage: one of `STAGES`.
        recipe: settings.
        learner: trained in place.
        lessons: where batches come from.
        out: folder of the run.
    """
    images = {
        "language": recipe.language_texts,
        "align": recipe.align_images,
        "instruct": recipe.instruct_images,
        "polish": recipe.polish_images,
        "polish_again": recipe.polish_again_images,
        "polish_ct": recipe.polish_ct_images,
    }[stage]
    steps = max(images // recipe.instruct_batch, 1)
    matrices = trainable(learner, stage)
    lr = recipe.language_lr * STAGE_RATE[stage]
    optimisers_ = optimisers(learner, matrices=matrices, lr=lr, matrix_lr=3 * lr)
    state = out / f"{stage}.pt"
    first = load_state(state, learner, optimisers_)
    if stage == "align" and first == 0:
        logger.info("projector start explains %.3f", start_projector(learner, lessons))
    running, since = None, time.monotonic()
    losses = []
    for step in tqdm(
        range(first, steps), initial=first, total=steps, desc=f"stage {stage}", mininterval=10
    ):
        set_rate(optimisers_, trapezoid(step / steps))
        loss = _step_loss(stage, recipe, learner, lessons, step)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in learner.parameters() if p.requires_grad], 1.0)
        for optimiser in optimisers_:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        value = float(loss.detach())
        running = value if running is None else 0.98 * running + 0.02 * value
        if (step + 1) % 50 == 0 or step + 1 == steps:
            save_state(state, learner, optimisers_, step + 1)
            losses.append(
                {
                    "step": step + 1,
                    "loss": round(running, 4),
                    "seconds": round(time.monotonic() - since, 1),
                }
            )
            logger.info("%s %s", stage, json.dumps(losses[-1]))
            (out / f"{stage}.json").write_text(json.dumps(losses, indent=1))


def _step_loss(stage, recipe, learner, lessons, step) -> torch.Tensor:
    rows = lessons.rows(STAGES[stage], step)
    packed = lessons.packed(
        rows, STAGES[stage] * 1000 + step * recipe.instruct_batch // len(lessons.phantoms)
    )
    generator = torch.Generator().manual_seed((recipe.seed * 31 + STAGES[stage]) * 1_000_003 + step)
    if stage == "language":
        return learner.loss(packed, learner.symbolic(lessons.cover(rows), generator))
    tokens = learner.see(augment(lessons.pixels(rows), generator))
    weight = None
    if stage.startswith("polish"):
        weight = content_weight(lessons.writer.tokenizer, recipe.content_weight)
    return learner.loss(packed, learner.model.mm_projector(tokens), weight)
