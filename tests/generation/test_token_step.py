"""The fast step and the short prefix: the numbers of the forward pass, or not at all."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from workbench.generation.kvcache import KeyValueBuffer
from workbench.generation.token_step import TokenStep, fill


def buffers_of(engine, requests):
    """The same prefilled rows twice, with their lengths."""
    decoding = engine.prefill(requests)
    return decoding.buffer, copy.deepcopy(decoding.buffer), decoding.lengths


def both(engine, requests, tokens):
    """Logits of the model's own step and of the fast one."""
    slow, fast, lengths = buffers_of(engine, requests)
    lengths = [length + 1 for length in lengths]
    wanted = engine._forward(slow, [[token] for token in tokens], lengths)
    with torch.inference_mode():
        found = TokenStep.of(engine.model)(fast, tokens, lengths)
    assert fast.length == slow.length
    for one, other in zip(fast.layers, slow.layers, strict=True):
        for name in ("keys", "values"):  # up to the length; what lies behind it is nobody's
            kept, like = (getattr(layer, name)[:, :, : fast.length] for layer in (one, other))
            torch.testing.assert_close(kept, like, atol=2e-5, rtol=1e-5)
    return found, wanted


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=4))
def test_step_gives_the_logits_of_the_forward_pass(lab, shapes):
    requests = [lab.request(0, head, tail, at) for at, (head, tail) in enumerate(shapes)]
    tokens = [5 + at for at in range(len(shapes))]
    found, wanted = both(lab.engine(), requests, tokens)
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


def test_step_is_as_near_to_double_precision_as_the_forward_pass(lab):
    """Both round; which of two float32 results is right, only a more exact one can tell."""
    apart = {"fast": 0.0, "slow": 0.0}
    for seed in range(12):
        model = lab.random_model(seed=seed)
        requests = [lab.request(0, 1, 2, 0), lab.request(0, 3, 9, 1)]
        decoding = lab.engine(model=model).prefill(requests)
        exact = copy.deepcopy(decoding.buffer)
        for layer in exact.layers:
            layer.keys, layer.values = layer.keys.double(), layer.values.double()
        lengths = [length + 1 for length in decoding.lengths]
        double = lab.engine(model=copy.deepcopy(model).double())
        truth = double._forward(exact, [[5], [6]], lengths)
        found, wanted = both(lab.engine(model=model), requests, [5, 6])
        apart["fast"] = max(apart["fast"], float((found - truth).abs().max()))
        apart["slow"] = max(apart["slow"], float((wanted - truth).abs().max()))
    assert 0 < apart["fast"] < 2 * apart["slow"] < 1e-4


def test_step_of_every_reference_model_is_the_forward_pass(lab, name, responder):
    request, tokens = lab.golden_requests(name)[0]
    found, wanted = both(responder.engine, [request], tokens[:1])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "llama",
    [
        {"num_key_value_heads": 2},
        {"attention_bias": True, "mlp_bias": True},
        {"hidden_act": "gelu"},
        {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}},
    ],
)
def test_step_follows_the_configuration(lab, llama):
    engine = lab.engine(model=lab.random_model(seed=3, **llama))
    found, wanted = both(engine, [lab.request()], [7])
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


def test_step_in_bfloat16_rounds_as_the_forward_pass(lab):
    engine = lab.engine(model=lab.random_model(seed=4).to(torch.bfloat16))
    request = lab.request()
    request = type(request)(request.pixel_values.bfloat16(), request.ids, request.settings)
    found, wanted = both(engine, [request], [7])
    torch.testing.assert_close(found, wanted, atol=0.0, rtol=0.0)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("shapes", [[(3, 4)] * 3, [(1, 2), (3, 9), (2, 5)]], ids=["alike", "gaps"])
def test_rows_in_bfloat16_are_as_near_to_double_precision_and_read_no_room(lab, heads, shapes):
    apart, tokens = {"fast": 0.0, "slow": 0.0}, [5, 6, 7]
    for seed in range(8):
        model = lab.random_model(seed=seed, num_key_value_heads=heads).to(torch.bfloat16)
        requests = [lab.request(0, head, tail, at) for at, (head, tail) in enumerate(shapes)]
        requests = [type(r)(r.pixel_values.bfloat16(), r.ids, r.settings) for r in requests]
        engine = lab.engine(model=model)
        slow, fast, lengths = buffers_of(engine, requests)
        fast.reserve(fast.length + 20)
        full, exact = copy.deepcopy(fast), copy.deepcopy(slow)
        for layer in full.layers:
            layer.keys[:, :, full.length :], layer.values[:, :, full.length :] = 9, -7
        for layer in exact.layers:
            layer.keys, layer.values = layer.keys.double(), layer.values.double()
        lengths = [length + 1 for length in lengths]
        double = lab.engine(model=copy.deepcopy(model).double())
        truth = double._forward(exact, [[token] for token in tokens], lengths)
        wanted = engine._forward(slow, [[token] for token in tokens], lengths)
        with torch.inference_mode():
            found, again = (TokenStep.of(model)(one, tokens, lengths) for one in (fast, full))
        assert torch.equal(found, again)
        apart["fast"] = max(apart["fast"], float((found - truth).abs().max()))
        apart["slow"] = max(apart["slow"], float((wanted - truth).abs().max()))
    assert 0 < apart["fast"] < 1.6 * apart["slow"] < 0.5


def about_one_image(lab, rows, **llama):
    """An engine, and requests of one length that begin alike."""
    engine = lab.engine(end_ids=(), model=lab.random_model(seed=8, **llama))
    first = lab.request(0, 3, 4)
    ids = [(*first.ids[:-1], 3 + row) for row in range(rows)]
    return engine, [type(first)(first.pixel_values, one, first.settings) for one in ids]


@pytest.mark.parametrize("rows", [2, 5])
@pytest.mark.parametrize("heads", [1, 2])
def test_rows_that_begin_alike_read_their_beginning_once(lab, rows, heads):
    """Steps stay those of the forward pass, also when rows have left."""
    engine, requests = about_one_image(lab, rows, num_key_value_heads=heads)
    slow, fast = engine.prefill(requests), engine.prefill(requests)
    assert fast.buffer.shared.length == len(requests[0].ids) - 4 + 3  # 4 image tokens for one id
    steps = TokenStep.of(engine.model)
    for number in range(9):
        if number == 6:
            for decoding in (slow, fast):
                decoding.keep(range(1, rows))
        tokens = [(5 * number + row) % 20 + 3 for row in range(len(slow.rows))]
        engine.advance(slow, tokens)
        engine.advance(fast, tokens, steps)
        torch.testing.assert_close(fast.logits, slow.logits, atol=2e-5, rtol=1e-5)


def test_a_beginning_is_read_from_one_place(lab):
    """What rows hold of a beginning that they share is not looked at again."""
    engine, requests = about_one_image(lab, 3, num_key_value_heads=2)
    found = []
    for spoilt in (False, True):
        decoding = engine.prefill(requests)
        length = decoding.buffer.shared.length
        for layer in decoding.buffer.layers:
            layer.keys = layer.keys.clone()
            if spoilt:
                layer.keys[:, :, :length] = float("nan")
        engine.advance(decoding, [3, 4, 5], TokenStep.of(engine.model))
        found.append(decoding.logits)
    assert torch.equal(*found)


def test_only_rows_with_the_same_image_and_beginning_share(lab):
    engine, requests = about_one_image(lab, 2)
    assert engine.prefill(requests).buffer.shared is not None
    other = lab.request(1, 3, 4)
    assert engine.prefill([requests[0], other]).buffer.shared is None
    longer = type(other)(requests[0].pixel_values, (*requests[0].ids, 9), other.settings)
    assert engine.prefill([*requests, longer]).buffer.shared is None  # a gap in front of two rows
    buffer = engine.prefill(requests).buffer
    buffer.rewind(buffer.shared.length)
    assert buffer.shared is not None
    buffer.rewind(2)
    assert buffer.shared is None


def test_tables_grow_with_the_text(lab):
    model = lab.random_model(seed=5, max_position_embeddings=2048)
    engine = lab.engine(end_ids=(), model=model)
    request = lab.request(max_new_tokens=3)
    buffer = engine.prefill([request]).buffer
    step = TokenStep.of(model)
    with torch.inference_mode():
        for token in range(3, 700):
            found = step(buffer, [3 + token % 20])
    buffer.rewind(buffer.length - 1)
    wanted = engine._forward(buffer, [[3 + 699 % 20]])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda model: setattr(model.llama.config, "_attn_implementation", "eager"),
        lambda model: model.llama.layers[1].mlp.register_forward_hook(lambda *_: None),
        lambda model: model.llama.register_forward_pre_hook(lambda *_: None),
        lambda model: setattr(model.llama.layers[0], "forward", model.llama.layers[0].forward),
        lambda model: setattr(model.lm_head, "forward", model.lm_head.forward),
    ],
)
def test_a_watched_or_changed_model_runs_as_it_is(lab, change):
    model = lab.random_model(seed=6)
    step = TokenStep.of(model)
    assert step.ready()
    change(model)
    assert not step.ready()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.train(),
        lambda model: setattr(model.llama.rotary_emb, "rope_type", "dynamic"),
        lambda model: setattr(model.llama.layers[2], "mlp", nn.Identity()),
        lambda model: setattr(model.llama, "norm", nn.LayerNorm(12)),
    ],
)
def test_an_unknown_model_has_no_fast_step(lab, change):
    model = lab.random_model(seed=7)
    change(model)
    assert TokenStep.of(model) is None


class Doubled(nn.Module):
    """A projection that an adapter has changed."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, hidden):
        return 2 * self.inner(hidden)


def test_a_replaced_projection_is_called(lab):
    model = lab.random_model(seed=8)
    model.llama.layers[1].self_attn.v_proj = Doubled(model.llama.layers[1].self_attn.v_proj)
    found, wanted = both(lab.engine(model=model), [lab.request()], [7])
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-5)


def test_texts_are_those_of_the_forward_pass(lab, monkeypatch):
    requests = [lab.request(words=at, tail=2 + at) for at in range(3)]
    fast = lab.collect(lab.engine(), requests)
    monkeypatch.setattr(TokenStep, "of", classmethod(lambda *_: None))
    slow = lab.collect(lab.engine(), requests)
    assert [row.tokens for row in fast] == [row.tokens for row in slow]


def filled(model, embeds, *, whole):
    cache = KeyValueBuffer(len(model.llama.layers), embeds.shape[1])
    with torch.inference_mode():
        if whole:
            model.llama(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        else:
            fill(model.llama, embeds, cache)
    return cache


def test_short_prefix_has_the_keys_and_values_of_the_whole_pass(lab):
    model = lab.random_model(seed=9)
    embeds = torch.randn(2, 7, 12)
    short, whole = (filled(model, embeds, whole=whole) for whole in (False, True))
    assert short.length == whole.length == 7
    for one, other in zip(short.layers, whole.layers, strict=True):
        assert torch.equal(one.keys, other.keys)
        assert torch.equal(one.values, other.values)


def test_short_prefix_leaves_out_the_end_of_the_last_layer_only_where_nobody_watches(lab):
    model = lab.random_model(seed=10)
    mlp, runs = model.llama.layers[-1].mlp, []
    forward = mlp.down_proj.forward
    mlp.down_proj.forward = lambda hidden: runs.append("last") or forward(hidden)
    filled(model, torch.randn(1, 5, 12), whole=False)
    assert runs == []
    hook = mlp.register_forward_hook(lambda *_: None)
    filled(model, torch.randn(1, 5, 12), whole=False)
    hook.remove()
    assert runs == ["last"]
