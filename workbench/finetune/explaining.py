"""Maps and grounding of the same few cases before and after: does the model still look?

For each finding that a case shows and a report states: does the relevancy map point into what was
drawn, and how much of the statement does the image carry? A gain in F1 with maps that point
nowhere, or with statements that need no image, is a gain in habit.

Does not know: whether a statement is true beyond what the case knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.findings import PRESENT
from workbench.finetune.cases import Case
from workbench.hallucination import ground
from workbench.interface import ChestXrayModel
from workbench.reports import label
from workbench.saliency import checks, explain

#: What is put in the place of the image; two, for the time of many would be that of training.
ABLATIONS = ("blank", "noise")


def explained_rows(
    before: ChestXrayModel, after: ChestXrayModel, cases: Sequence[Case]
) -> tuple[dict[str, Any], ...]:
    """Return one row per case, model and finding that is there or stated.

    Columns: case, when ("before", "after"), finding, drawn, stated, points (True, False or None
    where there is no map or no mask), contribution (nats that the image adds to the statement).
    """
    rows = []
    for case in cases:
        for when, model in (("before", before), ("after", after)):
            rows += _rows(model, case, when)
    return tuple(rows)


def _rows(model: ChestXrayModel, case: Case, when: str) -> list[dict[str, Any]]:
    image = case.load()
    report = model.report(image)
    stated = label(report.text).present
    truth = [name for name, code in case.codes.items() if code == PRESENT]
    names = [name for name in dict.fromkeys([*truth, *stated]) if name != "no finding"]
    trace = model.trace(image, report) if set(stated) & set(names) else None
    contributions = _contributions(trace) if trace is not None else {}
    regions = case.regions()
    return [
        {
            "case": case.id,
            "when": when,
            "finding": name,
            "drawn": name in truth,
            "stated": name in stated,
            "points": _points(trace, name, regions) if name in stated else None,
            "contribution": contributions.get(name),
        }
        for name in names
    ]


def _points(trace: Any, finding: str, regions: Any) -> bool | None:
    if finding not in regions or not np.any(regions[finding]):
        return None
    try:
        found = explain(trace, finding=finding, method="relevancy")
        return bool(checks.pointing(found, regions[finding]))
    except WorkbenchError:
        return None


def _contributions(trace: Any) -> dict[str, float]:
    frame = ground(trace, ablations=ABLATIONS).findings()
    found = frame.groupby("finding")["contribution"].max()
    return {name: float(value) for name, value in found.items()}
