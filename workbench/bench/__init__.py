"""Benchmarks over cases with known truth: saliency, detectors, mitigation, and an examination.

    wb.bench.examine(model)                       findings in reports about phantoms
    wb.bench.benchmark_saliency(model, n=16)      maps against what was drawn
    wb.bench.benchmark_hallucination(model)       which detectors tell the truth
    wb.bench.benchmark_mitigation(model)          what mitigation mends and what it breaks

All four go through `run_tasks` (resumable, in several processes) and return a `BenchTable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.bench.detector_table import DetectorTable as DetectorTable
    from workbench.bench.detectors import benchmark_hallucination as benchmark_hallucination
    from workbench.bench.detectors import judge_case as judge_case
    from workbench.bench.detectors import judge_cases as judge_cases
    from workbench.bench.exam_scores import DomainScore as DomainScore
    from workbench.bench.exam_scores import FindingScore as FindingScore
    from workbench.bench.examination import PhantomExam as PhantomExam
    from workbench.bench.examination import examine as examine
    from workbench.bench.keys import PhantomKey as PhantomKey
    from workbench.bench.keys import Radiographs as Radiographs
    from workbench.bench.levels import levels as levels
    from workbench.bench.loop import BenchTable as BenchTable
    from workbench.bench.mitigation import MitigationTable as MitigationTable
    from workbench.bench.mitigation import benchmark_mitigation as benchmark_mitigation
    from workbench.bench.saliency import benchmark_saliency as benchmark_saliency
    from workbench.bench.saliency_table import SaliencyTable as SaliencyTable
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
