"""One call for every method: the right words, the right settings, and errors that repair."""

from __future__ import annotations

from inspect import getdoc

import numpy as np
import pytest

import workbench as wb
from workbench.errors import InputError, OptionError
from workbench.saliency import METHODS, Method, explain, explain_target, finding_target, make_target
from workbench.saliency.gradients import Attribution

#: Options that make a method cheap.
CHEAP = {"smoothgrad": {"samples": 3}, "kernel_shap": {"samples": 16, "regions": (2, 2)}}
CHEAP |= {name: {"most": 32} for name in ("integrated_gradients", "integrated_gradients_patches")}
LIVE = [name for name, method in METHODS.items() if not method.recorded]
RECORDED = [name for name, method in METHODS.items() if method.recorded]


@pytest.fixture(scope="module")
def loaded(tiny_trace, tmp_path_factory):
    """The same trace from disk, without a model."""
    return wb.load_trace(tiny_trace.save(tmp_path_factory.mktemp("trace")))


# ---------------------------------------------------------------- every method


@pytest.mark.parametrize("method", METHODS)
def test_the_documentation_of_explain_names_every_option(method):
    described = [part for part in getdoc(explain).split("\n- ") if method in part.split(":")[0]]
    assert [name for name in METHODS[method].options if f"`{name}`" not in "".join(described)] == []


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_a_labelled_map(method, golden):
    found = explain(golden, token=4, method=method, **CHEAP.get(method, {}))
    assert np.ptp(found.values) > 0
    assert found.image is golden.image
    assert found.geometry == golden.layout.geometry
    assert found.signed is METHODS[method].signed
    assert found.signed or found.values.min() >= 0
    assert found.unit and found.target and found.layer
    assert found.settings["sha256"] == golden.generation.model.sha256
    assert found.settings["tokens"] == [4]
    assert found.settings["versions"]["torch"]
    assert set(METHODS[method].options) <= set(found.settings)
    assert found.seconds > 0
    assert len(found.to_frame()) == found.values.size


@pytest.mark.parametrize("method", METHODS)
def test_map_depends_on_the_words(method, tiny_trace):
    options = CHEAP.get(method, {})
    one, other = (explain(tiny_trace, token=n, method=method, **options) for n in (2, 6))
    assert not np.allclose(one.values, other.values, rtol=1e-3, atol=1e-6)


def test_whole_text_is_explained_where_nothing_is_named(tiny_trace):
    found = explain(tiny_trace, method="input_x_gradient")
    assert found.settings["tokens"] == list(range(9))
    assert found.settings["text"] == tiny_trace.text


@pytest.mark.parametrize("method", RECORDED)
def test_whole_text_has_no_other_words_to_be_like(method, tiny_trace):
    assert explain(tiny_trace, method=method).caution is None


def test_settings_hold_defaults_and_what_was_asked_for(tiny_trace):
    found = explain(tiny_trace, token=2, contrast="no", method="smoothgrad", samples=2)
    assert found.settings["samples"] == 2
    assert found.settings["noise"] == 0.15
    assert found.settings["seed"] == 0
    assert found.settings["contrast"] == "no"


def test_target_made_before_gives_the_same_map(mini):
    target = finding_target(mini.trace, "pleural effusion")
    first = explain(mini.trace, finding="effusion", method="grad_cam")
    second = explain_target(mini.trace, target, method="grad_cam")
    np.testing.assert_array_equal(first.values, second.values)
    assert first.target == target.name


def test_contrast_takes_the_place_of_the_opposite(mini):
    found = explain(mini.trace, finding="effusion", contrast="right lung", method="grad_cam")
    assert found.settings["contrast"] == "right lung"
    assert "pleural effusion" in found.settings["text"]
    assert "There is" not in found.settings["text"], "the words of the finding alone"


# ---------------------------------------------------------------- attention only


@pytest.mark.parametrize("method", RECORDED)
def test_loaded_trace_gives_the_map_of_the_live_one(method, mini, tmp_path):
    stored = wb.load_trace(mini.trace.save(tmp_path))
    live, read = (explain(t, finding="effusion", method=method) for t in (mini.trace, stored))
    np.testing.assert_allclose(live.values, read.values, rtol=1e-5)
    assert live.target == read.target
    assert live.target.startswith("There is a pleural effusion")


@pytest.mark.parametrize("choice", [{"token": 6}, {"word": 1}, {"sentence": 0}, {"phrase": "is"}])
def test_attention_of_a_part_is_that_of_its_tokens(choice, tiny_trace):
    expected = wb.attention.to_image(tiny_trace, **choice)
    found = explain(tiny_trace, method="attention", **choice)
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.caution == expected.caution


def test_token_without_characters_can_be_explained(mini):
    last = len(mini.trace.layout.tokens) - 1
    assert mini.trace.layout.offsets[last][0] == mini.trace.layout.offsets[last][1]
    found = explain(mini.trace, token=last, method="attention")
    expected = wb.attention.to_image(mini.trace, token=last)
    np.testing.assert_array_equal(found.values, expected.values)
    assert np.ptp(explain(mini.trace, token=last, method="grad_cam").values) >= 0


def test_second_occurrence_is_found_again(mini):
    second = mini.trace.select("pleural effusion", occurrence=1)
    found = explain(mini.trace, "pleural effusion", occurrence=1, method="attention")
    assert found.settings["tokens"] == list(second.tokens)


def test_options_of_attention_reach_it(tiny_trace):
    found = explain(tiny_trace, token=2, method="attention", layer=1, head=0, reduce="max")
    expected = wb.attention.to_image(tiny_trace, token=2, layer=1, head=0, reduce="max")
    np.testing.assert_array_equal(found.values, expected.values)


def test_own_caution_of_a_map_is_kept(mini):
    found = explain(mini.trace, "pleural effusion", method="rollout")
    own = wb.attention.rollout(mini.trace, "pleural effusion").caution
    assert own, "this map hardly depends on the words"
    assert own in found.caution


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("method", ["attention", "relevancy", "occlusion"])
def test_words_that_are_not_there(method, tiny_trace):
    with pytest.raises(InputError, match="does not contain 'effusion'; expected words of it: 'nc"):
        explain(tiny_trace, "effusion", method=method)
    with pytest.raises(InputError, match="the phrase is empty"):
        explain(tiny_trace, " ", method=method)
    with pytest.raises(OptionError, match="name one part of the text, got phrase and token"):
        explain(tiny_trace, "is", token=3, method=method)
    with pytest.raises(InputError, match="does not speak of nodule"):
        explain(tiny_trace, finding="nodule", method=method)


@pytest.mark.parametrize("method", ["attention", "relevancy"])
def test_contrasts_that_say_nothing(method, tiny_trace):
    with pytest.raises(InputError, match="the contrast is empty"):
        explain(tiny_trace, "left", contrast=" ", method=method)
    with pytest.raises(InputError, match="the contrast 'LEFT' is the phrase itself"):
        explain(tiny_trace, "left", contrast="LEFT", method=method)


def test_unknown_method_lists_the_known_ones(tiny_trace):
    with pytest.raises(
        OptionError, match="unknown method 'lime'; expected one of: attention, attention_wi"
    ):
        explain(tiny_trace, token=1, method="lime")
    target = make_target(tiny_trace, tiny_trace.select(token=1))
    with pytest.raises(OptionError, match="unknown method 'lime'"):
        explain_target(tiny_trace, target, method="lime")


@pytest.mark.parametrize("method", METHODS)
def test_unknown_option_lists_those_of_the_method(method, tiny_trace):
    known = next(iter(METHODS[method].options), "none")
    message = f"{method} does not take the option 'colour'; its options: {known}"
    with pytest.raises(OptionError, match=message):
        explain(tiny_trace, token=1, method=method, colour="red")


def test_what_a_name_fixes_is_no_option(tiny_trace):
    with pytest.raises(OptionError, match="does not take the option 'over'; its options: baseline"):
        explain(tiny_trace, token=1, method="integrated_gradients_patches", over="pixels")


@pytest.mark.parametrize("method", LIVE)
def test_loaded_trace_says_how_to_get_its_model(method, loaded):
    with pytest.raises(InputError, match=r"runs the model again.*use trace.attach\(wb.load_model"):
        explain(loaded, token=1, method=method)


def test_attached_model_gives_the_same_map(loaded, tiny_trace):
    attached = loaded.attach(tiny_trace.model)
    one, other = (explain(t, token=2, method="relevancy") for t in (attached, tiny_trace))
    np.testing.assert_allclose(one.values, other.values, rtol=1e-4, atol=1e-6)


def test_another_model_cannot_be_attached(loaded, toys):
    with pytest.raises(InputError, match=r"recorded with A_tiny.*this model is B_gqa_odd"):
        loaded.attach(toys.load("B_gqa_odd"))


@pytest.mark.parametrize("method", LIVE)
def test_quantised_model_gives_no_gradients_but_can_be_occluded(method, tiny_trace, monkeypatch):
    network = tiny_trace.model.network
    monkeypatch.setattr(network, "is_quantized", True, raising=False)
    options = CHEAP.get(method, {})
    if method in ("occlusion", "adaptive_occlusion", "kernel_shap", "token_activation"):
        assert np.ptp(explain(tiny_trace, token=2, method=method, **options).values) > 0
        return
    with pytest.raises(InputError, match="use method='occlusion' or 'kernel_shap'"):
        explain(tiny_trace, token=2, method=method, **options)


def test_map_that_is_not_finite_is_refused(tiny_trace, monkeypatch):
    import torch

    broken = Method(
        "broken", lambda scorer, grid: Attribution(torch.full(grid, torch.nan)), "", True, ""
    )
    monkeypatch.setitem(METHODS, "broken", broken)
    with pytest.raises(InputError, match="the broken map holds NaN or infinite values"):
        explain(tiny_trace, token=2, method="broken")
