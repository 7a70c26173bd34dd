"""Every public name has an example in the reference, and every example prints what it shows."""

from __future__ import annotations

import contextlib
import doctest
import inspect

import matplotlib.pyplot as plt
import pytest

from docs.fences import SERVED, run
from docs.site.documentation import public_names
from docs.site.examples import TRAINED, example, set_up, shown_by, without_example
from tests.backends.test_endpoint import Server, reply

NAMES = public_names()
#: Module that lists an object first, where its example runs.
FIRST = {id(value): module for module in reversed(NAMES) for value in NAMES[module].values()}
ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_every_public_name_has_an_example():
    assert without_example(NAMES) == []


def test_classes_of_equal_name_are_shown_each_by_what_returns_it():
    equal = {
        module: owned["Comparison"] for module, owned in NAMES.items() if "Comparison" in owned
    }
    assert {module: shown_by(value, NAMES)[0] for module, value in equal.items()} == {
        module: f"wb.{module}.compare" for module in equal
    }
    assert len(equal) > 1


def test_a_name_that_no_example_shows_is_found():
    alike = type("Comparison", (), {"__doc__": "Not what any `compare` returns."})
    also = {"own": {"Comparison": alike, "silent": lambda: None}}
    assert without_example(NAMES | also) == ["wb.own.Comparison", "wb.own.silent"]


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What `docs.site.examples.SETUP` makes, once, in a folder of its own."""
    with contextlib.chdir(tmp_path_factory.mktemp("examples")):
        yield set_up()


@pytest.fixture(scope="module")
def served():
    server = Server(reply("There is a pleural effusion."))
    yield server.url.split("/")[2]
    server.stop()


@pytest.mark.parametrize("module", NAMES)
def test_examples_print_what_they_show(module, names, served):
    if module == "finetune":
        run(TRAINED, names, source="examples")
    runner = doctest.DocTestRunner(optionflags=ELLIPSIS, verbose=False)
    said: list[str] = []
    for name, value in NAMES[module].items():
        if callable(value) and FIRST[id(value)] == module and (text := example(value)):
            shared = {**names, "__name__": name}
            lines = text.replace(SERVED, served)
            place = inspect.getsourcefile(value)
            test = doctest.DocTestParser().get_doctest(lines, shared, name, place, None)
            runner.run(test, out=said.append)
            plt.close("all")
    assert said == []
