"""Polling: ask a model whether a finding is there, and take the odds of yes against no.

What is read is the log-probability of "Yes" less that of "No" as the first word of the answer, so
no decoding is needed and a hedge is a number near 0. Another question than the one that wrote the
report asks for the same knowledge; where the two disagree, one of them is wrong.

Does not know: what was stated, or what is true. A model that answers neither yes nor no has odds
that mean little.
Paper: Li et al., Evaluating Object Hallucination in Large Vision-Language Models (POPE), EMNLP
2023, arXiv 2305.10355, for the questions; Kadavath et al., arXiv 2207.05221, for reading the
probability of the answer. Deviation: odds of two words, not a decoded answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from workbench.findings import DEVICE, EFFUSION, NODULE, PNEUMOTHORAX, standard_name
from workbench.hallucination.forcing import read_with
from workbench.model.prompt import question_messages, render_chat

#: Findings that are counted.
_COUNTABLE = (EFFUSION, PNEUMOTHORAX, NODULE, DEVICE, "fracture", "lung lesion", "lung opacity")

#: The first word of an answer.
YES, NO = "Yes", "No"


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
    model: Any, pixels: Sequence[torch.Tensor], question: str
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
        ContextBudgetError, DeviceError: see `forcing.read_with`.
    """
    responder = model.responder
    prompt = responder.tokenizer.encode_prompt(render_chat(question_messages(question)))
    sums = []
    for word in (YES, NO):
        tokens = responder.tokenizer.encode(word, add_bos=False)
        sums.append(read_with(responder, pixels, prompt, tokens).logprobs.sum(1))
    return sums[0] - sums[1]
