"""A pretend accelerator: two devices that compute as the CPU does and refuse to mix."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch

import workbench as wb
from tests.accelerator import FIRST, SECOND, MixedDevices, pretend_accelerator
from tests.backends.families import kept
from tests.helpers import GOLDEN
from tests.mutations import noticed, places
from tests.paths import PATHS, Subject, on_one, split_over_two
from workbench.backends.checks import check, need_all
from workbench.generation.token_step import TokenStep

KINDS = {"cpu", "cuda", "mps", "meta", "xpu"}


def asked(tree: ast.AST) -> list[int]:
    """Lines that compare a device's kind, or talk to a GPU."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            names = {side.attr for side in sides if isinstance(side, ast.Attribute)}
            words = {one.value for side in sides for one in ast.walk(side)
                     if isinstance(one, ast.Constant) and isinstance(one.value, str)}  # fmt: skip
            if "type" in names and words & KINDS:
                lines.append(node.lineno)
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if (owner == "torch" and node.attr in {"cuda", "mps", "xpu", "accelerator"}) or (
                node.attr in {"is_cuda", "is_cpu", "is_mps"}
            ):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "code",
    ["x.device.type == 'cuda'", "'cpu' != d.type", "d.type in ('cuda', 'mps')",
     "torch.cuda.is_available()", "weight.is_cuda"],
)  # fmt: skip
def test_a_question_for_the_kind_of_a_device_is_seen(code):
    assert asked(ast.parse(code)) == [1]


def test_only_one_file_asks_what_kind_a_device_is_of(root: Path):
    place = root / "workbench/model/placement.py"
    found = {
        str(file.relative_to(root)): lines
        for file in sorted((root / "workbench").rglob("*.py"))
        if (lines := asked(ast.parse(file.read_text(encoding="utf-8"))))
    }
    assert found.pop(str(place.relative_to(root)))
    assert found == {}, "ask workbench.model.placement instead"


def test_devices_refuse_to_mix_in_both_directions():
    with pretend_accelerator():
        here, there = (torch.randn(3, 4).to(one).requires_grad_() for one in (FIRST, SECOND))
        for wrong in (
            lambda: here + there,
            lambda: here + torch.ones(4),
            lambda: torch.ones(5)[torch.tensor([1], device=FIRST)],
            lambda: torch.stack([here, here.to(SECOND)]),
        ):
            with pytest.raises(MixedDevices, match="on one device"):
                wrong()
        with pytest.raises(TypeError, match=r"use \.cpu"):
            here.detach().numpy()
        (here.to(SECOND) * there).sum().backward()
        assert here.grad.device == FIRST and there.grad.device == SECOND
        assert torch.equal(here.grad.cpu(), there.detach().cpu())
        assert torch.zeros(2, device=SECOND).device == SECOND
    with pytest.raises((RuntimeError, ImportError)):
        torch.zeros(2, device=FIRST)


def results(subject: Subject, names) -> dict[str, np.ndarray]:
    return {f"{name}: {key}": value for name in names
            for key, value in PATHS[name](subject).items()}  # fmt: skip


@contextmanager
def as_on_an_accelerator(*, split: bool) -> Iterator[None]:
    """Let the CPU take the ways of an accelerator, so that both use the same kernels."""
    with ExitStack() as stack:
        for module in ("generation.engine", "generation.token_step", "model.packed"):
            stack.enter_context(patch(f"workbench.{module}.on_cpu", lambda _: False))
        if split:
            stack.enter_context(patch.object(TokenStep, "of", lambda *_: None))
        yield


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    made = kept(tmp_path_factory.mktemp("families"))
    return lambda name: (
        {"tiny": GOLDEN / "checkpoints/A_tiny", "mini": "mini"}.get(name) or made(name)
    )


#: What of mini is computed: the tiny checkpoint is of the same classes, and takes every path.
SOME = ("encode", "report", "batch", "trace", "attention", "relevancy", "grad_cam", "learn")


@pytest.mark.parametrize(
    ("name", "put"),
    [("mini", split_over_two), ("tiny", split_over_two), ("tiny", on_one),
     ("llava", split_over_two)],
)  # fmt: skip
def test_a_model_on_accelerators_gives_what_it_gives_on_the_cpu_to_the_bit(source, name, put):
    names = SOME if name == "mini" else tuple(PATHS)
    directory = source(name)
    with as_on_an_accelerator(split=put is split_over_two):
        model = wb.load_model(directory, device="cpu", dtype="float32")
        wanted = results(Subject(model), names)
    with put(directory):
        model = wb.load_model(directory)
        places = {weight.device for weight in model.network.parameters()}
        assert places == ({FIRST} if put is on_one else {FIRST, SECOND})
        found = results(Subject(model), names)
    assert found.keys() == wanted.keys() and len(found) > len(names)
    apart = [key for key in wanted if not np.array_equal(found[key], wanted[key], equal_nan=True)]
    assert apart == []


@pytest.mark.parametrize("name", ["llava", "gemma3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checks_of_a_checkpoint_hold_on_two_devices_and_in_bfloat16(source, name, dtype):
    with split_over_two(source(name), dtype):
        model = wb.load_model(source(name))
        assert model.network.dtype == dtype
        need_all(check(model))


#: One place of each of some files, by what it is followed by.
TAKEN_OUT = {
    "generation/kvcache.py": "torch.tensor(rows, device=",
    "generation/responder.py": "torch.tensor(list(tokens), device=",
    "trace/record.py": "torch.tensor(generation.token_ids, device=",
    "saliency/checks.py": "mask.to(",
    "finetune/encoding.py": "rows.to(states",
}


@pytest.mark.parametrize("file", TAKEN_OUT)
def test_a_device_that_is_taken_out_is_noticed(source, file):
    (place,) = [one for one in places(file) if one.text.startswith(TAKEN_OUT[file])]
    with split_over_two(source("tiny")):

        def fresh() -> Subject:
            return Subject(wb.load_model(source("tiny")))

        assert "MixedDevices" in noticed(place, fresh)
