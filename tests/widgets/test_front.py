"""The Python side of every widget: questions, failures, progress, cancelling, state; no browser."""

from __future__ import annotations

import json
import logging
import re
import threading

import numpy as np
import pytest

from workbench._repr import plain
from workbench.errors import InputError
from workbench.widgets._front import STATIC, Front, quick, script, slow, styles


class Bench(Front):
    """A widget that can do a little of everything."""

    def __init__(self, **traits):
        super().__init__(**traits)
        self.gate = threading.Event()
        self.started = threading.Event()
        self.sent = []
        self.thread = None

    def send(self, content, buffers=None):
        self.sent.append(json.loads(json.dumps(content, allow_nan=False)))

    def state(self):
        return {"kept": 7}

    def still(self):
        raise InputError("no picture; draw one")

    @quick
    def add(self, message):
        return {"sum": message["a"] + message["b"]}

    @quick
    def refuse(self, message):
        raise InputError("expected a radiograph, got a cat; give a radiograph")

    @quick
    def numbers(self, message):
        return {"values": np.array([1.0, np.nan]), "one": np.float32(0.5), "pair": (1, 2)}

    @slow
    def work(self, message, job):
        self.thread = threading.current_thread()
        self.started.set()
        assert self.gate.wait(10)
        job.progress(1, 2, "half")
        job.piece("so ")
        job.piece("far")
        return {"done": message["n"]}

    @slow
    def stumble(self, message, job):
        raise KeyError("inner")


@pytest.fixture
def bench():
    widget = Bench()
    yield widget
    widget.gate.set()
    assert widget.worker.wait(10)
    widget.close()


def answers(widget, number):
    assert widget.worker.wait(10)
    return [message for message in widget.sent if message.get("id") == number]


def test_quick_question_is_answered_before_the_handler_returns(bench):
    bench._receive({"id": 5, "ask": "add", "a": 2, "b": 3})
    assert bench.sent == [{"id": 5, "answer": {"sum": 5}}]


def test_slow_question_leaves_the_handler_free_and_runs_in_another_thread(bench):
    bench._receive({"id": 1, "ask": "work", "n": 11})
    assert bench.started.wait(10)
    bench._receive({"id": 2, "ask": "add", "a": 1, "b": 1})
    assert bench.sent == [{"id": 2, "answer": {"sum": 2}}]
    bench.gate.set()
    found = answers(bench, 1)
    assert found[0] == {"id": 1, "progress": {"done": 1, "total": 2, "text": "half"}}
    assert "".join(message.get("piece", "") for message in found) == "so far"
    assert found[-1] == {"id": 1, "answer": {"done": 11}}
    assert bench.thread is not threading.main_thread()


def test_slow_questions_keep_their_order_and_share_one_thread(bench):
    before = set(threading.enumerate())
    for number in (1, 2, 3):
        bench._receive({"id": number, "ask": "work", "n": number})
    assert [one.name for one in set(threading.enumerate()) - before] == ["Bench"]
    bench.gate.set()
    assert bench.worker.wait(10)
    done = [message["answer"]["done"] for message in bench.sent if "answer" in message]
    assert done == [1, 2, 3]


def test_cancelling_answers_both_what_runs_and_what_waits(bench):
    bench._receive({"id": 1, "ask": "work", "n": 1})
    assert bench.started.wait(10)
    bench._receive({"id": 2, "ask": "work", "n": 2})
    bench._receive({"cancel": 2})
    bench._receive({"cancel": 1})
    bench.gate.set()
    assert answers(bench, 1) == [{"id": 1, "cancelled": True}]
    assert answers(bench, 2) == [{"id": 2, "cancelled": True}]
    bench._receive({"id": 3, "ask": "work", "n": 3})
    assert answers(bench, 3)[-1] == {"id": 3, "answer": {"done": 3}}


def test_own_error_becomes_a_failure_in_its_own_words(bench):
    bench._receive({"id": 1, "ask": "refuse"})
    text = "expected a radiograph, got a cat; give a radiograph"
    assert bench.sent == [{"id": 1, "failure": text, "kind": "InputError"}]


def test_unexpected_error_is_said_and_logged_and_the_widget_goes_on(bench, caplog):
    with caplog.at_level(logging.ERROR):
        bench._receive({"id": 1, "ask": "stumble"})
        found = answers(bench, 1)
    assert found[0]["kind"] == "unexpected"
    assert "KeyError" in found[0]["failure"]
    assert "failed to answer 'stumble'" in caplog.text
    bench._receive({"id": 2, "ask": "add", "a": 0, "b": 1})
    assert bench.sent[-1] == {"id": 2, "answer": {"sum": 1}}


@pytest.mark.parametrize("name", ["nothing", "_receive", "close", "worker", None, 3, ["add"]])
def test_only_declared_questions_are_answered(bench, name):
    bench._receive({"id": 1, "ask": name})
    assert bench.sent[0]["kind"] == "OptionError"
    assert "expected one of: add, numbers, refuse, state" in bench.sent[0]["failure"]


@pytest.mark.parametrize("message", [None, 3, "x", [], {}, {"ask": "add"}, {"cancel": "nobody"}])
def test_malformed_messages_are_left_out(bench, message):
    bench._receive(message)
    assert bench.sent == []


def test_missing_values_are_a_failure(bench):
    bench._receive({"id": 1, "ask": "add"})
    assert bench.sent[0]["kind"] == "unexpected"


def test_what_is_not_a_number_travels_as_nothing(bench):
    bench._receive({"id": 1, "ask": "numbers"})
    assert bench.sent[0]["answer"] == {"values": [1.0, None], "one": 0.5, "pair": [1, 2]}
    assert plain({1: (np.int64(2),)}) == {"1": [2]}


def test_closed_widget_takes_its_work_back(bench):
    bench._receive({"id": 1, "ask": "work", "n": 1})
    assert bench.started.wait(10)
    bench.close()
    bench.gate.set()
    assert answers(bench, 1) == [{"id": 1, "cancelled": True}]


def test_tell_reaches_all_views(bench):
    bench.tell("changed", number=np.int64(4))
    assert bench.sent == [{"tell": "changed", "number": 4}]


def test_no_still_picture_is_no_error_in_a_notebook(bench, caplog):
    with caplog.at_level(logging.WARNING):
        assert bench._repr_html_() == ""
    assert "no picture; draw one" in caplog.text


def test_questions_of_a_base_class_are_answered_too():
    class More(Bench):
        @quick
        def twice(self, message):
            return {"twice": 2 * message["a"]}

    assert set(More._asks) == {*Bench._asks, "twice"}
    assert "twice" not in Bench._asks


def test_scripts_are_one_module_each():
    for path in STATIC.glob("*.js"):
        if "export function render(" in path.read_text(encoding="utf-8"):
            whole = script(path.name)
            assert not re.search(r"^import\b", whole, re.MULTILINE), path.name
            assert re.findall(r"^export.*", whole, re.MULTILINE) == ["export default { render };"]


def test_styles_begin_with_the_common_ones():
    assert "--focus" in styles()
