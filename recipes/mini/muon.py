"""Muon in float32: momentum whose update is orthogonalised.

torch.optim.Muon orthogonalises in bfloat16, which is two orders slower than float32 on CPUs
without bf16 units; this one keeps the gradient's own precision and stacks equal shapes into one
batched product.
Papers: Jordan et al. 2024 (Muon); Liu et al. 2025, arXiv 2502.16982 (update scaled to AdamW's
root mean square, 0.2).
"""

from __future__ import annotations

from collections import defaultdict

import torch

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(update: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Return matrices with the same singular vectors and singular values near 1.

    Args:
        update: (..., rows, columns).
        steps: Newton-Schulz iterations.
    """
    a, b, c = NEWTON_SCHULZ
    tall = update.shape[-2] > update.shape[-1]
    x = update.mT if tall else update
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for two-dimensional parameters.

    Args:
        params: matrices.
        lr: learning rate on AdamW's scale.
        momentum: of the running gradient, Nesterov.
        weight_decay: decoupled.
    """

    def __init__(self, params, *, lr: float, momentum: float = 0.95, weight_decay: float = 0.02):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update every matrix that has a gradient."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            shapes = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for shape, params in shapes.items():
                self._step_shape(shape, params, group)
        return loss

    def _step_shape(self, shape: torch.Size, params: list, group: dict) -> None:
        updates = []
        for p in params:
            buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
            buffer.lerp_(p.grad, 1 - group["momentum"])
            updates.append(p.grad.lerp(buffer, group["momentum"]))
        scale = 0.2 * max(shape) ** 0.5
        for p, update in zip(params, orthogonalise(torch.stack(updates)), strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update, alpha=-group["lr"] * scale)
