"""Relevancy: gradient-weighted attention carried from the phrase through both transformers.

Paper: Chefer, Gur, Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and
Encoder-Decoder Transformers", ICCV 2021, arXiv 2103.15679, sections 3.1 and 3.2. For every layer
with attention A, the relevancy R (identity at first) grows by

    A_bar = mean over heads of max(0, dS/dA * A),      R <- R + A_bar R

Adaptation to a decoder that reads image tokens in its own sequence (the paper has co-attention and
encoder-decoder models):
- the language model is treated as one self-attention stack over text and image tokens, with its
  causal mask; the score S is the target (log-probability of the phrase, or the contrast);
- relevancy of the phrase is the sum of the rows of the positions that chose its tokens, image
  columns only; self-relevancy of the identity does not reach image columns;
- the vision tower is a self-attention stack of its own, with A_bar from the same backward pass;
  the image columns are then multiplied by its R, class token dropped: which input patches fed the
  patch tokens that the phrase relied on;
- the projector acts on each token alone and needs no rule.

Does not know: MLPs, norms and values, which the rule ignores by design.
"""

from __future__ import annotations

import torch

from workbench.saliency.gradients import Attribution
from workbench.saliency.scorer import Scorer, check_differentiable
from workbench.trace.capture import Call, attention_rows, watch_attention


class _DifferentiableRows:
    """A watcher that attends with plain products and keeps the rows for the backward pass."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], torch.Tensor] = {}

    def __call__(self, call: Call) -> torch.Tensor:
        """Return the layer's output (B, Q, heads, D), computed from rows that keep gradients."""
        rows = attention_rows(call)
        self.rows[call.tower, call.layer] = rows
        groups = call.query.shape[1] // call.value.shape[1]
        value = call.value.repeat_interleave(groups, dim=1)
        return (rows.to(value.dtype) @ value).transpose(1, 2)


def carry(layers: list[torch.Tensor]) -> torch.Tensor:
    """Return R after all layers.

    Args:
        layers: A_bar of each layer, first to last, each (T, T) and not negative.

    Returns:
        (T, T); row t says what position t of the output owes to each input position.
    """
    length = layers[0].shape[-1]
    relevancy = torch.eye(length, dtype=layers[0].dtype, device=layers[0].device)
    for layer in layers:
        relevancy = relevancy + layer @ relevancy
    return relevancy


def relevancy(scorer: Scorer, grid: tuple[int, int], *, through_vision: bool = True) -> Attribution:
    """Return the relevancy of every patch for the target.

    Args:
        scorer: the target.
        grid: rows and columns of patches.
        through_vision: carry it through the vision tower too; False stops at the image tokens.
    """
    check_differentiable(scorer)
    watcher = _DifferentiableRows()
    pixels = scorer.base.clone().requires_grad_()
    with torch.enable_grad(), scorer.frozen(), watch_attention(scorer.model, watcher):
        score = scorer(pixels).sum()
        keys = sorted(watcher.rows)
        gradients = torch.autograd.grad(score, [watcher.rows[key] for key in keys])
    weighted: dict[str, list[torch.Tensor]] = {"language": [], "vision": []}
    for key, gradient in zip(keys, gradients, strict=True):
        product = (gradient * watcher.rows[key].detach()).clamp_min(0)
        weighted[key[0]].append(product[0].mean(0).float().cpu())
    start = len(scorer.head)
    rows = carry(weighted["language"])[list(scorer.queries)]
    image = rows[:, start : start + scorer.image_tokens].sum(0)
    if through_vision:
        seen = carry(weighted["vision"])
        image = (torch.cat([image.new_zeros(1), image]) @ seen)[1:]
    return Attribution(image.reshape(grid))
