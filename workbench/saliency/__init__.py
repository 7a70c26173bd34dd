"""Where in the image a phrase comes from, by many methods, and whether their maps tell the truth.

wb.saliency.explain(trace, finding="pneumothorax", method="relevancy").plot()
wb.saliency.compare(trace, finding="pneumothorax").plot(masks=case.masks)
wb.saliency.counterfactual(trace, finding="pneumothorax", phantom=case).plot()
wb.saliency.randomisation(trace, finding="pneumothorax", method="grad_cam").ok
wb.saliency.explain_answer(model, image, "Is there a pneumothorax?").plot()    # endpoints too
wb.saliency.checks.pointing(image_map, mask)
"""

from workbench.saliency import checks
from workbench.saliency.counterfactual import Counterfactual, counterfactual, rests_on
from workbench.saliency.explain import (
    Comparison,
    compare,
    explain,
    explain_answer,
    explain_target,
)
from workbench.saliency.methods import METHODS, Method, methods_for
from workbench.saliency.randomisation import RandomisationCheck, check_target, randomisation
from workbench.saliency.scorer import Scorer, Target, finding_target, make_target

__all__ = [
    "METHODS",
    "Comparison",
    "Counterfactual",
    "Method",
    "RandomisationCheck",
    "Scorer",
    "Target",
    "check_target",
    "checks",
    "compare",
    "counterfactual",
    "explain",
    "explain_answer",
    "explain_target",
    "finding_target",
    "make_target",
    "methods_for",
    "randomisation",
    "rests_on",
]
