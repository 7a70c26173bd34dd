"""The truth table of detectors: which of them tells false statements from true ones.

Cases are reported; every finding that a report states as present is judged by every detector. A
detector's worth is the area under its ROC curve for "this stated finding is false", with the
baselines that it must beat: the token log-probability, and how often the finding occurs. With them
stands a combination: the calibration that is shipped for these weights, fitted on other seeds, or
else a cross-fitted one. Either way it never saw the case that it judges.

What it does not see: findings that were missed, and sides, zones and grades that are wrong
(`workbench.hallucination.taxonomy`). What counts as false is said by a policy, the same that score
cards have (`workbench.evaluation.POLICIES`): by the first, a statement about a finding that the
labels call uncertain, or of which nothing is known (one that phantoms cannot have), is left out and
counted.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

from workbench.backends.levels import READER, needs
from workbench.bench.detector_table import DetectorTable, tabulate
from workbench.bench.keys import CaseKey, Radiographs, case_keys
from workbench.bench.loop import run_tasks
from workbench.errors import InputError, OptionError, check_whole
from workbench.evaluation.counts import find_policy
from workbench.findings import NOT_MENTIONED, PHANTOM_FINDINGS
from workbench.hallucination.calibration import (
    WITH_PROBE,
    Calibration,
    JudgedCase,
    Statements,
    shipped_calibration,
)
from workbench.hallucination.detectors import DETECTORS, detect
from workbench.interface import ChestXrayModel
from workbench.phantom.case import DRAWN, sample_scene
from workbench.settings import FIRST_HELD_OUT_SEED

#: Seeds from which the frequency of findings is counted; not those of any benchmark.
_FREQUENCY_SEEDS = range(6_500_000, 6_500_400)


@needs(READER)
def benchmark_hallucination(
    model: ChestXrayModel,
    *,
    radiographs: Radiographs | None = None,
    domain: str | None = None,
    n: int | None = None,
    seed: int = FIRST_HELD_OUT_SEED,
    samples: int = 8,
    policy: str = "joint-definite",
    fit: float = 0.5,
    jobs: int = 1,
    kept: str | Path | None = None,
    progress: bool = True,
) -> DetectorTable:
    """Score all detectors on reports about phantoms, half of each domain, or about radiographs.

    Args:
        radiographs: a manifest with labels; a statement of which it says nothing is left out. None
            draws phantoms.
        domain: of phantoms, "internal", "external" or "ct"; None draws half of the first two.
        n, seed: see `workbench.bench.keys.case_keys`; 1000 phantoms, or every labelled row. Seeds
            below 10,000,000 are not unseen.
        samples: reports sampled for self-consistency and semantic entropy; 0 leaves both out.
        policy: what counts as false, a name in `workbench.evaluation.POLICIES`.
        fit: share of the patients on which a combination and a linear probe are fitted that the
            others measure (`DetectorTable.split`), in [0, 1); 0 leaves that out.

    Raises:
        OptionError: a number is too small or too great, the policy is unknown, or `kept` is of
            other weights or options.
        InputError: no report states any finding of which the policy says whether it is false.

    >>> quick = {"samples": 0, "progress": False}
    >>> wb.bench.benchmark_hallucination(model, domain="internal", n=2, seed=100, **quick).domain
    'internal'
    """
    find_policy(policy)
    if not 0 <= fit < 1:
        raise OptionError(f"fit is a share of the patients, from 0 to below 1, got {fit!r}")
    cases = judge_cases(
        model, radiographs=radiographs, domain=domain, n=n, seed=seed, samples=samples, jobs=jobs,
        kept=kept, progress=progress,
    )  # fmt: skip
    if not len(Statements.of(cases, policy).false):
        raise InputError(
            f"none of {len(cases)} reports states a finding of which anything is known; take more "
            "cases, or a model that reports on them"
        )
    return tabulate(
        cases,
        seed=seed,
        provenance=asdict(model.identity),
        calibration=_calibration(model, seed, "combination"),
        with_probe=_calibration(model, seed, WITH_PROBE),
        policy=policy,
        fit=fit,
    ).of(radiographs, domain)


@needs(READER)
def judge_cases(
    model: ChestXrayModel,
    *,
    radiographs: Radiographs | None = None,
    domain: str | None = None,
    n: int | None = None,
    seed: int = FIRST_HELD_OUT_SEED,
    samples: int = 0,
    jobs: int = 1,
    kept: str | Path | None = None,
    progress: bool = True,
) -> list[JudgedCase]:
    """Report on phantoms or radiographs and judge what is stated, for `Calibration.fit`.

    Options and errors are those of `benchmark_hallucination`. Phantoms to fit on have seeds below
    10,000,000.

    >>> len(wb.bench.judge_cases(model, domain="internal", n=1, seed=100, progress=False))
    1
    """
    check_whole(0, seed=seed, samples=samples)
    return run_tasks(
        model,
        partial(judge_case, samples=samples),
        case_keys(n, seed, radiographs, phantoms=1000, domain=domain),
        kind=JudgedCase,
        benchmark="hallucination",
        options={"samples": samples, "detectors": DETECTORS},
        seed=seed,
        radiographs=radiographs,
        kept=kept,
        jobs=jobs,
        progress=progress,
    )


def _calibration(model: ChestXrayModel, seed: int, name: str) -> Calibration | None:
    """Return a shipped calibration, unless these seeds may be what it was fitted on."""
    with suppress(InputError):
        return shipped_calibration(model, name) if seed >= FIRST_HELD_OUT_SEED else None
    return None


@needs(READER)
def judge_case(model: ChestXrayModel, key: CaseKey, *, samples: int = 0) -> JudgedCase:
    """Report on one case and judge every finding that the report states.

    >>> wb.bench.judge_case(model, wb.bench.PhantomKey(7, findings=("pleural effusion",))).truth
    ('present',)
    """
    case = key.open(model.image_size)
    trace = model.trace(case, heads="mean", vision="none")
    found = detect(trace, samples=samples, seed=case.seed, frequencies=finding_frequencies())
    return JudgedCase(
        case.seed,
        case.domain,
        found.findings,
        tuple(case.labels.get(name, NOT_MENTIONED) for name in found.findings),
        tuple(map(tuple, found.scores.tolist())),
        # four digits a number, as states are stored
        tuple(tuple(float(f"{value:.4g}") for value in row) for row in found.states),
        key.patient,
    )


@cache
def finding_frequencies() -> dict[str, float]:
    """Return how often each finding is drawn, over both domains; counted on seeds of its own."""
    counts: Counter[str] = Counter()
    for seed in _FREQUENCY_SEEDS:
        scene = sample_scene(seed, domain=DRAWN[seed % len(DRAWN)])
        counts.update({lesion.finding for lesion in scene.lesions})
    return {name: counts[name] / len(_FREQUENCY_SEEDS) for name in PHANTOM_FINDINGS}
