"""The scorer gives the numbers that a trace and the engine give, and leaves the model as it was."""

from __future__ import annotations

import pytest
import torch

from tests.helpers import logprob
from workbench.errors import DeviceError
from workbench.saliency import finding_target
from workbench.saliency.randomisation import randomised
from workbench.saliency.scorer import Scorer, shared_encodes


def parts_of(trace):
    """Whole text, first, middle and last token, and the last words."""
    last = trace.text.split()[-1]
    return ({}, {"token": 0}, {"token": 4}, {"token": 8}, {"phrase": last})


def forced(trace, before, tokens) -> float:
    """Log-probability of tokens after others, by the decoding engine."""
    engine = trace.model.engine
    pixels = torch.from_numpy(trace.pixel_values)[None]
    logits = engine.force(pixels, trace.generation.prompt_ids, (*before, *tokens))
    rows = logits[len(before) :].double().log_softmax(-1)
    return float(rows[range(len(tokens)), list(tokens)].sum())


# ---------------------------------------------------------------- the number


def test_score_is_the_traced_log_probability(toys, golden):
    for part in parts_of(golden):
        scorer = toys.of(golden, **part)
        expected = logprob(golden, **part)
        assert float(scorer.scores(scorer.base)) == pytest.approx(expected, abs=1e-4)


def test_score_is_the_traced_log_probability_of_mini(toys, mini):
    for part in ({}, {"phrase": "pleural effusion"}, {"sentence": 0}):
        scorer = toys.of(mini.trace, **part)
        expected = logprob(mini.trace, **part)
        assert float(scorer.scores(scorer.base)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("contrast", ["n", "no effusion on the left at all", "is"])
def test_contrast_is_the_difference_of_two_forced_sums(toys, golden, contrast):
    for part in parts_of(golden):
        scorer = toys.of(golden, contrast=contrast, **part)
        target = scorer.target
        assert target.contrast
        expected = forced(golden, target.before, target.tokens)
        expected -= forced(golden, target.before, target.contrast)
        assert float(scorer.scores(scorer.base)) == pytest.approx(expected, abs=1e-4)


def test_finding_of_mini_is_its_sentence_against_the_opposite(mini):
    target = finding_target(mini.trace, "pleural effusion")
    scorer = Scorer(mini.trace, target)
    expected = forced(mini.trace, target.before, target.tokens)
    expected -= forced(mini.trace, target.before, target.contrast)
    assert float(scorer.scores(scorer.base)) == pytest.approx(expected, abs=1e-4)
    assert expected > 0, "mini prefers what it wrote"


def test_queries_are_the_positions_that_chose_the_tokens(toys, golden):
    for part in parts_of(golden):
        scorer = toys.of(golden, contrast="no effusion", **part)
        tokens = scorer.target.selection.tokens
        assert scorer.queries == tuple(golden.layout.query_of(token) for token in tokens)


@pytest.mark.parametrize("contrast", [None, "no effusion"])
def test_batch_gives_what_single_images_give(toys, golden, contrast):
    scorer = toys.of(golden, token=3, contrast=contrast)
    base = scorer.base
    images = torch.cat((base, base.flip(-1), torch.zeros_like(base), base + 0.3, base.flip(-2)))
    together = scorer.scores(images, batch_size=3)
    alone = torch.cat([scorer.scores(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    assert together.std() > 0, "the image matters"
    assert scorer.forwards == 10


def test_score_from_tokens_and_from_pixels_is_one(toys, golden):
    scorer = toys.of(golden, token=3)
    with torch.no_grad():
        tokens = scorer.network.vision_tower(scorer.base).tokens
        inner = scorer.from_tokens(tokens)
        outer = scorer(scorer.base)
    assert inner == outer
    assert scorer.forwards == 1


# ---------------------------------------------------------------- the model stays as it was


def test_frozen_takes_gradients_off_the_weights_and_gives_them_back(toys, tiny_trace):
    scorer = toys.of(tiny_trace, token=3)
    parameters = list(scorer.network.parameters())
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters[::3]:
            parameter.requires_grad_(True)
        for parameter in parameters[1::3]:
            parameter.requires_grad_(False)
        wanted = [parameter.requires_grad for parameter in parameters]
        assert len(set(wanted)) == 2
        with scorer.frozen():
            assert not any(parameter.requires_grad for parameter in parameters)
        assert [parameter.requires_grad for parameter in parameters] == wanted
        with pytest.raises(KeyError, match="inside"), scorer.frozen():
            raise KeyError("inside")
        assert [parameter.requires_grad for parameter in parameters] == wanted
    finally:
        for parameter, flag in zip(parameters, before, strict=True):
            parameter.requires_grad_(flag)


def test_the_model_is_no_submodule(toys, tiny_trace):
    scorer = toys.of(tiny_trace, token=3)
    assert list(scorer.parameters()) == []
    assert scorer.network is tiny_trace.model.network


# ---------------------------------------------------------------- errors


def test_score_that_is_not_finite_is_an_error(toys, tiny_trace):
    scorer = toys.of(tiny_trace, token=3)
    with pytest.raises(DeviceError, match=r"not finite under float32; load the model"):
        scorer.scores(torch.full_like(scorer.base, float("nan")))


def test_quantised_weights_have_no_exact_gradient(toys, tiny_trace, monkeypatch):
    scorer = toys.of(tiny_trace, token=3)
    monkeypatch.setattr(scorer.network, "is_quantized", True, raising=False)
    refused = pytest.raises(ValueError, match=r"8-bit or 4-bit weights.*'occlusion' or 'kernel")
    with refused, scorer.frozen():
        pass


# ---------------------------------------------------------------- shared encodes


def test_what_targets_share_of_an_image_is_encoded_once_and_changes_no_digit(toys, tiny_trace):
    first, second = (toys.of(tiny_trace, token=number) for number in (0, 4))
    tower, passes = first.model.vision, []
    pixels = torch.cat([toys.pixels(64, seed) for seed in range(3)])
    apart = [scorer.scores(pixels) for scorer in (first, second)]
    hook = tower.register_forward_hook(lambda *_: passes.append(1))
    try:
        with shared_encodes():
            together = [scorer.scores(pixels) for scorer in (first, second)]
            assert len(passes) == 1
            assert not torch.equal(first.scores(pixels + 1), together[0])
            assert len(passes) == 2
            with randomised(first.model, ("language",)):
                assert not torch.equal(first.scores(pixels), together[0])
            assert len(passes) == 2
            with randomised(first.model, ("language", "vision")):
                noise = first.scores(pixels)
            assert len(passes) == 3
            with first.frozen(), torch.enable_grad():
                assert first(pixels).requires_grad is False
            assert len(passes) == 4
        first.scores(pixels)
        assert len(passes) == 5
    finally:
        hook.remove()
    for one, other in zip(apart, together, strict=True):
        assert torch.equal(one, other)
    with randomised(first.model, ("language", "vision")):
        assert torch.equal(noise, first.scores(pixels))
