"""Names of a package that are imported on first use; and a package that can be called.

    if TYPE_CHECKING:
        from workbench.runs.running import run as run
    else:
        __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)

The imports that a checker of types reads are the only list: they are read from the file itself. A
checker takes a module with `__getattr__` to have every name, so it must not see that.
Source: PEP 562; the data model, section 3.3.2.1, `__class__` assignment of modules.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any


def lazy_names(
    package: str, file: str, *, modules: Iterable[str] = ()
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__all__`, `__getattr__` and `__dir__` of a package.

    `modules` are names that are modules of the package itself, though they can be called.
    """
    owners = dict(_imports(file)) | dict.fromkeys(modules, package)
    names = sorted(owners)

    def __getattr__(name: str) -> Any:
        if name not in owners:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}; see dir({package})"
            )
        if owners[name] == package:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(owners[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return names, __getattr__, lambda: names


def _imports(file: str) -> list[tuple[str, str]]:
    """Return each name imported under `if TYPE_CHECKING`, and the module that owns it."""
    return [
        (alias.name, str(node.module))
        for block in ast.parse(Path(file).read_text(encoding="utf-8")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]


def make_callable(module_name: str, function_path: str) -> None:
    """Make a module that is being imported callable: `wb.phantom(seed=7)`.

    Importing `workbench.phantom` binds the module to the name `phantom` of the package, whatever a
    lazy `__getattr__` had in mind. So the module gets a class with `__call__`. `function_path` is
    "package.module:function", resolved at the first call.
    """

    class CallableModule(ModuleType):
        def __call__(self, *args, **kwargs):
            return resolve_name(function_path)(*args, **kwargs)

        @property
        def __signature__(self):
            from inspect import signature  # takes longer than importing the package

            return signature(resolve_name(function_path))

    sys.modules[module_name].__class__ = CallableModule
