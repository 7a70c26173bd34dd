"""Stage 1: the vision tower learns findings from labels, and from masks where they are known.

Every patch token gives a logit for every finding; the image's logit pools them with a softmax, so
that what the image shows can be read off the tokens that the projector sees. A label that nobody
gave carries no loss.

Paper: Lee et al., Eur Radiol 2025, section 2 (multi-label findings); pooling by attention, Ilse et
al., ICML 2018, arXiv 1802.04712. Deviations: the paper pools the class token; masks are beyond it.
Does not know: language.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch import nn

from workbench.evaluation.intervals import Estimate, area, bootstrap_weights, estimate
from workbench.model.splice import IGNORE_LABEL
from workbench.model.vision import VisionTower

#: A rare finding weighs at most this much more than a common one.
MOST_WEIGHT = 8.0


class FindingClassifier(nn.Module):
    """A vision tower with one head of findings.

    Args:
        tower: trained in place.
        findings: columns.
        mask_weight: weight of mask supervision.
    """

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
        self.register_buffer("positive_weight", torch.ones(count), persistent=False)

    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        cover: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return logits, and the loss where labels are given.

        Args:
            pixel_values: (B, 1, S, S) normalised.
            labels: (B, F) 1, 0, or -100 for unknown.
            cover: (B, N, F) share of each patch that a finding covers.
            known: (B, F) whether that is known.
            num_items_in_batch: known labels of the whole step, over all processes.

        Returns:
            {"logits": (B, F)} and "loss": summed over known labels, divided by their number.
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
        if cover is not None and self.mask_weight:
            total = total + self.mask_weight * self._mask_loss(patch, cover, known)
        count = stated.sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": total / torch.clamp(torch.as_tensor(count), min=1), "logits": logits}

    def _mask_loss(
        self, patch: torch.Tensor, cover: torch.Tensor, known: torch.Tensor
    ) -> torch.Tensor:
        target = (cover * 3).clamp_max(1)
        heavy = torch.full((patch.shape[-1],), 6.0, device=patch.device)
        each = F.binary_cross_entropy_with_logits(patch, target, reduction="none", pos_weight=heavy)
        return (each.mean(1) * known).sum()


def class_weights(labels: np.ndarray) -> torch.Tensor:
    """Return (F,) weight of a positive: the root of negatives by positives, within bounds.

    Args:
        labels: (n, F) 1, 0 or -100.
    """
    positive, negative = (labels == 1).sum(0), (labels == 0).sum(0)
    ratio = np.sqrt(np.maximum(negative, 1) / np.maximum(positive, 1))
    return torch.from_numpy(ratio.clip(1 / MOST_WEIGHT, MOST_WEIGHT)).float()


@torch.no_grad()
def predict(classifier: FindingClassifier, pixels: Sequence[torch.Tensor]) -> np.ndarray:
    """Return (n, F) logits of prepared images (1, S, S)."""
    device = classifier.patch_head.weight.device
    was_training = classifier.training
    classifier.eval()
    found = [
        classifier(torch.stack(list(pixels[at : at + 16])).to(device))["logits"].float().cpu()
        for at in range(0, len(pixels), 16)
    ]
    classifier.train(was_training)
    return torch.cat(found).numpy()


def aurocs(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (F,) area under the ROC curve of each finding over known labels; NaN if undefined."""
    found = np.full(labels.shape[1], np.nan)
    for at in range(labels.shape[1]):
        known = labels[:, at] != IGNORE_LABEL
        truth = labels[known, at]
        if len(set(truth.tolist())) == 2:
            found[at] = roc_auc_score(truth, scores[known, at])
    return found


def mean_auroc(
    scores: np.ndarray, labels: np.ndarray, patients: Sequence[str], *, seed: int = 0,
    resamples: int = 1000,
) -> Estimate:  # fmt: skip
    """Return the mean AUROC over findings with a bootstrap interval over patients.

    Args:
        scores: (n, F).
        labels: (n, F) 1, 0 or -100.
        patients: (n,) whose image it is.
        seed: of the resampling.
        resamples: rows of it; a resample without both classes of a finding leaves it out.
    """
    point = _mean(aurocs(scores, labels))
    drawn = resampled_means(scores, labels, patients, seed=seed, resamples=resamples)
    return estimate(point, drawn, len(labels))


def resampled_means(
    scores: np.ndarray, labels: np.ndarray, patients: Sequence[str], *, seed: int = 0,
    resamples: int = 1000,
) -> np.ndarray:  # fmt: skip
    """Return (resamples,) mean AUROC of each resample; the same seed draws the same patients."""
    _, owner = np.unique(list(patients), return_inverse=True)
    weights = bootstrap_weights(owner.max() + 1, np.random.default_rng([seed, 82]),
                                resamples=resamples)[:, owner]  # fmt: skip
    columns = []
    for at in range(labels.shape[1]):
        known = labels[:, at] != IGNORE_LABEL
        columns.append(area(labels[known, at] == 1, scores[known, at], weights[:, known])[1])
    return np.array([_mean(row) for row in np.stack(columns, 1)])


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
