"""What tests of several packages start from: models, traces and a phantom, each made once."""

from __future__ import annotations

import multiprocessing
import re
import socket
import sqlite3
from collections.abc import Callable
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace

import pytest

import workbench as wb
from workbench.backends.attending import attention_rows
from workbench.radiograph import FitGeometry
from workbench.runs.store import DATABASE
from workbench.trace import TokenLayout, Trace

GOLDEN = Path(__file__).resolve().parent / "golden"

#: The reference checkpoints; the second has grouped queries.
CHECKPOINTS = ("A_tiny", "B_gqa_odd")
#: The images that outputs were recorded for.
IMAGES = ("grad_300x400", "noise_64x64")


def logprob(trace: Trace, *phrase, **named) -> float:
    """The summed log-probability of a part of a traced text."""
    return float(trace.logprobs[list(trace.select(*phrase, **named).tokens)].sum(dtype="float64"))


def forked(target: Callable, *arguments: object) -> BaseProcess:
    """Start a process that is a copy of this one: all that it needs is imported."""
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    return process


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def finished(out: Path) -> dict[tuple[int, str], tuple[str, float]]:
    """Rows and tasks of a run that are written down, with their texts and seconds."""
    if not (out / DATABASE).is_file():
        return {}
    try:
        database = sqlite3.connect(f"{(out / DATABASE).as_uri()}?mode=ro", uri=True)
        rows = database.execute('SELECT "row", task, text, seconds FROM rows')
        return {(row, task): tuple(said) for row, task, *said in rows}
    except sqlite3.OperationalError:
        return {}


@cache
def load(name: str):
    """A model in float32 on the CPU: mini, or a reference checkpoint."""
    source = name if name == "mini" else GOLDEN / "checkpoints" / name
    return wb.load_model(source, device="cpu", dtype="float32")


@cache
def golden_trace(name: str) -> Trace:
    """Nine tokens of nonsense of a reference checkpoint about an image whose sides differ."""
    model, image = load(name), wb.load_radiograph(GOLDEN / "images" / "grad_300x400.png")
    return model.trace(image, model.report(image, max_new_tokens=9))


@cache
def mini_case() -> SimpleNamespace:
    """`model`, `case` and `trace`: mini about a phantom with a left pleural effusion."""
    model = load("mini")
    case = wb.phantom(
        7, findings=["pleural effusion"], side="left", severity="moderate", size=model.image_size
    )
    return SimpleNamespace(model=model, case=case, trace=model.trace(case))


@pytest.fixture(params=CHECKPOINTS)
def golden(request) -> Trace:
    """The trace of each reference checkpoint in turn."""
    return golden_trace(request.param)


@pytest.fixture(scope="session")
def tiny_trace() -> Trace:
    """The trace of the smaller reference checkpoint."""
    return golden_trace("A_tiny")


@pytest.fixture(scope="session")
def mini() -> SimpleNamespace:
    """See `mini_case`."""
    return mini_case()


@pytest.fixture(autouse=True)
def close_figures():
    """No figure outlives its test."""
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def written(text: str) -> SimpleNamespace:
    """What a target needs of a trace whose tokens are words; a contrast gets its words' lengths."""
    offsets = tuple(match.span() for match in re.finditer(r"\w+|[^\w\s]", text))
    pieces = tuple(text[start:end] for start, end in offsets)
    geometry = FitGeometry((12, 12), 12, "crop", (12, 12), (0, 0))
    layout = TokenLayout(text, pieces, offsets, ("<s>",), ("say",), (2, 2), geometry)
    tokenizer = SimpleNamespace(encode=lambda words, add_bos: [len(w) for w in words.split()])
    model = SimpleNamespace(tokenizer=tokenizer)
    return SimpleNamespace(
        text=text,
        layout=layout,
        select=layout.select,
        generation=SimpleNamespace(token_ids=tuple(range(100, 100 + len(pieces)))),
        need_model=lambda: model,
    )


class PlainRows:
    """A watcher that attends by plain products of rows, which keep their gradients."""

    def __init__(self) -> None:
        self.rows = {}

    def __call__(self, call):
        rows = self.rows[call.tower, call.layer] = attention_rows(call)
        groups = call.query.shape[1] // call.value.shape[1]
        return (rows @ call.value.repeat_interleave(groups, dim=1)).transpose(1, 2)
