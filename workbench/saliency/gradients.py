"""Gradient methods: input x gradient, SmoothGrad, integrated gradients, Grad-CAM, relevancy.

All but relevancy are captum's; the papers are in `workbench.saliency.METHODS`. Every method takes a
scorer of the target and the grid, rows and columns of patches.
Deviations: pixel attributions are summed over patches, which keeps their sum; SmoothGrad
averages input x gradient, so that all maps have one unit; Grad-CAM takes the output of the last
vision block as its feature map, class token left out, because a transformer has no convolution.

Relevancy carries gradient-weighted attention from the phrase through both transformers (Chefer,
Gur, Wolf, ICCV 2021, arXiv 2103.15679, sections 3.1 and 3.2). For every layer with attention A, the
relevancy R (identity at first) grows by

    A_bar = mean over heads of max(0, dS/dA * A),      R <- R + A_bar R

MLPs, norms and values are ignored by design. Adapted to a decoder that reads image tokens in its
own sequence, which the paper does not have:
- the language model is one self-attention stack over text and image tokens, with its causal mask;
  the score S is the target;
- relevancy of the phrase is the sum of the rows of the positions that chose its tokens, image
  columns only; self-relevancy of the identity does not reach image columns;
- the vision tower is a stack of its own, with A_bar from the same backward pass; the image columns
  are then multiplied by its R, class token dropped;
- the projector acts on each token alone and needs no rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np
import torch
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel
from scipy.ndimage import gaussian_filter
from torch import nn

from workbench._repr import short_repr
from workbench.backends.attending import Call, attention_rows, watch_attention
from workbench.errors import OptionError, check_one_of
from workbench.model.placement import drawing_from
from workbench.saliency.scorer import PixelScorer, Scorer

BASELINES = ("blur", "black", "mean", "grey")

#: Parts of the line that integrated gradients begin with, and steps in each part.
FIRST_PARTS, PART_STEPS = 8, 4


@dataclass(frozen=True, eq=False)
class Attribution:
    """What a method returns: (rows, columns) float32 on the CPU, and numbers about them.

    `layer` is which one was read, in words, where that is not the method's own.
    """

    values: torch.Tensor
    scores: Mapping[str, float] = field(default_factory=dict)
    layer: str = ""

    __repr__ = short_repr


def baseline_pixels(scorer: PixelScorer, baseline: str) -> torch.Tensor:
    """Return the image that counts as "nothing there", (1, 1, S, S) normalised.

    It is "blur" (a Gaussian blur of 8 % of the image's side, so that only detail is missing),
    "black" (pixel 0), "mean" (the image's mean grey everywhere) or "grey" (the mean grey of the
    model's training images, 0 after normalisation); any other name raises `OptionError`.
    """
    base = scorer.base
    if baseline == "blur":
        pixels = gaussian_filter(base[0, 0].cpu().numpy(), 0.08 * base.shape[-1], mode="nearest")
        return torch.from_numpy(pixels)[None, None].to(base)
    if baseline == "mean":
        return torch.full_like(base, float(base.mean()))
    if baseline == "grey":
        return torch.full_like(base, scorer.model.processor.grey)
    if baseline == "black":
        return torch.full_like(base, -scorer.model.processor.mean / scorer.model.processor.std)
    raise OptionError(f"baseline must be one of {', '.join(BASELINES)}; got {baseline!r}")


def to_grid(pixels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Return attributions of pixels (1, 1, S, S) summed over patches."""
    rows, columns = grid
    values, side = pixels.detach().float().cpu(), pixels.shape[-1]
    if not side % rows and not side % columns:
        return values.reshape(rows, side // rows, columns, side // columns).sum((1, 3))
    down, across = (_covered(side, count) for count in grid)
    return down @ values[0, 0] @ across.T


def _covered(side: int, count: int) -> torch.Tensor:
    """Return (count, side): the share of each of so many pixels that lies in each cell."""
    edges, pixel = torch.arange(count + 1) * (side / count), torch.arange(side)
    ends = torch.minimum(pixel + 1, edges[1:, None]), torch.maximum(pixel, edges[:-1, None])
    return (ends[0] - ends[1]).clamp_min(0)


def input_x_gradient(scorer: Scorer, grid: tuple[int, int]) -> Attribution:
    """Return pixel times gradient: the first-order effect of taking the pixel to mean grey."""
    with scorer.frozen():
        found = InputXGradient(scorer).attribute(scorer.base.clone().requires_grad_())
    return Attribution(to_grid(found, grid))


def smoothgrad(
    scorer: Scorer, grid: tuple[int, int], *, samples: int = 24, noise: float = 0.15, seed: int = 0
) -> Attribution:
    """Return input x gradient averaged over noisy copies of the image.

    `noise` is the standard deviation, as a share of the image's range.

    Raises:
        OptionError: there is no sample, or the noise is negative.
    """
    if samples < 1 or noise < 0:
        raise OptionError(f"expected samples >= 1 and noise >= 0, got {samples} and {noise}")
    spread = noise * float(scorer.base.max() - scorer.base.min())
    with scorer.frozen(), drawing_from(seed, scorer.device):
        found = NoiseTunnel(InputXGradient(scorer)).attribute(
            scorer.base.clone().requires_grad_(),
            nt_type="smoothgrad",
            nt_samples=samples,
            nt_samples_batch_size=min(samples, 8),
            stdevs=spread,
        )
    return Attribution(to_grid(cast("torch.Tensor", found), grid))


def integrated_gradients(
    scorer: Scorer,
    grid: tuple[int, int],
    *,
    baseline: str | None = None,
    over: str = "pixels",
    tolerance: float = 0.01,
    most: int = 512,
) -> Attribution:
    """Return gradients integrated along the straight line from a baseline to the image.

    The line is cut where the score bends: the part with the largest gap between its attributions
    and the change of the score over it is halved until all gaps together are small. The parts lie
    on one line, so their attributions add up to those of the whole.

    Args:
        baseline: see `baseline_pixels`; "blur" over pixels and "grey" over patches when None.
        over: "pixels", or "patches" to integrate over patch embeddings (the output of the patch
            convolution), which are the vision tower's own units; "grey" is their zero. From one
            baseline both give the same map, because the convolution is linear.
        tolerance: largest gap of all parts together, as a share of the difference.
        most: gradients at most, 32 or more.

    Returns:
        values whose sum is the difference of the target between image and baseline; scores
        "difference", "delta" (sum minus difference) and "gradients".

    Raises:
        OptionError: `over` or the baseline is unknown, or `most` is too small.
    """
    if most < FIRST_PARTS * PART_STEPS:
        raise OptionError(
            f"the first pass alone takes {FIRST_PARTS * PART_STEPS} gradients, most is {most}"
        )
    check_one_of("over", over, ("pixels", "patches"))
    if baseline is None:
        baseline = "blur" if over == "pixels" else "grey"
    start = baseline_pixels(scorer, baseline)
    ends = np.linspace(0, 1, FIRST_PARTS + 1)
    images = torch.cat([torch.lerp(start, scorer.base, float(end)) for end in ends])

    def part(first: tuple[float, float], last: tuple[float, float]) -> _Part:
        """Integrate between two (place on the line, score)."""
        here, there = (torch.lerp(start, scorer.base, end) for end, _ in (first, last))
        found = _integrate(scorer, here, there, over, PART_STEPS)
        values = found if over == "patches" else to_grid(found, grid)
        gap = float(values.sum(dtype=torch.float64)) - (last[1] - first[1])
        return _Part(abs(gap), first, last, values)

    with scorer.frozen():
        heights = scorer.scores(images).tolist()
        difference = heights[-1] - heights[0]
        points = list(zip(ends.tolist(), heights, strict=True))
        parts = [part(a, b) for a, b in itertools.pairwise(points)]
        used = FIRST_PARTS * PART_STEPS
        while used + 2 * PART_STEPS <= most:
            worst = max(parts, key=lambda p: p.gap)
            if sum(p.gap for p in parts) <= tolerance * abs(difference):
                break
            end = (worst.first[0] + worst.last[0]) / 2
            height = float(scorer.scores(torch.lerp(start, scorer.base, end))[0])
            parts = [p for p in parts if p is not worst]
            parts += [part(worst.first, (end, height)), part((end, height), worst.last)]
            used += 2 * PART_STEPS
    values = torch.stack([p.values for p in parts]).sum(0)
    delta = float(values.sum(dtype=torch.float64)) - difference
    return Attribution(values, {"difference": difference, "delta": delta, "gradients": float(used)})


class _Part(NamedTuple):
    """Attributions between two points, and how far their sum is from the change of the score."""

    gap: float
    first: tuple[float, float]
    last: tuple[float, float]
    values: torch.Tensor


def _integrate(
    scorer: Scorer, start: torch.Tensor, end: torch.Tensor, over: str, steps: int
) -> torch.Tensor:
    options = {"n_steps": steps, "method": "gausslegendre", "internal_batch_size": steps}
    if over == "pixels":
        return IntegratedGradients(scorer).attribute(end, baselines=start, **options)
    layer = scorer.model.pixel_layer

    def from_patches(patches: torch.Tensor) -> torch.Tensor:
        with layer.register_forward_hook(lambda *_: patches):
            return scorer(end.expand(len(patches), -1, -1, -1))

    # captum's own way through a layer runs all of the model to know both ends of the line
    weight = next(layer.parameters())
    ends = [layer(pixels.to(weight)) for pixels in (end, start)]
    found = IntegratedGradients(from_patches).attribute(ends[0], baselines=ends[1], **options)
    return found[0].sum(0).detach().float().cpu()


def grad_cam(scorer: Scorer, grid: tuple[int, int]) -> Attribution:
    """Return Grad-CAM of the last vision block: channels weighted by their mean gradient, >= 0."""
    if scorer.view is not None:
        return _token_cam(scorer, grid)
    tower = scorer.model.vision
    with scorer.frozen():
        scorer.forwards += 1
        hidden = tower(scorer.base.clone().requires_grad_(), output_hidden_states=True)
        patches = hidden.hidden_states[-1][:, 1:].transpose(1, 2).unflatten(2, grid)
        tokens = cast("nn.LayerNorm", tower.ln_post)(patches.flatten(2).transpose(1, 2))
        (gradient,) = torch.autograd.grad(scorer.from_tokens(tokens).sum(), patches)
    weighted = gradient.mean((2, 3), keepdim=True) * patches
    return Attribution(weighted.sum(1)[0].relu().detach().float().cpu())


def _token_cam(scorer: Scorer, grid: tuple[int, int]) -> Attribution:
    """Return Grad-CAM of the image tokens that enter the language model."""
    seen: list[torch.Tensor] = []

    def keep(module, args, options):
        embeds = options["inputs_embeds"].detach().requires_grad_()
        seen.append(embeds)
        return args, {**options, "inputs_embeds": embeds}

    hook = scorer.model.decoder.register_forward_pre_hook(keep, with_kwargs=True)
    with hook, scorer.frozen(), torch.enable_grad():
        gradients = torch.autograd.grad(scorer(scorer.base).sum(), seen)
    values = torch.zeros(len(scorer.tokens.image))
    for embeds, gradient in zip(seen, gradients, strict=True):
        inside, moved = (part[0, scorer.tokens.image].float() for part in (embeds, gradient))
        values += (moved.mean(0) * inside).sum(-1).detach().cpu()
    cells = scorer.tokens.to_cells(values.relu()).reshape(grid)
    return Attribution(cells, layer="image tokens")


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
    """Return R (T, T) after all layers, from the A_bar (T, T) of each, first to last.

    Row t says what position t of the output owes to each input position.
    """
    length = layers[0].shape[-1]
    relevancy = torch.eye(length, dtype=layers[0].dtype, device=layers[0].device)
    for layer in layers:
        relevancy = relevancy + layer @ relevancy
    return relevancy


def relevancy(scorer: Scorer, grid: tuple[int, int]) -> Attribution:
    """Return the relevancy of every patch for the target."""
    watcher = _DifferentiableRows()
    pixels = scorer.base.clone().requires_grad_()
    with torch.enable_grad(), scorer.frozen(), watch_attention(scorer.model, watcher):
        # beside a view, rows of a contrast would be those of another sequence
        view, phrase = scorer.view, scorer.target.tokens
        score = (scorer(pixels) if view is None else scorer.said(view, pixels, phrase)).sum()
        keys = sorted(key for key in watcher.rows if view is None or key[0] == "language")
        gradients = torch.autograd.grad(score, [watcher.rows[key] for key in keys])
    weighted: dict[str, list[torch.Tensor]] = {"language": [], "vision": []}
    for key, gradient in zip(keys, gradients, strict=True):
        product = (gradient * watcher.rows[key].detach()).clamp_min(0)
        weighted[key[0]].append(product[0].mean(0).float().cpu())
    rows = carry(weighted["language"])[list(scorer.queries)]
    image = scorer.tokens.to_cells(rows[:, scorer.tokens.image].sum(0))
    if scorer.view is not None:  # the tower's own stack is no one stack over patches
        return Attribution(image.reshape(grid), layer="all layers of the language model")
    image = (torch.cat([image.new_zeros(1), image]) @ carry(weighted["vision"]))[1:]
    return Attribution(image.reshape(grid))
