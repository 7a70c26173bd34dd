"""Two clocks, and ways that are compared within a round.

Wall time is what a user waits; processor time is what the work costs, and other programs on the
machine do not stretch it. All ways of a comparison run one after the other in every round, and a
ratio is the median of the ratios of the rounds: a slow spell hits both sides.

Does not know: what is measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Times:
    """Seconds of one way, round by round.

    Attributes:
        wall: as a clock on the wall shows them.
        cpu: of the processor, all threads together.
    """

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def to_dict(self) -> dict:
        """Return medians and every single measurement."""
        return {
            "wall": statistics.median(self.wall),
            "cpu": statistics.median(self.cpu),
            "rounds": {"wall": self.wall, "cpu": self.cpu},
        }


def timed(work: Callable[[], object], times: Times) -> object:
    """Run some work once, add its seconds, and return what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    times.cpu.append(time.process_time() - cpu)
    times.wall.append(time.perf_counter() - wall)
    return result


def compare(
    ways: Mapping[str, Callable[[], object]], rounds: int, *, warm: bool = True
) -> dict[str, Times]:
    """Run all ways one after the other, several times; a first round is thrown away."""
    if warm:
        for work in ways.values():
            work()
    found = {name: Times() for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            timed(work, found[name])
    return found


def ratio(slow: Times, fast: Times, *, share: float = 1.0, less: float = 0.0) -> dict:
    """Return how many times as long the first way takes, less a number: medians over the rounds.

    "range" holds the least and the greatest of the rounds, by each clock. `share` is how much of
    the work the first way did.
    """
    rounds = {
        clock: [
            one / other / share - less
            for one, other in zip(getattr(slow, clock), getattr(fast, clock), strict=True)
        ]
        for clock in ("wall", "cpu")
    }
    found = {clock: statistics.median(each) for clock, each in rounds.items()}
    return {**found, "range": {clock: [min(each), max(each)] for clock, each in rounds.items()}}


def own_clock() -> str:
    """Return the clock that counts: threads that wait for each other are work to a processor's."""
    import torch

    return "cpu" if torch.get_num_threads() == 1 else "wall"


def exponent(sizes: list[float], seconds: list[float]) -> float:
    """Return e of seconds ~ size ** e: the slope of a line through the logarithms."""
    import numpy as np

    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
