"""The choice of one token from one row of logits.

Greedy decoding takes the largest logit. Sampling scales by temperature, keeps the `top_k` largest,
then keeps the smallest set with `top_p` of the probability (Holtzman et al., The Curious Case
of Neural Text Degeneration, ICLR 2020, arXiv 1904.09751), in this order, as the published pipeline
does; the three steps are those of `transformers`. A request draws one number in [0, 1) per token
from its own generator, on the CPU whatever the model's device, and inverts the cumulative
distribution. So a seed gives the same text alone, in a batch and on another device, except where
rounding moves a boundary across the number drawn.
"""

from __future__ import annotations

from typing import cast

import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from workbench.generation.options import DecodingSettings


def sample_probabilities(logits: torch.Tensor, settings: DecodingSettings) -> torch.Tensor:
    """Return the distribution that a token is drawn from, (R, V), 0 for tokens cut off.

    `logits` are raw, (R, V); the temperature must not be greedy.
    """
    steps = LogitsProcessorList([TemperatureLogitsWarper(float(settings.temperature))])
    if settings.top_k:
        steps.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1.0:
        steps.append(TopPLogitsWarper(settings.top_p))
    no_ids = torch.empty((logits.shape[0], 0), dtype=torch.long, device=logits.device)
    no_ids = cast("torch.LongTensor", no_ids)
    return torch.softmax(steps(no_ids, logits.float()), dim=-1)


class Sampler:
    """The choices of one request: its settings, and its own random numbers where it samples.

    `made` are the tokens so far.
    """

    def __init__(self, settings: DecodingSettings) -> None:
        self.settings = settings
        self.made = 0
        self.generator = torch.Generator(device="cpu")
        if settings.seed is not None:
            self.generator.manual_seed(settings.seed)


def choose(logits: torch.Tensor, samplers: list[Sampler]) -> torch.Tensor:
    """Choose the next token (R,) of every row of (R, V) raw logits, with one sampler for each."""
    tokens = logits.argmax(dim=-1)
    groups: dict[tuple, list[int]] = {}
    for row, settings in enumerate(sampler.settings for sampler in samplers):
        cuts = settings.temperature, settings.top_k, settings.top_p
        if not settings.greedy:
            groups.setdefault(cuts, []).append(row)
    for members in groups.values():
        probabilities = sample_probabilities(logits[members], samplers[members[0]].settings)
        drawn = [
            torch.rand(1, generator=samplers[row].generator, dtype=torch.float64) for row in members
        ]
        tokens[members] = _invert(probabilities, torch.stack(drawn)).to(tokens.device)
    return tokens


def _invert(probabilities: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    """Return the token at which the cumulative distribution passes each number drawn, (R, 1).

    In float64, hence on the CPU: Apple GPUs have none.
    """
    cumulative = probabilities.cpu().cumsum(dim=-1, dtype=torch.float64)
    goal = drawn * cumulative[:, -1:]
    # right=True: the first token whose cumulative probability exceeds the goal, so a token of
    # probability 0 is never taken.
    return torch.searchsorted(cumulative, goal, right=True)[:, 0]
