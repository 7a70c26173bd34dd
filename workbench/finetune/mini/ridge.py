"""Closed-form start of the projector: ridge regression from vision tokens to what is wanted.

Does not know: what the tokens are or why they are wanted.
Source: Hoerl and Kennard, Technometrics 1970.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from workbench.finetune.mini.data import PhantomSet

#: Images that a fit reads at most.
IMAGES = 384

#: Weight of the penalty, per token.
PENALTY = 1e-5


@torch.no_grad()
def fit_projector(
    projector: nn.Linear,
    phantoms: PhantomSet,
    tokens_and_wanted: Callable[[np.ndarray], tuple[torch.Tensor, torch.Tensor]],
) -> float:
    """Set a projector to the ridge solution over evenly spread phantoms.

    Args:
        projector: set in place.
        phantoms: where rows are drawn from; up to `IMAGES`.
        tokens_and_wanted: takes row numbers, returns (n, W) tokens and (n, H) wanted outputs.

    Returns:
        share of the wanted outputs' variance that it explains.
    """
    rows = np.linspace(0, len(phantoms) - 1, min(IMAGES, len(phantoms)))
    rows = np.unique(rows.astype(int))
    width = projector.in_features
    gram, cross, count, total = torch.zeros(width + 1, width + 1), 0.0, 0, 0.0
    for chunk in np.array_split(rows, max(len(rows) // 16, 1)):
        tokens, wanted = tokens_and_wanted(chunk)
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
