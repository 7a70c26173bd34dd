"""Reports against references, and models and saliency methods against known truth.

    wb.evaluation.score(predictions, references)        reports against references: a score card
    wb.evaluation.compare(card, other)                  two systems on the same references
    wb.evaluation.published_table(card)                 the paper's tables, with ours beside
    wb.evaluation.examine(model)                        findings in reports about phantoms
    wb.evaluation.benchmark_saliency(model, n=16)       maps against what was drawn

Score cards and the saliency benchmark are imported on first use (pandas; torch and every method).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.evaluation.bars import Bar as Bar
    from workbench.evaluation.comparison import Comparison as Comparison
    from workbench.evaluation.comparison import compare as compare
    from workbench.evaluation.exam_result import PhantomExam as PhantomExam
    from workbench.evaluation.intervals import Estimate as Estimate
    from workbench.evaluation.phantom_exam import FIRST_HELD_OUT_SEED as FIRST_HELD_OUT_SEED
    from workbench.evaluation.phantom_exam import examine as examine
    from workbench.evaluation.phantom_scores import DomainScore as DomainScore
    from workbench.evaluation.phantom_scores import ExamCase as ExamCase
    from workbench.evaluation.phantom_scores import FindingScore as FindingScore
    from workbench.evaluation.policies import POLICIES as POLICIES
    from workbench.evaluation.published import published_table as published_table
    from workbench.evaluation.report_set import ReportSet as ReportSet
    from workbench.evaluation.report_set import read_reports as read_reports
    from workbench.evaluation.saliency_benchmark import benchmark_saliency as benchmark_saliency
    from workbench.evaluation.saliency_table import SaliencyRow as SaliencyRow
    from workbench.evaluation.saliency_table import SaliencyTable as SaliencyTable
    from workbench.evaluation.scorecard import score as score
    from workbench.evaluation.scorecard_result import ScoreCard as ScoreCard
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
