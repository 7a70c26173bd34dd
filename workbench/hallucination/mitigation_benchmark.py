"""What mitigation mends and what it breaks: false and missed findings before and after, and time.

Phantoms of both domains are drawn; each is reported plainly, and once with every mitigation, each
from a cold start. The truth is what was drawn. Everything is paired: the same phantoms, the same
resamples.

Does not know: how a mitigation works.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from workbench._store import StoredResults
from workbench.errors import OptionError
from workbench.evaluation.phantom_exam import (
    FIRST_HELD_OUT_SEED,
    both_domains,
    warn_of_seen,
)
from workbench.evaluation.workers import run_left
from workbench.findings import NO_FINDING, PRESENT, UNCERTAIN
from workbench.hallucination.contrast import ContrastiveDecoding
from workbench.hallucination.mitigation import Abstain, PollAndRewrite, Revise
from workbench.hallucination.mitigation_table import PLAIN, MitigationTable, tabulate
from workbench.phantom.case import phantom
from workbench.reports import label

logger = logging.getLogger(__name__)

#: What is compared unless something else is asked for.
MITIGATIONS = (ContrastiveDecoding(), PollAndRewrite(), Revise(), Abstain())


@dataclass(frozen=True)
class MitigatedCase:
    """One phantom, reported plainly and with every mitigation.

    Attributes:
        seed: of the phantom.
        domain: "internal" or "external".
        drawn: findings that are there.
        stated: name of the mitigation -> findings stated as present; `PLAIN` is without any.
        doubted: name -> findings stated as uncertain.
        seconds: name -> wall time of the report.
    """

    seed: int
    domain: str
    drawn: tuple[str, ...]
    stated: Mapping[str, tuple[str, ...]]
    doubted: Mapping[str, tuple[str, ...]]
    seconds: Mapping[str, float]


def benchmark_mitigation(
    model: Any,
    *,
    mitigations: Sequence[Any] = MITIGATIONS,
    n: int = 400,
    seed: int = FIRST_HELD_OUT_SEED,
    jobs: int = 1,
    resamples: int = 1000,
    kept: str | Path | None = None,
    progress: bool = True,
) -> MitigationTable:
    """Compare reports with and without mitigation on `n` phantoms, half of each domain.

    Args:
        model: a `ChestXrayModel`.
        mitigations: objects with a `name` and `report(model, image)`; names must differ.
        n: phantoms; internal ones have the seeds seed .. seed + ceil(n / 2) - 1, external ones
            the seeds that follow.
        seed: of the first phantom; below 10,000,000 is not unseen.
        jobs: processes; each loads the model from where this one was loaded.
        resamples: of the bootstrap.
        kept: a JSON Lines file in which every finished phantom is kept; a run that was stopped goes
            on from it.
        progress: whether to show a progress bar.

    Raises:
        OptionError: n, jobs or resamples below 1, a negative seed, no mitigation or two of one
            name; or `kept` is of other weights or mitigations.
        InputError: a mitigation needs a calibration, and none is shipped for the model.
    """
    if n < 1 or jobs < 1 or seed < 0 or resamples < 1:
        raise OptionError(
            f"expected n, jobs and resamples of 1 or more and seed of 0 or more; got {n}, {jobs}, "
            f"{resamples} and {seed}"
        )
    names = [item.name for item in mitigations]
    if not names or len(set(names)) < len(names):
        raise OptionError(f"expected one mitigation or more, each with its own name, got {names}")
    warn_of_seen(seed, logger)
    identity = asdict(model.identity)
    options = {item.name: _options(item) for item in mitigations}
    head = {"sha256": identity["sha256"], "mitigations": options}
    book = StoredResults(kept, head, encode=_encoded, decode=_decoded)
    work = partial(_work, mitigations=tuple(mitigations))
    cases = run_left(model, work, both_domains(n, seed), book, jobs=jobs, progress=progress)
    return tabulate(cases, seed=seed, resamples=resamples, options=options, provenance=identity)


def _encoded(key: tuple[int, str], case: MitigatedCase) -> dict:
    return asdict(case)


def _decoded(row: dict) -> tuple[tuple[int, str], MitigatedCase]:
    for name in ("stated", "doubted"):
        row[name] = {key: tuple(value) for key, value in row[name].items()}
    case = MitigatedCase(**{**row, "drawn": tuple(row["drawn"])})
    return (case.seed, case.domain), case


def _work(model: Any, order: tuple[int, str], *, mitigations: Sequence[Any]) -> MitigatedCase:
    seed, domain = order
    case = phantom(seed, domain=domain, size=model.image_size)
    stated, doubted, seconds = {}, {}, {}
    for mitigation in (None, *mitigations):
        model.forget_images()
        name = PLAIN if mitigation is None else mitigation.name
        found = model.report(case, mitigation=mitigation)
        rows = [row for row in label(found.text).rows if row.finding != NO_FINDING]
        stated[name] = tuple(row.finding for row in rows if row.code == PRESENT)
        doubted[name] = tuple(row.finding for row in rows if row.code == UNCERTAIN)
        seconds[name] = found.seconds
    drawn = tuple(dict.fromkeys(lesion.finding for lesion in case.lesions))
    return MitigatedCase(seed, domain, drawn, stated, doubted, seconds)


def _options(mitigation: Any) -> dict[str, Any]:
    """Return what a mitigation's results depend on, as plain values."""
    own = {name: value for name, value in vars(mitigation).items() if name != "calibration"}
    given = getattr(mitigation, "calibration", None)
    return own | ({} if given is None else {"calibration": given.to_dict()})


__all__ = ["MITIGATIONS", "MitigatedCase", "benchmark_mitigation"]
