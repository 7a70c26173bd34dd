"""A linear probe: from the decoder's states, where a finding was decided, to how suspect it is.

A logistic regression over the mean state of the tokens that decided a statement (`FindingMention`)
after three quarters of the layers. It is fitted on statements whose truth is known, of seeds or
patients that nothing is scored on, and holds for the weights it was fitted for: it carries their
hash. Layer, tokens and penalty were chosen for `mini` on phantoms with seeds from 7,200,000.

Papers: Azaria and Mitchell, The Internal State of an LLM Knows When It's Lying, Findings of EMNLP
2023, arXiv 2304.13734; Orgad et al., LLMs Know More Than They Show, ICLR 2025, arXiv 2410.02707,
section 3 (the tokens that hold the answer). Deviation: the first has a small network, and both read
one token; here it is linear, over the mean of the deciding tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from workbench._repr import plain, result
from workbench.attention.lens import token_states
from workbench.backends.levels import READER, needs
from workbench.errors import InputError
from workbench.generation import ModelIdentity
from workbench.hallucination.grounding_result import FindingMention
from workbench.trace import Trace

#: Inverse strength of the penalty on weights of states that were scaled to spread 1.
STRENGTH = 0.1


@result()
class LinearProbe:
    """How suspect a statement is by the states that decided it.

    Attributes:
        weights, bias: log-odds that the statement is false, for each number of a state.
        sha256: hash of the weights it was fitted for.
        fitted_on: what the cases were, in words.

    >>> states, false = np.eye(4), np.array([True, False, True, False])
    >>> wb.hallucination.LinearProbe.fit(states, false, sha256=model.identity.sha256).weights.shape
    (4,)
    """

    weights: Float[np.ndarray, " H"]
    bias: float
    sha256: str
    fitted_on: str

    @classmethod
    def fit(
        cls,
        states: Float[np.ndarray, "statements H"],
        false: Bool[np.ndarray, " statements"],
        *,
        sha256: str,
        fitted_on: str = "",
    ) -> LinearProbe:
        """Fit on statements whose truth is known; `states` are those of `Detection`.

        Raises:
            InputError: there are no states, or all statements are true, or all false.
        """
        if not states.size or false.all() or not false.any():
            raise InputError(
                f"expected states of true and of false statements, got {states.shape[0]} "
                f"statements with {states.shape[-1]} numbers each, {int(false.sum())} of them "
                "false; give more cases"
            )
        scaler = StandardScaler().fit(states)
        line = LogisticRegression(C=STRENGTH, max_iter=1000).fit(scaler.transform(states), false)
        weights = line.coef_[0] / scaler.scale_
        bias = float(line.intercept_[0] - weights @ scaler.mean_)
        return cls(weights, bias, sha256, fitted_on)

    def score(self, states: Float[np.ndarray, "statements H"]) -> Float[np.ndarray, " statements"]:
        """Return the log-odds that each statement is false."""
        return np.asarray(states, float) @ self.weights + self.bias

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return plain(asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LinearProbe:
        """Return what `to_dict` gave."""
        return cls(**{**values, "weights": np.array(values["weights"], float)})


@needs(READER)
def deciding_states(
    trace: Trace, mentions: Sequence[FindingMention]
) -> Float[np.ndarray, "mentions H"]:
    """Return the mean state of each mention's deciding tokens, after 3/4 of the layers."""
    layers = token_states(trace)
    states = layers[3 * len(layers) // 4].float().cpu().numpy()
    means = [states[list(mention.deciding)].mean(0) for mention in mentions]
    return np.array(means, float).reshape(len(mentions), states.shape[-1])


def shipped_probe(identity: ModelIdentity) -> LinearProbe | None:
    """Return the probe that is shipped for a model's weights; None where there is none."""
    found = _shipped()
    return found if found.sha256 == identity.sha256 else None


@cache
def _shipped() -> LinearProbe:
    path = resources.files("workbench") / "assets" / "mini" / "linear_probe.json"
    return LinearProbe.from_dict(json.loads(path.read_text()))
