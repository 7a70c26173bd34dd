"""Names of a package that are imported on first use, so that importing the package costs nothing.

    if not TYPE_CHECKING:
        __getattr__, __dir__ = lazy_names(__name__, {"run": ".running"}, __all__)

A checker of types takes a module with `__getattr__` to have every name, so it must not see it: it
reads the imports under `if TYPE_CHECKING` instead.

Does not know: what the names are.
Source: PEP 562, module `__getattr__` and `__dir__`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazy_names(
    package: str, owners: Mapping[str, str], exported: Iterable[str], *, modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package.

    Args:
        package: its `__name__`.
        owners: name -> module that owns it, relative (".running") or absolute.
        exported: all names that `dir` lists.
        modules: names that are modules of the package themselves.
    """

    def __getattr__(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name in owners:
            value = getattr(importlib.import_module(owners[name], package), name)
            setattr(sys.modules[package], name, value)
            return value
        raise AttributeError(f"module {package!r} has no attribute {name!r}; see dir({package})")

    def __dir__() -> list[str]:
        return sorted(exported)

    return __getattr__, __dir__
