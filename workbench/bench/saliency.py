"""The truth table of saliency: which method's maps point at what is there.

Every case has one finding with a mask, and the model's report states it (true positives only: a
map of a finding that was not seen has no truth). Every method explains the same target, the
sentence that states the finding against its opposite, and is scored against the mask. Beside it
stand two kinds of baseline that any method must beat: fixed maps (lungs, middle, noise), and the
same method asked about another finding of the same report, scored against the same mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from workbench.backends.levels import READER, needs
from workbench.bench.keys import CaseKey, PhantomKey, Radiographs, shown
from workbench.bench.loop import run_tasks
from workbench.bench.saliency_table import QUANTILE, MapScore, SaliencyTable, tabulate
from workbench.errors import OptionError, check_whole, unknown_name
from workbench.findings import PHANTOM_FINDINGS, PRESENT
from workbench.interface import ChestXrayModel
from workbench.phantom.case import DRAWN
from workbench.reports import Labels, label
from workbench.saliency import (
    METHODS,
    Target,
    check_target,
    checks,
    explain_target,
    finding_target,
    rests_on,
)
from workbench.saliency.methods import methods_for
from workbench.saliency.scorer import shared_encodes
from workbench.settings import FIRST_HELD_OUT_SEED
from workbench.trace import ImageMap, Trace

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
class SaliencyTask:
    """One case to be explained.

    Attributes:
        other_of_slow: whether slow methods are asked about the other finding too.
        check: whether methods are checked with random weights.
        causal: whether it is told if the report rests on what the mask shows.
    """

    key: CaseKey
    finding: str
    methods: tuple[str, ...]
    other_of_slow: bool = False
    check: bool = False
    causal: bool = False


@needs(READER)
def benchmark_saliency(
    model: ChestXrayModel,
    *,
    radiographs: Radiographs | None = None,
    domain: str | None = None,
    n: int | None = None,
    seed: int = FIRST_HELD_OUT_SEED,
    methods: Sequence[str] | None = None,
    slow_cases: int | None = None,
    randomised_cases: int | None = None,
    causal: bool = False,
    jobs: int = 1,
    kept: str | Path | None = None,
    progress: bool = True,
) -> SaliencyTable:
    """Score all methods on phantoms with a single finding, or on radiographs.

    Args:
        radiographs: a manifest with boxes or masks; every finding that a row says is present, and
            where, is a case. None draws phantoms.
        domain: of phantoms, "internal" (None), "external" or "ct".
        n: phantoms to draw (300), findings in turn, or cases of the manifest, the first ones (all).
            Those whose report misses the finding are left out and counted.
        seed: phantoms have the seeds seed .. seed + n - 1; below 10,000,000 they are not unseen.
        methods: names in `METHODS`; all that are defined for the model when None.
        slow_cases: cases, the first ones, on which the methods of `SLOW` are run too; every row
            of the table says how many cases it has. `n` runs them on all, None on a third of the
            cases, but 16 or more and 48 at most.
        causal: also tell in which cases the report rests on what the mask shows
            (`saliency.rests_on`), and how well maps do in those; seven passes a case at most.
        randomised_cases: cases among those in which every method is checked with random weights;
            None checks a tenth of the cases, 10 at most.

    Raises:
        OptionError: a method is unknown, there is none, a number is too small, or `kept` is of
            other weights or options.

    >>> quick = {"methods": ["attention"], "randomised_cases": 0, "progress": False}
    >>> wb.bench.benchmark_saliency(model, domain="internal", n=2, seed=100, **quick).domain
    'internal'
    """
    methods = methods_for(model) if methods is None else check_methods(methods)
    pairs = _cases(n, seed, radiographs, domain)
    slow = min(max(len(pairs) // 3, 16), 48) if slow_cases is None else slow_cases
    checked = min(-(-len(pairs) // 10), 10) if randomised_cases is None else randomised_cases
    check_whole(1, slow_cases=slow)
    check_whole(0, seed=seed, randomised_cases=checked)
    results = run_tasks(
        model,
        score_case,
        _tasks(pairs, methods, min(slow, len(pairs)), checked, causal),
        kind=list[MapScore] | None,
        benchmark="saliency",
        options={"options": OPTIONS},
        seed=seed,
        radiographs=radiographs,
        kept=kept,
        jobs=jobs,
        progress=progress,
    )
    return tabulate(
        [score for found in results for score in found or ()],
        methods=methods,
        drawn=len(pairs),
        missed=sum(found is None for found in results),
        seed=seed,
        provenance=asdict(model.identity),
    ).of(radiographs, domain)


def check_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of methods, each once; raise `OptionError` for none, or an unknown one."""
    if odd := [name for name in names if name not in METHODS]:
        raise OptionError(unknown_name("method", odd[0], METHODS, of="some of"))
    if not names:
        raise OptionError("name at least one method, or leave methods out for all")
    return tuple(dict.fromkeys(names))


def _cases(
    n: int | None, seed: int, radiographs: Radiographs | None, domain: str | None
) -> list[tuple[CaseKey, str]]:
    """Return cases with their finding; phantoms take turns, so the first ones have them all."""
    if n is not None:
        check_whole(1, n=n)
    if radiographs is not None:
        rows = radiographs.rows(n, seed, shown)
        every: list[tuple[CaseKey, str]] = [(key, name) for key, names in rows for name in names]
        return every[:n]
    count = 300 if n is None else n
    names = [PHANTOM_FINDINGS[at % len(PHANTOM_FINDINGS)] for at in range(count)]
    return [
        (PhantomKey(seed + at, domain or DRAWN[0], (name,)), name) for at, name in enumerate(names)
    ]


def _tasks(
    pairs: Sequence[tuple[CaseKey, str]],
    methods: Sequence[str],
    slow_cases: int,
    randomised_cases: int,
    causal: bool,
) -> list[SaliencyTask]:
    """Return what to do with each case."""
    slow = range(slow_cases)
    count = min(randomised_cases, slow_cases)
    # An odd step meets all of the eight findings.
    step = (slow_cases // max(count, 1) - 1) | 1
    checked = {at * step for at in range(count)}
    fast = tuple(name for name in methods if name not in SLOW)
    tasks = []
    for at, (key, finding) in enumerate(pairs):
        own = tuple(methods) if at in slow else fast
        asked = at in slow[::OTHER_OF_SLOW], at in checked
        tasks.append(SaliencyTask(key, finding, own, *asked, causal))
    return tasks


def score_case(model: ChestXrayModel, task: SaliencyTask) -> list[MapScore] | None:
    """Return the scores of all maps of one case; None where the report misses the finding."""
    case = task.key.open(model.image_size)
    report = model.report(case)
    labels = label(report.text)
    if labels.code(task.finding) != PRESENT:
        return None
    trace = model.trace(case, report)
    target = finding_target(trace, task.finding)
    other = _other_target(trace, labels, target, task.finding, case.seed)
    mask = case.masks[task.finding]
    causal = rests_on(trace, target, mask, seed=case.seed) if task.causal else None
    scored = partial(_scored, task=task, mask=mask, causal=causal)
    found: list[MapScore] = []
    for name in task.methods:
        options = _options(model, name)
        with shared_encodes():
            image_map = explain_target(trace, target, method=name, **options)
            likeness = None
            if task.check:
                check = check_target(trace, target, method=name, original=image_map, **options)
                likeness = None if check.worst is None else abs(check.worst)
            found.append(scored(image_map, name, "method", likeness))
            if other is not None and (name not in SLOW or task.other_of_slow):
                elsewhere = explain_target(trace, other, method=name, **options)
                found.append(scored(elsewhere, name, "other phrase"))
    grid, geometry = trace.layout.grid, trace.layout.geometry
    blank = ImageMap(np.zeros(grid), geometry, trace.image, "blank", "nothing")
    fixed = {name: make(blank, case.seed) for name, make in FIXED.items()}
    return found + [scored(image_map, name, "fixed") for name, image_map in fixed.items()]


def _options(model: ChestXrayModel, name: str) -> Mapping[str, Any]:
    """Return the options of a method; windows of pixels fit patches of 16 pixels only."""
    windows = not model.patchwise and "stride" in OPTIONS.get(name, {})
    return {} if windows else OPTIONS.get(name, {})


def _other_target(
    trace: Trace, labels: Labels, target: Target, finding: str, seed: int
) -> Target | None:
    """Return the target of another finding in another sentence; None where there is none."""
    names = [row.finding for row in labels.rows if row.finding in PHANTOM_FINDINGS]
    others = [finding_target(trace, name) for name in names if name != finding]
    others = [other for other in others if other.selection.start != target.selection.start]
    return others[seed % len(others)] if others else None


def _scored(
    image_map: ImageMap,
    name: str,
    kind: str,
    likeness: float | None = None,
    *,
    task: SaliencyTask,
    mask: np.ndarray,
    causal: bool | None,
) -> MapScore:
    iou_quantile, f1 = checks.at_quantile(image_map, mask, QUANTILE)
    return MapScore(
        name,
        kind,
        task.key.seed,
        task.finding,
        checks.pointing(image_map, mask),
        checks.energy(image_map, mask),
        checks.overlap(image_map, mask),
        image_map.seconds if kind != "fixed" else 0.0,
        likeness,
        iou_quantile,
        f1,
        causal,
        task.key.patient,
    )
