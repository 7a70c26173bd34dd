"""Imports point only to lower levels, everywhere, also inside functions (ARCHITECTURE.md)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "workbench"

#: The top: re-exports and entry points may import everything, and nothing imports them.
TOP = "top"

#: A package, and the module of a higher level of which it hands on a public name at its first use.
HANDED_ON = {
    ("workbench.finetune", "workbench.widgets.monitor"),
    ("workbench.review", "workbench.widgets.reader"),
    ("workbench.review", "workbench.widgets.reviewer"),
}


def read_levels(page: str) -> dict[str, int]:
    """Module name -> rank, from the first two columns of the table in ARCHITECTURE.md."""
    levels: dict[str, int] = {}
    rows = re.findall(r"^\| (L\d+\w?|top) \| (.+?) \|", page, flags=re.MULTILINE)
    for rank, (_, cell) in enumerate(rows):
        for name in re.findall(r"`(\w+)`", cell):
            levels[name] = rank
    return levels


def level_labels(page: str) -> list[str]:
    return re.findall(r"^\| (L\d+\w?|top) \|", page, flags=re.MULTILINE)


def imported_modules(tree: ast.AST, module: str) -> list[tuple[int, str]]:
    """(line, top-level module below workbench) of every import in a file; "" is the package."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if (module, base) in HANDED_ON:
                continue
            if node.level:
                parts = module.split(".")[: -node.level]
                base = ".".join([*parts, base] if base else parts)
            if base == "workbench":
                found += [(node.lineno, alias.name) for alias in node.names]
            elif base.startswith("workbench."):
                found.append((node.lineno, base.split(".")[1]))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "workbench":
                    found.append((node.lineno, alias.name.partition(".")[2].partition(".")[0]))
    return found


def violations(source: str, module: str, levels: dict[str, int]) -> list[str]:
    """What is wrong with the imports of one module, as readable lines."""
    own = module.split(".")[1]
    problems = []
    for line, target in imported_modules(ast.parse(source), module):
        where = f"{module}:{line}"
        if target == own:
            continue
        if target not in levels:
            problems.append(f"{where} imports workbench.{target}, which has no level")
        elif levels[target] >= levels[own]:
            problems.append(f"{where} imports {target} from its own level or a higher one")
    return problems


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
LEVELS = read_levels(PAGE)
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def test_table_is_in_order():
    labels = level_labels(PAGE)
    assert labels == sorted(labels, key=lambda s: (s == TOP, int(re.sub(r"\D", "", s) or 0), s))
    assert len(labels) == len(set(labels)), "a level appears twice"


def test_table_lists_exactly_the_modules_that_exist():
    here = {
        p.stem if p.is_file() else p.name
        for p in PACKAGE.iterdir()
        if p.suffix == ".py" or (p / "__init__.py").is_file()
    }
    assert set(LEVELS) == here - {"__init__"}


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down(path):
    assert violations(path.read_text(encoding="utf-8"), module_name(path), LEVELS) == []


#: What only CXR-LLaVA's own layers may name: its network's parts, its engine.
OWNERS = ("model", "generation", "backends", "interface")
INTERNALS = {"llama", "lm_head", "vision_tower", "conv1", "mm_projector", "responder"}


def named_internals(source: str) -> list[str]:
    """Attributes of a file that only the model's own layers may name, and imports of the engine."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in INTERNALS:
            found.append(f"line {node.lineno} names .{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "workbench.generation.engine":
            names = {alias.name for alias in node.names} - {"pixels_sha256"}
            found += [f"line {node.lineno} imports {name}" for name in sorted(names)]
    return found


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if module_name(p).split(".")[1] not in OWNERS],
    ids=module_name,
)
def test_only_the_model_layers_name_parts_of_the_network(path):
    assert named_internals(path.read_text(encoding="utf-8")) == []


def test_a_named_part_of_the_network_is_caught():
    source = (
        "from workbench.generation.engine import Engine\nx = model.responder.engine.model.llama"
    )
    assert len(named_internals(source)) == 3


def test_only_the_command_that_trains_mini_imports_recipes():
    importing = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] == "recipes" for name in names):
                assert node not in tree.body, f"{module_name(path)} imports recipes when imported"
                importing.add(module_name(path))
    assert importing == {"workbench.commands.train"}


def test_package_init_imports_only_the_version_and_what_imports_the_rest():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    eager = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = {alias.name for node in eager for alias in node.names}
    assert names == {"annotations", "TYPE_CHECKING", "__version__", "lazy_names"}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("from workbench.interface import load_model", "imports interface"),
        (
            "def f():\n    from workbench.evaluation.scorecard import score",
            "imports evaluation",
        ),
        ("import workbench.phantom.scene", "imports phantom"),
        ("from ..cli import main", "imports cli"),
        ("import workbench as wb", "which has no level"),
        ("from workbench import load_model", "which has no level"),
        ("from workbench.nowhere import x", "which has no level"),
    ],
)
def test_violation_is_caught(source, problem):
    found = violations(source, "workbench.imaging.reader", LEVELS)
    assert len(found) == 1
    assert problem in found[0]


def test_allowed_imports_pass():
    source = (
        "from workbench import findings\nfrom workbench.errors import InputError\nimport numpy\n"
    )
    assert violations(source, "workbench.imaging.reader", LEVELS) == []
    assert (
        violations("from workbench.imaging.dicom import x", "workbench.imaging.reader", LEVELS)
        == []
    )
