"""Take one `.to(device)` or `device=` out of the library at a time, and see which path notices.

    python -m tests.mutations          # all of them, by hand; the result is in LOG.md

A place is a call of `.to`, or a keyword `device=`, in a function of `FILES`. A function is changed
in memory, on the pretend accelerator of `tests.accelerator`, and put back.
"""

from __future__ import annotations

import ast
import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType

import workbench as wb
from tests.backends.families import FAMILIES
from tests.helpers import GOLDEN
from tests.paths import PATHS, Subject, on_one, split_over_two

ROOT = Path(__file__).resolve().parents[1]

#: File -> the paths that go through it.
FILES = {
    "model/llava.py": ("encode", "report", "relevancy", "learn"),
    "model/vision.py": ("encode",),
    "generation/engine.py": ("report", "batch", "dialogue", "detect"),
    "generation/kvcache.py": ("batch", "detect"),
    "generation/sampling.py": ("sampled", "report"),
    "generation/responder.py": ("detect", "batch"),
    "generation/token_step.py": ("report", "batch", "dialogue"),
    "backends/attending.py": ("trace", "relevancy"),
    "backends/reader.py": ("trace", "inside", "relevancy"),
    "backends/cxr_llava.py": ("relevancy", "inside"),
    "backends/transformers_vlm.py": ("encode", "report", "batch", "inside", "trace"),
    "backends/placing.py": ("trace", "relevancy", "smoothgrad", "adaptive_occlusion"),
    "trace/record.py": ("trace",),
    "attention/interventions.py": ("inside",),
    "attention/lens.py": ("inside",),
    "attention/patch_lens.py": ("inside",),
    "saliency/scorer.py": ("relevancy", "input_x_gradient", "adaptive_occlusion", "baselines"),
    "saliency/gradients.py": ("baselines", "relevancy", "grad_cam",
                              "integrated_gradients_patches"),
    "saliency/perturbation.py": ("kernel_shap", "adaptive_occlusion"),
    "saliency/checks.py": ("baselines",),
    "saliency/randomisation.py": ("baselines",),
    "finetune/encoding.py": ("learn",),
    "finetune/writing_stages.py": ("learn",),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """One `.to(...)` or `device=` of a file, the `number`-th that `ast.walk` meets."""

    file: str
    number: int
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.text}"


def _spots(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if any(word.arg == "device" for word in node.keywords):
                yield node, "device="
            elif isinstance(node.func, ast.Attribute) and node.func.attr == "to" and node.args:
                yield node, ".to"


def places(file: str) -> list[Place]:
    """Every place of a file below workbench/."""
    tree = ast.parse((ROOT / "workbench" / file).read_text(encoding="utf-8"))
    return [
        Place(file, n, node.lineno, ast.unparse(node)[:90])
        for n, (node, _) in enumerate(_spots(tree))
        if "cpu" not in ast.unparse(node)
    ]


class _Without(ast.NodeTransformer):
    def __init__(self, call: ast.Call, kind: str) -> None:
        self.call, self.kind = call, kind

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if node is not self.call:
            return node
        kept = [word for word in node.keywords if word.arg != "device"]
        if self.kind == "device=" and (node.args or kept):
            node.keywords = kept
            return node
        rest = [one for one in node.args if "dtype" in ast.unparse(one)]
        rest += [word.value for word in kept if word.arg == "dtype"]
        node.args, node.keywords = rest, []
        return node if rest else node.func.value  # ty: ignore


def _codes(code: CodeType) -> Iterator[CodeType]:
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield one
            yield from _codes(one)


@contextmanager
def without(place: Place) -> Iterator[None]:
    """Take a place out of its function within a block."""
    path = ROOT / "workbench" / place.file
    tree = ast.parse(path.read_text(encoding="utf-8"))
    call, kind = list(_spots(tree))[place.number]
    changed = ast.fix_missing_locations(_Without(call, kind).visit(tree))
    future = compile(changed, str(path), "exec", dont_inherit=True)
    made = {(code.co_qualname, code.co_firstlineno): code for code in _codes(future)}
    found: list[tuple[FunctionType, CodeType]] = []
    gc.unfreeze()  # what is frozen is not listed
    for one in gc.get_objects():
        if type(one) is FunctionType and one.__code__.co_filename == str(path):
            new = made.get((one.__code__.co_qualname, one.__code__.co_firstlineno))
            if new is not None:
                found.append((one, one.__code__))
                one.__code__ = new
    try:
        yield
    finally:
        for function, code in found:
            function.__code__ = code


def noticed(place: Place, fresh: Callable[[], Subject]) -> str:
    """Return the path that stops without a place, and how; "" where none does."""
    with without(place):
        for name in FILES[place.file]:
            try:
                PATHS[name](fresh())
            except Exception as error:
                return f"{name}: {type(error.__cause__ or error).__name__}"
    return ""


def _on(source: Path, put: Callable, left: list[Place]) -> list[Place]:
    """Print which places of a list are noticed on a model, and return the others."""
    with put(source):
        subject = Subject(wb.load_model(source))

        def fresh() -> Subject:
            subject.model.forget_images()
            return subject

        def trained() -> Subject:
            return Subject(wb.load_model(source))

        silent = []
        for place in left:
            found = noticed(place, trained if "learn" in FILES[place.file] else fresh)
            print(f"{source.name} {put.__name__} | {place} | {found}", flush=True)
            silent += [place] * (not found)
        return silent


def main() -> None:
    left = [one for file in FILES for one in places(file)]
    whole = len(left)
    with tempfile.TemporaryDirectory() as folder:
        llava = FAMILIES["llava"](Path(folder) / "llava")
        for source in (GOLDEN / "checkpoints/A_tiny", llava):
            for put in (split_over_two, on_one):
                left = _on(source, put, left)
    print(f"{whole - len(left)} of {whole} noticed; not noticed:", *left, sep="\n")


if __name__ == "__main__":
    main()
