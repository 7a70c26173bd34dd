"""What a vision tower knows of findings: probes before, areas under curves after, a new projector.

Papers: linear probes, Alain and Bengio, arXiv 1610.01644; ridge regression, Hoerl and Kennard,
Technometrics 1970.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from torch import nn

from workbench.evaluation.intervals import Estimate, area, bootstrap_weights, estimate
from workbench.finetune.datasets import Images, LabelRows
from workbench.finetune.ledger import SkillChange
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.splice import IGNORE_LABEL

#: Images that a fit reads at most.
FIT_IMAGES = 384

#: Weight of the penalty, per token.
PENALTY = 1e-5


@torch.no_grad()
def pooled(tower: nn.Module, images: Images) -> np.ndarray:
    """Return (n, 2 W): mean and maximum over the patch tokens of prepared images."""
    device = next(tower.parameters()).device
    found = []
    for pixels in images.batches():
        tokens = tower(pixels.to(device)).tokens.float()
        found.append(torch.cat([tokens.mean(1), tokens.amax(1)], 1).cpu())
    return torch.cat(found).numpy()


def linear_probe(
    tower: nn.Module, images: Mapping[str, Images], rows: Mapping[str, LabelRows]
) -> np.ndarray:
    """Return (validation, F) log-odds of findings by logistic regression on a frozen tower.

    A finding that has one known class only in training gives zeros.
    """
    scaler = StandardScaler()
    train = scaler.fit_transform(pooled(tower, images["train"]))
    held = scaler.transform(pooled(tower, images["validation"]))
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
    """Set a projector to the ridge solution; return the share of variance that it explains.

    Args:
        projector: set in place.
        images: how many there are; up to `FIT_IMAGES` of them, evenly spread, are read.
        tokens_and_wanted: takes row numbers, returns (n, W) tokens and (n, H) wanted outputs.
    """
    rows = np.unique(np.linspace(0, images - 1, min(FIT_IMAGES, images)).astype(int))
    width = projector.in_features
    gram = torch.zeros(width + 1, width + 1)
    cross = torch.zeros(width + 1, projector.out_features)
    total, count = torch.zeros(projector.out_features), 0
    for chunk in np.array_split(rows, max(len(rows) // 16, 1)):
        tokens, wanted = (found.float().cpu() for found in tokens_and_wanted(chunk))
        tokens = torch.cat([tokens, torch.ones(len(tokens), 1)], 1)
        gram += tokens.T @ tokens
        cross += tokens.T @ wanted
        total += wanted.square().sum(0)
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
    before, tower = copy.deepcopy(model.projector), model.vision

    def pairs(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        batch = pixels(rows).to(model.device)
        return tower(batch).tokens.flatten(0, 1), before(old(batch).tokens.flatten(0, 1))

    return fit_projector(model.projector, images, pairs)


def aurocs(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return (F,) area under the ROC curve of each finding over known labels; NaN if undefined."""
    found = np.full(labels.shape[1], np.nan)
    for at in range(labels.shape[1]):
        known = labels[:, at] != IGNORE_LABEL
        truth = labels[known, at]
        if len(set(truth.tolist())) == 2:
            found[at] = roc_auc_score(truth, scores[known, at])
    return found


def mean_auroc(scores: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> Estimate:
    """Return the mean AUROC by scores and labels (n, F), with an interval over patients (n,)."""
    drawn = resampled_means(scores, labels, patients)
    return estimate(_mean(aurocs(scores, labels)), drawn, len(labels))


def resampled_means(scores: np.ndarray, labels: np.ndarray, patients: Sequence[str]) -> np.ndarray:
    """Return the mean AUROC of each resample; the same patients are drawn every time.

    A resample without both classes of a finding leaves it out.
    """
    _, owner = np.unique(list(patients), return_inverse=True)
    weights = bootstrap_weights(owner.max() + 1, np.random.default_rng([0, 82]))[:, owner]
    columns = []
    for at in range(labels.shape[1]):
        known = labels[:, at] != IGNORE_LABEL
        columns.append(area(labels[known, at] == 1, scores[known, at], weights[:, known])[1])
    return np.array([_mean(row) for row in np.stack(columns, 1)])


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


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
    first, second = (_mean(aurocs(scores, labels)) for scores in (before, after))
    drawn = [resampled_means(scores, labels, patients) for scores in (before, after)]
    change = estimate(second - first, drawn[1] - drawn[0], len(labels))
    values = (None if math.isnan(value) else value for value in (first, second))
    return SkillChange(skill, len(labels), *values, change)
