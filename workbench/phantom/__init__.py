"""Procedurally drawn chest phantoms with exactly known findings.

`phantom(seed)` draws one; `sample_scene` and `draw` do its two halves.
"""

from workbench._lazy import make_callable
from workbench.phantom.case import DOMAINS, Phantom, draw, phantom, sample_scene
from workbench.phantom.scene import Lesion, Scene

make_callable(__name__, "workbench.phantom.case:phantom")

__all__ = ["DOMAINS", "Lesion", "Phantom", "Scene", "draw", "phantom", "sample_scene"]
