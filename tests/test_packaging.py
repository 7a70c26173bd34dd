"""The package installs what it needs, ships what it promises, and imports nothing heavy."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import workbench as wb
from workbench._lazy import make_callable

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LESSON = "notebooks/00_start_here.ipynb"
HEAVY = ("torch", "transformers", "pandas", "matplotlib", "PIL", "numpy", "scipy", "pydicom")


def run(code: str, *, cwd: Path = ROOT) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


# --- importing ---------------------------------------------------------------------------------


def test_import_loads_nothing_heavy():
    code = f"import sys, workbench; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert run(code).strip() == "[]"


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom workbench.cli import build_parser\n"
        f"build_parser(); print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_pages_without_a_model_wait_for_no_network_library():
    heavy = ("torch", "transformers", "peft", "scipy.stats", "sklearn", "matplotlib.pyplot")
    pages = ", ".join(f"workbench.widgets.{name}" for name in ("reviewer", "reader", "monitor"))
    code = f"import sys, {pages}; print([name for name in {heavy!r} if name in sys.modules])"
    assert run(code).strip() == "[]"


@pytest.mark.parametrize("name", wb.__all__)
def test_public_name_resolves(name):
    assert getattr(wb, name) is not None
    assert name in dir(wb)


PACKAGES = sorted(path.parent.name for path in (ROOT / "workbench").glob("*/__init__.py"))


@pytest.mark.parametrize("package", ["", *(f".{name}" for name in PACKAGES if name != "commands")])
def test_type_checkers_see_every_public_name(package):
    module = importlib.import_module(f"workbench{package}")
    names = seen_by_checkers(Path(module.__file__))
    assert set(module.__all__) - set(names) == set()
    assert {name for name in module.__all__ if not hasattr(module, name)} == set()


def seen_by_checkers(path: Path) -> dict[str, str]:
    """Return the names that a module binds where a checker looks -> owner, "" its own."""
    found = {}
    for node in visible(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {name.id: "" for target in node.targets for name in ast.walk(target)
                      if isinstance(name, ast.Name)}  # fmt: skip
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ""
    return found


def visible(body: list[ast.stmt]):
    """Yield the statements of a module that a checker of types reads."""
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.body
        else:
            yield node


def test_no_module_hides_misspelt_names_from_type_checkers():
    paths = sorted((ROOT / "workbench").rglob("*.py"))
    hiding = [path.name for path in paths if "__getattr__" in seen_by_checkers(path)]
    assert hiding == []


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"no attribute 'load_modell'; see dir\(workbench\)"):
        _ = wb.load_modell


def test_phantom_is_callable_before_and_after_its_submodules_are_imported():
    code = (
        "import inspect, workbench as wb\n"
        "before = str(inspect.signature(wb.phantom))\n"
        "import workbench.phantom.scene\n"
        "print(callable(wb.phantom), str(inspect.signature(wb.phantom)) == before, before)"
    )
    first, same, signature = run(code).strip().split(" ", 2)
    assert (first, same) == ("True", "True")
    for option in ("seed", "findings", "domain", "size"):
        assert option in signature


def test_callable_module_calls_signs_and_stays_a_module(tmp_path, monkeypatch):
    package = tmp_path / "callme_pkg"
    package.mkdir()
    (package / "__init__.py").write_text('"""Documented."""\n')
    (package / "work.py").write_text("def double(*, number):\n    return 2 * number\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("callme_pkg")
    make_callable("callme_pkg", "callme_pkg.work:double")
    assert "callme_pkg.work" not in sys.modules
    assert module(number=21) == 42
    assert inspect.ismodule(module)
    assert str(inspect.signature(module)) == "(*, number)"
    assert module.__doc__ == "Documented."


# --- what is declared ---------------------------------------------------------------------------


def test_constraints_pin_every_requirement_within_its_range():
    pinned = pins()
    needed = PROJECT["dependencies"] + EXTRAS["demo"] + EXTRAS["test"] + EXTRAS["dev"]
    for text in needed:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"constraints.txt has no tested version of {name}"
        assert pinned[name] in requirement.specifier, text


def test_constraints_name_public_versions_only():
    assert pins()["torch"] == "2.13.0"
    assert [name for name, version in pins().items() if "+" in version] == []


def test_every_imported_library_is_declared():
    declared = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    optional = {canonicalize_name(Requirement(t).name) for extra in EXTRAS.values() for t in extra}
    owners = packages_distributions()
    missing = set()
    for path in (ROOT / "workbench").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in {n.partition(".")[0] for n in names}:
                if name in ("workbench", "recipes") or name in sys.stdlib_module_names:
                    continue
                sources = {canonicalize_name(d) for d in owners.get(name, [name])}
                if not sources & (declared | optional):
                    missing.add((path.name, name))
    assert missing == set()


def test_conda_environment_is_in_step():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    *plain, last = environment["dependencies"]
    assert plain[1:] == ["pip"]
    assert SpecifierSet(plain[0].removeprefix("python")) == SpecifierSet(PROJECT["requires-python"])
    constraint, editable = last["pip"]
    assert (ROOT / constraint.removeprefix("--constraint ")).is_file()
    extras = re.fullmatch(r"--editable \.\[(.+)\]", editable)[1].split(",")
    assert set(extras) <= set(EXTRAS)


def test_version_is_said_once():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == wb.__version__
    assert citation["license"] == PROJECT["license"]
    assert f"## [{wb.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


# --- what is shipped -----------------------------------------------------------------------------


@pytest.fixture
def source(tmp_path) -> Path:
    """What is needed to build the package, in a folder of its own."""
    for name in [*tracked(), LESSON, "pyproject.toml", "README.md", "LICENSE"]:
        target = tmp_path / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    return tmp_path / "source"


def tracked() -> list[str]:
    """Return the files of the package."""
    listed = subprocess.run(
        ["git", "ls-files", "workbench"], capture_output=True, text=True, cwd=ROOT
    )
    if listed.returncode:
        pytest.skip("needs the git repository to know which files belong to the package")
    return [name for name in listed.stdout.split("\n") if name and (ROOT / name).is_file()]


def test_wheel_holds_the_package_its_data_and_nothing_else(source, tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "-q", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "-w", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wheel = next(tmp_path.glob("*.whl"))
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name for name in names if ".dist-info/" not in name}
    data = f"cxr_llava_workbench-{wb.__version__}.data/data/share/cxr-llava-workbench/"
    assert inside == {*tracked(), data + Path(LESSON).name}
    assert "workbench/py.typed" in inside
    assert wheel.name.startswith(f"cxr_llava_workbench-{wb.__version__}-py3-none-any")


def test_editable_install_is_a_path_that_type_checkers_follow(source, tmp_path):
    code = f"from setuptools.build_meta import build_editable; build_editable({str(tmp_path)!r})"
    run(code, cwd=source)
    inside = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    (name,) = [name for name in inside.namelist() if ".dist-info/" not in name]
    assert name.endswith(".pth")
    (folder,) = inside.read(name).decode().split()
    assert (Path(folder) / "workbench" / "py.typed").is_file()


def test_no_tracked_file_is_above_30_megabytes():
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT)
    if tracked.returncode:
        pytest.skip("needs the git repository")
    paths = [ROOT / name for name in tracked.stdout.split("\n") if name]
    large = [p.name for p in paths if p.is_file() and p.stat().st_size > 30 * 1024 * 1024]
    assert large == []
