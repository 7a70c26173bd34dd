"""Reports against references: score cards, comparisons, published figures, and their statistics.

    wb.evaluation.score(predictions, references)        reports against references: a score card
    wb.evaluation.save_card(card, "out/card")           its page, tables and figures
    wb.evaluation.compare(card, other)                  two systems on the same references
    wb.evaluation.compare("runs/a", "runs/b", table)    two models over one manifest
    wb.evaluation.judge(texts, references, model)       CRIMSON or RadMatch, by an endpoint
    wb.evaluation.published_table(card)                 the paper's tables, with ours beside
    wb.evaluation.score_boxes(boxes, cases)             boxes of texts against true ones

Everything is imported on first use. Models against known truth: `workbench.bench`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.evaluation.boxes import BoxScores as BoxScores
    from workbench.evaluation.boxes import score_boxes as score_boxes
    from workbench.evaluation.comparison import Comparison as Comparison
    from workbench.evaluation.comparison import compare as compare
    from workbench.evaluation.counts import POLICIES as POLICIES
    from workbench.evaluation.intervals import Estimate as Estimate
    from workbench.evaluation.judges import Judgement as Judgement
    from workbench.evaluation.judges import judge as judge
    from workbench.evaluation.report_set import ReportSet as ReportSet
    from workbench.evaluation.report_set import read_reports as read_reports
    from workbench.evaluation.scorecard import ScoreCard as ScoreCard
    from workbench.evaluation.scorecard import score as score
    from workbench.evaluation.scorecard_page import published_table as published_table
    from workbench.evaluation.scorecard_page import save_card as save_card
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
