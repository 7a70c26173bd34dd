"""Imports point only to lower levels and never in a circle, everywhere (ARCHITECTURE.md).

Imports inside functions count, those for types and those by name too. What a package's `__init__`
hands on counts as an import of the module that owns it, by whoever imports it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "workbench"

#: The top: re-exports and entry points may import everything, and nothing imports them.
TOP = "top"


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


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(nodes: ast.AST, module: str) -> Iterator[tuple[int, str, str]]:
    """(line, module, name or "") of every import in a tree; by name where the text is known."""
    for node in ast.walk(nodes):
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")[: -node.level]
                base = ".".join([*parts, base] if base else parts)
            for alias in node.names:
                yield node.lineno, base, alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            given = node.args[0]
            parts = given.values if isinstance(given, ast.JoinedStr) else [given]
            said = parts[0].value if isinstance(parts[0], ast.Constant) else ""
            yield node.lineno, str(said).rstrip("."), ""


def handed_on(tree: ast.Module, module: str) -> dict[str, tuple[str, str]]:
    """Name -> (module, name there) of what a package's `__init__` imports at its top."""
    blocks = [node for node in tree.body if isinstance(node, (ast.If, ast.ImportFrom))]
    return {
        name: (base, name)
        for block in blocks
        for _, base, name in imports(block, module)
        if name and base.startswith("workbench")
    }


def owner(base: str, name: str, names: Mapping[str, dict]) -> str:
    """The module that an import is of, behind the packages that hand its name on."""
    if f"{base}.{name}" in names:
        return f"{base}.{name}"
    if name in names.get(base, {}):
        return owner(*names[base][name], names)
    return base


def imported_modules(
    tree: ast.Module, module: str, names: Mapping[str, dict]
) -> list[tuple[int, str]]:
    """(line, module below workbench) of every import in a file; "workbench" is the package."""
    is_package = bool(names.get(module))
    if is_package:  # what it hands on counts where it is taken
        tree = ast.Module([node for node in tree.body if not isinstance(node, ast.If)], [])
    found = [(line, owner(base, name, names)) for line, base, name in imports(tree, module)]
    return [(line, target) for line, target in found if target.split(".")[0] == "workbench"]


def violations(
    source: str, module: str, levels: dict[str, int], names: Mapping[str, dict]
) -> list[str]:
    """What is wrong with the imports of one module, as readable lines."""
    own = module.split(".")[1]
    problems = []
    for line, imported in imported_modules(ast.parse(source), module, names):
        where = f"{module}:{line}"
        target = imported.partition(".")[2].partition(".")[0]
        if target == own:
            continue
        if target not in levels:
            problems.append(f"{where} imports {imported}, which has no level")
        elif levels[target] >= levels[own]:
            problems.append(f"{where} imports {target} from its own level or a higher one")
    return problems


PAGE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
LEVELS = read_levels(PAGE)
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
#: Module -> the names that it hands on, for packages; no names for others.
NAMES = {
    module_name(path): handed_on(ast.parse(path.read_text(encoding="utf-8")), module_name(path))
    if path.name == "__init__.py"
    else {}
    for path in FILES
}


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
    assert violations(path.read_text(encoding="utf-8"), module_name(path), LEVELS, NAMES) == []


def circle(trees: Mapping[str, ast.Module], names: Mapping[str, dict]) -> list[str]:
    """The modules of one import circle, each importing the one before; none where there is none."""
    graph = {
        module: {target for _, target in imported_modules(tree, module, names)} - {module}
        for module, tree in trees.items()
        if not names[module]
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_no_files_import_each_other_in_a_circle():
    trees = {module_name(path): ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
    assert circle(trees, NAMES) == []


def test_a_circle_through_a_package_is_caught():
    names: dict = {"workbench.a": {}, "workbench.b.one": {}}
    names["workbench.b"] = {"f": ("workbench.b.one", "f")}
    trees = {
        "workbench.a": ast.parse("def g():\n    from workbench.b import f"),
        "workbench.b": ast.parse("from workbench.b.one import f"),
        "workbench.b.one": ast.parse("import_module('workbench.a')"),
    }
    assert set(circle(trees, names)) == {"workbench.a", "workbench.b.one"}


#: What only CXR-LLaVA's own layers may name: its network's parts, its engine.
OWNERS = ("model", "generation", "backends", "interface")
INTERNALS = {"llama", "lm_head", "vision_tower", "conv1", "mm_projector"}


def named_internals(source: str) -> list[str]:
    """Attributes of a file that only the model's own layers may name, and imports of the engine."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and (
            node.attr in INTERNALS
            or (node.attr == "engine" and ast.unparse(node.value).endswith("model"))
        ):
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
    source = "from workbench.generation.engine import Engine\nx = model.engine.model.llama"
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
        ("importlib.import_module('workbench.widgets.reader')", "imports widgets"),
        ("import_module(f'workbench.commands.{name}')", "imports commands"),
        ("from workbench.review import app", "imports widgets"),
    ],
)
def test_violation_is_caught(source, problem):
    found = violations(source, "workbench.imaging.reader", LEVELS, NAMES)
    assert len(found) == 1
    assert problem in found[0]


def test_allowed_imports_pass():
    source = (
        "from workbench import findings\nfrom workbench.errors import InputError\nimport numpy\n"
    )
    assert violations(source, "workbench.imaging.reader", LEVELS, NAMES) == []
    assert (
        violations(
            "from workbench.imaging.dicom import x", "workbench.imaging.reader", LEVELS, NAMES
        )
        == []
    )
