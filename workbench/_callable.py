"""Make a subpackage callable, so that `wb.phantom(seed=7)` and `wb.phantom.contact_sheet` coexist.

Importing `workbench.phantom` binds the module to the name `phantom` of the package, whatever a
lazy `__getattr__` had in mind. The module therefore has to be what users call. Its class is
exchanged for a subclass of `ModuleType` with `__call__`, which Python allows for modules
(`__class__` assignment, PEP 549 discussion and the data model, section 3.3.2.1). The function is
imported on the first call or when its signature is asked for, not when the subpackage is.

Does not know: what the function does.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType


def make_callable(module_name: str, function_path: str) -> None:
    """Make a module that is being imported callable.

    Call it at the end of the subpackage's `__init__`:
    `make_callable(__name__, "workbench.phantom.case:phantom")`.

    Args:
        module_name: the `__name__` of the subpackage.
        function_path: "package.module:function", resolved at the first call.
    """
    target_module, _, function_name = function_path.partition(":")

    def resolve() -> Callable:
        return getattr(importlib.import_module(target_module), function_name)

    class CallableModule(ModuleType):
        """A module that can also be called like the function it is named after."""

        def __call__(self, *args, **kwargs):
            return resolve()(*args, **kwargs)

        @property
        def __signature__(self) -> inspect.Signature:
            return inspect.signature(resolve())

    sys.modules[module_name].__class__ = CallableModule
