"""A watch over attention changes nothing, sees everything, and leaves nothing behind."""

import threading

import pytest
import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from workbench.backends.attending import NAME, attention_rows, watch_attention
from workbench.errors import InputError, OptionError
from workbench.phantom import phantom
from workbench.trace import record


@torch.inference_mode()
def logits(run) -> torch.Tensor:
    ids = torch.tensor([[*run.report.prompt_ids, *run.report.token_ids[:5]]])
    return run.network(input_ids=ids, pixel_values=run.pixels).logits


def test_a_passive_watcher_sees_every_layer_and_changes_nothing(run):
    plain, seen = logits(run), []
    with run.unchanged(), watch_attention(run.network, lambda c: seen.append(c) or None):
        watched = logits(run)
    assert torch.equal(watched, plain)
    config = run.network.config
    layers = [(c.tower, c.layer) for c in seen]
    assert layers == [
        *(("vision", i) for i in range(config.vision.layers)),
        *(("language", i) for i in range(config.llama.num_hidden_layers)),
    ]
    for c in seen:
        vision = c.tower == "vision"
        heads = config.vision.heads if vision else config.llama.num_attention_heads
        groups = config.vision.heads if vision else config.llama.num_key_value_heads
        assert (c.query.shape[1], c.key.shape[1], c.value.shape[1]) == (heads, groups, groups)
        assert c.causal is not vision
        assert c.scaling == pytest.approx(c.query.shape[-1] ** -0.5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_passive_watcher_changes_nothing_whatever_was_set(run, implementation):
    configs = (run.network.vision_tower.config, run.network.llama.config)
    try:
        for config in configs:
            config._attn_implementation = implementation
        plain = logits(run)
        with run.unchanged(), watch_attention(run.network, lambda c: None):
            watched = logits(run)
    finally:
        for config in configs:
            config._attn_implementation = "sdpa"
    torch.testing.assert_close(watched, plain, atol=1e-6, rtol=0)


def test_what_a_watcher_returns_replaces_the_output(run):
    plain = logits(run)

    def by_hand(call):
        """Compute what the layer computes, from the captured rows."""
        shared = call.query.shape[1] // call.value.shape[1]
        return (attention_rows(call) @ call.value.repeat_interleave(shared, 1)).transpose(1, 2)

    with run.unchanged():
        with watch_attention(run.network, by_hand):
            torch.testing.assert_close(logits(run), plain, atol=2e-4, rtol=1e-4)
        with watch_attention(run.network, lambda c: torch.zeros_like(by_hand(c))):
            assert (logits(run) - plain).abs().max() > 1e-2
        with watch_attention(
            run.network, lambda c: 2 * by_hand(c) if c.tower == "vision" else None
        ):
            assert (logits(run) - plain).abs().max() > 1e-4
    assert torch.equal(logits(run), plain)


def test_watchers_nest_and_unwind(run):
    outer, inner = [], []
    config = run.network.llama.config
    with run.unchanged(), watch_attention(run.network, lambda c: outer.append(c.layer) or None):
        name = config._attn_implementation
        assert name.startswith(NAME)
        plain = logits(run)
        once = len(outer)
        with watch_attention(run.network, lambda c: inner.append(c.layer) or None):
            assert config._attn_implementation != name
            assert torch.equal(logits(run), plain)
        assert config._attn_implementation == name
        assert inner == outer[once:] == outer[:once]
        with pytest.raises(RuntimeError, match="inner"), watch_attention(run.network, failing):
            logits(run)
        assert config._attn_implementation == name
        assert torch.equal(logits(run), plain)
        assert len(outer) == 3 * once, "the failing watcher came before the outer one"


def failing(call):
    raise RuntimeError("inner")


def test_an_inner_watcher_that_replaces_hides_the_call_from_the_outer_one(run):
    outer = []
    plain = logits(run)
    with watch_attention(run.network, lambda c: outer.append(c.tower) or None):

        def replaced(call):
            if call.tower == "vision":
                return torch.zeros_like(call.query.transpose(1, 2))

        with watch_attention(run.network, replaced):
            assert (logits(run) - plain).abs().max() > 1e-4
    assert set(outer) == {"language"}


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize("tower", ["vision", "language"])
def test_nothing_is_left_after_a_watcher_fails(run, tower, layer):
    def fails(call):
        if (call.tower, call.layer) == (tower, layer):
            raise KeyboardInterrupt

    plain = logits(run)
    with run.unchanged():
        with pytest.raises(KeyboardInterrupt), watch_attention(run.network, fails):
            logits(run)
        with pytest.raises(ZeroDivisionError), watch_attention(run.network, lambda c: None):
            1 / 0  # noqa: B018
    assert torch.equal(logits(run), plain)


def test_an_attention_function_without_a_mask_function_can_be_watched(run, monkeypatch):
    used = []

    def own(*args, **options):
        used.append(True)
        return sdpa_attention_forward(*args, **options)

    monkeypatch.setitem(AttentionInterface._global_mapping, "test-own", own)
    config = run.network.llama.config
    monkeypatch.setattr(config, "_attn_implementation_internal", "test-own")
    assert config._attn_implementation == "test-own"
    plain, seen = logits(run), []
    once = len(used)
    with run.unchanged(), watch_attention(run.network, lambda c: seen.append(c.tower) or None):
        assert torch.equal(logits(run), plain)
    assert len(used) == 2 * once > 0
    assert seen.count("language") == once


# ------------------------------------------------------------------ through model.trace


def test_nothing_is_left_after_a_trace(run):
    again = run.model.report(run.image, max_new_tokens=5)
    with run.unchanged():
        run.model.trace(run.image, again)
    assert run.model.report(run.image, max_new_tokens=5).token_ids == again.token_ids


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"heads": "all"}, OptionError),
        ({"vision": "some"}, OptionError),
        ({"layers": [99]}, OptionError),
        ({"image": "other"}, InputError),
        ({"generation": "other"}, InputError),
    ],
)
def test_nothing_is_left_after_a_bad_request(lab, options, error):
    run = lab.run("mini")
    options = dict(options)
    image, generation = run.image, run.report
    if options.pop("image", None):
        image = phantom(8, findings=["nodule"]).image
    if options.pop("generation", None):
        generation = lab.run("A_tiny").report
    with run.unchanged(), pytest.raises(error):
        run.model.trace(image, generation, **options)
    assert_usable(run)


@pytest.mark.parametrize("tower", ["language", "vision"])
def test_nothing_is_left_after_a_recording_fails(lab, name, monkeypatch, tower):
    run = lab.run(name)
    usual = record.RowRecorder.__call__

    def fails(recorder, call):
        if call.tower == tower and recorder.tower == tower and call.layer == 1:
            raise MemoryError("on purpose")
        return usual(recorder, call)

    monkeypatch.setattr(record.RowRecorder, "__call__", fails)
    with run.unchanged(), pytest.raises(MemoryError, match="on purpose"):
        run.model.trace(run.image, run.report)
    monkeypatch.undo()
    assert_usable(run)


def test_what_another_thread_asks_meanwhile_is_not_recorded(lab, monkeypatch):
    run = lab.run("A_tiny")
    question = "Is there an effusion?"
    run.model.ask(run.image, question, max_new_tokens=9)
    started, threads = threading.Event(), set()

    def ask():
        started.wait(30)
        run.model.ask(run.image, question, max_new_tokens=9)

    asking = threading.Thread(target=ask, daemon=True)
    usual = record.RowRecorder.__call__

    def slow(recorder, call):
        threads.add(threading.get_ident())
        started.set()
        asking.join(0.05)
        return usual(recorder, call)

    monkeypatch.setattr(record.RowRecorder, "__call__", slow)
    asking.start()
    trace = run.model.trace(run.image, run.report, heads="each")
    asking.join(30)
    assert not asking.is_alive()
    assert threads == {threading.get_ident()}
    assert torch.equal(*(torch.tensor(t.language.values) for t in (trace, run.trace)))


def assert_usable(run):
    """Another thread finds the model free, and it says what it said."""
    found = []
    thread = threading.Thread(
        target=lambda: found.append(run.model.report(run.image, max_new_tokens=5).token_ids),
        daemon=True,
    )
    thread.start()
    thread.join(timeout=30)
    assert found == [run.report.token_ids[:5]]
