"""Decoding settings, how users give them, and how many new tokens fit behind a prompt.

Prompt ids, image tokens and new tokens together must fit the language model's own context
(`llama.max_position_embeddings`). Deviation: the published code allows min(512, M - ids - 1) new
tokens, counts an image as one id and takes M from the top level of config.json, else 2048.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import repeat
from typing import Any, TypedDict

from workbench.errors import CheckpointError, ContextBudgetError, OptionError, check_whole

#: At or below this temperature the published pipeline decodes greedily.
GREEDY_TEMPERATURE = 0.001

#: New tokens at most, when neither the caller nor the context says otherwise.
DEFAULT_NEW_TOKENS = 512

#: M of the published rule where config.json has no top-level `max_position_embeddings`.
PUBLISHED_CONTEXT = 2048


@dataclass(frozen=True)
class DecodingSettings:
    """How tokens are chosen and when to stop.

    The default is greedy, so that the same image gives the same report. The published model was
    used with temperature 0.2 and top_p 0.8: `DecodingSettings.published()`.

    Attributes:
        temperature: divides the logits before sampling; greedy at or below 0.001.
        top_p: keep the smallest set of tokens with this probability, in (0, 1]; 1 keeps all.
        top_k: keep this many of the likeliest tokens; 0 keeps all. The published pipeline applies
            50 without saying so.
        max_new_tokens: stop after this many tokens, the end token included. None: 512, or what
            the context leaves if that is less. In a `Generation` it is the number that was used.
        seed: makes sampling repeatable. None draws one, which the `Generation` records.
        do_sample: False is greedy at any temperature; True insists on sampling; None lets the
            temperature decide.

    Raises:
        OptionError: a value is out of its range.

    >>> wb.DecodingSettings.published()
    DecodingSettings(temperature=0.2, top_p=0.8, top_k=50, ...)
    """

    temperature: float = 0.0
    top_p: float = 0.8
    top_k: int = 50
    max_new_tokens: int | None = None
    seed: int | None = None
    do_sample: bool | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise OptionError(
                f"temperature must be 0 (greedy) or above, got {self.temperature}; "
                "the published setting is 0.2"
            )
        if not 0.0 < self.top_p <= 1.0:
            raise OptionError(f"top_p must be above 0 and at most 1, got {self.top_p}; 1 keeps all")
        check_whole(0, top_k=self.top_k)
        for name, least in (("max_new_tokens", 1), ("seed", 0)):
            if getattr(self, name) is not None:
                check_whole(least, **{name: getattr(self, name)})
        if self.do_sample and self.temperature <= GREEDY_TEMPERATURE:
            raise OptionError(
                f"do_sample=True needs a temperature above {GREEDY_TEMPERATURE}, got "
                f"{self.temperature}; give temperature=0.2, or leave do_sample out"
            )

    @classmethod
    def published(cls, **changes: Any) -> DecodingSettings:
        """Return the settings of the published model: temperature 0.2, top_p 0.8, top_k 50."""
        return cls(**{"temperature": 0.2, "top_p": 0.8, "top_k": 50, **changes})

    @property
    def greedy(self) -> bool:
        """True when the likeliest token is taken at every step."""
        return self.do_sample is False or self.temperature <= GREEDY_TEMPERATURE

    @property
    def limit(self) -> int:
        """New tokens at most."""
        return self.max_new_tokens or DEFAULT_NEW_TOKENS

    def with_seed(self) -> DecodingSettings:
        """Return these settings with a seed: the given one, or a fresh one if sampling needs it."""
        if self.greedy or self.seed is not None:
            return self
        return replace(self, seed=secrets.randbits(31))

    def to_dict(self) -> dict:
        """Return the settings as plain values for JSON."""
        return asdict(self)


_NAMES = tuple(field.name for field in fields(DecodingSettings))


class DecodingOptions(TypedDict, total=False):
    """Keyword options of every method that writes text; see `DecodingSettings` for their meaning.

    `settings` takes a `DecodingSettings` instead of single options.
    """

    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int | None
    seed: int | Sequence[int] | None  #: one for each of several images, or one for all
    do_sample: bool | None
    settings: DecodingSettings


def decoding_settings(options: Mapping[str, Any]) -> DecodingSettings:
    """Make decoding settings of keyword options; else an OptionError."""
    options = dict(options)
    settings = options.pop("settings", None)
    unknown = sorted(set(options) - set(_NAMES))
    if unknown:
        raise OptionError(
            f"unknown decoding option {unknown[0]!r}; expected one of {', '.join(_NAMES)}"
        )
    if settings is None:
        return DecodingSettings(**options)
    if options:
        raise OptionError(
            f"give either settings or single options, got settings and {', '.join(options)}"
        )
    if not isinstance(settings, DecodingSettings):
        raise OptionError(f"settings must be DecodingSettings, got {type(settings).__name__}")
    return settings


def settings_of_each(options: Mapping[str, Any], count: int | None) -> Iterator[DecodingSettings]:
    """Return the settings of every item of a batch, endlessly where their number is None.

    `seed` may be a list with one for each item; an OptionError where they are not as many.
    """
    seed = options.get("seed")
    if not isinstance(seed, (list, tuple)):
        one = decoding_settings(options)
        return repeat(one) if count is None else repeat(one, count)
    if count is None:
        raise OptionError("a list of seeds needs a list of images, got something without a length")
    if len(seed) != count:
        raise OptionError(f"expected one seed for each of {count} items, got {len(seed)} seeds")
    return iter([decoding_settings({**options, "seed": one}) for one in seed])


def end_ids(generation: Mapping[str, Any]) -> list[int]:
    """Return the ids that end a text, from the fields of generation_config.json."""
    given = generation.get("eos_token_id")
    ends = given if isinstance(given, list) else [] if given is None else [given]
    if not all(isinstance(end, int) and not isinstance(end, bool) for end in ends):
        raise CheckpointError(
            "eos_token_id in generation_config.json must be a token id or a list of them, got "
            f"{given!r}; correct it, or leave the file out"
        )
    return ends


@dataclass(frozen=True)
class ContextBudget:
    """What a model's context allows; `published_context` is M of the published rule."""

    context: int
    image_tokens: int
    published_context: int = PUBLISHED_CONTEXT

    def positions(self, ids: int) -> int:
        """Return the positions of a prompt of `ids` ids, one of them an image's placeholder."""
        return ids - 1 + self.image_tokens

    def published_limit(self, ids: int) -> int:
        """Return the published rule's limit on new tokens; it may be 0 or less."""
        return min(DEFAULT_NEW_TOKENS, self.published_context - ids - 1)

    def resolve(self, settings: DecodingSettings, ids: int) -> DecodingSettings:
        """Return the settings with the number of new tokens that will be used behind so many ids.

        Raises:
            ContextBudgetError: the prompt does not fit, or leaves less than was asked for.
        """
        used = self.positions(ids)
        room = self.context - used
        wanted = settings.max_new_tokens or max(1, min(DEFAULT_NEW_TOKENS, room))
        if wanted <= room:
            return replace(settings, max_new_tokens=wanted)
        repair = f"ask for max_new_tokens={room} or less, or shorten the dialogue"
        if room < 1:
            repair = f"start a new chat, or make the question {1 - room} tokens shorter"
        raise ContextBudgetError(
            f"{ids - 1} prompt tokens + {self.image_tokens} image tokens + {wanted} new tokens = "
            f"{used + wanted}, but the model's context is {self.context}: {wanted - room} too "
            f"many; {repair}"
        )
