"""Decoding settings, and the choice of one token from one row of logits.

Greedy decoding takes the largest logit. Sampling scales by temperature, keeps the `top_k` largest,
then keeps the smallest set that holds `top_p` of the probability (Holtzman et al., The Curious Case
of Neural Text Degeneration, ICLR 2020, arXiv 1904.09751), in this order, as the published pipeline
does; the three steps are those of `transformers`. A request draws one number in [0, 1) per token
from its own generator, on the CPU whatever the model's device, and inverts the cumulative
distribution. So a seed gives the same text alone, in a batch and on another device, except where
rounding moves a boundary across the number drawn.

Does not know: models, tokenizers, how many tokens fit (`budget`).
"""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace

import torch
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from workbench.errors import OptionError

#: At or below this temperature the published pipeline decodes greedily.
GREEDY_TEMPERATURE = 0.001

#: New tokens at most, when neither the caller nor the context says otherwise.
DEFAULT_NEW_TOKENS = 512

#: How the limit on new tokens is found; see `workbench.generation.budget`.
LIMIT_RULES = ("context", "published")


@dataclass(frozen=True)
class DecodingSettings:
    """How tokens are chosen and when to stop.

    The default is greedy, so that the same image gives the same report. The published model was
    used with temperature 0.2 and top_p 0.8: `DecodingSettings.published()`.

    Attributes:
        temperature: divides the logits before sampling; greedy at or below 0.001.
        top_p: keep the smallest set of tokens that holds this probability, in (0, 1]; 1 keeps all.
        top_k: keep this many of the likeliest tokens; 0 keeps all. The published pipeline applies
            50 without saying so.
        max_new_tokens: stop after this many tokens, the end token included. None: 512, or what
            the context leaves if that is less. In a `Generation` it is the number that was used.
        seed: makes sampling repeatable. None draws one, which the `Generation` records.
        do_sample: False is greedy at any temperature; True insists on sampling; None lets the
            temperature decide.
        limit_rule: "context" counts image tokens against the language model's own context;
            "published" is min(512, M - ids - 1) with an image counted as one id.

    Raises:
        OptionError: a value is out of its range.
    """

    temperature: float = 0.0
    top_p: float = 0.8
    top_k: int = 50
    max_new_tokens: int | None = None
    seed: int | None = None
    do_sample: bool | None = None
    limit_rule: str = "context"

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise OptionError(
                f"temperature must be 0 (greedy) or above, got {self.temperature}; "
                "the published setting is 0.2"
            )
        if not 0.0 < self.top_p <= 1.0:
            raise OptionError(f"top_p must be above 0 and at most 1, got {self.top_p}; 1 keeps all")
        for name, least in (("top_k", 0), ("max_new_tokens", 1), ("seed", 0)):
            self._check_whole(name, least)
        if self.do_sample and self.temperature <= GREEDY_TEMPERATURE:
            raise OptionError(
                f"do_sample=True needs a temperature above {GREEDY_TEMPERATURE}, got "
                f"{self.temperature}; give temperature=0.2, or leave do_sample out"
            )
        if self.limit_rule not in LIMIT_RULES:
            raise OptionError(
                f"limit_rule must be one of {', '.join(LIMIT_RULES)}, got {self.limit_rule!r}"
            )

    def _check_whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is None and name != "top_k":
            return
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise OptionError(f"{name} must be a whole number of at least {least}, got {value!r}")

    @classmethod
    def published(cls, **changes) -> DecodingSettings:
        """Return the settings of the published model: temperature 0.2, top_p 0.8, top_k 50."""
        return cls(**{"temperature": 0.2, "top_p": 0.8, "top_k": 50, **changes})

    @property
    def greedy(self) -> bool:
        """True when the likeliest token is taken at every step."""
        return self.do_sample is False or self.temperature <= GREEDY_TEMPERATURE

    def with_seed(self) -> DecodingSettings:
        """Return these settings with a seed: the given one, or a fresh one if sampling needs it."""
        if self.greedy or self.seed is not None:
            return self
        return replace(self, seed=secrets.randbits(31))

    def to_dict(self) -> dict:
        """Return the settings as plain values for JSON."""
        return asdict(self)


def sample_probabilities(logits: torch.Tensor, settings: DecodingSettings) -> torch.Tensor:
    """Return the distribution that a token is drawn from.

    Args:
        logits: (R, V) raw logits.
        settings: temperature, top_k and top_p; the temperature must not be greedy.

    Returns:
        (R, V) float32, rows sum to 1; 0 for tokens that were cut off.
    """
    steps = LogitsProcessorList([TemperatureLogitsWarper(float(settings.temperature))])
    if settings.top_k:
        steps.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1.0:
        steps.append(TopPLogitsWarper(settings.top_p))
    no_ids = torch.empty((logits.shape[0], 0), dtype=torch.long, device=logits.device)
    return torch.softmax(steps(no_ids, logits.float()), dim=-1)


class Sampler:
    """The choices of one request: its settings and its own stream of random numbers.

    Args:
        settings: how to choose; sampling needs a seed (`DecodingSettings.with_seed`).
    """

    def __init__(self, settings: DecodingSettings) -> None:
        self.settings = settings
        self.generator = torch.Generator(device="cpu")
        if not settings.greedy:
            self.generator.manual_seed(settings.with_seed().seed)

    def uniform(self) -> float:
        """Draw the next number in [0, 1)."""
        return float(torch.rand((), generator=self.generator, dtype=torch.float64))


def choose(logits: torch.Tensor, samplers: list[Sampler]) -> torch.Tensor:
    """Choose the next token of every row.

    Args:
        logits: (R, V) float32 raw logits.
        samplers: one per row.

    Returns:
        (R,) int64 token ids on the device of the logits.
    """
    tokens = logits.argmax(dim=-1)
    rows = [row for row, sampler in enumerate(samplers) if not sampler.settings.greedy]
    groups: dict[tuple, list[int]] = {}
    for row in rows:
        settings = samplers[row].settings
        groups.setdefault((settings.temperature, settings.top_k, settings.top_p), []).append(row)
    for members in groups.values():
        probabilities = sample_probabilities(logits[members], samplers[members[0]].settings)
        drawn = [samplers[row].uniform() for row in members]
        tokens[members] = _invert(probabilities, drawn).to(tokens.device)
    return tokens


def _invert(probabilities: torch.Tensor, drawn: list[float]) -> torch.Tensor:
    """Return the token at which the cumulative distribution passes each number drawn.

    In float64, hence on the CPU: Apple GPUs have none.
    """
    cumulative = probabilities.cpu().cumsum(dim=-1, dtype=torch.float64)
    goal = torch.tensor(drawn, dtype=torch.float64)[:, None] * cumulative[:, -1:]
    # right=True: the first token whose cumulative probability exceeds the goal, so a token of
    # probability 0 is never taken.
    return torch.searchsorted(cumulative, goal, right=True)[:, 0]
