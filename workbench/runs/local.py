"""The local engine: one model in this process, the next block's images read in the meantime.

Does not know: what a run is; it turns blocks into rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from workbench.runs.plan import Block
from workbench.runs.worker import BlockWorker

#: Blocks whose images are read ahead.
_AHEAD = 1


class LocalEngine:
    """Answers blocks one after the other.

    Args:
        worker: holds the model.
    """

    name = "local"

    def __init__(self, worker: BlockWorker) -> None:
        self.worker = worker

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(self, *_) -> None:
        return None

    def describe(self) -> dict:
        """Return what `run.json` says of model, device and packages."""
        return self.worker.describe()

    def answer(self, blocks: Iterable[Block]) -> Iterator[tuple[int, list[dict]]]:
        """Yield the number and the rows of each block, in order."""
        waiting: deque = deque()
        pool = ThreadPoolExecutor(max_workers=1)
        try:
            for block in blocks:
                waiting.append((block, pool.submit(self.worker.read, block)))
                if len(waiting) > _AHEAD:
                    yield self._next(waiting)
            while waiting:
                yield self._next(waiting)
        finally:
            pool.shutdown(cancel_futures=True)

    def _next(self, waiting: deque) -> tuple[int, list[dict]]:
        block, ready = waiting.popleft()
        return block.number, self.worker.answer(block, ready.result())
