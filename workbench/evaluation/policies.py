"""What counts as right and wrong: how two codes of a finding become TP, FP, TN, FN or nothing.

Each policy of `POLICIES` changes one thing about `joint-definite`, so that a difference between two
score cards has one cause. Omission - present in the reference, not mentioned by the prediction - is
no policy: it is counted under every one of them, beside the scores.

Sources: joint-definite, Lee et al., Eur Radiol 2025, arXiv 2310.18341; uncertain as positive
(U-Ones) and as negative (U-Zeros), Irvin et al., AAAI 2019, arXiv 1901.07031, section 3 (stated
there for training). Counting blanks as negative is the habit of label files in which a blank and a
zero were merged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.errors import OptionError, unknown_name
from workbench.findings import CODES, NOT_MENTIONED, PRESENT

OUTCOMES = ("tp", "fp", "tn", "fn")
NOT_SCORED = len(OUTCOMES)


@dataclass(frozen=True)
class Policy:
    """How codes become positive, negative or nothing, on both sides alike.

    Attributes:
        says: one sentence for readers.
        values: positive (True), negative (False) or not scored (None), in the order of `CODES`.
    """

    name: str
    says: str
    values: tuple[bool | None, bool | None, bool | None, bool | None]

    def outcomes(self) -> np.ndarray:
        """Return (4, 4) int8, reference code by prediction code: an index of `OUTCOMES`, or 4."""
        table = np.full((len(CODES), len(CODES)), NOT_SCORED, dtype=np.int8)
        for row, truth in enumerate(self.values):
            for column, stated in enumerate(self.values):
                if truth is not None and stated is not None:
                    name = ("t" if truth == stated else "f") + ("p" if stated else "n")
                    table[row, column] = OUTCOMES.index(name)
        return table


POLICIES = {
    policy.name: policy
    for policy in (
        Policy(
            "joint-definite",
            "Only pairs in which both sides say present or absent are scored; uncertain and not "
            "mentioned are left out. This is the policy of the CXR-LLaVA paper.",
            (True, False, None, None),
        ),
        Policy(
            "uncertain-as-positive",
            "Uncertain counts as present on both sides; pairs in which a side does not mention "
            "the finding are left out.",
            (True, False, True, None),
        ),
        Policy(
            "uncertain-as-negative",
            "Uncertain counts as absent on both sides; pairs in which a side does not mention "
            "the finding are left out.",
            (True, False, False, None),
        ),
        Policy(
            "blank-as-negative",
            "Not mentioned (blank) counts as absent on both sides; pairs in which a side is "
            "uncertain are left out.",
            (True, False, None, False),
        ),
    )
}


def find_policy(name: str) -> Policy:
    """Return a policy by name, or raise `OptionError`."""
    if name == "omission":
        raise OptionError(
            "omission is counted under every policy and reported beside the scores; "
            f"expected one of: {', '.join(POLICIES)}"
        )
    if name not in POLICIES:
        raise OptionError(unknown_name("policy", name, POLICIES))
    return POLICIES[name]


def confusion(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Count codes against codes: (findings, 4, 4) int64, reference code by prediction code.

    Both sides are (pairs, findings) indices of `CODES`.
    """
    size = len(CODES)
    cells = reference.astype(np.int64) * size + prediction
    counts = [np.bincount(column, minlength=size * size) for column in cells.T]
    return np.array(counts, dtype=np.int64).reshape(-1, size, size)


def count_outcomes(table: np.ndarray, policy: Policy) -> np.ndarray:
    """Return (..., 4) int64, TP, FP, TN, FN of confusion tables (..., 4, 4)."""
    outcomes = policy.outcomes()
    return np.stack([table[..., outcomes == at].sum(-1) for at in range(len(OUTCOMES))], axis=-1)


def omissions(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how often a finding present in the reference is not mentioned, and of how many."""
    present = table[:, CODES.index(PRESENT)]
    return present[:, CODES.index(NOT_MENTIONED)], present.sum(-1)


#: Why a pair is not scored, in the order of `why_not_scored`.
REASONS = (
    "uncertain",
    "only the reference mentions it",
    "only the prediction mentions it",
    "neither mentions it",
)


def why_not_scored(table: np.ndarray, policy: Policy) -> np.ndarray:
    """Return (findings, 4) int64, pairs that the policy leaves out, by `REASONS`."""
    left_out = policy.outcomes() == NOT_SCORED
    silent = np.arange(len(CODES)) == CODES.index(NOT_MENTIONED)
    reference, prediction = silent[:, None], silent[None, :]
    masks = (
        left_out & ~reference & ~prediction,
        left_out & ~reference & prediction,
        left_out & reference & ~prediction,
        left_out & reference & prediction,
    )
    return np.stack([table[:, mask].sum(-1) for mask in masks], axis=-1)
