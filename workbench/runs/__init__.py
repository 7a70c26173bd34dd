"""Runs: a model over a whole manifest, in one folder that survives a crash.

    result = wb.run("manifest.parquet", tasks=["report", {"ask": "Is there a pneumothorax?"}],
                    out="runs/first")
    result.to_frame()
    wb.runs.load("runs/first")
    wb.runs.model_card("runs/first")

Kill a run at any time and run the same call again: it resumes, and ends with the results of an
uninterrupted one. Names are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.runs.plan import ENGINES as ENGINES
    from workbench.runs.plan import RunPlan as RunPlan
    from workbench.runs.plan import Task as Task
    from workbench.runs.result import RunResult as RunResult
    from workbench.runs.result import load as load
    from workbench.runs.running import run as run
    from workbench.runs.sharing import model_card as model_card
    from workbench.runs.sharing import report_pairs as report_pairs
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
