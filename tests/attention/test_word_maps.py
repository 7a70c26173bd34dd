"""Where words looked: the maps sum to what was recorded, and the right rows are taken."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.attention import AttentionStack, by_head, by_layer, to_image, without_sinks
from workbench.errors import InputError, OptionError
from workbench.trace import ImageMap


def test_map_of_a_token_is_its_row_over_the_patches(toy):
    rows = toy.language()
    found = to_image(toy.trace(rows), token=2, layer=1, head=0)
    np.testing.assert_allclose(found.values.ravel(), rows[1, 0, 2, toy.image], rtol=1e-6)
    assert found.grid == toy.grid
    assert found.layer == "layer 1 of 0 to 1"
    assert found.head == "head 0 of 0 to 2"


@pytest.mark.parametrize("layer", [None, 0, -1])
@pytest.mark.parametrize("head", [None, 2])
def test_map_sums_to_the_image_share(toy, layer, head):
    rows = toy.language()
    found = to_image(toy.trace(rows), "pleural effusion", layer=layer, head=head)
    layers = rows if layer is None else rows[[layer]]
    heads = layers if head is None else layers[:, [head]]
    share = heads[:, :, [1, 2]][..., toy.image].sum(-1).mean()
    assert found.values.sum() == pytest.approx(share, rel=1e-5)
    assert found.scores["image_share"] == pytest.approx(share, rel=1e-5)


def test_even_attention_gives_an_even_map(toy):
    rows = np.zeros((2, 3, 8, toy.length), np.float32)
    for token in range(8):
        rows[:, :, token, : toy.first + token] = 1 / (toy.first + token)
    found = to_image(toy.trace(rows), token=0)
    np.testing.assert_allclose(found.values, 1 / toy.first, rtol=1e-6)


def test_order_of_heads_does_not_change_the_mean(toy):
    rows = toy.language()
    one, other = (to_image(toy.trace(r), "effusion").values for r in (rows, rows[:, [2, 0, 1]]))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_max_takes_each_patch_by_itself(toy):
    rows = toy.language()
    trace = toy.trace(rows)
    found = to_image(trace, "pleural effusion", layer=0, head=1, reduce="max")
    expected = rows[0, 1, [1, 2]][:, toy.image].max(0)
    np.testing.assert_allclose(found.values.ravel(), expected, rtol=1e-6)
    mean = to_image(trace, "pleural effusion", layer=0, head=1)
    assert found.scores["image_share"] == mean.scores["image_share"]
    assert (found.values >= mean.values - 1e-7).all()


@pytest.mark.parametrize(
    ("choice", "tokens"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"word": "effusion"}, [2]),
        ({"word": 0}, [0]),
        ({"sentence": 1}, [4, 5, 6]),
        ({"finding": "effusion"}, [1, 2]),
        ({"token": 7}, [7]),
    ],
)
def test_parts_of_the_text(toy, choice, tokens):
    found = to_image(toy.trace(), **choice)
    assert found.settings["tokens"] == tokens
    assert found.settings["model"] == "toy"


def test_whole_text_is_called_so(toy):
    found = to_image(toy.trace())
    assert found.title == "attention: the whole text"
    assert found.layer == "mean of all layers"
    assert found.caution is None


def test_map_that_other_words_share_carries_a_caution(toy):
    rows = toy.language()
    rows[:] = rows[:, :, :1]
    found = to_image(toy.trace(rows), "effusion")
    assert found.scores["like_other_words"] == pytest.approx(1)
    assert found.caution == "much like the map of the other words (r = 1.00)"
    assert to_image(toy.trace(rows)).caution is None


def test_single_token_has_no_other_words(toy):
    tokens = toy.layout("Clear", ("▁Clear",), ((0, 5),))
    found = to_image(toy.trace(tokens=tokens))
    assert set(found.scores) == {"image_share"}


def test_recorded_layers_are_named(toy):
    rows = toy.wrap(toy.language(), layers=(1, 4), total=5)
    trace = toy.trace(rows)
    assert to_image(trace).layer == "mean of layers 1, 4 of 0 to 4"
    np.testing.assert_array_equal(to_image(trace, layer=-1).values, to_image(trace, layer=4).values)
    assert by_layer(trace).numbers == (1, 4)


# ---------------------------------------------------------------- stacks


def test_layers_average_to_the_map_of_all(toy):
    trace = toy.trace()
    stack = by_layer(trace, "effusion")
    np.testing.assert_allclose(stack.values.mean(0), to_image(trace, "effusion").values, rtol=1e-5)
    np.testing.assert_array_equal(stack.maps[1].values, to_image(trace, "effusion", layer=1).values)
    np.testing.assert_allclose(stack.values.sum((1, 2)), stack.image_shares, rtol=1e-5)


def test_heads_average_to_the_map_of_their_layer(toy):
    trace = toy.trace()
    stack = by_head(trace, "effusion", layer=1)
    assert [item.head[:6] for item in stack.maps] == ["head 0", "head 1", "head 2"]
    np.testing.assert_allclose(
        stack.values.mean(0), to_image(trace, "effusion", layer=1).values, rtol=1e-5
    )


def test_stack_as_a_table(toy):
    stack = by_layer(toy.trace(), "effusion", head=2)
    frame = stack.to_frame()
    assert len(frame) == 2 * toy.patches
    assert list(frame.columns[:4]) == ["layer", "image_share", "row", "column"]
    assert frame.groupby("layer")["value"].sum().tolist() == pytest.approx(stack.image_shares)
    assert repr(stack) == (
        "<AttentionStack of 'effusion': 2 maps by layer, 2 x 3, head 2 of 0 to 2>"
    )


def test_stack_is_drawn_with_every_label(toy):
    stack = by_head(toy.trace(), "effusion", layer=0)
    figure = stack.plot(columns=2)
    drawn = [ax.get_title(loc="left") for ax in figure.axes if ax.get_title(loc="left")]
    assert drawn[0] == f"head 0: {stack.image_shares[0]:.0%} on image"
    assert len(drawn) == 3


def test_stack_shows_itself_and_closes_its_figure(toy):
    from matplotlib import pyplot

    html = by_layer(toy.trace(), "effusion")._repr_html_()
    assert html.startswith('<img alt="Figure: attention by layer: effusion" src="data:image/png')
    assert pyplot.get_fignums() == []


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("function", [to_image, by_layer, by_head])
def test_words_that_are_not_there(toy, function):
    with pytest.raises(InputError, match="does not contain 'fracture'; expected words of it: 'Sm"):
        function(toy.trace(), "fracture")
    with pytest.raises(InputError, match="the phrase is empty"):
        function(toy.trace(), "  ")
    with pytest.raises(OptionError, match="name one part of the text, got phrase and word"):
        function(toy.trace(), "Small", word=0)


def test_empty_text(toy):
    trace = toy.trace(tokens=toy.layout("", ("</s>",), ((0, 0),)))
    with pytest.raises(InputError, match=r"written by no token of its own.*one of its 1 tokens"):
        to_image(trace)
    assert to_image(trace, token=0).target == "</s>"


def test_layer_or_head_out_of_range(toy):
    with pytest.raises(OptionError, match="layer 2 was not recorded; recorded layers: 0, 1 of 2"):
        to_image(toy.trace(), layer=2)
    with pytest.raises(OptionError, match="layer -3 was not recorded"):
        by_head(toy.trace(), layer=-3)
    with pytest.raises(OptionError, match="heads go from 0 to 2, got 3"):
        by_layer(toy.trace(), head=3)
    with pytest.raises(OptionError, match="reduce must be one of mean, max; got 'sum'"):
        to_image(toy.trace(), reduce="sum")


def test_averaged_heads_cannot_be_told_apart(toy):
    rows = toy.wrap(toy.language().mean(1, keepdims=True), mean_heads=True)
    trace = toy.trace(rows)
    with pytest.raises(OptionError, match="the 3 heads of each layer were averaged"):
        to_image(trace, head=0)
    with pytest.raises(OptionError, match="the 3 heads of each layer were averaged"):
        by_head(trace)
    assert to_image(trace).head == "mean of heads"


# ---------------------------------------------------------------- models


def test_on_reference_checkpoints(golden):
    found = to_image(golden, token=1)
    assert isinstance(found, ImageMap)
    assert found.grid == golden.layout.grid
    frame = golden.to_frame()
    assert found.values.sum() == pytest.approx(frame["image"][1], rel=1e-4)
    assert isinstance(by_layer(golden, token=1), AttentionStack)
    assert len(by_head(golden, token=1, layer=-1).maps) == golden.language.total_heads


def test_mini_looks_at_the_finding_while_it_names_it(mini):
    found = to_image(mini.trace, finding="pleural effusion")
    inside = found.cells_of(mini.case.masks["pleural effusion"])
    lift = (found.values * inside).sum() / found.values.sum() / inside.mean()
    assert lift > 1.5
    found.plot(masks=mini.case.masks)


# ---------------------------------------------------------------- sinks


def with_sink(toy, sink: int) -> np.ndarray:
    """Rows in which every token gives one patch of the second layer 0.9 of what it gives all."""
    rows = toy.language()
    patches = rows[1][..., toy.image]
    share = patches.sum(-1, keepdims=True)
    patches *= 0.1 * share / (share - patches[..., [sink]])
    patches[..., sink] = 0.9 * share[..., 0]
    rows[1][..., toy.image] = patches
    return rows


def test_a_sink_is_taken_out_and_its_share_goes_to_the_others(toy):
    trace = toy.trace(with_sink(toy, 4))
    plain = to_image(trace, "effusion", layer=1, head=1)
    found = without_sinks(trace, "effusion", layer=1, head=1, above=3)
    expected = np.delete(plain.values.ravel(), 4) * 10
    assert found.values.ravel()[4] == 0
    np.testing.assert_allclose(np.delete(found.values.ravel(), 4), expected, rtol=1e-5)
    assert found.scores["image_share"] == pytest.approx(plain.scores["image_share"], rel=1e-5)
    assert found.scores["sinks"] == 0.5 and found.settings["above"] == 3
    assert found.method == "attention without sinks"


def test_without_a_sink_nothing_changes(toy):
    trace = toy.trace(with_sink(toy, 4))
    for above, part in ((3, {"layer": 0}), (np.inf, {"layer": 1}), (99, {"head": 2})):
        found = without_sinks(trace, "effusion", above=above, **part)
        plain = to_image(trace, "effusion", **part)
        np.testing.assert_allclose(found.values, plain.values, rtol=1e-6)


def test_above_the_mean_is_above_1(toy):
    with pytest.raises(OptionError, match="above must be more than 1"):
        without_sinks(toy.trace(), above=1)
