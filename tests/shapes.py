"""Check the shapes of arrays in signatures while tests run, in every module that declares some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook


def check_shapes(root: Path) -> None:
    """Have the shapes checked of all modules that are imported from now on, without listing them.

    Args:
        root: the repository.
    """
    modules = [
        ".".join(path.relative_to(root).with_suffix("").parts)
        for path in sorted((root / "workbench").rglob("*.py"))
        if "from jaxtyping import" in path.read_text(encoding="utf-8")
    ]
    install_import_hook(modules, "tests.shapes.checked")


def checked(function: Callable) -> Callable:
    """Return a function that checks those of its hints that have a shape.

    Other hints may name a Protocol, or a class for which a test has a stand-in.
    """
    hints = function.__annotations__
    hints.update((name, Any) for name, hint in hints.items() if not _has_shape(hint))
    return beartype(function)


def _has_shape(hint: object) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(_has_shape, get_args(hint)))
