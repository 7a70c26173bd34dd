"""Polling: ask a model whether a finding is there, take the odds of yes, and read what it answers.

What is read is the log-probability of "Yes" less that of "No" as the first word of the answer, so
no decoding is needed and a hedge is a number near 0. Another question than the one that wrote the
report asks for the same knowledge; where the two disagree, one of them is wrong.

A decoded answer is read with care, since a probe is worth no more than its reading: the labeler
decides where the answer names the finding ("Heart size is normal." denies cardiomegaly, "may be an
effusion" affirms nothing); a bare "Yes." counts; "Yes, heart size is normal." to a question about
fluid is off the topic, and "Yes, there is no effusion." says two things. Both are unclear, and
counted as such. English only.

A model that answers neither yes nor no has odds that mean little.
Paper: Li et al., Evaluating Object Hallucination in Large Vision-Language Models (POPE), EMNLP
2023, arXiv 2305.10355, for the questions; Kadavath et al., arXiv 2207.05221, for reading the
probability of the answer. Deviation: odds of two words, not a decoded answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from workbench.findings import (
    ABSENT,
    DEVICE,
    EFFUSION,
    NO_FINDING,
    NODULE,
    PARENTS,
    PNEUMOTHORAX,
    PRESENT,
    UNCERTAIN,
    standard_name,
)
from workbench.interface import ChestXrayModel
from workbench.model.prompt import question_messages
from workbench.reports import label

#: Findings that are counted.
_COUNTABLE = (EFFUSION, PNEUMOTHORAX, NODULE, DEVICE, "fracture", "lung lesion", "lung opacity")

#: What an answer can say to a question about a finding.
YES, NO, UNCLEAR = "yes", "no", "unclear"

_LEAD = re.compile(r"\s*(?:(yes|yeah|correct|indeed)|(no|nope|none))\b[\s,.:;!-]*", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:possibl[ey]|probabl[ey]|perhaps|maybe|may|might|could|cannot|can't|unsure|uncertain|"
    r"unclear|likely|unlikely|difficult|hard to|not sure|suspected|suspicious|equivocal|"
    r"questionable|limited)\b",
    re.IGNORECASE,
)
_DENIAL = re.compile(
    r"\b(?:no|not|none|without|absent|never|neither|isn't|aren't)\b", re.IGNORECASE
)
_DETAIL = re.compile(
    r"\b(?:left|right|bilateral(?:ly)?|both sides|upper|lower|mid(?:dle)?|apical|basal|small|mild|"
    r"moderate|large|severe|minimal|tiny|\d+ ?(?:mm|cm))\b",
    re.IGNORECASE,
)


def named(finding: str) -> str:
    """Return the finding as a question names it: "a pneumothorax", "consolidation"."""
    name = standard_name(finding)
    if name not in _COUNTABLE:
        return name
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def question_about(finding: str) -> str:
    """Return the plain question: "Is there a pneumothorax?"."""
    return f"Is there {named(finding)}?"


def yes_odds(
    model: ChestXrayModel, pixels: Sequence[torch.Tensor], question: str
) -> Float[np.ndarray, " images"]:
    """Return log p("Yes") - log p("No") as first words of the answer, for each image.

    Args:
        model: a `ChestXrayModel`.
        pixels: (1, 1, S, S) normalised, one for each image.
        question: plain text.

    Returns:
        (images,) float64, nats; above 0 where yes is likelier.

    Raises:
        InputError: the question is empty or holds a mark of the template.
        ContextBudgetError, DeviceError: see `ChestXrayModel.read_with`.
    """
    prompt = model.prompt_ids(question_messages(question))
    sums = []
    for word in ("Yes", "No"):
        tokens = model.tokenizer.encode(word, add_bos=False)
        sums.append(model.read_with(pixels, prompt, tokens).logprobs.sum(1))
    return sums[0] - sums[1]


def read_answer(answer: str, finding: str, *, negated: bool = False, premise: bool = False) -> str:
    """Return "yes" where an answer affirms a finding, "no" where it denies it, else "unclear".

    Args:
        answer: what the model said.
        finding: standard name or synonym of what was asked about.
        negated: the question asked whether the finding is absent, so that a bare yes denies it.
        premise: the question took the finding for granted ("On which side is the effusion?"), so
            that a side, zone or grade alone affirms it.

    Raises:
        OptionError: the finding is unknown.
    """
    name = standard_name(finding)
    labels = label(answer)
    stated = {PRESENT: YES, ABSENT: NO, UNCERTAIN: UNCLEAR}.get(labels.code(name))
    lead, rest = _lead(answer)
    if lead and negated:
        lead = NO if lead == YES else YES
    if stated is not None:
        return UNCLEAR if lead and lead != stated else stated
    others = [row.finding for row in labels.rows if not _belongs(row.finding, name)]
    if others or _HEDGE.search(answer):
        return UNCLEAR
    if lead:
        return lead if not _turned(lead, rest, negated) else UNCLEAR
    if premise and _DETAIL.search(answer) and not _DENIAL.search(answer):
        return YES
    return UNCLEAR


def _lead(answer: str) -> tuple[str | None, str]:
    """Return what the first word commits to, and the rest."""
    match = _LEAD.match(answer)
    if not match:
        return None, answer
    return (YES if match[1] else NO), answer[match.end() :]


def _turned(lead: str, rest: str, negated: bool) -> bool:
    """Say whether what follows a yes takes it back: "Yes, there is none."."""
    return lead == YES and not negated and bool(_DENIAL.search(rest))


def _belongs(other: str, name: str) -> bool:
    """Say whether a finding is the one that was asked about, or the kind that it is of."""
    while name in PARENTS:
        if other == name:
            return True
        name = PARENTS[name]
    return other == name and other != NO_FINDING
