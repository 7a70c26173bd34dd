"""What a vision tower knows of findings: probes before, areas under curves after, a new projector.

Papers: linear probes, Alain and Bengio, arXiv 1610.01644; ridge regression, Hoerl and Kennard,
Technometrics 1970.
Does not know: how the tower is trained (`finding_stage`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from workbench.evaluation.intervals import estimate
from workbench.finetune.classifier import mean_auroc, resampled_means
from workbench.finetune.datasets import LabelRows
from workbench.finetune.ledger import SkillChange
from workbench.finetune.mini.ridge import fit_projector
from workbench.model.load import LoadedCheckpoint
from workbench.model.splice import IGNORE_LABEL


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
def refit_projector(
    loaded: LoadedCheckpoint, old: nn.Module, pixels: Sequence[torch.Tensor]
) -> float:
    """Set the projector to the ridge solution that keeps what the old tokens said.

    Returns:
        share of the old features' variance that is kept.
    """
    before = copy.deepcopy(loaded.model.projector)
    tower, device = loaded.model.get_encoder("image"), loaded.model.device

    def pairs(rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        batch = torch.stack([pixels[int(row)] for row in rows]).to(device)
        return tower(batch).tokens.flatten(0, 1), before(old(batch).tokens.flatten(0, 1))

    return fit_projector(loaded.model.projector, pixels, pairs)


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
