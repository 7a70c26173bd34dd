"""Logit lens: its last layer is the model itself, probabilities are probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.attention import logit_lens
from workbench.attention.lens import prompt_states, read_state
from workbench.errors import InputError, OptionError


def hooks_of(network) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def crash_in(network, trace) -> None:
    """Read the lens while the last layer fails."""

    def fail(*_):
        raise RuntimeError("crash")

    handle = network.llama.layers[-1].mlp.register_forward_hook(fail)
    try:
        logit_lens(trace, ["left"])
    finally:
        handle.remove()


def test_last_layer_at_the_last_prompt_position_is_the_model(golden):
    model = golden.need_model()
    engine, generation = model.engine, golden.generation
    with torch.inference_mode():
        states = prompt_states(golden)
        read = read_state(model, states[-1][-1:])[0]
    pixels = torch.tensor(golden.pixel_values)[None]
    logits = engine.force(pixels, generation.prompt_ids, generation.token_ids)[0]
    torch.testing.assert_close(read, logits.log_softmax(-1), rtol=1e-4, atol=1e-4)
    chosen = read[generation.token_ids[0]].item()
    assert chosen == pytest.approx(golden.logprobs[0], abs=1e-3)


def test_first_state_is_the_projector(golden):
    network = golden.need_model().network
    image = golden.layout.span("image").slice
    with torch.inference_mode():
        states = prompt_states(golden)
        features = network.encode_image(torch.tensor(golden.pixel_values)[None])[0]
        expected = network.llama.norm(features)
    assert len(states) == network.config.llama.num_hidden_layers + 1
    torch.testing.assert_close(states[0][image], expected)


def test_shapes_and_ranges(golden):
    found = logit_lens(golden, ["effusion", "the"], top=3)
    states, patches = found.layers + 1, golden.layout.image_tokens
    assert found.tokens.shape == found.probabilities.shape == (states, patches, 3)
    assert (np.diff(found.probabilities, axis=-1) <= 0).all()
    assert ((found.probabilities > 0) & (found.probabilities <= 1)).all()
    for word, values in found.words.items():
        assert values.shape == (states, *golden.layout.grid)
        assert ((values >= 0) & (values <= 1)).all()
        likeliest = found.tokens[..., 0].reshape(values.shape) == found.pieces[word]
        top = found.probabilities[..., 0].reshape(values.shape)
        np.testing.assert_allclose(values[likeliest], top[likeliest], rtol=1e-5)
        assert (values <= top + 1e-6).all()


def test_whole_vocabulary_sums_to_one(golden):
    size = golden.need_model().network.config.llama.vocab_size
    found = logit_lens(golden, [], top=size)
    np.testing.assert_allclose(found.probabilities.sum(-1), 1, rtol=1e-4)


def test_words_stand_for_their_first_piece_after_a_space(mini):
    found = logit_lens(mini.trace, ["effusion", " Left ", "zzz"])
    assert list(found.words) == ["effusion", "Left", "zzz"]
    assert found.pieces["effusion"] == "▁effusion"
    assert found.pieces["zzz"].strip("▁")


def test_words_of_stated_findings_by_default(mini):
    found = logit_lens(mini.trace)
    assert {"pleural", "effusion"} <= set(found.words)
    assert "pneumothorax" not in found.words  # denied in the text


def test_maps(mini):
    found = logit_lens(mini.trace, ["left", "right"])
    item = found.map("left", 2)
    np.testing.assert_array_equal(item.values, found.words["left"][2])
    assert item.layer == f"after 2 of {found.layers} layers"
    assert item.settings["layer"] == 2
    np.testing.assert_array_equal(found.map("left").values, found.words["left"][-1])
    np.testing.assert_array_equal(found.map("left", -2).values, found.words["left"][-2])


def test_table(mini):
    found = logit_lens(mini.trace, ["left"])
    frame = found.to_frame()
    assert list(frame) == ["layer", "row", "column", "token", "probability", "p(left)"]
    assert len(frame) == (found.layers + 1) * mini.trace.layout.image_tokens
    cell = frame[(frame["layer"] == 1) & (frame["row"] == 3) & (frame["column"] == 2)]
    assert cell["p(left)"].item() == found.words["left"][1, 3, 2]


def test_figures(mini):
    found = logit_lens(mini.trace, ["left"])
    figure = found.plot(masks=mini.case.masks)
    titles = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    assert len(titles) == found.layers + 1
    assert titles[0].startswith(f"after 0 of {found.layers}: max ")
    ax = found.plot_tokens(-1)
    assert len(ax.texts) == mini.trace.layout.image_tokens
    assert found._repr_html_().startswith('<img alt="Figure: logit lens"')
    assert "logit lens" in logit_lens(mini.trace, [])._repr_html_()
    assert repr(found) == f"<LogitLens over {found.layers} layers, 16 x 16 patches: left>"


def test_errors(mini):
    with pytest.raises(InputError, match=r"use trace\.attach\(wb\.load_model\('mini'\)\)"):
        logit_lens(replace(mini.trace, model=None))
    with pytest.raises(OptionError, match=r"list of words, got one text; use \['left'\]"):
        logit_lens(mini.trace, "left")
    with pytest.raises(InputError, match="a word is empty"):
        logit_lens(mini.trace, ["left", " "])
    with pytest.raises(OptionError, match=r"top must be from 1 to \d+ \(the vocabulary\), got 0"):
        logit_lens(mini.trace, top=0)
    found = logit_lens(mini.trace, ["left"])
    with pytest.raises(OptionError, match=r"not read for 'right'; it holds left.*\['right'\]"):
        found.map("right")
    with pytest.raises(OptionError, match=r"layers were passed, from 0 to 4.*got 5"):
        found.map("left", 5)
    with pytest.raises(InputError, match="read for no word"):
        logit_lens(mini.trace, []).plot()


def test_no_hook_stays(mini):
    network = mini.trace.need_model().network
    logit_lens(mini.trace, ["left"])
    assert hooks_of(network) == 0
    with pytest.raises(RuntimeError, match="crash"):
        crash_in(network, mini.trace)
    assert hooks_of(network) == 0
