"""Nothing unpickles, evaluates or trusts code that came with data; what ships holds no pickle."""

from __future__ import annotations

import ast
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
#: Modules that run code while they read data, or are made to.
MODULES = {"pickle", "cPickle", "_pickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
#: Functions of any module that do.
FUNCTIONS = {"read_pickle", "to_pickle", "unsafe_load", "full_load"}
#: Builtins that run text.
BUILTINS = {"eval", "exec", "compile", "__import__"}
#: Runs the code of this project's own pages, none from outside.
OWN_PAGES = "docs/fences.py"
_PICKLE = re.compile(rb"^\x80[\x02-\x05][\x00-\xff]*\.$", re.DOTALL)


def sources() -> list[tuple[str, str]]:
    """(name, Python text) of every file and every notebook that ships or is run from here."""
    found = []
    for folder in ("workbench", "recipes", "benchmarks", "docs"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.append((path.relative_to(ROOT).as_posix(), path.read_text("utf-8")))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for number, cell in enumerate(json.loads(path.read_text("utf-8"))["cells"]):
            if cell["cell_type"] == "code":
                text = "".join(cell["source"])
                lines = (
                    line for line in text.splitlines() if not line.lstrip().startswith(("%", "!"))
                )
                found.append((f"{path.name}, cell {number}", "\n".join(lines)))
    return found


def faults(text: str) -> list[str]:
    """What a text does that could run code from outside."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            found += [f"imports {n}" for n in names if n and n.split(".")[0] in MODULES]
        elif isinstance(node, ast.Call):
            found += _call_faults(node)
    return found


def _call_faults(node: ast.Call) -> list[str]:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    given = {word.arg: ast.unparse(word.value) for word in node.keywords}
    found = []
    if not owner and name in BUILTINS:
        found.append(f"calls {name}")
    if name in FUNCTIONS or (owner, name) in (("os", "system"), ("os", "popen")):
        found.append(f"calls {name}")
    if (owner, name) == ("torch", "load") and given.get("weights_only") != "True":
        found.append("torch.load without weights_only=True")
    if (owner, name) in (("np", "load"), ("numpy", "load")) and given.get(
        "allow_pickle"
    ) != "False":
        found.append("np.load without allow_pickle=False")
    if (owner, name) == ("yaml", "load") and "Safe" not in given.get("Loader", ""):
        found.append("yaml.load without a safe loader")
    if given.get("allow_pickle") == "True" or given.get("shell") == "True":
        found.append(f"{name} with allow_pickle or shell")
    if given.get("trust_remote_code", "False") != "False":
        found.append("trust_remote_code")
    return found


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from joblib import load", "eval('1')", "torch.load(p)", "np.load(p)",
        "torch.load(p, weights_only=False)", "f(trust_remote_code=True)", "yaml.load(t)",
        "pd.read_pickle(p)", "run(c, shell=True)", "os.system('x')",
        "np.load(p, allow_pickle=True)",
    ],
)  # fmt: skip
def test_the_search_finds(text):
    assert len(faults(text)) >= 1


def test_no_file_unpickles_or_runs_text():
    read = sources()
    assert len(read) > 300
    found = {name: wrong for name, text in read if (wrong := faults(text))}
    assert set(found.pop(OWN_PAGES)) == {"calls exec", "calls eval", "calls compile"}
    assert found == {}


def test_no_asset_is_a_pickle():
    found, seen = [], 0
    for folder in ("workbench", "recipes", "tests/golden", "data_manifests", "docs", "notebooks"):
        for path in (ROOT / folder).rglob("*"):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            seen += 1
            wrong = path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")
            if wrong or _PICKLE.match(path.read_bytes()) or _packs_a_pickle(path):
                found.append(path.relative_to(ROOT).as_posix())
    assert seen > 300
    assert found == []


def _packs_a_pickle(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith((".pkl", ".pickle")) for name in archive.namelist()):
            return True
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return any(arrays[name].dtype.hasobject for name in arrays.files)
    return False


def test_the_pickle_search_finds_one(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        _packs_a_pickle(tmp_path / "a.npz")
    assert _PICKLE.match(b"\x80\x04}\x94.")
