"""Polling: ask a model whether a finding is there, take the odds of yes, and read what it answers.

The odds are the log-probability of "Yes" less that of "No" as the first word of the answer, so no
decoding is needed and a hedge is a number near 0. Of a model that answers neither they mean little.

A decoded answer is read by the labeler where it names the finding ("Heart size is normal." denies
cardiomegaly, "may be an effusion" affirms nothing); a bare "Yes." counts; "Yes, heart size is
normal." to a question about fluid is off the topic, and "Yes, there is no effusion." says two
things. Both are unclear, and counted as such. English only.

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

from workbench.backends.levels import LOGPROBS, WRITER, needs
from workbench.findings import ABSENT, NO_FINDING, PARENTS, PRESENT, UNCERTAIN, standard_name
from workbench.interface import ChestXrayModel
from workbench.reports import label

#: Findings that are counted.
_COUNTABLE = (
    "pleural effusion", "pneumothorax", "nodule", "support device", "fracture", "lung lesion",
    "lung opacity",
)  # fmt: skip

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
    """Return the plain question: "Is there a pneumothorax?".

    >>> wb.hallucination.question_about("pneumothorax")
    'Is there a pneumothorax?'
    """
    return f"Is there {named(finding)}?"


@needs(WRITER, LOGPROBS)
def yes_odds(
    model: ChestXrayModel, pixels: Sequence[torch.Tensor], question: str
) -> Float[np.ndarray, " images"]:
    """Return log p("Yes") - log p("No") as first words of the answer, in nats, for each image.

    For `pixels` see `Writer`; an endpoint has to give the log-probabilities of likely words.

    >>> wb.hallucination.yes_odds(model, [model.pixels(image)], "Is there a nodule?").shape
    (1,)
    """
    return model.word_odds(pixels, model.prompts.question_messages(question))


def read_answer(answer: str, finding: str, *, negated: bool = False, premise: bool = False) -> str:
    """Return "yes" where an answer affirms a finding, "no" where it denies it, else "unclear".

    Args:
        negated: the question asked whether the finding is absent, so that a bare yes denies it.
        premise: the question took the finding for granted ("On which side is the effusion?"), so
            that a side, zone or grade alone affirms it.

    >>> wb.hallucination.read_answer("No, there is no nodule.", "nodule")
    'no'
    """
    name = standard_name(finding)
    labels = label(answer)
    stated = {PRESENT: YES, ABSENT: NO, UNCERTAIN: UNCLEAR}.get(labels.code(name))
    match = _LEAD.match(answer)
    lead = match and (YES if match[1] else NO)
    if lead and negated:
        lead = NO if lead == YES else YES
    if stated is not None:
        return UNCLEAR if lead and lead != stated else stated
    others = [row.finding for row in labels.rows if not _belongs(row.finding, name)]
    if others or _HEDGE.search(answer):
        return UNCLEAR
    if match and lead:
        # "Yes, there is none." takes the yes back.
        turned = lead == YES and not negated and _DENIAL.search(answer[match.end() :])
        return UNCLEAR if turned else lead
    if premise and _DETAIL.search(answer) and not _DENIAL.search(answer):
        return YES
    return UNCLEAR


def _belongs(other: str, name: str) -> bool:
    """Say whether a finding is the one that was asked about, or the kind that it is of."""
    while name in PARENTS:
        if other == name:
            return True
        name = PARENTS[name]
    return other == name and other != NO_FINDING
