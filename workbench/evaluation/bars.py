"""The bars that a model trained on phantoms is held to, and whether they are reached.

Does not know: how to examine (`phantom_exam`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.evaluation.intervals import Estimate
from workbench.evaluation.phantom_scores import DomainScore
from workbench.findings import NODULE


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        metric: "macro_f1", "laterality", "false_per_normal" or "nodule f1".
        domain: "internal" or "external".
        limit: the bar itself.
        at_least: True when more is better.
        required: False for bars shown for information (the bar is stated for internal phantoms).
        value: what was measured; None where undefined or not examined.
        low: lower end of its interval.
        high: upper end.
        reached: whether the value reaches the bar; None where there is no value.
    """

    metric: str
    domain: str
    limit: float
    at_least: bool
    required: bool
    value: float | None
    low: float | None
    high: float | None
    reached: bool | None

    def __str__(self) -> str:
        verdict = {True: "reached", False: "NOT reached", None: "not measured"}[self.reached]
        value = "undefined" if self.value is None else f"{self.value:.3f}"
        sign = ">=" if self.at_least else "<="
        note = "" if self.required else " (for information)"
        return f"{self.domain} {self.metric} {value} {sign} {self.limit:.2f}: {verdict}{note}"


#: metric, domain, limit, at_least, required
BARS = (
    ("macro_f1", "internal", 0.85, True, True),
    ("macro_f1", "external", 0.65, True, True),
    ("laterality", "internal", 0.95, True, True),
    ("laterality", "external", 0.95, True, False),
    ("false_per_normal", "internal", 0.10, False, True),
    ("false_per_normal", "external", 0.10, False, False),
    ("nodule f1", "internal", 0.50, True, True),
    ("nodule f1", "external", 0.50, True, False),
)


def check_bars(scores: Mapping[str, DomainScore]) -> tuple[Bar, ...]:
    """Compare scores with every bar.

    Args:
        scores: domain -> score; a domain that is missing leaves its bars unmeasured.
    """
    bars = []
    for metric, domain, limit, at_least, required in BARS:
        found = _measured(scores.get(domain), metric)
        value = None if found is None else found.value
        reached = None if value is None else value >= limit if at_least else value <= limit
        low, high = (None, None) if found is None else (found.low, found.high)
        bars.append(Bar(metric, domain, limit, at_least, required, value, low, high, reached))
    return tuple(bars)


def _measured(score: DomainScore | None, metric: str) -> Estimate | None:
    if score is None:
        return None
    if metric == "nodule f1":
        return score.per_finding[NODULE].f1
    return getattr(score, metric)
