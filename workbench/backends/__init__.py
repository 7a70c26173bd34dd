"""What a model offers to analyses: `Reader`, and the models that are one.

Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.backends.cxr_llava import CxrLlavaReader as CxrLlavaReader
    from workbench.backends.reader import Reader as Reader
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
