"""Examine a model on phantoms it has never seen, against known truth.

Phantoms are drawn, reported and forgotten in chunks, so memory does not grow with their number.
Seeds from 10,000,000 up are kept for this; an examination on others is marked as not held out.

Does not know: which model it examines. Anything with
`report_many(images, batch_size=...)` that returns objects with a `text` will do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass

from tqdm.auto import tqdm

from workbench.errors import InputError, OptionError
from workbench.evaluation.exam_result import PhantomExam
from workbench.evaluation.phantom_scores import (
    DomainScore,
    ExamCase,
    score_cases,
    stated_places,
    true_places,
)
from workbench.phantom.case import DOMAINS, phantom

logger = logging.getLogger(__name__)

#: Phantoms from this seed up are never trained on.
FIRST_HELD_OUT_SEED = 10_000_000

_CHUNK = 32


def examine(
    model,
    *,
    n: int = 500,
    seed: int = FIRST_HELD_OUT_SEED,
    domains: Sequence[str] = DOMAINS,
    batch_size: int = 16,
    size: int | None = None,
    progress: bool = True,
) -> PhantomExam:
    """Let a model report `n` phantoms of each domain and score what it states.

    Args:
        model: has `report_many(images, batch_size=...)`, which returns one object with a `text`
            for each image.
        n: phantoms per domain.
        seed: internal phantoms have the seeds seed .. seed + n - 1, external ones
            seed + n .. seed + 2 n - 1, whichever domains are asked for.
        domains: "internal", "external" or both.
        batch_size: passed to the model.
        size: pixels along each edge of a phantom; None asks the model for `image_size` and
            takes 512 where it has none.
        progress: whether to show a progress bar.

    Raises:
        OptionError: n or batch_size is below 1, the seed is negative, or a domain is unknown.
        InputError: the model has no `report_many`, or does not return a text for each image.
    """
    _check(model, n=n, seed=seed, domains=domains, batch_size=batch_size)
    held_out = seed >= FIRST_HELD_OUT_SEED
    warnings = () if held_out else (_not_held_out(seed),)
    for warning in warnings:
        logger.warning(warning)
    size = size or getattr(model, "image_size", None) or 512
    scores: dict[str, DomainScore] = {}
    cases: list[ExamCase] = []
    first = None
    for domain in (name for name in DOMAINS if name in domains):
        start = seed + n * DOMAINS.index(domain)
        seeds = range(start, start + n)
        found, seconds, answer = _reported(model, domain, seeds, batch_size, size, progress)
        first = first or answer
        scores[domain] = score_cases(
            found, domain=domain, seeds=(start, start + n), seconds=seconds
        )
        cases += found
    return PhantomExam(
        scores=scores,
        cases=tuple(cases),
        n=n,
        seed=seed,
        size=size,
        held_out=held_out,
        provenance=_provenance(model, first),
        warnings=warnings,
    )


def _check(model, *, n: int, seed: int, domains: Sequence[str], batch_size: int) -> None:
    if not callable(getattr(model, "report_many", None)):
        raise InputError(
            f"{type(model).__name__} has no report_many(images, batch_size=...); "
            "pass what wb.load_model returns"
        )
    if n < 1 or batch_size < 1 or seed < 0:
        raise OptionError(
            f"expected n >= 1, batch_size >= 1 and seed >= 0, got {n}, {batch_size} and {seed}"
        )
    unknown = [name for name in domains if name not in DOMAINS]
    if unknown or isinstance(domains, str) or not domains:
        raise OptionError(
            f"domains is {domains!r}; expected a sequence of one or more of: {', '.join(DOMAINS)}"
        )


def both_domains(n: int, seed: int) -> list[tuple[int, str]]:
    """Return (seed, domain) of `n` phantoms, half of each domain.

    Internal ones have the seeds seed .. seed + ceil(n / 2) - 1, external ones those that follow.
    """
    half = (n + 1) // 2
    return [(seed + at, DOMAINS[at >= half]) for at in range(n)]


def warn_of_seen(seed: int, logger: logging.Logger) -> None:
    """Say in a benchmark's log that its phantoms are not held out, where they are not."""
    if seed < FIRST_HELD_OUT_SEED:
        logger.warning(
            "seed %d lies below %d: the model may have been trained on these phantoms",
            seed,
            FIRST_HELD_OUT_SEED,
        )


def _not_held_out(seed: int) -> str:
    return (
        f"seed {seed} lies below {FIRST_HELD_OUT_SEED:,}: a model may have been trained on these "
        "phantoms, so the scores are not held out; leave seed at its default for honest numbers"
    )


def _reported(
    model, domain: str, seeds: range, batch_size: int, size: int, progress: bool
) -> tuple[list[ExamCase], float, object]:
    """Return the cases of one domain, the model's own seconds, and its first answer."""
    cases, seconds, first = [], 0.0, None
    with tqdm(total=len(seeds), desc=f"{domain} phantoms", disable=not progress) as bar:
        for chunk in _chunks(seeds, max(1, _CHUNK // batch_size) * batch_size):
            drawn = [phantom(seed=seed, domain=domain, size=size) for seed in chunk]
            began = time.perf_counter()
            answers = list(model.report_many([p.image for p in drawn], batch_size=batch_size))
            seconds += time.perf_counter() - began
            if len(answers) != len(drawn) or not all(_has_text(answer) for answer in answers):
                raise InputError(
                    f"report_many gave {len(answers)} answers for {len(drawn)} images; expected "
                    "one object with a str `text` for each image, in order"
                )
            first = first or answers[0]
            for seed, case, answer in zip(chunk, drawn, answers, strict=True):
                truth, stated = true_places(case.lesions), stated_places(answer.text)
                cases.append(ExamCase(domain, seed, answer.text, truth, stated))
            bar.update(len(chunk))
    return cases, seconds, first


def _chunks(seeds: range, length: int) -> Iterator[range]:
    for start in range(0, len(seeds), length):
        yield seeds[start : start + length]


def _has_text(answer: object) -> bool:
    return isinstance(getattr(answer, "text", None), str)


def _provenance(model, answer: object) -> dict:
    """Return what is known of the model, as plain values; what is not known is None."""
    identity = getattr(answer, "model", None)
    settings = getattr(answer, "settings", None)
    return {
        "model": getattr(identity, "id", None) or type(model).__name__,
        "sha256": getattr(identity, "sha256", None),
        "revision": getattr(identity, "revision", None),
        "dtype": getattr(identity, "dtype", None),
        "device": getattr(identity, "device", None),
        "prompt": getattr(answer, "prompt", None),
        "template": getattr(answer, "template", None),
        "settings": asdict(settings) if is_dataclass(settings) else None,
        "versions": dict(getattr(answer, "versions", None) or {}),
    }
