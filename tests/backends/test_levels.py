"""Every public analysis states which level of model it needs, and refuses below it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator

import pytest

import workbench as wb
from workbench.backends.levels import LEVELS, READER, needs
from workbench.bench.levels import PACKAGES
from workbench.errors import OptionError

pytest.importorskip("openai")

#: What a function calls the model, or the run of one, that it looks into.
MODELS = ("model", "trace", "before", "after")


def analyses() -> Iterator[tuple[str, Callable]]:
    """Yield every public function that takes a model, and the `report` of each mitigation."""
    for package in PACKAGES:
        for name in package.__all__:
            value = getattr(package, name)
            found = getattr(value, "report", None) if isinstance(value, type) else value
            if inspect.isfunction(found) and set(inspect.signature(found).parameters) & {*MODELS}:
                yield f"{package.__name__}.{name}", found


ANALYSES = dict(analyses())


@pytest.fixture(scope="module")
def endpoint():
    return wb.load_model("http://127.0.0.1:9/v1", name="served")


@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis_states_its_level_and_refuses_below_it(endpoint, name):
    run = ANALYSES[name]
    assert run.level in LEVELS and f"Level: {run.level}" in run.__doc__
    if run.level != READER:
        return
    parameters = inspect.signature(run).parameters.values()
    given = {
        one.name: endpoint if one.name in MODELS else None
        for one in parameters
        if one.default is one.empty and one.kind is not one.VAR_KEYWORD
    }
    with pytest.raises(
        OptionError, match=r"needs a reader.*served is behind.*load_model"
    ) as caught:
        run(**given)
    assert str(caught.value).startswith(run.__qualname__)
    assert str(caught.value).count(". ") == 0  # one sentence


def test_there_are_as_many_as_are_listed():
    assert len(ANALYSES) > 30
    table = wb.levels()
    assert set(table["level"]) == set(LEVELS) and table["analysis"].is_unique
    listed = set(table["analysis"])
    assert {name.removeprefix("workbench.") for name in ANALYSES} <= listed
    assert {"evaluation.score", "model.trace", "hallucination.PollAndRewrite"} <= listed
    order = [LEVELS.index(level) for level in table["level"]]
    assert order == sorted(order)


def test_models_know_their_level(endpoint):
    assert endpoint.level == "writer" and wb.load_model("mini").level == "reader"
    for ask in (endpoint.trace, endpoint.encode):
        with pytest.raises(OptionError, match=r"needs a reader.*load_model\(DIRECTORY\)"):
            ask(None)


def test_an_unknown_level_is_refused():
    with pytest.raises(OptionError, match="level"):
        needs("insides")
