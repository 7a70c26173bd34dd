"""The engine: recorded tokens, batches that equal single rows, prefixes, stops, threads."""

import gc
import hashlib
import itertools
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import DeviceError, InputError
from workbench.generation.engine import Request
from workbench.generation.options import DecodingSettings
from workbench.generation.responder import Responder, parts_of
from workbench.model.load import load_checkpoint


def fingerprint(prefix) -> str:
    data = b"".join(part.numpy().tobytes() for pair in prefix.layers for part in pair)
    return hashlib.sha256(data).hexdigest()


def test_greedy_tokens_are_the_recorded_ones(lab, name, responder):
    for request, wanted in lab.golden_requests(name):
        assert lab.collect(responder.engine, [request])[0].tokens == wanted


def test_greedy_tokens_in_one_batch_are_the_recorded_ones(lab, name, responder):
    requests, wanted = zip(*lab.golden_requests(name), strict=True)
    assert [row.tokens for row in lab.collect(responder.engine, requests)] == list(wanted)


def test_batch_order_does_not_matter(lab, name, responder):
    requests, wanted = zip(*reversed(lab.golden_requests(name)), strict=True)
    assert [row.tokens for row in lab.collect(responder.engine, requests)] == list(wanted)


rows = st.tuples(
    st.integers(0, 2),  # image
    st.integers(0, 5),  # ids before it
    st.integers(1, 9),  # ids behind it
    st.integers(1, 13),  # limit on new tokens
)


@settings(max_examples=15, deadline=None)
@given(st.lists(rows, min_size=2, max_size=5))
def test_batched_equals_single_for_any_lengths(lab, shapes):
    requests = [
        lab.request(image, head, tail, seed, max_new_tokens=limit)
        for seed, (image, head, tail, limit) in enumerate(shapes)
    ]
    together = lab.collect(lab.engine(), requests)
    for request, row in zip(requests, together, strict=True):
        alone = lab.collect(lab.engine(), [request])[0]
        assert row.tokens == alone.tokens
        assert row.stopped == alone.stopped
        np.testing.assert_allclose(row.logprobs, alone.logprobs, atol=2e-5)


@settings(max_examples=10, deadline=None)
@given(st.lists(rows, min_size=2, max_size=4), st.integers(0, 2**31 - 1))
def test_sampled_batch_equals_sampled_single_with_the_same_seed(lab, shapes, seed):
    requests = [
        lab.request(image, head, tail, i, temperature=1.1, top_p=0.9, seed=seed + i)
        for i, (image, head, tail, _) in enumerate(shapes)
    ]
    together = lab.collect(lab.engine(), requests)
    for request, row in zip(requests, together, strict=True):
        assert row.tokens == lab.collect(lab.engine(), [request])[0].tokens


def test_one_batch_may_mix_greedy_and_sampled_rows(lab):
    greedy = lab.request(words=1)
    sampled = lab.request(image=1, words=2, temperature=1.3, seed=5)
    together = lab.collect(lab.engine(), [greedy, sampled])
    for request, row in zip((greedy, sampled), together, strict=True):
        assert row.tokens == lab.collect(lab.engine(), [request])[0].tokens


@torch.inference_mode()
def test_logprobs_are_those_of_one_forward_pass_over_everything(lab):
    request = lab.request(head=4, tail=6)
    engine = lab.engine(end_ids=())
    row = lab.collect(engine, [request])[0]
    ids = torch.tensor([[*request.ids, *row.tokens]])
    logits = engine.model(input_ids=ids, pixel_values=request.pixel_values).logits[0]
    wanted = torch.log_softmax(logits.float(), -1)[-len(row.tokens) - 1 : -1]
    wanted = wanted.gather(-1, torch.tensor(row.tokens)[:, None])[:, 0]
    np.testing.assert_allclose(row.logprobs, wanted.numpy(), atol=1e-5)


def test_logprobs_ignore_temperature_and_cuts(lab):
    greedy = lab.collect(lab.engine(), [lab.request(max_new_tokens=1)])[0]
    options = {"temperature": 0.05, "top_k": 1, "seed": 3, "max_new_tokens": 1}
    row = lab.collect(lab.engine(), [lab.request(**options)])[0]
    assert row.tokens == greedy.tokens
    assert row.logprobs == greedy.logprobs
    assert row.logprobs[0] < -1e-3


def test_eager_attention_gives_the_same_tokens(lab):
    shapes = [(0, 2, 7), (1, 4, 3), (2, 1, 1)]
    requests = [lab.request(*shape, words=i) for i, shape in enumerate(shapes)]
    wanted = [row.tokens for row in lab.collect(lab.engine(), requests)]
    model = lab.random_model()
    model.set_attn_implementation("eager")
    assert [row.tokens for row in lab.collect(lab.engine(model=model), requests)] == wanted


def test_image_is_encoded_once_for_all_questions(lab, monkeypatch):
    engine = lab.engine()
    encoded = []
    encode = engine.model.encode_image
    monkeypatch.setattr(
        engine.model, "encode_image", lambda pixels: encoded.append(len(pixels)) or encode(pixels)
    )
    base = lab.request(head=3, tail=2)
    others = [
        Request(base.pixel_values, (*base.ids[:4], *tail), base.settings)
        for tail in ((5,), (6, 7, 8), (9, 9))
    ]
    for request in others:
        lab.collect(engine, [request])
    lab.collect(engine, others)
    assert encoded == [1]
    lab.collect(engine, [lab.request(image=1)])
    assert encoded == [1, 1]
    changed_head = Request(base.pixel_values, (20, *base.ids), base.settings)
    lab.collect(engine, [changed_head])
    assert encoded == [1, 1, 1], "other text before the image needs other keys"


def test_prefix_is_never_written_to(lab):
    engine = lab.engine()
    request = lab.request(head=5, tail=3)
    prefix = engine.prefix(request.pixel_values, request.ids)
    before = fingerprint(prefix)
    lab.collect(engine, [request])
    lab.collect(engine, [request, lab.request(head=5, tail=9, words=3)])
    assert fingerprint(prefix) == before
    assert engine.prefix(request.pixel_values, request.ids) is prefix
    assert prefix.length == 5 + engine.model.config.image_tokens


def test_prefix_makes_no_difference(lab):
    request = lab.request(head=2, tail=5)
    engine = lab.engine()
    first = lab.collect(engine, [request])[0]
    second = lab.collect(engine, [request])[0]
    assert first == second
    assert (engine.prefixes.misses, engine.prefixes.hits) == (1, 1)


def test_different_images_in_a_batch_are_not_kept(lab):
    engine = lab.engine()
    lab.collect(engine, [lab.request(image) for image in range(3)])
    assert len(engine.prefixes) == 0


def test_stops_at_any_end_token_and_says_so(lab):
    free = lab.collect(lab.engine(end_ids=()), [lab.request()])[0]
    assert free.stopped == "limit"
    assert len(free.tokens) == 11
    end = free.tokens[4]
    cut = free.tokens.index(end) + 1
    row = lab.collect(lab.engine(end_ids=(2, end)), [lab.request()])[0]
    assert row.tokens == free.tokens[:cut]
    assert row.stopped == "eos"


def test_finished_rows_leave_the_batch(lab):
    requests = [lab.request(image, max_new_tokens=limit) for image, limit in enumerate((2, 7, 4))]
    engine = lab.engine(end_ids=())
    widths = [len(step.rows) for step in engine.decode(requests)]
    assert widths == [3, 3, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((1, 2, 3), "exactly one image placeholder, got 0"),
        ((1, -200, 3, -200, 4), "exactly one image placeholder, got 2"),
        ((1, 3, -200), "needs text behind its image"),
    ],
)
def test_prompt_without_one_image_in_front_is_refused(lab, ids, message):
    request = Request(lab.random_pixels(0), ids, DecodingSettings(max_new_tokens=3))
    with pytest.raises(InputError, match=message):
        lab.collect(lab.engine(), [request])


def test_logits_that_are_not_finite_are_an_error(lab):
    model = lab.random_model()
    with torch.no_grad():
        model.lm_head.weight[5] = float("inf")
    with pytest.raises(DeviceError, match=r"not finite under torch\.float32"):
        lab.collect(lab.engine(model=model), [lab.request()])


def test_leaving_early_leaves_nothing_behind(lab):
    engine = lab.engine(end_ids=())
    request = lab.request()
    wanted = lab.collect(engine, [request])[0].tokens
    threads = threading.active_count()
    steps = engine.decode([request])
    assert [step.tokens[0] for step in itertools.islice(steps, 3)] == wanted[:3]
    steps.close()
    del steps
    gc.collect()
    assert threading.active_count() == threads
    assert not torch.is_inference_mode_enabled()
    assert lab.collect(engine, [request])[0].tokens == wanted


def test_interrupt_inside_the_model_leaves_the_prefix_intact(lab, monkeypatch):
    model = lab.random_model()
    engine = lab.engine(model=model, end_ids=())
    request = lab.request()
    wanted = lab.collect(engine, [request])[0].tokens
    before = fingerprint(engine.prefix(request.pixel_values, request.ids))
    calls = itertools.count()
    layer = model.llama.layers[1]
    forward = layer.forward

    def interrupted(*args, **kwargs):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    monkeypatch.setattr(layer, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lab.collect(engine, [request])
    assert lab.collect(engine, [request])[0].tokens == wanted
    assert fingerprint(engine.prefix(request.pixel_values, request.ids)) == before


def test_steps_of_two_decodings_may_alternate(lab):
    engine = lab.engine(end_ids=())
    first, second = lab.request(0, words=1), lab.request(1, tail=7, words=2)
    wanted = [lab.collect(engine, [r])[0].tokens for r in (first, second)]
    found = ([], [])
    for one, other in zip(engine.decode([first]), engine.decode([second]), strict=True):
        found[0].append(one.tokens[0])
        found[1].append(other.tokens[0])
    assert list(found) == wanted


def test_threads_do_not_disturb_each_other(lab):
    engine = lab.engine()
    requests = [lab.request(image % 3, 2, 1 + image, words=image) for image in range(8)]
    wanted = [lab.collect(lab.engine(), [r])[0].tokens for r in requests]
    found = [None] * len(requests)

    def work(index):
        found[index] = lab.collect(engine, [requests[index]])[0].tokens

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


# ---------------------------------------------------------------- given tokens, in one pass


def steps_of(engine, request) -> tuple[list[int], torch.Tensor]:
    """Tokens of one request and the (n, V) logits that they were chosen from."""
    steps = list(engine.decode([request]))
    return [step.tokens[0] for step in steps], torch.cat([step.logits for step in steps])


def assert_forced_equals_steps(engine, request) -> None:
    tokens, wanted = steps_of(engine, request)
    forced = engine.force(request.pixel_values, request.ids, tokens)
    assert forced.dtype == torch.float32
    torch.testing.assert_close(forced, wanted, atol=1e-4, rtol=1e-5)


def test_forced_tokens_give_the_logits_of_their_steps(lab, name, responder):
    for request, _ in lab.golden_requests(name, limit=13):
        assert_forced_equals_steps(responder.engine, request)


@pytest.fixture(scope="module")
def mini():
    return Responder(*parts_of(load_checkpoint("mini", device="cpu", dtype="float32")))


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.5, "seed": 3}], ids=str)
def test_forced_tokens_give_the_logits_of_their_steps_in_mini(lab, mini, settings):
    side = mini.engine.model.config.vision.image_size
    ids = (1, 11, 23, -200, 57, 5, 31)
    settings = DecodingSettings(max_new_tokens=17, **settings)
    assert_forced_equals_steps(mini.engine, Request(lab.random_pixels(4, side), ids, settings))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 5),
    st.integers(1, 9),
    st.lists(st.integers(0, 22), min_size=1, max_size=9),
)
def test_any_tokens_are_read_as_in_one_pass_over_everything(lab, head, tail, tokens):
    engine, request = lab.engine(), lab.request(head=head, tail=tail)
    forced = engine.force(request.pixel_values, request.ids, tokens)
    with torch.inference_mode():
        ids = torch.tensor([[*request.ids, *tokens]])
        wanted = engine.model(input_ids=ids, pixel_values=request.pixel_values).logits[0]
    torch.testing.assert_close(forced, wanted[-len(tokens) - 1 : -1], atol=1e-4, rtol=1e-5)


def test_one_forced_token_gives_the_logits_behind_the_prompt(lab):
    engine, request = lab.engine(), lab.request()
    wanted = next(engine.decode([request])).logits
    for token in (0, 5, 22):
        forced = engine.force(request.pixel_values, request.ids, [token])
        assert forced.shape == wanted.shape
        torch.testing.assert_close(forced, wanted, atol=1e-5, rtol=1e-5)


def test_forcing_uses_the_prefix_and_does_not_write_to_it(lab):
    engine, request = lab.engine(), lab.request()
    prefix = engine.prefix(request.pixel_values, request.ids)
    before = fingerprint(prefix)
    first = engine.force(request.pixel_values, request.ids, (3, 4, 5))
    assert (engine.prefixes.misses, engine.prefixes.hits) == (1, 1)
    assert torch.equal(engine.force(request.pixel_values, request.ids, (3, 4, 5)), first)
    assert fingerprint(prefix) == before and len(engine.prefixes) == 1
    assert lab.collect(engine, [request]) == lab.collect(lab.engine(), [request])


def test_forcing_asks_for_one_image(lab):
    with pytest.raises(InputError, match="exactly one image placeholder, got 0"):
        lab.engine().force(lab.random_pixels(0), (1, 2, 3), (4,))


def test_an_exclusive_block_makes_other_threads_wait(lab):
    engine, request = lab.engine(), lab.request()
    done = threading.Event()
    thread = threading.Thread(
        target=lambda: (lab.collect(engine, [request]), done.set()), daemon=True
    )
    with engine.exclusive():
        thread.start()
        assert not done.wait(0.2)
        # its own thread goes on
        engine.force(request.pixel_values, request.ids, (3,))
        assert not done.is_set()
    assert done.wait(30)
    thread.join(30)
