"""Fit what ships beside the weights of `mini`: its linear probe and its calibrations.

`python -m recipes.mini.calibrate DIR` reads the checkpoint in DIR and writes `linear_probe.json`
and `detector_calibration.json` there. `saliency_checks.json` is written by
`workbench benchmark saliency --model DIR --randomised 8 --record DIR/saliency_checks.json`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from workbench.bench import judge_cases
from workbench.hallucination.calibration import (
    WITH_PROBE,
    Calibration,
    JudgedCase,
    Statements,
)
from workbench.hallucination.detectors import AUGMENTED_POLLING, DETECTORS, LINEAR_PROBE
from workbench.hallucination.linear_probe import LinearProbe
from workbench.interface import ChestXrayModel, load_model

#: First seed, and phantoms of each domain, that the probe and then the calibrations are fitted on.
PROBE = (7_200_000, {"internal": 120, "external": 140, "ct": 140})
CALIBRATION = (8_000_000, {"internal": 100, "external": 100, "ct": 100})


def calibrate(model: ChestXrayModel, folder: Path, *, jobs: int = 2) -> None:
    """Fit the probe and the calibrations of a model that knows phantoms, and write both files.

    Args:
        folder: of its checkpoint; finished cases are kept in files beside it, from which a run
            that was stopped resumes.
    """
    sha256 = model.identity.sha256
    seen = Statements.of(_judged(model, folder, *PROBE, jobs))
    probe = LinearProbe.fit(
        seen.states,
        seen.false,
        sha256=sha256,
        fitted_on=f"{_named(*PROBE)}: {len(seen.false):,} statements, {seen.false.sum()} false",
    )
    _write(folder / "linear_probe.json", _rounded(probe.to_dict()))
    cases = [_scored(case, probe) for case in _judged(model, folder, *CALIBRATION, jobs)]
    fit = partial(Calibration.fit, cases, sha256=sha256, fitted_on=_named(*CALIBRATION))
    combination = fit()  # of all that need no sampling
    found = {
        "combination": combination,
        AUGMENTED_POLLING: fit(detectors=[AUGMENTED_POLLING]),
        WITH_PROBE: fit(detectors=[*combination.detectors, LINEAR_PROBE]),
    }
    values = {name: one.to_dict() for name, one in found.items()}
    _write(folder / "detector_calibration.json", values)


def _judged(
    model: ChestXrayModel, folder: Path, first: int, counts: dict[str, int], jobs: int
) -> list[JudgedCase]:
    found = []
    for domain, n in counts.items():
        kept = folder.with_name(f"judged {domain} {first}.jsonl")
        found += judge_cases(model, domain=domain, n=n, seed=first, jobs=jobs, kept=kept)
        first += n
    return found


def _scored(case: JudgedCase, probe: LinearProbe) -> JudgedCase:
    """Return a case with the column of the probe filled in."""
    scores = np.array(case.scores, float).reshape(-1, len(DETECTORS))
    if len(scores):
        scores[:, DETECTORS.index(LINEAR_PROBE)] = probe.score(np.array(case.states))
    return replace(case, scores=tuple(map(tuple, scores.tolist())))


def _named(first: int, counts: dict[str, int]) -> str:
    shares = ", ".join(f"{n} {domain}" for domain, n in counts.items())
    return f"{shares} phantoms, seeds {first:,} to {first + sum(counts.values()) - 1:,}"


def _rounded(values: dict) -> dict:
    return values | {"weights": [float(f"{one:.6g}") for one in values["weights"]]}


def _write(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a checkpoint of mini")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    chosen = parser.parse_args()
    calibrate(load_model(str(chosen.folder)), chosen.folder, jobs=chosen.jobs)
