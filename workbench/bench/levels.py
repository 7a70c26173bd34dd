"""Which level of a model each analysis needs, as the analyses declare it themselves."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pandas as pd

from workbench import (
    attention,
    bench,
    evaluation,
    finetune,
    hallucination,
    interface,
    review,
    runs,
    saliency,
)
from workbench.backends.levels import LEVELS

#: Packages whose public functions are listed.
PACKAGES: tuple[ModuleType, ...] = (
    attention, saliency, hallucination, evaluation, runs, review, finetune, bench,
)  # fmt: skip


def levels() -> pd.DataFrame:
    """Return one row for each analysis: columns analysis, level, also.

    Levels are "texts", "writer" and "reader"; a later one does for an earlier. `also` is
    what is asked of a writer besides.

    >>> wb.levels().columns.tolist()
    ['analysis', 'level', 'also']
    """
    frame = pd.DataFrame(_rows(), columns=["analysis", "level", "also"])
    order = frame["level"].map(LEVELS.index)
    return frame.iloc[order.argsort(kind="stable")].reset_index(drop=True)


def _rows() -> Iterator[tuple[str, str, str]]:
    for package in (interface.ChestXrayModel, *PACKAGES):
        named = package.__name__.removeprefix("workbench.").replace("ChestXrayModel", "model")
        names = vars(package) if isinstance(package, type) else package.__all__
        for name in names:
            value = getattr(package, name)
            found = getattr(value, "report", None) if isinstance(value, type) else value
            if level := getattr(found, "level", None):
                yield f"{named}.{name}", level, getattr(found, "also", "")
