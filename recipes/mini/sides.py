"""Stages `sides` and `ct`: the encoder learns findings again, and the side of each in its tokens.

Comes after the model can write. The vision tower starts from where stage 1 left it, on phantoms it
has not seen, with fresh heads. One more head reads from each covered patch token on which side its
finding lies (left, right or bilateral), because a catheter's side is decided far from its tip and a
bilateral finding by two lungs: a token that knows the side saves the language model from counting.
Scenes whose side is hard (linear atelectasis, catheters, nodules) are shown more often.

The projector is then fitted anew (ridge) so that the new tokens say what the old ones said.

Stage `ct` does the same once more, on phantoms that are drawn and others projected from a CT. Of
those another head reads from every token how much of each structure the rays pass: lobes, bones,
vessels.

Beyond the paper (Lee et al. 2025), which freezes the encoder after stage 1.
Stages `polish_again` and `polish_ct` then train the language model on the new tokens (`language`).
"""

from __future__ import annotations

import copy
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from recipes.mini.data import DEPTH_STEP, STRUCTURES, UNKNOWN, PhantomSet
from recipes.mini.encoder import (
    FINDINGS,
    EncoderData,
    FindingEncoder,
    block_matrices,
    evaluate_encoder,
    heads_loss,
    normalise,
    patch_weights,
)
from recipes.mini.recipe import MiniRecipe
from recipes.mini.schedule import (
    load_state,
    optimisers,
    save_state,
    set_rate,
    trapezoid,
)
from workbench.findings import ATELECTASIS, NODULE, PHANTOM_FINDINGS, SIDES
from workbench.finetune.datasets import augment
from workbench.finetune.parts import refit_projector
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.phantom.scene import Lesion

logger = logging.getLogger(__name__)

SAVE_EVERY = 50
#: Steps in which only the fresh heads learn, so that they do not push the tower about.
HEAD_STEPS = 60
SIDE_WEIGHT, DEPTH_WEIGHT = 0.4, 4.0
#: Stage -> its number in random streams.
STAGES = {"sides": 0, "ct": 1}


class SideEncoder(FindingEncoder):
    """The encoder of stage 1 with fresh heads and one that reads sides (no head is shipped).

    Args:
        recipe: shape of the tower.
        tower: trained vision tower, copied.
    """

    def __init__(self, recipe: MiniRecipe, tower: nn.Module) -> None:
        super().__init__(recipe)
        self.tower.load_state_dict(tower.state_dict())
        self.side_head = nn.Linear(recipe.vision_width, FINDINGS * len(SIDES))
        self.depth_head = nn.Linear(recipe.vision_width, len(STRUCTURES))

    def sides(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return side logits (B, N, F, 3) of patch tokens (B, N, W)."""
        return self.side_head(tokens).unflatten(2, (FINDINGS, len(SIDES)))


class SidedData(EncoderData):
    """Truth of a phantom set with the side of every finding, and how often to show each row.

    Attributes:
        side: (n, F) int64, index into `SIDES`; -1 where there is no finding or it has no side.
        chance: (n,) float64, sums to 1.
    """

    def __init__(self, phantoms: PhantomSet) -> None:
        super().__init__(phantoms)
        self.side = np.full((len(phantoms), FINDINGS), -1, np.int64)
        chance = np.ones(len(phantoms))
        for row in range(len(phantoms)):
            scene = phantoms.scene(row)
            for lesion in scene.lesions:
                if lesion.side is not None:
                    self.side[row, PHANTOM_FINDINGS.index(lesion.finding)] = SIDES.index(
                        lesion.side
                    )
            chance[row] = max([1.0, *(_attention_due(lesion) for lesion in scene.lesions)])
        self.chance = chance / chance.sum()

    def batch(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """Return pixels, cover targets, presence, severity and side of some rows."""
        rows = np.sort(rows)
        more = {"side": self.side[rows], "depth": np.asarray(self.phantoms.depth[rows])}
        return super().batch(rows) | {name: torch.from_numpy(one) for name, one in more.items()}


def _attention_due(lesion: Lesion) -> float:
    """Return how much more often than others a scene with this lesion is shown."""
    if lesion.kind == "central venous catheter":
        return 3.0
    if lesion.finding == ATELECTASIS and lesion.kind == "linear":
        return 3.0
    return 2.0 if lesion.finding == NODULE else 1.0


def depth_loss(tokens: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
    """Return the mean error of how deep structures are, of patches where that is known.

    Args:
        tokens: what the head says, (B, N, structures), in units of 50 mm.
        depth: (B, N, structures) uint8, as in `PhantomSet`.
    """
    known = depth != UNKNOWN
    target = depth.float() * (DEPTH_STEP / 50)
    each = F.smooth_l1_loss(tokens, target, reduction="none", beta=0.2)
    return (each * known).sum() / known.sum().clamp_min(1)


def side_loss(logits: torch.Tensor, cover: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of sides; every finding of every image counts once.

    Args:
        logits: (B, N, F, 3).
        cover: (B, N, F) in [0, 1], how much of a patch a finding covers.
        side: (B, F), -1 where there is none.
    """
    known = (side >= 0) & (cover.sum(1) > 0)
    share = cover / cover.sum(1, keepdim=True).clamp_min(1e-6) * known[:, None]
    target = side.clamp_min(0)[:, None].expand(-1, logits.shape[1], -1)
    each = F.cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none")
    return (each.view_as(share) * share).sum() / known.sum().clamp_min(1)


def train_sides(
    stage: str,
    recipe: MiniRecipe,
    model: CxrLlavaForConditionalGeneration,
    train: PhantomSet,
    validation: PhantomSet,
    out: Path,
) -> None:
    """Train the vision tower of a model further, with checkpoints, and fit its projector to it.

    Args:
        stage: one of `STAGES`.
        recipe: settings.
        model: its vision tower and projector are replaced.
        train: phantoms that no stage has seen.
        validation: held-out phantoms.
        out: folder of the run; `STAGE.json` holds the validation history.
    """
    torch.manual_seed(recipe.seed + 2 + STAGES[stage])
    images, lr, muon_lr = (getattr(recipe, f"{stage}_{n}") for n in ("images", "lr", "muon_lr"))
    before = copy.deepcopy(model.vision_tower)
    encoder = SideEncoder(recipe, before).train()
    encoder.requires_grad_(True)
    optimisers_ = optimisers(
        encoder,
        matrices=block_matrices(encoder.tower.transformer),
        lr=lr,
        matrix_lr=muon_lr,
    )
    state = out / f"{stage}.pt"
    first = load_state(state, encoder, optimisers_)
    steps = max(images // recipe.encoder_batch, 1)
    data, held = SidedData(train), SidedData(validation)
    weight = patch_weights(train)
    record = out / f"{stage}.json"
    history = json.loads(record.read_text()) if first and record.exists() else []
    since = time.monotonic()
    for step in tqdm(
        range(first, steps), initial=first, total=steps, desc=f"stage {stage}", mininterval=10
    ):
        batch, pixels = _draw(stage, recipe, data, step)
        set_rate(optimisers_, trapezoid(step / steps, cool=0.5))
        terms = _loss(encoder, batch, pixels, weight, heads_only=step < min(HEAD_STEPS, steps // 4))
        terms["total"].backward()
        nn.utils.clip_grad_norm_(encoder.parameters(), 2.0)
        for optimiser in optimisers_:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        if (step + 1) % max(steps // 8, 1) == 0 or step + 1 == steps:
            history.append(
                {
                    "step": step + 1,
                    "images": (step + 1) * recipe.encoder_batch,
                    "loss": {name: round(float(term.detach()), 4) for name, term in terms.items()},
                    "seconds": round(time.monotonic() - since, 1),
                    **evaluate_encoder(encoder, held),
                    "side": evaluate_sides(encoder, held),
                }
            )
            logger.info("%s", json.dumps(history[-1]))
            record.write_text(json.dumps(history, indent=1))
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            save_state(state, encoder, optimisers_, step + 1)
    model.vision_tower.load_state_dict(encoder.tower.state_dict())
    logger.info("the projector keeps %.3f", keep_old_meaning(model, before, train))


def _draw(stage: str, recipe: MiniRecipe, data: SidedData, step: int) -> tuple[dict, torch.Tensor]:
    rng = np.random.default_rng([recipe.seed, 41 + STAGES[stage], step])
    stream = recipe.seed * 37 + 5 + STAGES[stage]
    generator = torch.Generator().manual_seed(stream * 1_000_003 + step)
    size = min(recipe.encoder_batch, len(data.chance))
    batch = data.batch(rng.choice(len(data.chance), size, replace=False, p=data.chance))
    return batch, normalise(augment(batch["pixels"], generator))


def _loss(
    encoder: SideEncoder, batch: dict, pixels: torch.Tensor, weight: torch.Tensor, heads_only: bool
) -> dict:
    with torch.set_grad_enabled(not heads_only):
        tokens = encoder.tower(pixels).tokens
    terms = heads_loss(encoder.heads(tokens), batch, weight)
    terms["side"] = side_loss(encoder.sides(tokens), batch["cover"][..., :FINDINGS], batch["side"])
    terms["depth"] = depth_loss(encoder.depth_head(tokens), batch["depth"])
    terms["total"] = terms["total"] + SIDE_WEIGHT * terms["side"] + DEPTH_WEIGHT * terms["depth"]
    return terms


@torch.inference_mode()
def evaluate_sides(encoder: SideEncoder, data: SidedData, batch: int = 50) -> dict[str, float]:
    """Return the share of right sides by finding, read off the tokens where the finding is.

    Every token votes with the probability that it shows the finding.
    """
    right = np.zeros(FINDINGS)
    for start in range(0, len(data.phantoms), batch):
        rows = np.arange(start, min(start + batch, len(data.phantoms)))
        tokens = encoder.tower(normalise(data.batch(rows)["pixels"])).tokens
        shown = encoder.heads(tokens)[0][..., :FINDINGS].sigmoid()
        votes = (encoder.sides(tokens).log_softmax(3) * shown[..., None]).sum(1)
        right += (votes.argmax(2).numpy() == data.side[rows]).sum(0)
    known = (data.side >= 0).sum(0)
    return {
        name: round(float(right[k] / known[k]), 4)
        for k, name in enumerate(PHANTOM_FINDINGS)
        if known[k]
    }


def keep_old_meaning(
    model: CxrLlavaForConditionalGeneration, old: nn.Module, train: PhantomSet
) -> float:
    """Fit the projector so that the new tokens say what the old tower's did; share that is kept."""

    def pixels(rows: np.ndarray) -> torch.Tensor:
        return normalise(torch.from_numpy(train.pixels[rows].astype(np.float32) / 255))

    return refit_projector(model, old, len(train), pixels)
