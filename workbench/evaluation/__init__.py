"""Examinations of a model, and of saliency methods, against known truth, with intervals.

    wb.evaluation.examine(model)                        findings in reports about phantoms
    wb.evaluation.benchmark_saliency(model, n=16)       maps against what was drawn

The saliency benchmark is imported on first use: it needs torch and every method.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from workbench.evaluation.bars import Bar
from workbench.evaluation.exam_result import PhantomExam
from workbench.evaluation.intervals import Estimate
from workbench.evaluation.phantom_exam import FIRST_HELD_OUT_SEED, examine
from workbench.evaluation.phantom_scores import DomainScore, ExamCase, FindingScore

if TYPE_CHECKING:
    from workbench.evaluation.saliency_benchmark import benchmark_saliency as benchmark_saliency
    from workbench.evaluation.saliency_table import SaliencyRow as SaliencyRow
    from workbench.evaluation.saliency_table import SaliencyTable as SaliencyTable

#: Names that are imported on first use, and the module that owns each.
_LATER = {
    "SaliencyRow": "workbench.evaluation.saliency_table",
    "SaliencyTable": "workbench.evaluation.saliency_table",
    "benchmark_saliency": "workbench.evaluation.saliency_benchmark",
}

__all__ = [
    "FIRST_HELD_OUT_SEED",
    "Bar",
    "DomainScore",
    "Estimate",
    "ExamCase",
    "FindingScore",
    "PhantomExam",
    "SaliencyRow",
    "SaliencyTable",
    "benchmark_saliency",
    "examine",
]


def __getattr__(name: str):
    """Import a name on first use and keep it."""
    if name in _LATER:
        value = getattr(importlib.import_module(_LATER[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'workbench.evaluation' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
