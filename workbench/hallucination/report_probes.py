"""Probes of whole reports: another patient's image, and the same image asked again and again.

Papers: semantic entropy, Kuhn et al., ICLR 2023, arXiv 2302.09664, and Farquhar et al., Nature
2024, doi 10.1038/s41586-024-07421-0. Deviation: reports mean the same where the labeler reads the
same findings as present in them; no second language model judges entailment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from workbench.errors import InputError, OptionError
from workbench.evaluation.intervals import wilson
from workbench.findings import ABSENT, PAPER_FINDINGS, PHANTOM_FINDINGS, PRESENT, standard_name
from workbench.hallucination.ablations import image_values
from workbench.hallucination.probe_table import (
    Asked,
    ProbeCase,
    ProbeRow,
    ProbeTable,
    probe_cases,
    resampled,
    share,
    tabulate,
)
from workbench.interface import ChestXrayModel
from workbench.reports import label


def probe_wrong_patient(
    model: ChestXrayModel,
    cases: Iterable[Any],
    *,
    findings: Sequence[str] = PAPER_FINDINGS,
    batch_size: int = 8,
) -> ProbeTable:
    """Give every patient the image of the next, and see whether the report notices.

    Measures: "told apart", the share of reports that are likelier with their own image than with
    the other one; among findings that a patient has and the next has not, "stated" with the own
    image and with the other: the second should be near 0, and is the rate at which a report says
    what its image cannot have told it.

    Args:
        model: a `ChestXrayModel`.
        cases: at least two; see `probe_cases`. The image of the last is followed by the first.
        findings: what is looked for.
        batch_size: reports written together.

    Raises:
        InputError: there are fewer than two cases.
        OptionError: a finding is unknown.
    """
    found = probe_cases(cases)
    findings = tuple(standard_name(name) for name in findings)
    if len(found) < 2:
        raise InputError("the probe of wrong patients needs two cases or more, got 1")
    reports = model.report_many([case.image for case in found], batch_size=batch_size)
    present = [set(label(report.text).present) for report in reports]
    images = [image_values(model, case.image) for case in found]
    answers, apart = [], 0
    for at, case in enumerate(found):
        other = (at + 1) % len(found)
        written = reports[at]
        read = model.read_with([images[at], images[other]], written.prompt_ids, written.token_ids)
        near, far = read.logprobs.sum(1)
        apart += bool(near > far)
        only = [
            name for name in case.known(PRESENT, findings) if found[other].truth.get(name) == ABSENT
        ]
        for group, said, text in (
            ("own image", present[at], written.text),
            ("another's image", present[other], reports[other].text),
        ):
            answers += [
                Asked(case.name, group, name, PRESENT, "report", text,
                      "stated" if name in said else "not stated")
                for name in only
            ]  # fmt: skip
    rows = [ProbeRow("own image against another's", "told apart", wilson(apart, len(found)))]
    for group in ("own image", "another's image"):
        own = [item for item in answers if item.group == group]
        rows.append(share(group, "stated", own, "stated"))
    return tabulate("wrong patient", model, rows, answers, found, findings=list(findings))


def probe_self_consistency(
    model: ChestXrayModel,
    cases: Iterable[Any],
    *,
    samples: int = 8,
    temperature: float = 1.0,
    findings: Sequence[str] = PHANTOM_FINDINGS,
    seed: int = 0,
) -> ProbeTable:
    """Sample reports and measure how far they agree on findings.

    Measures: mean semantic entropy in nats (over sets of findings stated as present; at most the
    logarithm of `samples`), apart for cases whose greedy report states a false finding and for the
    others; "agreement", the share of samples that side with the majority on a finding.

    Args:
        model: a `ChestXrayModel`.
        cases: see `probe_cases`.
        samples: reports per case, 2 or more.
        temperature: of sampling, with top_p 1.
        findings: what is compared; unknown ones of a case are left out.
        seed: of the first sample; the others follow.

    Raises:
        OptionError: fewer than two samples, or an unknown finding.
        InputError: there is no case.
    """
    if samples < 2:
        raise OptionError(f"samples must be 2 or more, got {samples}")
    found = probe_cases(cases)
    findings = tuple(standard_name(name) for name in findings)
    answers: list[Asked] = []
    entropies: dict[str, list[float]] = {"false finding stated": [], "none stated": []}
    names: dict[str, list[str]] = {group: [] for group in entropies}
    for case in found:
        greedy = set(label(model.report(case.image).text).present)
        sampled = _samples(model, case, samples, temperature, seed)
        known = [name for name in findings if case.truth.get(name) in (PRESENT, ABSENT)]
        false = any(name in greedy and case.truth[name] == ABSENT for name in known)
        group = "false finding stated" if false else "none stated"
        entropies[group].append(semantic_entropy([said & set(known) for said in sampled]))
        names[group].append(case.name)
        for name in known:
            share = float(np.mean([name in said for said in sampled]))
            answers.append(
                Asked(case.name, group, name, case.truth[name], "report", "", f"{share:g}")
            )
    shares = np.array([float(item.reading) for item in answers])
    owner = [item.case for item in answers]
    agree = resampled(owner, np.maximum(shares, 1 - shares), np.ones(len(shares)), seed=seed)
    every = [row for group in entropies for row in zip(names[group], entropies[group], strict=True)]
    rows = [ProbeRow("all cases", "agreement", agree), _entropy("all cases", every, seed)]
    rows += [
        _entropy(group, list(zip(names[group], entropies[group], strict=True)), seed)
        for group in entropies
    ]
    return tabulate(
        "self-consistency", model, rows, answers, found,
        findings=list(findings), samples=samples, temperature=temperature, seed=seed,
    )  # fmt: skip


def semantic_entropy(meanings: Sequence[set[str]]) -> float:
    """Return the entropy, in nats, of the meanings of several texts; 0 where all mean the same."""
    counts = Counter(frozenset(meaning) for meaning in meanings)
    shares = np.array(list(counts.values())) / len(meanings)
    return float(-(shares * np.log(shares)).sum()) + 0.0


def _samples(
    model: ChestXrayModel, case: ProbeCase, samples: int, temperature: float, seed: int
) -> list[set[str]]:
    reports = model.report_many(
        [case.image] * samples,
        temperature=temperature,
        top_p=1.0,
        seed=[seed + number for number in range(samples)],
    )
    return [set(label(report.text).present) for report in reports]


def _entropy(group: str, rows: Sequence[tuple[str, float]], seed: int) -> ProbeRow:
    owner, values = [name for name, _ in rows], [value for _, value in rows]
    return ProbeRow(
        group, "semantic entropy", resampled(owner, values, np.ones(len(values)), seed=seed)
    )
