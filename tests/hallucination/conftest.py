"""The reference checkpoints, mini, and a phantom with a plain finding on one side."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest

import workbench as wb
from tests.threads import one_thread  # noqa: F401 (a fixture)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@cache
def load(name: str):
    source = name if name == "mini" else GOLDEN / "checkpoints" / name
    return wb.load_model(source, device="cpu", dtype="float32")


@cache
def golden_trace(name: str):
    """Nine tokens of nonsense about a film whose sides differ."""
    model = load(name)
    film = wb.load_radiograph(GOLDEN / "images" / "grad_300x400.png")
    return model.trace(film, model.report(film, max_new_tokens=9))


@pytest.fixture(params=("A_tiny", "B_gqa_odd"))
def golden(request):
    """The trace of each reference checkpoint; the second has grouped queries."""
    return golden_trace(request.param)


@pytest.fixture(scope="session")
def tiny_trace():
    """The trace of the smaller reference checkpoint."""
    return golden_trace("A_tiny")


@pytest.fixture(scope="session")
def mini() -> SimpleNamespace:
    """`model`, `case` and `trace`: mini about a phantom with a left pleural effusion."""
    model = load("mini")
    case = wb.phantom(
        7, findings=["pleural effusion"], side="left", severity="moderate", size=model.image_size
    )
    return SimpleNamespace(model=model, case=case, trace=model.trace(case))


@pytest.fixture(autouse=True)
def no_figures():
    """No figure outlives its test."""
    yield
    from matplotlib import pyplot

    pyplot.close("all")
