"""What a notebook or a traceback shows of a result is a line or two, however much it holds."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import workbench as wb
from workbench._repr import LONGEST, short_repr

#: Kinds of fields that may hold very much.
LARGE = ("ndarray", "DataFrame", "Tensor", "Float[", "Bool[", "Int[", "Radiograph", "Trace")
COLLECTIONS = ("Mapping", "dict", "tuple", "Sequence", "list")
SUBPACKAGES = (
    "attention", "bench", "data", "evaluation", "finetune", "generation", "hallucination",
    "imaging", "phantom", "radiograph", "reports", "review", "runs", "saliency", "trace", "widgets",
)  # fmt: skip


@dataclass
class Result:
    name: str
    n: int
    values: Any
    more: Any = None

    __repr__ = short_repr


class Wordy:
    def __repr__(self) -> str:
        return "word " * 500


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros((512, 512), np.float32), "<512 x 512 float32>"),
        (torch.zeros(3, 5, dtype=torch.bfloat16), "<3 x 5 bfloat16>"),
        (pd.DataFrame({"a": range(1000)}), "<1000 x 1 table>"),
        (tuple(range(1000)), "<1,000 items>"),
        ({f"key {n}": "word " * 50 for n in range(9)}, "<9 items>"),
        ({"nodule": np.ones((9, 9), bool)}, "<1 item>"),
        (("a", 1, None), "('a', 1, None)"),
        ({"seed": 3}, "{'seed': 3}"),
        (Wordy(), "<Wordy>"),
        (Path("a.csv"), None),
        (0.25, "0.25"),
        ("word " * 500, None),
    ],
)
def test_a_field_is_shown_whole_where_it_is_short(value, said):
    text = repr(Result("x", 3, value))
    assert len(text) <= LONGEST and "\n" not in text
    assert text.startswith("Result(name='x', n=3, values=")
    assert said is None or f"values={said}, more=None)" in text


def test_many_fields_are_cut_and_say_so():
    text = repr(Result("word " * 50, 10**40, "word " * 50, tuple("word " * 11)))
    assert len(text) <= LONGEST
    nested = repr(Result("x", 1, Result("word " * 50, 1, "word " * 50), ("word " * 50,) * 3))
    assert len(nested) <= LONGEST


def public_dataclasses() -> dict[str, type]:
    found = {}
    for name in SUBPACKAGES:
        package = importlib.import_module(f"workbench.{name}")
        modules = [package]
        for info in pkgutil.iter_modules(package.__path__, f"workbench.{name}."):
            modules.append(importlib.import_module(info.name))
        for module in modules:
            for key, value in vars(module).items():
                own = inspect.isclass(value) and value.__module__ == module.__name__
                if own and is_dataclass(value) and not key.startswith("_"):
                    found[f"{module.__name__}.{key}"] = value
    return found


def test_no_result_writes_out_all_that_it_holds():
    wordy = []
    for name, kind in public_dataclasses().items():
        code = getattr(inspect.unwrap(kind.__repr__), "__code__", None)
        made = code is not None and code.co_filename == "<string>"  # by dataclasses
        shown = [field for field in fields(kind) if field.repr]
        large = [f.name for f in shown if any(word in str(f.type) for word in LARGE)]
        shows = hasattr(kind, "_repr_html_") or hasattr(kind, "to_frame")
        many = [f.name for f in shown if shows and str(f.type).startswith(COLLECTIONS)]
        if made and (large or many or len(shown) > 12):
            wordy.append(f"{name}: {large + many}")
    assert wordy == []


@pytest.fixture(scope="module")
def results(tiny) -> dict[str, Any]:
    """One of each thing that a first hour in a notebook leaves in the last line of a cell."""
    model = wb.load_model(tiny, device="cpu")
    case = wb.phantom(seed=7, findings=["pleural effusion", "nodule"])
    report = model.report(case, max_new_tokens=12)
    trace = model.trace(case, report)
    labels = wb.reports.label(case.report)
    texts = {str(n): case.report for n in range(40)}
    card = wb.evaluation.score(texts, texts, resamples=10)
    other = wb.evaluation.score(texts, dict(texts), resamples=10, name="other")
    return {
        "case": case, "scene": case.scene, "image": case.image, "contract": case.image.contract,
        "model": model, "card": model.card, "report": report, "trace": trace,
        "layout": trace.layout, "map": wb.saliency.explain(trace, method="attention"),
        "labels": labels, "mention": labels.rows[0], "score": card, "pairs": card.pairs,
        "row": next(iter(card.per_finding.values())),
        "comparison": wb.evaluation.compare(card, other),
        "published": wb.evaluation.published_table({"x": card}),
        "checks": wb.hallucination.check_text(case.report),
        "errors": wb.hallucination.classify([case.report], [case]),
        "metrics": wb.reports.measure_texts(texts, texts, neural=False),
        "plan": wb.finetune.plan(), "recipe": wb.finetune.read_recipe("stage3_lora"),
        "source": wb.data.card("openi"), "size": wb.review.sample_size(0.05),
        "answer": model.ask(case, "Is there a nodule?", max_new_tokens=4),
    }  # fmt: skip


def test_results_are_a_line_or_two(results):
    long = {name: len(repr(value)) for name, value in results.items() if len(repr(value)) > LONGEST}
    assert long == {}


def test_a_phantom_shows_itself(results):
    case = results["case"]
    assert repr(case) == "<Phantom seed 7 (internal): pleural effusion, nodule; 512 x 512>"
    html = case._repr_html_()
    assert html.startswith('<img alt="Figure: phantom seed 7 (internal), outlined: pleural')
    assert case.report in html and "<script" not in html
    assert "no finding" in repr(wb.phantom(seed=1, findings=[]))
