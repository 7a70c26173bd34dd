"""Optimisers, learning-rate schedule and resumable state shared by the stages of `mini`."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from recipes.mini.muon import Muon
from workbench._store import whole_file

logger = logging.getLogger(__name__)


def trapezoid(progress: float, warm: float = 0.04, cool: float = 0.35) -> float:
    """Return the learning-rate factor at a progress in [0, 1]: rise, hold, fall to 0.02."""
    if progress < warm:
        return max(progress / warm, 0.01)
    if progress > 1 - cool:
        return max((1 - progress) / cool, 0.02)
    return 1.0


def optimisers(
    module: nn.Module, *, matrices: list[nn.Parameter], lr: float, matrix_lr: float
) -> list[torch.optim.Optimizer]:
    """Return AdamW for everything that trains but the matrices, and Muon for those."""
    chosen = {id(p) for p in matrices}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in chosen]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=0.01)
    ]
    if matrices:
        found.append(Muon(matrices, lr=matrix_lr))
    for optimiser in found:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return found


def set_rate(optimisers_: list[torch.optim.Optimizer], factor: float) -> None:
    """Set every learning rate to its peak times a factor."""
    for optimiser in optimisers_:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor


def save_state(path: Path, module: nn.Module, optimisers_: list, step: int) -> None:
    """Write the state of a stage so that a kill at any instant leaves the old or the new file."""
    state = {
        "step": step,
        "module": module.state_dict(),
        "optimisers": [o.state_dict() for o in optimisers_],
    }
    with whole_file(path) as partial:
        torch.save(state, partial)


def load_state(path: Path, module: nn.Module, optimisers_: list) -> int:
    """Load the state of a stage; return the step to resume from (0 when there is none)."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    module.load_state_dict(state["module"])
    for optimiser, saved in zip(optimisers_, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    logger.info("resuming at step %d", state["step"])
    return state["step"]
