"""Stage 1 of `mini`: the vision tower learns the findings, image by image and patch by patch.

The paper trains its encoder on multi-label findings (Lee et al. 2025). Deviation: phantoms have
exact masks, so every patch token also learns what covers it; image-level logits pool the patch
logits, so that what the image shows can be read off the tokens that the projector sees.
"""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score, roc_auc_score
from torch import nn
from tqdm import tqdm

from recipes.mini.data import CHANNELS, PhantomSet
from recipes.mini.recipe import MiniRecipe
from recipes.mini.schedule import (
    load_state,
    optimisers,
    save_state,
    set_rate,
    trapezoid,
)
from workbench.findings import PHANTOM_FINDINGS, SEVERITIES
from workbench.finetune.datasets import augment
from workbench.model.config import PIXEL_MEAN, PIXEL_STD, CxrVisionConfig
from workbench.model.vision import VisionTower

logger = logging.getLogger(__name__)

FINDINGS = len(PHANTOM_FINDINGS)
WARM_STEPS = 70
SAVE_EVERY = 50


def vision_config(recipe: MiniRecipe) -> CxrVisionConfig:
    """Return the shape of the vision tower of a recipe."""
    return CxrVisionConfig(
        image_size=recipe.image_size,
        patch_size=recipe.patch_size,
        width=recipe.vision_width,
        layers=recipe.vision_layers,
        head_width=recipe.vision_head_width,
        embed_dim=32,
    )


class FindingEncoder(nn.Module):
    """Vision tower with the heads of stage 1 (the heads are not shipped)."""

    def __init__(self, recipe: MiniRecipe) -> None:
        super().__init__()
        config = vision_config(recipe)
        self.tower = VisionTower(config)
        _start_positions(self.tower, recipe.image_size // recipe.patch_size)
        self.patch_head = nn.Linear(config.width, len(CHANNELS))
        nn.init.constant_(self.patch_head.bias, -2.0)
        self.severity_head = nn.Parameter(torch.zeros(FINDINGS, config.width, len(SEVERITIES)))
        self.pool_scale = nn.Parameter(torch.ones(FINDINGS))
        self.pool_bias = nn.Parameter(torch.full((FINDINGS,), -1.0))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return patch logits (B, N, C), image logits (B, F) and severity logits (B, F, 3).

        Args:
            pixels: (B, 1, S, S) normalised.
        """
        return self.heads(self.tower(pixels).tokens)

    def heads(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return what `forward` does, from patch tokens (B, N, W)."""
        patch = self.patch_head(tokens)
        found = patch[..., :FINDINGS]
        weight = torch.softmax(found * 2, dim=1)
        peak = (weight * found).sum(1)
        focus = torch.einsum("bnf,bnw->bfw", weight, tokens)
        severity = torch.einsum("bfw,fws->bfs", focus, self.severity_head)
        return patch, peak * self.pool_scale + self.pool_bias, severity


def _start_positions(tower: VisionTower, side: int) -> None:
    """Start the learned positions at two-dimensional sines, which saves many images."""
    width = tower.config.width
    quarter = width // 4
    rate = 1.0 / (100.0 ** (torch.arange(quarter) / quarter))
    angle = torch.arange(side)[:, None] * rate[None]
    wave = torch.cat([angle.sin(), angle.cos()], 1)
    rows = wave[:, None].expand(side, side, -1)
    columns = wave[None].expand(side, side, -1)
    grid = torch.cat([rows, columns], 2).reshape(side * side, -1)
    with torch.no_grad():
        tower.positional_embedding.zero_()
        tower.positional_embedding[1:, : grid.shape[1]] = grid * 0.3


def truth_arrays(phantoms: PhantomSet) -> tuple[np.ndarray, np.ndarray]:
    """Return presence (n, F) float32 and severity (n, F) int64 (-1 where it has none)."""
    present = np.zeros((len(phantoms), FINDINGS), np.float32)
    severity = np.full((len(phantoms), FINDINGS), -1, np.int64)
    for row in range(len(phantoms)):
        for lesion in phantoms.scene(row).lesions:
            k = PHANTOM_FINDINGS.index(lesion.finding)
            present[row, k] = 1
            if lesion.severity is not None:
                severity[row, k] = SEVERITIES.index(lesion.severity)
    return present, severity


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Return (B, 1, S, S) as the model's processor would, from (B, S, S) in [0, 1]."""
    return ((pixels - PIXEL_MEAN) / PIXEL_STD)[:, None]


class EncoderData:
    """Truth of a phantom set in the form that stage 1 learns from."""

    def __init__(self, phantoms: PhantomSet) -> None:
        self.phantoms = phantoms
        self.present, self.severity = truth_arrays(phantoms)

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return pixels, cover targets, presence and severity of some rows."""
        rows = np.sort(rows)
        share = torch.from_numpy(self.phantoms.cover[rows].astype(np.float32) / 255)
        return {
            "pixels": torch.from_numpy(self.phantoms.pixels[rows].astype(np.float32) / 255),
            "cover": (share * 3).clamp_max(1),
            "present": torch.from_numpy(self.present[rows]),
            "severity": torch.from_numpy(self.severity[rows]),
        }


def patch_weights(phantoms: PhantomSet | None) -> torch.Tensor:
    """Return the weight of covered patches, by channel.

    Args:
        phantoms: None for the plain weights (3 for findings, 1 for organs); a training set for
            balanced ones, so that a nodule of one patch counts beside an effusion of thirty.
    """
    weight = torch.ones(len(CHANNELS))
    weight[:FINDINGS] = 3.0
    if phantoms is None:
        return weight
    share = (phantoms.cover[:2000].astype(np.float32) / 255 * 3).clip(max=1).mean((0, 1))
    balanced = 0.6 * np.sqrt((1 - share) / np.maximum(share, 1e-6))
    weight[:FINDINGS] = torch.from_numpy(balanced.clip(1, 16)).float()[:FINDINGS]
    return weight


def encoder_loss(
    encoder: FindingEncoder, batch: dict, pixels: torch.Tensor, weight: torch.Tensor
) -> dict:
    """Return the loss terms of one batch: patch, image, severity and their sum."""
    return heads_loss(encoder(pixels), batch, weight)


def heads_loss(heads: tuple, batch: dict, weight: torch.Tensor) -> dict:
    """Return the loss terms of what the heads say of one batch."""
    patch, image, severity = heads
    terms = {
        "patch": F.binary_cross_entropy_with_logits(patch, batch["cover"], pos_weight=weight),
        "image": F.binary_cross_entropy_with_logits(image, batch["present"]),
    }
    flat, target = severity.flatten(0, 1), batch["severity"].flatten()
    known = target >= 0
    terms["severity"] = (
        F.cross_entropy(flat[known], target[known]) if known.any() else flat.sum() * 0
    )
    terms["total"] = 3 * terms["patch"] + terms["image"] + 0.15 * terms["severity"]
    return terms


def block_matrices(blocks: nn.Module) -> list[nn.Parameter]:
    """Return the two-dimensional weights inside transformer blocks."""
    return [p for p in blocks.parameters() if p.ndim == 2]


def train_encoder(
    recipe: MiniRecipe, train: PhantomSet, validation: PhantomSet, out: Path
) -> FindingEncoder:
    """Run stage 1 with checkpoints; resumes where it was stopped.

    Returns:
        the trained encoder; `out/encoder.json` holds the validation history.
    """
    torch.manual_seed(recipe.seed)
    encoder = FindingEncoder(recipe)
    optimisers_ = optimisers(
        encoder,
        matrices=block_matrices(encoder.tower.transformer),
        lr=recipe.encoder_lr,
        matrix_lr=recipe.encoder_muon_lr,
    )
    state = out / "encoder.pt"
    first = load_state(state, encoder, optimisers_)
    steps = max(recipe.encoder_images // recipe.encoder_batch, 1)
    data, held = EncoderData(train), EncoderData(validation)
    plain, balanced = patch_weights(None), patch_weights(train)
    history = _history(out / "encoder.json") if first else []
    every = max(steps // 15, 1)
    running, since = 0.0, time.monotonic()
    for step in tqdm(
        range(first, steps), initial=first, total=steps, desc="stage 1 encoder", mininterval=10
    ):
        rng = np.random.default_rng([recipe.seed, 11, step])
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        batch = data.batch(rng.choice(len(train), recipe.encoder_batch, replace=False))
        set_rate(optimisers_, trapezoid(step / steps, warm=min(WARM_STEPS / steps, 0.1)))
        weight = plain if step < recipe.balance_after else balanced
        seen = normalise(augment(batch["pixels"], generator))
        terms = encoder_loss(encoder, batch, seen, weight)
        terms["total"].backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 2.0)
        for optimiser in optimisers_:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        running = 0.95 * running + 0.05 * float(terms["total"].detach())
        if (step + 1) % every == 0 or step + 1 == steps:
            row = {
                "step": step + 1,
                "images": (step + 1) * recipe.encoder_batch,
                "loss": round(running, 4),
                "seconds": round(time.monotonic() - since, 1),
                **evaluate_encoder(encoder, held),
            }
            history.append(row)
            logger.info("%s", json.dumps(row))
            (out / "encoder.json").write_text(json.dumps(history, indent=1))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            save_state(state, encoder, optimisers_, step + 1)
    return encoder


def _history(path: Path) -> list:
    return json.loads(path.read_text()) if path.exists() else []


@torch.inference_mode()
def evaluate_encoder(encoder: FindingEncoder, data: EncoderData, batch: int = 50) -> dict:
    """Return AUROC and F1 (at even odds) of findings on held-out phantoms; NaN is undefined."""
    encoder.eval()
    logits = []
    for start in range(0, len(data.phantoms), batch):
        rows = np.arange(start, min(start + batch, len(data.phantoms)))
        logits.append(encoder(normalise(data.batch(rows)["pixels"]))[1].numpy())
    encoder.train()
    scores, truth = np.concatenate(logits), data.present > 0.5
    result = {"auroc": {}, "f1": {}}
    for k, name in enumerate(PHANTOM_FINDINGS):
        stated, there = scores[:, k], truth[:, k]
        both = there.any() and not there.all()
        result["auroc"][name] = round(roc_auc_score(there, stated), 4) if both else math.nan
        found = f1_score(there, stated > 0, zero_division=math.nan)  # pyright: ignore[reportArgumentType]
        result["f1"][name] = round(found, 4)
    return result
