"""The examples of the reference: lines after `>>>` in docstrings, which tests run.

A function has its own. A class without one is shown by the example of a function whose annotation
says that it returns this very class; a constant is shown by its value.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from types import ModuleType

from docs.fences import commands, run
from workbench.cli import main

#: What every example starts from, in an empty folder: six phantoms on disk ...
SHELL = """\
workbench phantom --count 6 --size 256 --out images
workbench manifest build phantom --source images --out m.parquet
"""
#: ... and a model, one case, one run, one verdict, one examination.
SETUP = """\
import numpy as np
import pandas as pd

import workbench as wb

model = wb.load_model("mini")
case = wb.phantom(seed=7, findings=["pleural effusion"], side="left", size=256)
image = case.image
report = model.report(image)
trace = model.trace(image, report)

manifest = wb.data.load("m.parquet", root="images")
run = wb.run(manifest, model=model, root="images", out="runs/first")
queue = wb.review.queue(run, manifest=manifest, root="images")
notes = wb.review.open_annotations(run)
verdict = notes.add(queue.to_frame().iloc[0], verdict="unclear", reviewer="AB")
two = {"readers": ["AB", "CD"], "cases": 4, "washout": 1}
study = wb.reader_study(run, manifest=manifest, out="study", **two)
exam = wb.bench.examine(model, domains=["internal"], n=1, seed=100, progress=False)
"""
#: What those of `wb.finetune` start from besides: a training run of two steps.
TRAINED = """\
recipe = wb.finetune.read_recipe("stage3_lora").replace(
    data={"phantoms": {"count": 6, "unlabelled": 0}, "validation": 0.34},
    training={"epochs": 1, "batch_size": 4, "micro_batch": 4},
    evaluation={"times": 1, "cases": 2, "forgetting": 0, "explained": 0, "new_tokens": 4},
)
trained = wb.finetune.run(recipe, out="runs/trained")
"""

#: Public name -> object, by module; see `docs.site.documentation.public_names`.
Names = dict[str, dict[str, object]]
_EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


def set_up() -> dict[str, object]:
    """Run `SHELL` and `SETUP` in this folder; return the names that are made."""
    for line in commands(SHELL):
        main(line[1:])
    names: dict[str, object] = {}
    run(SETUP, names, source="examples")
    return names


def example(value: object) -> str:
    """Return the lines of an example in a docstring; of a class also those of its methods."""
    found = _EXAMPLE.findall(inspect.cleandoc(value.__doc__ or ""))  # `getdoc` would inherit
    if inspect.isclass(value):
        found += [example(one) for _, one in _members(value)]
    return "\n\n".join(filter(None, found))


def shown_by(value: object, names: Names) -> tuple[str, str]:
    """Return the function or method, and its example, that returns objects of a class."""
    for module, owned in names.items():
        for name, thing in owned.items():
            own = _members(thing) if inspect.isclass(thing) else [("", thing)]
            for member, made in own:
                if any(one is value for one in _returned(made)) and (lines := example(made)):
                    return ".".join(filter(None, (_place(module), name, member))), lines
    return "", ""


def without_example(names: Names) -> list[str]:
    """Return the public names that no example shows."""
    return [
        f"{_place(module)}.{name}"
        for module, owned in names.items()
        for name, value in owned.items()
        if callable(value) and not isinstance(value, ModuleType)
        and not example(value) and not (inspect.isclass(value) and shown_by(value, names)[1])
    ]  # fmt: skip


def _place(module: str) -> str:
    return "wb" if module == "workbench" else f"wb.{module}"


def _members(value: type) -> Iterator[tuple[str, object]]:
    """Yield the public methods that a class defines."""
    for name, thing in vars(value).items():
        made = getattr(thing, "__func__", thing)
        if inspect.isfunction(made) and not name.startswith("_"):
            yield name, made


def _returned(made: object) -> Iterator[object]:
    """Yield what the names in a return annotation stand for where the function was written."""
    made = inspect.unwrap(made) if callable(made) else made
    known = getattr(made, "__globals__", {})
    for word in re.findall(r"\w+", str(getattr(made, "__annotations__", {}).get("return", ""))):
        yield known.get(word)
