"""The truth table of saliency: which method's maps point at what was drawn.

Every case is a phantom with one finding that the model's report states (true positives only: a
map of a finding that was not seen has no truth). Every method explains the same target, the
sentence that states the finding against its opposite, and is scored against the drawn mask. Beside
it stand two kinds of baseline that any method must beat: fixed maps (lungs, middle, noise), and the
same method asked about another finding of the same report, scored against the same mask.

Does not know: how maps are made (`workbench.saliency`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from workbench._store import StoredResults
from workbench.errors import OptionError, unknown_name
from workbench.evaluation.phantom_exam import FIRST_HELD_OUT_SEED, warn_of_seen
from workbench.evaluation.saliency_table import SaliencyTable, tabulate
from workbench.evaluation.workers import run_left
from workbench.findings import PHANTOM_FINDINGS, PRESENT, standard_name
from workbench.phantom.case import Phantom, phantom
from workbench.reports import Labels, label
from workbench.saliency import (
    METHODS,
    Target,
    check_target,
    checks,
    explain_target,
    finding_target,
)
from workbench.trace import ImageMap, Trace

logger = logging.getLogger(__name__)

#: Options that keep a table of hundreds of cases affordable; everything else is at its default.
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "smoothgrad": {"samples": 8},
    "integrated_gradients": {"tolerance": 0.05, "most": 48},
    "integrated_gradients_patches": {"tolerance": 0.05, "most": 48},
    "occlusion": {"stride": 32, "window": 64},
    "adaptive_occlusion": {"stride": 16, "window": 48, "budget": 80},
    "kernel_shap": {"samples": 96},
}

#: Methods that take several seconds a map; they are run on the first cases only.
SLOW = (
    "integrated_gradients",
    "integrated_gradients_patches",
    "occlusion",
    "adaptive_occlusion",
    "kernel_shap",
)

#: Slow methods are asked about another phrase too on one in so many of their cases; odd, so that
#: all of the eight findings take part.
OTHER_OF_SLOW = 5

FIXED: Mapping[str, Callable[[ImageMap, int], ImageMap]] = {
    "lung prior": lambda like, seed: checks.lung_prior(like),
    "centre prior": lambda like, seed: checks.centre_prior(like),
    "random": lambda like, seed: replace(
        like, values=np.random.default_rng(seed).random(like.grid), method="random"
    ),
}


@dataclass(frozen=True)
class MapScore:
    """One map against the truth.

    Attributes:
        method: name of the method or fixed baseline.
        kind: "method", "other phrase" or "fixed".
        seed: of the phantom.
        finding: what was drawn.
        pointing: the greatest cell touches the mask.
        energy: share of the positive sum inside the mask.
        iou: overlap of the mask with as many of the greatest cells.
        seconds: wall time of the map; 0 for fixed ones.
        similarity: size of the rank correlation with the map of random weights, at the stage that
            changes it least; None where not checked, or where a map was constant.
    """

    method: str
    kind: str
    seed: int
    finding: str
    pointing: bool
    energy: float
    iou: float
    seconds: float = 0.0
    similarity: float | None = None


def benchmark_saliency(
    model: Any,
    *,
    n: int = 300,
    seed: int = FIRST_HELD_OUT_SEED,
    methods: Sequence[str] | None = None,
    findings: Sequence[str] = PHANTOM_FINDINGS,
    slow_cases: int = 48,
    randomised_cases: int = 10,
    jobs: int = 1,
    kept: str | Path | None = None,
    progress: bool = True,
) -> SaliencyTable:
    """Score all methods on `n` single-finding phantoms of the internal domain.

    Args:
        model: a `ChestXrayModel`.
        n: phantoms to draw, findings in turn; those whose report misses the finding are left out
            and counted.
        seed: phantoms have the seeds seed .. seed + n - 1.
        methods: names in `METHODS`; all when None.
        findings: what is drawn; names or synonyms of what phantoms can have.
        slow_cases: phantoms, the first ones, on which the methods of `SLOW` are run too; every row
            of the table says how many cases it has. `n` runs them on all.
        randomised_cases: cases among those in which every method is checked with random weights.
        jobs: processes; each loads the model from where this one was loaded.
        kept: a JSON Lines file in which every finished phantom is kept; a run that was stopped goes
            on from it.
        progress: whether to show a progress bar.

    Raises:
        OptionError: a method or finding is unknown, there is none, a number is below its least, or
            `kept` is of other weights or options.
    """
    methods = tuple(METHODS) if methods is None else check_methods(methods)
    findings = tuple(standard_name(name) for name in findings)
    if not findings:
        raise OptionError("name at least one finding, or leave findings out for all")
    if n < 1 or jobs < 1 or slow_cases < 1 or seed < 0 or randomised_cases < 0:
        raise OptionError(
            "expected n, jobs and slow_cases of 1 or more, seed and randomised_cases of 0 or more; "
            f"got {n}, {jobs}, {slow_cases}, {seed} and {randomised_cases}"
        )
    warn_of_seen(seed, logger)
    orders = _orders(n, seed, methods, findings, min(slow_cases, n), randomised_cases)
    identity = asdict(model.identity)
    head = {"settings": {"sha256": identity["sha256"], "options": OPTIONS}}
    book = StoredResults(kept, head, encode=_encoded, decode=_decoded)
    results = run_left(model, score_case, orders, book, jobs=jobs, progress=progress)
    missed = sum(found is None for found in results)
    scores = [score for found in results for score in found or ()]
    return tabulate(
        scores,
        methods=methods,
        drawn=n,
        missed=missed,
        seed=seed,
        provenance=identity,
    )


def check_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of methods, each once.

    Raises:
        OptionError: there is none, or one is not in `METHODS`.
    """
    if odd := [name for name in names if name not in METHODS]:
        raise OptionError(unknown_name("method", odd[0], METHODS, of="some of"))
    if not names:
        raise OptionError("name at least one method, or leave methods out for all")
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class Order:
    """One phantom to be explained.

    Attributes:
        seed: of the phantom.
        finding: what it has.
        methods: names in `METHODS`.
        other_of_slow: whether slow methods are asked about the other finding too.
        check: whether methods are checked with random weights.
    """

    seed: int
    finding: str
    methods: tuple[str, ...]
    other_of_slow: bool
    check: bool


def _encoded(order: Order, scores: list[MapScore] | None) -> dict:
    found = None if scores is None else [asdict(score) for score in scores]
    return {"order": asdict(order), "scores": found}


def _decoded(row: dict) -> tuple[Order, list[MapScore] | None]:
    order = Order(**row["order"] | {"methods": tuple(row["order"]["methods"])})
    return order, row["scores"] and [MapScore(**score) for score in row["scores"]]


def _orders(
    n: int,
    seed: int,
    methods: Sequence[str],
    findings: Sequence[str],
    slow_cases: int,
    randomised_cases: int,
) -> list[Order]:
    """Return what to do with each phantom; findings take turns, so the first ones have them all."""
    slow = range(slow_cases)
    count = min(randomised_cases, slow_cases)
    # An odd step meets all of the eight findings.
    step = (slow_cases // max(count, 1) - 1) | 1
    checked = {at * step for at in range(count)}
    fast = tuple(name for name in methods if name not in SLOW)
    return [
        Order(
            seed + at,
            findings[at % len(findings)],
            tuple(methods) if at in slow else fast,
            at in slow[::OTHER_OF_SLOW],
            at in checked,
        )
        for at in range(n)
    ]


def score_case(model: Any, order: Order) -> list[MapScore] | None:
    """Return the scores of all methods and baselines on one phantom; None where it was missed."""
    case = phantom(order.seed, findings=[order.finding], size=model.image_size)
    report = model.report(case)
    labels = label(report.text)
    if labels.code(order.finding) != PRESENT:
        return None
    trace = model.trace(case, report)
    target = finding_target(trace, order.finding)
    other = _other_target(trace, labels, target, order)
    found: list[MapScore] = []
    for name in order.methods:
        options = OPTIONS.get(name, {})
        image_map = explain_target(trace, target, method=name, **options)
        likeness = None
        if order.check:
            check = check_target(trace, target, method=name, original=image_map, **options)
            likeness = None if check.worst is None else abs(check.worst)
        found.append(_scored(image_map, name, "method", case, order, likeness))
        if other is not None and (name not in SLOW or order.other_of_slow):
            elsewhere = explain_target(trace, other, method=name, **options)
            found.append(_scored(elsewhere, name, "other phrase", case, order))
    found += [
        _scored(make(_blank(trace), order.seed), name, "fixed", case, order)
        for name, make in FIXED.items()
    ]
    return found


def _other_target(trace: Trace, labels: Labels, target: Target, order: Order) -> Target | None:
    """Return the target of another finding in another sentence; None where there is none."""
    names = [row.finding for row in labels.rows if row.finding in PHANTOM_FINDINGS]
    others = [finding_target(trace, name) for name in names if name != order.finding]
    others = [other for other in others if other.selection.start != target.selection.start]
    return others[order.seed % len(others)] if others else None


def _blank(trace: Trace) -> ImageMap:
    return ImageMap(
        np.zeros(trace.layout.grid), trace.layout.geometry, trace.image, "blank", "nothing"
    )


def _scored(
    image_map: ImageMap,
    name: str,
    kind: str,
    case: Phantom,
    order: Order,
    likeness: float | None = None,
) -> MapScore:
    mask = case.masks[order.finding]
    return MapScore(
        name,
        kind,
        order.seed,
        order.finding,
        checks.pointing(image_map, mask),
        checks.energy(image_map, mask),
        checks.overlap(image_map, mask),
        image_map.seconds if kind != "fixed" else 0.0,
        likeness,
    )


__all__ = ["FIXED", "OPTIONS", "MapScore", "Order", "benchmark_saliency", "score_case"]
