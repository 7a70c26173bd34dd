"""Captured rows are those of eager attention, for every layer and head of both towers."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.backends.attending import Call, attention_rows, watch_attention
from workbench.trace.record import RowRecorder


@cache
def eager(open_model, name):
    """A separate copy of the model whose attention is the plain, slow one."""
    network = open_model(name).loaded.model
    for config in (network.vision_tower.config, network.llama.config):
        config._attn_implementation = "eager"
    return network


@torch.inference_mode()
def eager_language(network, run) -> torch.Tensor:
    """(layers, heads, T, T): one forward pass over everything, without a cache."""
    ids = torch.tensor([[*run.report.prompt_ids, *run.report.token_ids]])
    embeds = network.splice(ids, network.encode_image(run.pixels))
    output = network.llama(inputs_embeds=embeds, use_cache=False, output_attentions=True)
    return torch.cat(output.attentions)


@torch.inference_mode()
def eager_vision(network, pixels) -> torch.Tensor:
    """(layers, heads, N + 1, N + 1)."""
    rows = []
    hooks = [
        block.attn.register_forward_hook(lambda _, __, output: rows.append(output[1]))
        for block in network.vision_tower.transformer.resblocks
    ]
    network.vision_tower(pixels)
    for hook in hooks:
        hook.remove()
    return torch.cat(rows)


def test_language_rows_are_those_of_eager_attention(lab, name, run):
    wanted = eager_language(eager(lab.open, name), run)
    rows, layout = run.trace.language, run.trace.layout
    queries = [layout.query_of(token) for token in range(len(layout.tokens))]
    assert rows.values.shape == (*wanted.shape[:2], len(queries), layout.length)
    assert wanted.shape[2:] == (layout.length, layout.length)
    np.testing.assert_allclose(rows.values, wanted[:, :, queries].numpy(), atol=1e-4)
    # Another query's rows would not pass.
    others = [query - 1 for query in queries]
    assert np.abs(rows.values - wanted[:, :, others].numpy()).max() > 1e-2


def test_vision_rows_are_those_of_eager_attention(lab, name, run):
    wanted = eager_vision(eager(lab.open, name), run.pixels)
    rows = run.trace.need_vision()
    assert rows.values.shape == wanted.shape
    assert rows.values.shape[2] == run.trace.layout.image_tokens + 1
    np.testing.assert_allclose(rows.values, wanted.numpy(), atol=1e-4)


def test_every_row_sums_to_one_and_looks_back_only(run):
    layout, rows = run.trace.layout, run.trace.language.values
    np.testing.assert_allclose(rows.sum(-1), 1, atol=1e-5)
    for token in range(len(layout.tokens)):
        assert not rows[:, :, token, layout.query_of(token) + 1 :].any()
        assert rows[:, :, token, layout.query_of(token)].min() > 0
    np.testing.assert_allclose(run.trace.vision.values.sum(-1), 1, atol=1e-5)


def test_mean_of_heads_is_the_mean_of_all_heads(lab, name, run):
    mean = run.model.trace(run.image, run.report, heads="mean", vision="mean")
    for found, each in ((mean.language, run.trace.language), (mean.vision, run.trace.vision)):
        assert found.mean_heads and not each.mean_heads
        assert found.values.shape == (len(each.layers), 1, *each.values.shape[2:])
        np.testing.assert_allclose(found.values, each.values.mean(1, keepdims=True), atol=1e-6)
        np.testing.assert_allclose(found.pick(), each.pick(), atol=1e-6)


def test_chosen_layers_are_those_layers(run):
    total = run.trace.language.total_layers
    some = run.model.trace(run.image, run.report, heads="each", layers=[-1, 0], vision="none")
    assert some.language.layers == (0, total - 1)
    assert np.array_equal(some.language.values, run.trace.language.values[[0, total - 1]])
    for layer in (0, -1, total - 1):
        assert np.array_equal(some.language.pick(layer), run.trace.language.pick(layer))
    twice = run.model.trace(run.image, run.report, layers=[0, -total], vision="none")
    assert twice.language.layers == (0,)


# ------------------------------------------------------------------ masks, through the whole model


def captured(network, embeds, mask) -> torch.Tensor:
    recorder = RowRecorder("language")
    with torch.inference_mode(), watch_attention(network, recorder):
        network.llama(inputs_embeds=embeds, attention_mask=mask, use_cache=False)
    return recorder.stacked()


def random_mask(length: int) -> torch.Tensor:
    """(1, 1, T, T) boolean, causal with holes; a position may always see itself."""
    generator = torch.Generator().manual_seed(length)
    holes = torch.rand(length, length, generator=generator) < 0.7
    return (holes.tril() | torch.eye(length, dtype=torch.bool))[None, None]


@pytest.mark.parametrize("kind", ["additive", "boolean", "padding", "none"])
def test_rows_under_every_kind_of_mask_are_those_of_eager_attention(lab, name, kind):
    length = 17
    network, plain = lab.model(name).loaded.model, eager(lab.open, name)
    width = network.config.llama.hidden_size
    embeds = torch.randn(1, length, width, generator=torch.Generator().manual_seed(3))
    allowed = random_mask(length)
    additive = torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo(torch.float32).min)
    padding = torch.ones(1, length, dtype=torch.long)
    padding[:, :5] = 0
    given = {"additive": additive, "boolean": allowed, "padding": padding, "none": None}[kind]
    # Eager attention adds its mask, so it gets the boolean one as numbers.
    same = additive if kind == "boolean" else given
    with torch.inference_mode():
        output = plain.llama(
            inputs_embeds=embeds, attention_mask=same, use_cache=False, output_attentions=True
        )
    wanted, found = torch.cat(output.attentions), captured(network, embeds, given)
    first = 5 if kind == "padding" else 0
    torch.testing.assert_close(found[:, :, first:], wanted[:, :, first:], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:3]))
    if kind in ("additive", "boolean"):
        assert not found.masked_select(~allowed.expand_as(found)).any()


# ------------------------------------------------------------------ rows of one call


def call(query, key, mask=None, *, scaling=1.0, causal=False) -> Call:
    return Call(0, "language", query, key, key, mask, scaling, causal)


def test_rows_by_hand():
    query = torch.tensor([[1.0, 0.0], [0.0, 2.0]])[None, None]
    key = torch.tensor([[math.log(2), 0.0], [0.0, math.log(3)]])[None, None]
    rows = attention_rows(call(query, key))[0, 0]
    torch.testing.assert_close(rows, torch.tensor([[2 / 3, 1 / 3], [1 / 10, 9 / 10]]))
    halved = attention_rows(call(query, key, scaling=0.5))[0, 0, 1]
    torch.testing.assert_close(halved, torch.tensor([1 / 4, 3 / 4]))
    causal = attention_rows(call(query, key, causal=True))[0, 0]
    torch.testing.assert_close(causal, torch.tensor([[1.0, 0.0], [1 / 10, 9 / 10]]))
    hidden = torch.tensor([[True, True], [True, False]])[None, None]
    torch.testing.assert_close(
        attention_rows(call(query, key, hidden))[0, 0],
        torch.tensor([[2 / 3, 1 / 3], [1.0, 0.0]]),
    )
    added = torch.tensor([[0.0, 0.0], [math.log(9), 0.0]])[None, None]
    torch.testing.assert_close(
        attention_rows(call(query, key, added))[0, 0, 1], torch.tensor([1 / 2, 1 / 2])
    )


def test_a_row_that_may_look_nowhere_is_uniform():
    query, key = torch.randn(1, 2, 3, 5), torch.randn(1, 2, 7, 5)
    mask = torch.ones(1, 1, 3, 7, dtype=torch.bool)
    mask[..., 1, :] = False
    rows = attention_rows(call(query, key, mask))
    torch.testing.assert_close(rows[:, :, 1], torch.full((1, 2, 7), 1 / 7))


@settings(max_examples=40, deadline=None)
@given(
    groups=st.integers(1, 3),
    shared=st.integers(1, 3),
    queries=st.integers(1, 7),
    before=st.integers(0, 5),
    last=st.none() | st.integers(1, 9),
    kind=st.sampled_from(("none", "causal", "boolean", "additive")),
    seed=st.integers(0, 2**16),
)
def test_rows_are_softmax_of_scores(groups, shared, queries, before, last, kind, seed):
    torch.manual_seed(seed)
    keys = queries + before
    query = torch.randn(2, queries, groups * shared, 5).transpose(1, 2)
    key = torch.randn(2, groups, keys, 5)
    mask = torch.rand(2, 1, queries, keys) < 0.6
    mask[..., 0] = True
    if kind == "causal":
        seen = torch.arange(keys) <= torch.arange(before, keys)[:, None]
    elif kind == "none":
        seen = torch.ones(queries, keys, dtype=torch.bool)
    else:
        seen = mask
    given_mask = {"boolean": mask, "additive": torch.randn(2, 1, queries, keys)}.get(kind)
    bias = given_mask if kind == "additive" else torch.zeros(())
    repeated = key.repeat_interleave(shared, 1)
    scores = query @ repeated.transpose(-1, -2) * 0.7 + bias
    if kind != "additive":
        scores = scores.masked_fill(~seen, -torch.inf)
    wanted = scores.softmax(-1)[:, :, -(last or queries) :]
    made = call(query, key, given_mask, scaling=0.7, causal=kind == "causal")
    torch.testing.assert_close(attention_rows(made, last), wanted, atol=1e-5, rtol=0)


def test_rows_carry_gradients():
    query = torch.randn(1, 2, 3, 5, requires_grad=True)
    attention_rows(call(query, torch.randn(1, 1, 3, 5), causal=True))[..., 0].sum().backward()
    assert query.grad[:, :, 1:].abs().min() > 0
    assert not query.grad[:, :, 0].any(), "the first position sees itself only"


def test_a_recorder_keeps_what_it_was_asked_for():
    query, key = torch.randn(1, 2, 3, 5), torch.randn(1, 2, 7, 5)
    recorder = RowRecorder("vision", last=2, layers=[4, 1], mean_heads=True)
    for layer in (4, 2, 1):
        assert recorder(Call(layer, "vision", query * layer, key, key, None, 1.0, False)) is None
        assert recorder(Call(layer, "language", query, key, key, None, 1.0, False)) is None
    rows = recorder.stacked()
    assert set(recorder.rows) == {1, 4}
    assert rows.shape == (2, 1, 2, 7) and rows.dtype == torch.float32
    for row, layer in zip(rows, (1, 4), strict=True):
        wanted = attention_rows(call(query * layer, key), 2)[0].mean(0, keepdim=True)
        torch.testing.assert_close(row, wanted)
