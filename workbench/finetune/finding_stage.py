"""Stage 1: the vision tower learns findings, and the projector is fitted to it again.

Labels teach, and masks where they are known. Every patch token gives a logit for every finding; the
image's logit pools them with a softmax, so that what the image shows can be read off the tokens
that the projector sees. A label that nobody gave carries no loss.

"Before" is what a linear probe, fitted to the same training cases, reads off the tower of the base;
"after" is the trained head. When the tower has moved, its tokens no longer mean what the language
model was told: with `tuning.projector: full` the projector is set to the ridge solution under which
the new tokens say what the old ones said.

Papers: Lee et al., Eur Radiol 2025, section 2 (multi-label findings); pooling by attention, Ilse et
al., ICML 2018, arXiv 1802.04712; linear probes, Alain and Bengio, arXiv 1610.01644. Deviations: the
paper pools the class token; masks are beyond it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from workbench.errors import TrainingError
from workbench.findings import NO_FINDING
from workbench.finetune.cases import CaseSet
from workbench.finetune.datasets import Images, LabelRows
from workbench.finetune.measuring import auroc_rows, aurocs
from workbench.finetune.parts import prepare, refit_projector
from workbench.finetune.recipe import Recipe
from workbench.finetune.session import Stage
from workbench.finetune.trainer import process_rank
from workbench.interface import CxrLlavaModel
from workbench.model.costs import LEARNING, RUNTIME
from workbench.model.load import LoadedCheckpoint
from workbench.model.prompt import IGNORE_LABEL
from workbench.model.vision import VisionTower

HEADS_FILE = "heads.safetensors"

#: A rare finding weighs at most this much more than a common one.
MOST_WEIGHT = 8.0


class FindingClassifier(nn.Module):
    """A vision tower, trained in place, with one head of findings."""

    accepts_loss_kwargs = True

    def __init__(
        self, tower: VisionTower, findings: Sequence[str], *, mask_weight: float = 1.0
    ) -> None:
        super().__init__()
        self.tower, self.findings, self.mask_weight = tower, tuple(findings), mask_weight
        width, count = tower.config.width, len(self.findings)
        self.patch_head = nn.Linear(width, count)
        nn.init.normal_(self.patch_head.weight, std=width**-0.5)
        nn.init.constant_(self.patch_head.bias, -2.0)
        self.scale = nn.Parameter(torch.ones(count))
        self.bias = nn.Parameter(torch.full((count,), 1.0))
        self.positive_weight: torch.Tensor
        self.register_buffer("positive_weight", torch.ones(count), persistent=False)

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        cover: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return "logits" (B, F), and "loss" where labels are given, the mean over known ones.

        Args:
            pixel_values: (B, 1, S, S) normalised.
            labels: (B, F) 1, 0, or -100 for unknown.
            cover: (B, N, F) share of each patch that a finding covers.
            known: (B, F) whether that is known.
            num_items_in_batch: known labels of the whole step, over all processes.
        """
        patch = self.patch_head(self.tower(pixel_values).tokens)
        weight = torch.softmax(patch * 2, dim=1)
        logits = (weight * patch).sum(1) * self.scale + self.bias
        if labels is None:
            return {"logits": logits}
        stated = labels != IGNORE_LABEL
        each = F.binary_cross_entropy_with_logits(
            logits, labels.clamp_min(0).to(logits.dtype), reduction="none",
            pos_weight=self.positive_weight,
        )  # fmt: skip
        total = (each * stated).sum()
        if cover is not None and known is not None and self.mask_weight:
            heavy = torch.full((patch.shape[-1],), 6.0, device=patch.device)
            each = F.binary_cross_entropy_with_logits(
                patch, (cover * 3).clamp_max(1), reduction="none", pos_weight=heavy
            )
            total = total + self.mask_weight * (each.mean(1) * known).sum()
        count = stated.sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": total / torch.clamp(torch.as_tensor(count), min=1), "logits": logits}


def class_weights(labels: np.ndarray) -> torch.Tensor:
    """Return (F,) weight of a positive: the root of negatives by positives, within bounds."""
    positive, negative = (labels == 1).sum(0), (labels == 0).sum(0)
    ratio = np.sqrt(np.maximum(negative, 1) / np.maximum(positive, 1))
    return torch.from_numpy(ratio.clip(1 / MOST_WEIGHT, MOST_WEIGHT)).float()


@torch.no_grad()
def predict(classifier: FindingClassifier, images: Images) -> np.ndarray:
    """Return (n, F) logits."""
    device = classifier.patch_head.weight.device
    found = [classifier(pixels.to(device))["logits"].float().cpu() for pixels in images.batches()]
    return torch.cat(found).numpy()


@torch.no_grad()
def pooled(tower: nn.Module, images: Images) -> np.ndarray:
    """Return (n, 2 W): mean and maximum over the patch tokens of prepared images."""
    device = next(tower.parameters()).device
    found = []
    for pixels in images.batches():
        tokens = tower(pixels.to(device)).tokens.float()
        found.append(torch.cat([tokens.mean(1), tokens.amax(1)], 1).cpu())
    return torch.cat(found).numpy()


def linear_probe(tower: nn.Module, rows: LabelRows, held: Images) -> np.ndarray:
    """Return (held, F) log-odds of findings by logistic regression on a frozen tower.

    It is fitted to rows as they are; a finding that has one known class only in them gives zeros.
    """
    scaler, labels = StandardScaler(), rows.labels
    train = scaler.fit_transform(pooled(tower, replace(rows.images, augment=False)))
    features = scaler.transform(pooled(tower, held))
    scores = np.zeros((len(held), labels.shape[1]))
    for at, column in enumerate(labels.T):
        known = column != IGNORE_LABEL
        if len(np.unique(column[known])) == 2:
            model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
            model.fit(train[known], column[known])
            scores[:, at] = model.decision_function(features)
    return scores


class FindingStage(Stage):
    """Stage 1 of a recipe.

    Attributes:
        rows, held: of training and validation cases.
        old: the vision tower before training.
        before: (validation, F) log-odds of a linear probe on it; on the first process.
    """

    classifier: FindingClassifier

    @property
    def loaded(self) -> LoadedCheckpoint:
        """The base, as it was loaded."""
        return cast(CxrLlavaModel, self.model).loaded

    def __init__(self, recipe: Recipe, out: Path, *, device: str, show: bool = False) -> None:
        super().__init__(recipe, out, device=device, show=show)
        self.chosen, self.findings = self.cases.validation, learned_findings(recipe, self.cases)
        training, unlisted, processor = recipe.training, recipe.data.unlisted, self.loaded.processor
        patch = self.loaded.model.config.vision.patch_size
        images = Images(self.cases.train, processor, augment=training.augment, seed=recipe.seed)
        regions = training.mask_weight > 0
        self.rows = LabelRows(images, self.findings, unlisted, regions, patch)
        held = Images(self.chosen, processor)
        self.held = LabelRows(held, self.findings, unlisted, regions=False, patch=patch)
        self.old = copy.deepcopy(self.loaded.model.vision)
        first = process_rank() == 0
        self.before = linear_probe(self.old, self.rows, held) if first else np.empty((0, 0))

    def prepare(self) -> tuple[FindingClassifier, LabelRows]:
        """Give the tower a head, and random weights where the recipe says so."""
        recipe, model = self.recipe, self.loaded.model
        if recipe.from_scratch:
            torch.manual_seed(recipe.seed)
            model.vision.load_state_dict(VisionTower(self.old.config).state_dict())
        prepare(model, recipe.tuning, seed=recipe.seed)
        torch.manual_seed(recipe.seed + 1)
        weight = recipe.training.mask_weight
        self.classifier = FindingClassifier(model.vision, self.findings, mask_weight=weight)
        self.classifier.to(model.device)
        if recipe.training.class_weights:
            self.classifier.positive_weight.copy_(class_weights(self.rows.labels))
        return self.classifier, self.rows

    def measure(self) -> dict[str, float]:
        """Return the mean AUROC on the validation cases."""
        scores = predict(self.classifier, self.held.images)
        return {"auroc": float(np.nanmean(aurocs(scores, self.held.labels)))}

    def finish(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Fit the projector to the new tower; write adapter and heads."""
        if self.recipe.data.unlisted == "absent":
            self.notes.append("what a row does not mention was taken as absent, as the recipe says")
        if self.recipe.from_scratch:
            self.notes.append("the vision tower started from random weights")
        if self.recipe.tuning.projector == "full":
            seen = replace(self.rows.images, augment=False)
            kept = refit_projector(self.loaded.model, self.old, len(seen), seen.batch)
            self.notes.append(
                f"the refitted projector keeps {kept:.3f} of what the old tokens said"
            )
        heads = {name: p.detach().contiguous() for name, p in self.classifier.named_parameters()
                 if not name.startswith("tower.")}  # fmt: skip
        about = {"findings": "|".join(self.findings)}
        save_file(heads, self.save() / HEADS_FILE, metadata=about)
        before, after = self.before, predict(self.classifier, self.held.images)
        labels, patients = self.held.labels, [case.patient for case in self.chosen]
        known = self.rows.labels != IGNORE_LABEL
        counts = {"known labels": int(known.sum()), "unknown labels": int((~known).sum())}
        measured = {
            "data": {"learned": list(self.findings), **counts},
            "scores": auroc_rows(before, after, labels, patients, self.findings),
        }
        three = zip(labels.tolist(), before.tolist(), after.tolist(), strict=True)
        return [{"labels": own, "before": b, "after": a} for own, b, a in three], measured

    def predicted_memory(self) -> float:
        """Return bytes of weights, moments and the tower's activations, without the text's."""
        vision = self.loaded.model.config.vision
        learning = sum(p.numel() for p in self.loaded.model.vision.parameters())
        kept = 4 * 16 * vision.width * vision.image_tokens * vision.layers
        total = 4 * self.loaded.card.parameters["total"] + LEARNING * learning
        return total + kept * self.recipe.training.micro_batch + RUNTIME


def learned_findings(recipe: Recipe, cases: CaseSet) -> tuple[str, ...]:
    """Return findings asked for, or all, present in each part; `TrainingError` for none."""
    found = tuple(
        name
        for name, row in cases.counts().items()
        if (not recipe.data.findings or name in recipe.data.findings)
        and name != NO_FINDING
        and row["train present"] >= 2
        and row["validation present"] >= 1
    )
    if not found:
        raise TrainingError(
            "no finding is present in training and validation cases alike; give more cases, or "
            "another data.findings"
        )
    return found
