"""What a vision tower knows of findings: probes before, areas under curves after, a new projector.

Papers: linear probes, Alain and Bengio, arXiv 1610.01644; ridge regression, Hoerl and Kennard,
Technometrics 1970.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from workbench.evaluation.intervals import estimate
from workbench.finetune.classifier import mean_auroc, resampled_means
from workbench.finetune.datasets import LabelRows
from workbench.finetune.ledger import SkillChange
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.splice import IGNORE_LABEL

#: Images that a fit reads at most.
FIT_IMAGES = 384

#: Weight of the penalty, per token.
PENALTY = 1e-5


@torch.no_grad()
def pooled(tower: nn.Module, pixels: Sequence[torch.Tensor]) -> np.ndarray:
    """Return (n, 2 W): mean and maximum over the patch tokens of prepared images."""
    device = next(tower.parameters()).device
    found = []
    for at in range(0, len(pixels), 16):
        tokens = tower(torch.stack(list(pixels[at : at + 16])).to(device)).tokens.float()
        found.append(torch.cat([tokens.mean(1), tokens.amax(1)], 1).cpu())
    return torch.cat(found).numpy()


def linear_probe(tower: nn.Module, pixels: dict, rows: dict[str, LabelRows]) -> np.ndarray:
    """Return (validation, F) log-odds of findings by logistic regression on a frozen tower.

    A finding that has one known class only in training gives zeros.
    """
    scaler = StandardScaler()
    train = scaler.fit_transform(pooled(tower, pixels["train"]))
    held = scaler.transform(pooled(tower, pixels["validation"]))
    labels = rows["train"].labels
    scores = np.zeros((len(held), labels.shape[1]))
    for at in range(labels.shape[1]):
        known = labels[:, at] != IGNORE_LABEL
        if len(set(labels[known, at].tolist())) == 2:
            model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=2000)
            model.fit(train[known], labels[known, at])
            scores[:, at] = model.decision_function(held)
    return scores


@torch.no_grad()
def fit_projector(
    projector: nn.Linear,
    images: int,
    tokens_and_wanted: Callable[[np.ndarray], tuple[torch.Tensor, torch.Tensor]],
) -> float:
    """Set a projector to the ridge solution over evenly spread images (ridge regression).

    Args:
        projector: set in place.
        images: how many there are; up to `FIT_IMAGES` are read.
        tokens_and_wanted: takes row numbers, returns (n, W) tokens and (n, H) wanted outputs.

    Returns:
        share of the wanted outputs' variance that it explains.
    """
    rows = np.unique(np.linspace(0, images - 1, min(FIT_IMAGES, images)).astype(int))
    width = projector.in_features
    gram, cross, count, total = torch.zeros(width + 1, width + 1), 0.0, 0, 0.0
    for chunk in np.array_split(rows, max(len(rows) // 16, 1)):
        tokens, wanted = (found.float().cpu() for found in tokens_and_wanted(chunk))
        tokens = torch.cat([tokens, torch.ones(len(tokens), 1)], 1)
        gram += tokens.T @ tokens
        cross = cross + tokens.T @ wanted
        total = total + wanted.square().sum(0)
        count += len(tokens)
    solution = torch.linalg.solve(gram + PENALTY * count * torch.eye(width + 1), cross)
    mean = cross[-1] / count
    explained = (solution * cross).sum(0) - count * mean.square()
    spread = total - count * mean.square()
    projector.weight.copy_(solution[:-1].T)
    projector.bias.copy_(solution[-1])
    return float(explained.sum() / spread.sum())


@torch.no_grad()
def refit_projector(
    model: CxrLlavaForConditionalGeneration,
    old: nn.Module,
    images: int,
    pixels: Callable[[np.ndarray], torch.Tensor],
) -> float:
    """Set the projector to the ridge solution that keeps what the old tokens said.

    Args:
        model: has the new vision tower and the old projector.
        old: the old vision tower.
        images: how many there are.
        pixels: takes row numbers, returns (n, 1, S, S) as the model sees them.

    Returns:
        share of the old features' variance that is kept.
    """
    before, tower = copy.deepcopy(model.projector), model.get_encoder("image")

    def pairs(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        batch = pixels(rows).to(model.device)
        return tower(batch).tokens.flatten(0, 1), before(old(batch).tokens.flatten(0, 1))

    return fit_projector(model.projector, images, pairs)


def auroc_rows(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, patients: Sequence[str],
    findings: Sequence[str],
) -> tuple[SkillChange, ...]:  # fmt: skip
    """Return the mean AUROC and that of each finding, before and after, paired by patient."""
    rows = [_auroc_row("mean AUROC", before, after, labels, patients)]
    for at, name in enumerate(findings):
        column = slice(at, at + 1)
        rows.append(_auroc_row(f"AUROC of {name}", before[:, column], after[:, column],
                               labels[:, column], patients))  # fmt: skip
    return tuple(row for row in rows if row.after is not None)


def _auroc_row(
    skill: str, before: np.ndarray, after: np.ndarray, labels: np.ndarray, patients: Sequence[str]
) -> SkillChange:
    first = mean_auroc(before, labels, patients)
    second = mean_auroc(after, labels, patients)
    drawn = [resampled_means(scores, labels, patients) for scores in (before, after)]
    both = None if None in (first.value, second.value) else second.value - first.value
    change = estimate(float("nan") if both is None else both, drawn[1] - drawn[0], len(labels))
    return SkillChange(skill, len(labels), first.value, second.value, change)
