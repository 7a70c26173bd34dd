"""Sources: every row sums to 1, groups average their tokens, and nothing is counted twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from workbench.attention import sources
from workbench.attention.shares import KINDS, LEVELS
from workbench.errors import InputError, OptionError


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("choice", [{}, {"layer": 0}, {"layer": -1, "head": 2}])
def test_rows_sum_to_one(toy, level, choice):
    found = sources(toy.trace(), **choice)
    np.testing.assert_allclose(found.by(level).sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(found.even.sum(1), 1, rtol=1e-12)


def test_shares_by_hand(toy):
    rows = toy.language()
    found = sources(toy.trace(rows), layer=1, head=0)
    row = rows[1, 0, 3]
    question = toy.image.stop
    expected = [row[0], row[1], row[toy.image].sum(), row[question], row[question + 1 :].sum()]
    np.testing.assert_allclose(found.shares[3], expected, rtol=1e-5)


def test_shares_agree_with_the_trace(toy):
    trace = toy.trace()
    frame, found = trace.to_frame(), sources(trace).to_frame("token")
    np.testing.assert_allclose(found["image"], frame["image"], rtol=1e-5)
    np.testing.assert_allclose(found["sink"] + found["prompt"], frame["prompt"], rtol=1e-5)


def test_even_attention_is_what_even_means(toy):
    rows = np.zeros((2, 3, 8, toy.length), np.float32)
    for token in range(8):
        rows[:, :, token, : toy.first + token] = 1 / (toy.first + token)
    found = sources(toy.trace(rows))
    np.testing.assert_allclose(found.shares, found.even, rtol=1e-5)
    assert found.even[0].tolist() == pytest.approx([1 / 9, 1 / 9, 6 / 9, 1 / 9, 0])
    relative = found.to_frame("token", relative=True)
    assert np.isnan(relative["generated"][0])
    assert relative["image"].tolist() == pytest.approx([1] * 8, rel=1e-5)


def test_groups_average_their_tokens(toy):
    found = sources(toy.trace())
    words = found.to_frame()
    assert words["word"].tolist() == ["Small", "pleural", "effusion.", "No", "pneumothorax."]
    np.testing.assert_allclose(words[list(KINDS)].to_numpy()[2], found.shares[[2, 3]].mean(0))
    sentences = found.to_frame("sentence")
    assert sentences["tokens"].tolist() == [4, 3]
    findings = found.to_frame("finding")
    assert findings["finding"].tolist() == ["pleural effusion (present)", "pneumothorax (absent)"]
    np.testing.assert_allclose(found.by("finding")[1], found.shares[5])


def test_finding_named_twice_has_one_row(toy):
    text = "Nodule. Large nodule."
    pieces = ("▁Nodule", ".", "▁Large", "▁nodule", ".")
    offsets = ((0, 6), (6, 7), (7, 13), (13, 20), (20, 21))
    found = sources(toy.trace(tokens=toy.layout(text, pieces, offsets)))
    frame = found.to_frame("finding")
    assert frame["finding"].tolist() == ["nodule (present)"]
    assert frame["tokens"].tolist() == [2]


def test_first_position_is_no_sink_where_the_image_comes_first(toy):
    layout = replace(toy.layout(), prompt_tokens=(), question_tokens=("a", "b", "c"))
    found = sources(toy.trace(tokens=layout))
    assert (found.shares[:, KINDS.index("sink")] == 0).all()
    assert (found.shares[:, KINDS.index("prompt")] == 0).all()


def test_mean_and_repr(toy):
    found = sources(toy.trace())
    assert sum(found.mean.values()) == pytest.approx(1)
    assert repr(found).startswith("<Sources of 8 tokens: sink ")


@pytest.mark.parametrize("level", LEVELS)
def test_figure_stacks_to_one(toy, level):
    found = sources(toy.trace())
    ax = found.plot(by=level)
    bars = ax.patches
    size = sum(bar.get_height() if level in ("token", "word") else bar.get_width() for bar in bars)
    assert size == pytest.approx(len(found.groups[level]), rel=1e-5)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["first position", "prompt before the image", "image", *labels[3:]]
    assert found.plot(ax, by=level) is ax


def test_shows_itself(toy):
    assert "sources of attention by word" in sources(toy.trace())._repr_html_()


def test_errors(toy):
    found = sources(toy.trace())
    with pytest.raises(
        OptionError, match="must be one of token, word, sentence, finding; got 'line'"
    ):
        found.plot(by="line")
    with pytest.raises(OptionError, match="layer 2 was not recorded"):
        sources(toy.trace(), layer=2)
    text = toy.layout("", ("</s>",), ((0, 0),))
    empty = sources(toy.trace(tokens=text))
    assert empty.to_frame("word").empty
    with pytest.raises(InputError, match="the text holds no word to draw; draw it by='token'"):
        empty.plot()
    assert "by token" in empty._repr_html_()


def test_on_reference_checkpoints(golden):
    found = sources(golden)
    np.testing.assert_allclose(found.shares.sum(1), 1, rtol=1e-9)
    assert found.even[0, KINDS.index("image")] < 1


def test_mini_leans_more_on_its_own_words_as_it_writes(mini):
    own = sources(mini.trace).to_frame("token")["generated"]
    third = len(own) // 3
    assert own[-third:].mean() > own[:third].mean()
