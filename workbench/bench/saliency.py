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
from pathlib import Path
from typing import Any

import numpy as np

from workbench.backends.levels import READER, needs
from workbench.bench.loop import PhantomKey, check_numbers, run_tasks
from workbench.bench.saliency_table import MapScore, SaliencyTable, tabulate
from workbench.errors import OptionError, unknown_name
from workbench.findings import PHANTOM_FINDINGS, PRESENT
from workbench.interface import ChestXrayModel
from workbench.phantom import Phantom
from workbench.reports import Labels, label
from workbench.saliency import METHODS, Target, check_target, checks, explain_target, finding_target
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
    """

    key: PhantomKey
    finding: str
    methods: tuple[str, ...]
    other_of_slow: bool = False
    check: bool = False


@needs(READER)
def benchmark_saliency(
    model: ChestXrayModel,
    *,
    n: int = 300,
    seed: int = FIRST_HELD_OUT_SEED,
    methods: Sequence[str] | None = None,
    slow_cases: int = 48,
    randomised_cases: int = 10,
    jobs: int = 1,
    kept: str | Path | None = None,
    progress: bool = True,
) -> SaliencyTable:
    """Score all methods on `n` single-finding phantoms of the internal domain.

    Args:
        n: phantoms to draw, findings in turn; those whose report misses the finding are left out
            and counted.
        seed: phantoms have the seeds seed .. seed + n - 1; below 10,000,000 they are not unseen.
        methods: names in `METHODS`; all when None.
        slow_cases: phantoms, the first ones, on which the methods of `SLOW` are run too; every row
            of the table says how many cases it has. `n` runs them on all.
        randomised_cases: cases among those in which every method is checked with random weights.

    Raises:
        OptionError: a method is unknown, there is none, a number is too small, or `kept` is of
            other weights or options.
    """
    methods = tuple(METHODS) if methods is None else check_methods(methods)
    check_numbers(1, n=n, slow_cases=slow_cases)
    check_numbers(0, seed=seed, randomised_cases=randomised_cases)
    results = run_tasks(
        model,
        score_case,
        _tasks(n, seed, methods, min(slow_cases, n), randomised_cases),
        kind=list[MapScore] | None,
        benchmark="saliency",
        options={"options": OPTIONS},
        seed=seed,
        kept=kept,
        jobs=jobs,
        progress=progress,
    )
    return tabulate(
        [score for found in results for score in found or ()],
        methods=methods,
        drawn=n,
        missed=sum(found is None for found in results),
        seed=seed,
        provenance=asdict(model.identity),
    )


def check_methods(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of methods, each once; raise `OptionError` for none, or an unknown one."""
    if odd := [name for name in names if name not in METHODS]:
        raise OptionError(unknown_name("method", odd[0], METHODS, of="some of"))
    if not names:
        raise OptionError("name at least one method, or leave methods out for all")
    return tuple(dict.fromkeys(names))


def _tasks(
    n: int, seed: int, methods: Sequence[str], slow_cases: int, randomised_cases: int
) -> list[SaliencyTask]:
    """Return what to do with each phantom; findings take turns, so the first ones have them all."""
    slow = range(slow_cases)
    count = min(randomised_cases, slow_cases)
    # An odd step meets all of the eight findings.
    step = (slow_cases // max(count, 1) - 1) | 1
    checked = {at * step for at in range(count)}
    fast = tuple(name for name in methods if name not in SLOW)
    tasks = []
    for at in range(n):
        finding = PHANTOM_FINDINGS[at % len(PHANTOM_FINDINGS)]
        key = PhantomKey(seed + at, findings=(finding,))
        own = tuple(methods) if at in slow else fast
        tasks.append(SaliencyTask(key, finding, own, at in slow[::OTHER_OF_SLOW], at in checked))
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
    found: list[MapScore] = []
    for name in task.methods:
        options = OPTIONS.get(name, {})
        image_map = explain_target(trace, target, method=name, **options)
        likeness = None
        if task.check:
            check = check_target(trace, target, method=name, original=image_map, **options)
            likeness = None if check.worst is None else abs(check.worst)
        found.append(_scored(image_map, name, "method", case, task.finding, likeness))
        if other is not None and (name not in SLOW or task.other_of_slow):
            elsewhere = explain_target(trace, other, method=name, **options)
            found.append(_scored(elsewhere, name, "other phrase", case, task.finding, None))
    grid, geometry = trace.layout.grid, trace.layout.geometry
    blank = ImageMap(np.zeros(grid), geometry, trace.image, "blank", "nothing")
    for name, make in FIXED.items():
        found.append(_scored(make(blank, case.seed), name, "fixed", case, task.finding, None))
    return found


def _other_target(
    trace: Trace, labels: Labels, target: Target, finding: str, seed: int
) -> Target | None:
    """Return the target of another finding in another sentence; None where there is none."""
    names = [row.finding for row in labels.rows if row.finding in PHANTOM_FINDINGS]
    others = [finding_target(trace, name) for name in names if name != finding]
    others = [other for other in others if other.selection.start != target.selection.start]
    return others[seed % len(others)] if others else None


def _scored(
    image_map: ImageMap, name: str, kind: str, case: Phantom, finding: str, likeness: float | None
) -> MapScore:
    mask, seconds = case.masks[finding], image_map.seconds if kind != "fixed" else 0.0
    hit, energy = checks.pointing(image_map, mask), checks.energy(image_map, mask)
    iou = checks.overlap(image_map, mask)
    return MapScore(name, kind, case.seed, finding, hit, energy, iou, seconds, likeness)
