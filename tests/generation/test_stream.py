"""Streams: pieces join to the text, no broken characters, and they end cleanly at any point."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.generation.options import DecodingSettings
from workbench.generation.responder import Responder, parts_of
from workbench.generation.stream import TextPieces, TextStream
from workbench.model.prompt import report_messages

BROKEN = "\N{REPLACEMENT CHARACTER}"


def job(responder, pixels, **options):
    options = DecodingSettings(**{"max_new_tokens": 30, **options})
    return responder.job(pixels, report_messages(), options, task="report", source="test")


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_pieces_join_to_the_text_for_any_ids(lab, name, data):
    tokenizer = lab.load(name).tokenizer
    # Bytes are ids 3 to 258: half of the draws, so that whole and broken characters both come up.
    token = st.one_of(st.integers(0, tokenizer.vocab_size - 1), st.integers(3, 258))
    ids = data.draw(st.lists(token, max_size=25))
    pieces = TextPieces(tokenizer.decode)
    given_out = [pieces.push(i) for i in ids] + [pieces.flush()]
    assert "".join(given_out) == tokenizer.decode(ids)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=12))
def test_a_character_is_given_out_whole(lab, name, text):
    tokenizer = lab.load(name).tokenizer
    ids = tokenizer.encode(text, add_bos=False)
    pieces = TextPieces(tokenizer.decode)
    given_out = [pieces.push(i) for i in ids] + [pieces.flush()]
    assert "".join(given_out) == tokenizer.decode(ids)
    if BROKEN not in text:
        assert not any(BROKEN in piece for piece in given_out)


def test_bytes_of_one_character_wait_for_each_other(lab, name):
    tokenizer = lab.load(name).tokenizer
    ids = tokenizer.encode("\N{MICRO SIGN}m", add_bos=False)[1:]
    pieces = TextPieces(tokenizer.decode)
    assert [pieces.push(i) for i in ids] == ["", "\N{MICRO SIGN}", "m"]


def test_bytes_that_are_no_character_come_out_in_the_end(lab, name):
    tokenizer = lab.load(name).tokenizer
    pieces = TextPieces(tokenizer.decode)
    half = tokenizer.encode("\N{EM DASH}", add_bos=False)[1:3]
    assert [pieces.push(i) for i in half] == ["", ""]
    assert pieces.flush() == tokenizer.decode(half) == 2 * BROKEN


def test_characters_on_hold_may_still_change():
    texts = {1: "do", 2: "do n", 3: "don't", 4: "don't know"}
    pieces = TextPieces(lambda ids: texts[len(ids)], hold=4)
    found = [pieces.push(i) for i in range(4)]
    assert "".join(found) + pieces.flush() == "don't know"


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.2, "seed": 5}], ids=["greedy", "sampled"]
)
def test_stream_gives_the_text_of_the_answer(lab, name, responder, options):
    pixels = lab.recorded(name).pixels
    stream = responder.stream(job(responder, pixels, **options))
    assert stream.generation is None
    text = "".join(stream)
    answer = responder.answer(job(responder, pixels, **options))
    assert text == answer.text == stream.generation.text
    assert stream.generation.token_ids == answer.token_ids
    np.testing.assert_array_equal(stream.generation.logprobs, answer.logprobs)
    assert stream.generation.stopped_by == answer.stopped_by
    assert list(stream) == []


def test_recorded_texts_stream_too(lab, name, responder):
    for image in ("grad_300x400", "noise_64x64"):
        stored = lab.recorded(name, image)
        stream = responder.stream(job(responder, stored.pixels, max_new_tokens=48))
        assert "".join(stream) == stored.cases["report"]["fp32"]["text_streamed"]


def test_nothing_is_computed_before_the_first_piece(lab, name, responder):
    stream = responder.stream(job(responder, lab.recorded(name).pixels))
    assert responder.engine.prefixes.misses == 0
    stream.close()
    assert stream.generation.token_ids == ()
    assert stream.generation.text == ""
    assert stream.generation.stopped_by == "cancelled"


def test_closed_stream_keeps_what_was_written(lab, name, responder):
    pixels = lab.recorded(name).pixels
    whole = responder.answer(job(responder, pixels))
    threads = threading.active_count()
    with responder.stream(job(responder, pixels)) as stream:
        pieces = [next(stream) for _ in range(3)]
    assert stream.generation.stopped_by == "cancelled"
    assert stream.generation.text.startswith("".join(pieces))
    count = len(stream.generation.token_ids)
    assert 3 <= count < len(whole.token_ids)
    assert stream.generation.token_ids == whole.token_ids[:count]
    with pytest.raises(StopIteration):
        next(stream)
    stream.close()
    assert threading.active_count() == threads
    assert not torch.is_inference_mode_enabled()
    assert responder.answer(job(responder, pixels)).token_ids == whole.token_ids


def test_closing_a_finished_stream_changes_nothing(lab, name, responder):
    stream = responder.stream(job(responder, lab.recorded(name).pixels, max_new_tokens=3))
    list(stream)
    finished = stream.generation
    stream.close()
    assert stream.generation is finished
    assert finished.stopped_by == "limit"


def test_interrupt_stops_at_once_and_keeps_what_was_written(lab, name, monkeypatch):
    responder = Responder(*parts_of(lab.load(name)))
    pixels = lab.recorded(name).pixels
    whole = responder.answer(job(responder, pixels))
    stream = responder.stream(job(responder, pixels))
    next(stream)
    steps = []
    head = responder.engine.model.lm_head
    forward = head.forward

    def interrupted(hidden):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return forward(hidden)

    monkeypatch.setattr(head, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert len(steps) == 4, "nothing was computed after the interrupt"
    assert stream.generation.stopped_by == "cancelled"
    count = len(stream.generation.token_ids)
    assert stream.generation.token_ids == whole.token_ids[:count]
    assert list(stream) == []
    monkeypatch.undo()
    assert responder.answer(job(responder, pixels)).token_ids == whole.token_ids


def test_time_of_a_slow_reader_does_not_count(monkeypatch):
    from workbench.generation import responder as module

    clock = iter([0.0, 0.0, 1.0, 100.0, 101.0, 500.0, 501.0, 900.0])
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))

    class Steps:
        def decode(self, requests):
            for token in (7, 8, 9):
                yield module.Step((0,), (token,), (-0.5,), (None,), None)

    draft = module.Draft()
    made = module.Responder(Steps(), None, None, None)
    assert list(made._tokens(module.Job(None, "", "", "", ()), draft)) == [7, 8, 9]
    assert draft.seconds == 3.0


def test_an_error_of_the_reader_of_tokens_ends_the_stream():
    def tokens():
        yield 1
        raise RuntimeError("lost")

    finished = []
    stream = TextStream(tokens(), lambda ids: "x" * len(ids), lambda: finished.append(True))
    assert next(stream) == "x"
    with pytest.raises(RuntimeError, match="lost"):
        next(stream)
    assert finished == [True]
    assert list(stream) == []
