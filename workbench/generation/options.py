"""Decoding options as users give them: keywords, a settings object, one seed or many.

Does not know: what the options do (`sampling`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import repeat
from typing import Any, TypedDict

from workbench.errors import OptionError
from workbench.generation.sampling import DecodingSettings

_NAMES = tuple(field.name for field in fields(DecodingSettings))


class DecodingOptions(TypedDict, total=False):
    """Keyword options of every method that writes text; see `DecodingSettings` for their meaning.

    Greedy by default; `temperature=0.2, top_p=0.8` are the published settings for sampling.
    `settings` takes a `DecodingSettings` instead of single options.
    """

    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int | None
    seed: int | None
    do_sample: bool | None
    limit_rule: str
    settings: DecodingSettings


def decoding_settings(options: Mapping[str, Any]) -> DecodingSettings:
    """Make decoding settings from keyword options.

    Raises:
        OptionError: an option is unknown, out of its range, or stands beside `settings`.
    """
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
    """Return the settings of every item of a batch, endlessly where their number is not known.

    Args:
        options: as for `decoding_settings`, but `seed` may be a list with one seed for each item.
        count: number of items, or None.

    Raises:
        OptionError: see `decoding_settings`; or the seeds are not as many as the items.
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
