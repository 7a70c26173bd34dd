"""The context budget: what fits, what is lowered, and by how much a dialogue is too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ContextBudgetError
from workbench.generation.options import ContextBudget, DecodingSettings

#: The published model: LLaMA-2 behind a 512 x 512 image of 16 x 16 patches.
FULL_SIZE = ContextBudget(context=4096, image_tokens=1024)
SMALL = ContextBudget(context=97, image_tokens=19)


def test_image_tokens_count_in_full():
    assert FULL_SIZE.positions(188) == 187 + 1024


def test_default_is_512_where_it_fits():
    assert FULL_SIZE.resolve(DecodingSettings(), 188).max_new_tokens == 512


def test_default_is_lowered_to_what_is_left():
    assert SMALL.resolve(DecodingSettings(), 31).max_new_tokens == 97 - 30 - 19
    assert SMALL.resolve(DecodingSettings(), 78).max_new_tokens == 1


@given(st.integers(2, 200), st.one_of(st.none(), st.integers(1, 200)))
def test_whatever_is_allowed_fits_and_whatever_fits_is_allowed(ids, wanted):
    settings = DecodingSettings(max_new_tokens=wanted)
    room = 97 - 19 - (ids - 1)
    if room < (wanted or 1):
        with pytest.raises(ContextBudgetError):
            SMALL.resolve(settings, ids)
    else:
        new = SMALL.resolve(settings, ids).max_new_tokens
        assert 1 <= new <= room
        assert wanted is None or new == wanted


def test_too_many_new_tokens_says_by_how_much_and_what_to_do():
    message = (
        r"30 prompt tokens \+ 19 image tokens \+ 50 new tokens = 99, but the model's context is "
        r"97: 2 too many; ask for max_new_tokens=48 or less"
    )
    with pytest.raises(ContextBudgetError, match=message):
        SMALL.resolve(DecodingSettings(max_new_tokens=50), 31)


def test_too_long_a_dialogue_says_how_much_shorter_it_must_be():
    message = r"100 prompt tokens .* 23 too many; .* 23 tokens shorter"
    with pytest.raises(ContextBudgetError, match=message):
        SMALL.resolve(DecodingSettings(), 101)


def test_advice_is_enough_and_not_more_than_enough():
    with pytest.raises(ContextBudgetError, match="23 tokens shorter"):
        SMALL.resolve(DecodingSettings(), 101)
    assert SMALL.resolve(DecodingSettings(), 101 - 23).max_new_tokens == 1


@pytest.mark.parametrize("image", ["grad_300x400", "noise_64x64"])
def test_published_rule_gives_the_recorded_limits(lab, name, responder, image):
    for case in lab.recorded(name, image).cases.values():
        limit = responder.budget.published_limit(len(case["input_ids"]))
        assert limit == case["reference_own_max_new_tokens"]
        assert responder.budget.positions(len(case["input_ids"])) == case["expanded_len"]


def test_published_rule_counts_the_image_as_one_id():
    assert FULL_SIZE.published_limit(188) == 512
    assert FULL_SIZE.published_limit(1600) == 2048 - 1600 - 1
