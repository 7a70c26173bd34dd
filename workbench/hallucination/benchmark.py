"""The truth table of detectors: which of them tells false statements from true ones.

Phantoms of both domains are drawn and reported; every finding that a report states as present is
judged by every detector, and the truth is what was drawn. A detector's worth is the area under its
ROC curve for "this stated finding is false", with the baselines that it must beat: the token
log-probability, and how often the finding occurs.

What it does not see: findings that were missed, and sides, zones and grades that are wrong
(`taxonomy`). Findings that phantoms cannot have are not stated by `mini`; where another model
states them they are left out and counted, since no drawing could have shown them.

Does not know: how a detector works (`detectors`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from workbench._store import StoredResults
from workbench.errors import InputError, OptionError
from workbench.evaluation.phantom_exam import (
    FIRST_HELD_OUT_SEED,
    both_domains,
    warn_of_seen,
)
from workbench.evaluation.workers import run_left
from workbench.findings import PHANTOM_FINDINGS
from workbench.hallucination.calibration import Calibration, shipped_calibration
from workbench.hallucination.detector_table import DetectorTable, tabulate
from workbench.hallucination.detectors import DETECTORS, detect
from workbench.phantom.case import DOMAINS, phantom, sample_scene

logger = logging.getLogger(__name__)

#: Seeds from which the frequency of findings is counted; not those of any benchmark.
_FREQUENCY_SEEDS = range(6_500_000, 6_500_400)


@dataclass(frozen=True)
class JudgedCase:
    """The stated findings of one phantom's report.

    Attributes:
        seed: of the phantom.
        domain: "internal" or "external".
        findings: stated as present, in the order of the report.
        false: per finding, whether it was not drawn.
        scores: per finding, one number for each of `DETECTORS`.
        left_out: findings stated that phantoms cannot have.
    """

    seed: int
    domain: str
    findings: tuple[str, ...]
    false: tuple[bool, ...]
    scores: tuple[tuple[float, ...], ...]
    left_out: tuple[str, ...] = ()


def judged_cases(
    path: str | Path | None, settings: Mapping[str, Any]
) -> StoredResults[tuple[int, str], JudgedCase]:
    """Return judged cases by (seed, domain), kept line by line in a file where one is named.

    Args:
        path: of a JSON Lines file; None stores nothing.
        settings: what the cases depend on besides seed and domain.

    Raises:
        OptionError: the file is of other settings.
    """
    head = {"settings": settings, "detectors": DETECTORS}
    return StoredResults(path, head, encode=_encoded, decode=_decoded)


def _encoded(key: tuple[int, str], case: JudgedCase) -> dict:
    scores = [[None if math.isnan(v) else v for v in one] for one in case.scores]
    return asdict(case) | {"scores": scores}


def _decoded(row: dict) -> tuple[tuple[int, str], JudgedCase]:
    row["scores"] = [[math.nan if v is None else v for v in one] for one in row["scores"]]
    case = JudgedCase(**{key: _tuples(value) for key, value in row.items()})
    return (case.seed, case.domain), case


def _tuples(value: Any) -> Any:
    """Return lists, and the lists in them, as tuples."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def benchmark_hallucination(
    model: Any,
    *,
    n: int = 1000,
    seed: int = FIRST_HELD_OUT_SEED,
    samples: int = 8,
    jobs: int = 1,
    resamples: int = 1000,
    kept: str | Path | None = None,
    progress: bool = True,
) -> DetectorTable:
    """Score all detectors on the reports about `n` phantoms, half of each domain.

    Args:
        model: a `ChestXrayModel`.
        n: phantoms; internal ones have the seeds seed .. seed + ceil(n / 2) - 1, external ones
            the seeds that follow.
        seed: of the first phantom; below 10,000,000 is not unseen.
        samples: reports sampled for self-consistency; 0 leaves it out.
        jobs: processes; each loads the model from where this one was loaded.
        resamples: of the bootstrap.
        kept: a JSON Lines file in which every finished phantom is kept; a run that was stopped goes
            on from it.
        progress: whether to show a progress bar.

    Raises:
        OptionError: n or jobs below 1, or seed, samples or resamples below their least, or `kept`
            is of other weights or options.
        InputError: no report states any finding.
    """
    if n < 1 or jobs < 1 or seed < 0 or samples < 0 or resamples < 1:
        raise OptionError(
            "expected n, jobs and resamples of 1 or more, seed and samples of 0 or more; got "
            f"{n}, {jobs}, {resamples}, {seed} and {samples}"
        )
    warn_of_seen(seed, logger)
    identity = asdict(model.identity)
    book = judged_cases(kept, {"sha256": identity["sha256"], "samples": samples})
    work = partial(_judge, samples=samples)
    cases = run_left(model, work, both_domains(n, seed), book, jobs=jobs, progress=progress)
    if not any(case.findings for case in cases):
        raise InputError(
            f"none of {n} reports states a finding that phantoms can have; take more phantoms, or "
            "a model that reports on them"
        )
    return tabulate(
        cases,
        seed=seed,
        resamples=resamples,
        provenance=identity,
        calibration=_calibration(model, seed),
    )


def _calibration(model: Any, seed: int) -> Calibration | None:
    """Return the shipped calibration, unless these seeds may be what it was fitted on."""
    if seed < FIRST_HELD_OUT_SEED:
        return None
    try:
        return shipped_calibration(model)
    except InputError:
        return None


def _judge(model: Any, order: tuple[int, str], *, samples: int) -> JudgedCase:
    return judge_case(model, *order, samples)


def judge_case(model: Any, seed: int, domain: str, samples: int) -> JudgedCase:
    """Report on one phantom and judge every finding that the report states."""
    case = phantom(seed, domain=domain, size=model.image_size)
    trace = model.trace(case, heads="mean", vision="none")
    found = detect(trace, samples=samples, seed=seed, frequencies=finding_frequencies())
    drawn = {lesion.finding for lesion in case.lesions}
    kept = [at for at, name in enumerate(found.findings) if name in PHANTOM_FINDINGS]
    return JudgedCase(
        seed,
        domain,
        tuple(found.findings[at] for at in kept),
        tuple(found.findings[at] not in drawn for at in kept),
        tuple(tuple(found.scores[at].tolist()) for at in kept),
        tuple(name for name in found.findings if name not in PHANTOM_FINDINGS),
    )


@cache
def finding_frequencies() -> dict[str, float]:
    """Return how often each finding is drawn, over both domains; counted on seeds of its own."""
    counts = dict.fromkeys(PHANTOM_FINDINGS, 0)
    for seed in _FREQUENCY_SEEDS:
        scene = sample_scene(seed, domain=DOMAINS[seed % len(DOMAINS)])
        for name in {lesion.finding for lesion in scene.lesions}:
            counts[name] += 1
    return {name: count / len(_FREQUENCY_SEEDS) for name, count in counts.items()}


__all__ = ["JudgedCase", "benchmark_hallucination", "finding_frequencies", "judge_case"]
