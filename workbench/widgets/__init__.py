"""Apps for notebook and browser: look into a model, judge its errors, read blinded, watch training.

    wb.explore(model, image)                     any word of the report, and where it comes from
    wb.explore(model, image, against=other)      two images or two models side by side
    wb.review.app("runs/x", reviewer="AB")       the errors of a run, a verdict by one key
    workbench.widgets.StudyApp(study, reader="AB", images="radiographs.parquet")
    workbench.widgets.monitor("runs/fracture")   a fine-tuning run while it trains

Each app is one widget with its own small JavaScript, which asks nothing of any network; state that
matters lives in Python, so that a page may be reloaded and a widget shown twice. Names are imported
on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench._lazy import lazy_names

if TYPE_CHECKING:
    from workbench.widgets.explorer import Explorer as Explorer
    from workbench.widgets.explorer import explore as explore
    from workbench.widgets.monitor import Monitor as Monitor
    from workbench.widgets.monitor import monitor as monitor
    from workbench.widgets.reader import StudyApp as StudyApp
    from workbench.widgets.reviewer import Reviewer as Reviewer
    from workbench.widgets.reviewer import app as app
else:  # a checker of types would take `__getattr__` for every name
    __all__, __getattr__, __dir__ = lazy_names(__name__, __file__)
