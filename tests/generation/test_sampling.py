"""Decoding settings, the sampling distribution, and the draw from it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import OptionError
from workbench.generation.options import DecodingSettings
from workbench.generation.sampling import Sampler, choose, sample_probabilities


def sampled(**options) -> DecodingSettings:
    return DecodingSettings(**{"temperature": 1.0, "top_p": 1.0, "top_k": 0, "seed": 0, **options})


def log(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities]).log()


@pytest.mark.parametrize("image", ["grad_300x400", "noise_64x64"])
@pytest.mark.parametrize(
    ("temperature", "top_p"), [("0.2", "0.8"), ("1.0", "0.8"), ("2.0", "0.95")]
)
def test_distribution_is_the_recorded_one(lab, name, image, temperature, top_p):
    arrays = lab.recorded(name, image).arrays
    logits = torch.from_numpy(arrays["report__logits_last"])[None]
    found = sample_probabilities(
        logits, DecodingSettings(temperature=float(temperature), top_p=float(top_p))
    )
    wanted = arrays[f"report__sample_probs__T{temperature}_P{top_p}"]
    np.testing.assert_allclose(found[0].numpy(), wanted, atol=1e-3)
    assert set(np.flatnonzero(found[0].numpy())) == set(np.flatnonzero(wanted))


def test_temperature_comes_first_then_top_k_then_top_p():
    # At temperature 0.5 the probabilities are squared: 16, 9, 4, 1 of 30. The best three are
    # 16, 9, 4 of 29; the two best of them hold 0.86 and are the fewest that reach 0.6.
    # With top-p before top-k, or temperature last, other sets or other weights would come out.
    logits = log(0.4, 0.3, 0.2, 0.1)
    found = sample_probabilities(logits, sampled(temperature=0.5, top_k=3, top_p=0.6))
    np.testing.assert_allclose(found[0], [16 / 25, 9 / 25, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, [0.4, 0.3, 0.2, 0.1]),
        ({"top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.65}, [4 / 7, 3 / 7, 0, 0]),
        ({"top_p": 0.01}, [1, 0, 0, 0]),
        ({"top_k": 50}, [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_each_cut_alone(options, wanted):
    found = sample_probabilities(log(0.4, 0.3, 0.2, 0.1), sampled(**options))
    np.testing.assert_allclose(found[0], wanted, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-8, 8), min_size=3, max_size=17),
    st.floats(0.05, 3),
    st.floats(0.05, 1),
    st.integers(0, 20),
)
def test_distribution_is_one_and_keeps_the_best(values, temperature, top_p, top_k):
    logits = torch.tensor([values])
    options = sampled(temperature=temperature, top_p=top_p, top_k=top_k)
    found = sample_probabilities(logits, options)[0]
    assert found.sum().item() == pytest.approx(1, abs=1e-5)
    assert found[logits[0] == logits.max()].max() > 0
    if top_k:
        kept = logits[0] >= logits[0].topk(min(top_k, len(values))).values[-1]
        assert not found[~kept].any()


def test_draws_follow_the_distribution():
    wanted = np.array([0.5, 0.0, 0.3, 0.2])
    sampler = Sampler(sampled(seed=11))
    logits = torch.from_numpy(wanted).float().log()[None]
    drawn = [int(choose(logits, [sampler])) for _ in range(2000)]
    counts = np.bincount(drawn, minlength=4) / len(drawn)
    assert counts[1] == 0
    np.testing.assert_allclose(counts, wanted, atol=0.04)


def test_seed_repeats_the_draws_and_another_seed_does_not():
    logits = torch.zeros(1, 97)

    def draws(seed):
        sampler = Sampler(sampled(seed=seed))
        return [int(choose(logits, [sampler])) for _ in range(20)]

    assert draws(3) == draws(3)
    assert draws(3) != draws(4)


def test_rows_draw_from_their_own_streams():
    logits = torch.randn(3, 41, generator=torch.Generator().manual_seed(0))
    options = [sampled(seed=1), DecodingSettings(), sampled(seed=2, temperature=2.0)]
    together = choose(logits, [Sampler(one) for one in options]).tolist()
    alone = [int(choose(logits[i : i + 1], [Sampler(one)])) for i, one in enumerate(options)]
    assert together == alone
    assert together[1] == int(logits[1].argmax())


def test_default_is_greedy_and_published_samples():
    assert DecodingSettings().greedy
    published = DecodingSettings.published()
    assert (published.temperature, published.top_p, published.top_k) == (0.2, 0.8, 50)
    assert not published.greedy
    assert DecodingSettings(temperature=0.2, do_sample=False).greedy
    assert DecodingSettings(temperature=0.001).greedy
    assert not DecodingSettings(temperature=0.0011).greedy


def test_sampling_without_a_seed_gets_one_and_greedy_does_not():
    given_one, other = (DecodingSettings(temperature=0.2).with_seed().seed for _ in range(2))
    assert isinstance(given_one, int)
    assert given_one != other
    assert DecodingSettings().with_seed().seed is None
    assert DecodingSettings(temperature=0.2, seed=5).with_seed().seed == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0"),
        ({"temperature": float("nan")}, "temperature must be 0"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"top_p": 1.1}, "top_p must be above 0"),
        ({"top_k": -1}, "top_k must be a whole number of 0 or more"),
        ({"top_k": 2.5}, "top_k must be a whole number"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of 1 or more"),
        ({"max_new_tokens": True}, "max_new_tokens must be a whole number"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": "7"}, "seed must be a whole number"),
        ({"do_sample": True}, "do_sample=True needs a temperature above"),
    ],
)
def test_values_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        DecodingSettings(**options)
