"""Decoding options as keywords, as settings, and one by one for a batch."""

from itertools import islice

import pytest

from workbench.errors import OptionError
from workbench.generation.options import (
    DecodingOptions,
    DecodingSettings,
    decoding_settings,
    settings_of_each,
)


def test_every_field_of_the_settings_is_an_option():
    assert set(DecodingOptions.__annotations__) == {
        *DecodingSettings.__dataclass_fields__,
        "settings",
    }


def test_keywords_and_settings_mean_the_same():
    settings = DecodingSettings(temperature=0.3, seed=4)
    assert decoding_settings({"temperature": 0.3, "seed": 4}) == settings
    assert decoding_settings({"settings": settings}) is settings
    assert decoding_settings({}) == DecodingSettings()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 1.0}, "unknown decoding option 'temprature'; expected one of temperature"),
        ({"settings": DecodingSettings(), "seed": 1}, "either settings or single options"),
        ({"settings": {"seed": 1}}, "settings must be DecodingSettings, got dict"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        decoding_settings(options)


def test_one_seed_serves_all_items_and_a_list_one_each():
    same = list(settings_of_each({"temperature": 1.0, "seed": 3}, 2))
    assert [one.seed for one in same] == [3, 3]
    each = list(settings_of_each({"temperature": 1.0, "seed": [3, 5]}, 2))
    assert [one.seed for one in each] == [3, 5]
    endless = islice(settings_of_each({"seed": 3}, None), 5)
    assert [one.seed for one in endless] == [3] * 5


@pytest.mark.parametrize(
    ("seeds", "count", "message"),
    [([1, 2], 3, "one seed for each of 3 items, got 2"), ([1], None, "without a length")],
)
def test_seeds_must_be_as_many_as_the_items(seeds, count, message):
    with pytest.raises(OptionError, match=message):
        settings_of_each({"temperature": 1.0, "seed": seeds}, count)


def test_mistakes_show_before_the_first_item():
    with pytest.raises(OptionError, match="unknown decoding option"):
        settings_of_each({"top": 1}, None)
