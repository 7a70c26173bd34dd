"""Who reads which report, and in what order, so that nothing but the text can tell its origin.

Each film of a reader comes twice, once with the report of the model and once with the reference:
in a first pass with one of the two, in a second with the other. For half of the films, drawn by
lot, the model comes first. Both passes are in random order, and at least `washout` other reports
stand between two readings of one film. Some reports, as many of each origin, are read again at the
end, to see whether a reader agrees with himself.

Does not know: texts or films; it deals in numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workbench.errors import OptionError

MODEL, REFERENCE = "model", "reference"
ARMS = (MODEL, REFERENCE)


@dataclass(frozen=True)
class Reading:
    """One report in the list of a reader.

    Attributes:
        case: number of the case.
        arm: "model" or "reference".
        repeat: whether the reader has graded this report before.
    """

    case: int
    arm: str
    repeat: bool = False


def assign(
    cases: int, readers: Sequence[str], each: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Give every case to `each` readers, and every reader as many cases as any other, or one less.

    Raises:
        OptionError: `each` is not from 1 to the number of readers.
    """
    if not 1 <= each <= len(readers):
        raise OptionError(
            f"readers_per_case must be from 1 to {len(readers)}, the number of readers; got {each}"
        )
    first = np.arange(cases) * each
    order = rng.permutation(cases)
    given: dict[str, list[int]] = {name: [] for name in readers}
    for start, case in zip(first, order, strict=True):
        for step in range(each):
            given[readers[(start + step) % len(readers)]].append(int(case))
    return {name: np.array(sorted(found), dtype=int) for name, found in given.items()}


def arrange(
    cases: np.ndarray, *, repeats: int, washout: int, rng: np.random.Generator
) -> list[Reading]:
    """Return the readings of one reader in order.

    Args:
        cases: (n,) numbers of the cases.
        repeats: reports that are read once more, as many of each arm, or one less.
        washout: least number of other reports between two readings of one film.
        rng: of the lots.

    Raises:
        OptionError: there are too few cases for that washout or that many repeats.
    """
    count, gap = len(cases), washout + 1
    if washout < 0 or count < gap:
        raise OptionError(
            f"a reader has {count} cases, too few for {washout} other reports between two readings "
            "of one film; add cases, or lower washout"
        )
    if not 0 <= repeats <= count - gap:
        raise OptionError(
            f"repeats must be from 0 to {count - gap} with {count} cases for a reader and a "
            f"washout of {washout}; got {repeats}"
        )
    model_first = _halved(count, rng)
    first = rng.permutation(count)
    second = _released(first, gap, rng)
    early = np.flatnonzero(np.argsort(second) + count <= 2 * count - gap)
    again = rng.choice(early, repeats, replace=False)
    of_model = _halved(repeats, rng)
    plan = [Reading(int(cases[at]), _arm(model_first[at])) for at in first]
    plan += [Reading(int(cases[at]), _arm(not model_first[at])) for at in second]
    return plan + [
        Reading(int(cases[at]), _arm(own), repeat=True)
        for at, own in zip(again, of_model, strict=True)
    ]


def _released(first: np.ndarray, gap: int, rng: np.random.Generator) -> np.ndarray:
    """Return the order of the second pass: random among those that were long enough ago."""
    count = len(first)
    ready = list(first[: count - gap + 1])
    order = []
    for step in range(count):
        order.append(ready.pop(int(rng.integers(len(ready)))))
        following = count - gap + 1 + step
        if following < count:
            ready.append(first[following])
    return np.array(order)


def _halved(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return (count,) bool in random order, half of them True; who has one more is drawn."""
    ones = (count + int(rng.integers(2))) // 2
    return rng.permutation(np.arange(count) < ones)


def _arm(model: bool) -> str:
    return MODEL if model else REFERENCE
