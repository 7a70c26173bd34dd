"""Patch lens: a word is most like itself, and nothing is named that no sentence holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.attention import patch_lens
from workbench.attention.patch_lens import _word_states
from workbench.errors import InputError, OptionError

TEXTS = ["There is a small effusion.", "No pneumothorax."]


def test_shapes_ranges_and_words(golden):
    found = patch_lens(golden, TEXTS, top=3)
    states, patches = found.layers + 1, golden.layout.image_tokens
    assert found.words.shape == found.cosines.shape == found.passed.shape == (states, patches, 3)
    assert (np.diff(found.cosines, axis=-1) <= 0).all() and np.abs(found.cosines).max() <= 1 + 1e-5
    assert set(found.words.ravel()) <= set(" ".join(TEXTS).replace(".", "").split())
    assert all(w in s for w, s in zip(found.words.ravel(), found.sentences.ravel(), strict=True))
    assert set(found.passed.ravel()) <= set(range(states))
    frame = found.to_frame()
    assert len(frame) == found.words.size
    row = frame[(frame["layer"] == 1) & (frame["rank"] == 2)].iloc[4]
    assert (row["word"], row["cosine"]) == (found.words[1, 4, 2], found.cosines[1, 4, 2])
    assert (row["row"], row["column"]) == divmod(4, found.grid[1])
    assert found.settings["sentences"] == 2


def test_the_nearest_word_is_the_one_with_the_largest_cosine(tiny_trace):
    found, model = patch_lens(tiny_trace, TEXTS), tiny_trace.model
    with torch.inference_mode():
        words, states = _word_states(model, TEXTS[0])
        image = model.image_rows(torch.from_numpy(tiny_trace.pixel_values)[None])
    assert words == ["There", "is", "a", "small", "effusion"]
    assert [len(state) for state in states] == [5] * (found.layers + 1)
    cosine = torch.cosine_similarity(image[:, None, None], torch.stack(states)[None], dim=-1)
    best = cosine.amax((1, 2)).numpy()
    assert (found.cosines[0, :, 0] >= best - 1e-5).all()
    own = found.sentences[0, :, 0] == TEXTS[0]
    np.testing.assert_allclose(found.cosines[0, own, 0], best[own], atol=1e-5)


def test_sentences_of_reports_by_default_and_figure(mini):
    found = patch_lens(mini.trace)
    assert found.settings["sentences"] > 100
    assert found.layers == 4 and "patches" in repr(found)
    axes = found.plot(0)
    assert "after 0 of 4" in axes.get_title() + axes.get_title("left")
    assert len(axes.texts) == mini.trace.layout.image_tokens
    with pytest.raises(OptionError, match="from 0 to 4"):
        found.plot(5)


@pytest.mark.parametrize(
    ("texts", "top", "error", "message"),
    [
        ("one text", 1, OptionError, r"use \['one text'\]"),
        ([], 1, InputError, "no word"),
        (["..."], 1, InputError, "no word"),
        (["effusion"], 0, OptionError, "top must be from 1 to 3"),
    ],
)
def test_what_cannot_be_read_is_refused(tiny_trace, texts, top, error, message):
    with pytest.raises(error, match=message):
        patch_lens(tiny_trace, texts, top=top)
