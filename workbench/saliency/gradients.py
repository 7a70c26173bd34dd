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

MLPs, norms and values are ignored by design. R is never whole: rows of the phrase are carried from
the last layer to the first, and dS/dA and A exist for one head at a time. Adapted to a decoder that
reads image tokens in its own sequence, which the paper does not have:
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
    with scorer.frozen(), torch.enable_grad(), _entering(scorer) as seen:
        gradients = torch.autograd.grad(scorer(scorer.base).sum(), seen)
    values = torch.zeros(len(scorer.tokens.image))
    for embeds, gradient in zip(seen, gradients, strict=True):
        inside, moved = (part[0, scorer.tokens.image].float() for part in (embeds, gradient))
        values += (moved.mean(0) * inside).sum(-1).detach().cpu()
    cells = scorer.tokens.to_cells(values.relu()).reshape(grid)
    return Attribution(cells, layer="image tokens")


@contextmanager
def _entering(scorer: Scorer) -> Iterator[list[torch.Tensor]]:
    """Collect what enters the language model, where gradients then begin and end."""
    seen: list[torch.Tensor] = []

    def keep(module, args, options):
        embeds = options["inputs_embeds"].detach().requires_grad_()
        seen.append(embeds)
        return args, {**options, "inputs_embeds": embeds}

    with scorer.model.decoder.register_forward_pre_hook(keep, with_kwargs=True):
        yield seen


class _WeightedRows:
    """A watcher that keeps A_bar (T, T) of each layer, float32 on the CPU, from a backward pass.

    Rows exist for one key head of one layer at a time, on the way back.
    """

    def __init__(self) -> None:
        self.layers: dict[tuple[str, int], torch.Tensor] = {}

    def __call__(self, call: Call) -> torch.Tensor | None:
        """Return the layer's own output (B, Q, heads, D); None where no gradient passes."""
        if not call.query.requires_grad:
            return None
        parts = call.query, call.key, call.value
        return cast("torch.Tensor", _Attend.apply(*parts, call, self._keep))

    def _keep(self, call: Call, weighted: torch.Tensor) -> None:
        self.layers[call.tower, call.layer] = weighted.cpu()


class _Attend(torch.autograd.Function):
    """Attention as the model computes it, whose backward pass computes the rows again."""

    @staticmethod
    def forward(ctx, query, key, value, call: Call, keep) -> torch.Tensor:
        """Return the layer's own output; `keep` gets A_bar of the first image on the way back."""
        ctx.save_for_backward(query, key, value)
        # without what the call holds: checkpointed layers are to let go of it
        nothing = torch.empty(0)
        ctx.call = replace(call, query=nothing, key=nothing, value=nothing, usual=torch.Tensor)
        ctx.keep = keep
        return call.usual()

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        """Return the gradients of query, key and value, from one key head at a time."""
        query, key, value = ctx.saved_tensors
        call = replace(ctx.call, query=query, key=key, value=value)
        found = [torch.empty_like(part) for part in (query, key, value)]
        groups = query.shape[1] // key.shape[1]
        weighted = query.new_zeros(query.shape[2], key.shape[2], dtype=torch.float32)
        for number in range(key.shape[1]):
            one, own = slice(number, number + 1), slice(number * groups, (number + 1) * groups)
            arrived = gradient[:, :, own].transpose(1, 2).float()
            parts = query[:, own], key[:, one]
            with torch.enable_grad():
                inputs = [part.detach().requires_grad_() for part in parts]
                rows = attention_rows(_of_heads(call, own, *inputs))
            moved = arrived @ value[:, one].float().transpose(-1, -2)
            weighted += (moved[0] * rows[0].detach()).clamp_min(0).sum(0)
            found[0][:, own], found[1][:, one] = torch.autograd.grad(rows, inputs, moved)
            found[2][:, one] = (rows.detach().transpose(-1, -2) @ arrived).sum(1, keepdim=True)
        ctx.keep(call, weighted / query.shape[1])
        return *found, None, None


def _of_heads(call: Call, own: slice, query: torch.Tensor, key: torch.Tensor) -> Call:
    """Return a call of some heads alone."""
    mask = call.mask
    if mask is not None and mask.dim() == 4 and mask.shape[1] > 1:
        mask = mask[:, own]
    return replace(call, query=query, key=key, mask=mask)


def carry(rows: torch.Tensor, layers: list[torch.Tensor]) -> torch.Tensor:
    """Return rows (n, T) of R after all layers, from the A_bar (T, T) of each, first to last.

    Rows of the identity give R itself, whose row t says what position t of the output owes to each
    input position.
    """
    for layer in reversed(layers):
        rows = rows + rows @ layer
    return rows


def relevancy(scorer: Scorer, grid: tuple[int, int]) -> Attribution:
    """Return the relevancy of every patch for the target."""
    view, phrase, watcher = scorer.view, scorer.target.tokens, _WeightedRows()
    with torch.enable_grad(), scorer.frozen(), watch_attention(scorer.model, watcher):
        if view is None:
            pixels = [scorer.base.clone().requires_grad_()]
            torch.autograd.grad(scorer(*pixels).sum(), pixels)
        else:  # beside a view, rows of a contrast would be those of another sequence
            with _entering(scorer) as seen:
                score = scorer.said(view, scorer.base, phrase).sum()
                torch.autograd.grad(score, seen)
    towers: dict[str, list[torch.Tensor]] = {"language": [], "vision": []}
    for key in sorted(watcher.layers):
        towers[key[0]].append(watcher.layers[key])
    queries = torch.zeros(1, len(towers["language"][0]))
    queries[0, list(scorer.queries)] = 1
    rows = carry(queries, towers["language"])[0]
    image = scorer.tokens.to_cells(rows[scorer.tokens.image])
    if view is not None:  # the tower's own stack is no one stack over patches
        return Attribution(image.reshape(grid), layer="all layers of the language model")
    seen = carry(torch.cat([image.new_zeros(1), image])[None], towers["vision"])
    return Attribution(seen[0, 1:].reshape(grid))
