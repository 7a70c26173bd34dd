"""The order of a run: every batch of every pass, decided before the first step.

A batch is a list of (pass, row) keys. The whole run is one list, so that going on after a stop
means leaving out the batches that are done, and each of two processes takes every second one. Rows
of like length come together; which batches follow each other is random.

Does not know: what a row is (`encoding`), how many processes there are (accelerate).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from workbench.errors import TrainingError

#: Rows are sorted by length inside windows of this many batches.
_WINDOW = 8

Key = tuple[int, int]


class PlannedBatches(Sampler[list[Key]]):
    """All batches of a run.

    Args:
        batches: keys of each batch.

    Attributes:
        batch_size: keys of one batch, for libraries that ask.
        drop_last: True; there is no smaller batch at the end.
    """

    drop_last = True

    def __init__(self, batches: Sequence[Sequence[Key]]) -> None:
        self.batches = [list(batch) for batch in batches]
        self.batch_size = len(self.batches[0])

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def plan_batches(
    lengths: Sequence[int], *, micro: int, batch: int, epochs: float, seed: int
) -> PlannedBatches:
    """Return the batches of a run.

    Args:
        lengths: length of every row.
        micro: rows of one batch.
        batch: rows of one step, a multiple of `micro`.
        epochs: passes; the last may be a part.
        seed: decides the order.

    Raises:
        TrainingError: there are fewer rows than one step needs.
    """
    total = len(lengths)
    per_step = batch // micro
    steps = max(round(epochs * total / batch), 1)
    if total < batch and epochs * total < batch:
        raise TrainingError(
            f"{total} rows and {epochs:g} passes do not fill one step of {batch}; lower "
            "training.batch_size or give more cases"
        )
    keys: list[Key] = []
    epoch = 0
    while len(keys) < steps * batch:
        order = np.random.default_rng([seed, 76, epoch]).permutation(total)
        keys += [(epoch, int(row)) for row in order]
        epoch += 1
    keys = keys[: steps * batch]
    rng = np.random.default_rng([seed, 77])
    window = _WINDOW * per_step * micro
    batches: list[list[Key]] = []
    for start in range(0, len(keys), window):
        part = sorted(keys[start : start + window], key=lambda key: lengths[key[1]])
        cut = [part[at : at + micro] for at in range(0, len(part), micro)]
        batches += [cut[at] for at in rng.permutation(len(cut))]
    return PlannedBatches(batches)
