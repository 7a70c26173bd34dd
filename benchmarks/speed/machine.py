"""The limits of the machine: bytes a second from memory, operations a second.

Decoding one text reads every weight once for each token, so no token is faster than the weights'
bytes over the bandwidth. Reading an image multiplies large matrices, so it cannot be faster than
its operations over what a large product reaches. Both are measured here, by the same library that
the engine uses, in the same process as what is held against them.

Does not know: caches; the arrays are larger than any.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from speed.clock import Times, timed


@dataclass(frozen=True)
class Ceilings:
    """What the machine can do at most.

    Attributes:
        bandwidth: bytes a second, the better of `stream` and `product`, median over the rounds.
        stream: bytes a second of a sum over an array of the weights' size.
        product: bytes a second of a matrix of that size times one vector.
        flops: float32 operations a second of a product of large matrices.
    """

    stream: float
    product: float
    flops: float

    @property
    def bandwidth(self) -> float:
        return max(self.stream, self.product)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {
            "stream_bytes_per_second": self.stream,
            "product_bytes_per_second": self.product,
            "bandwidth_bytes_per_second": self.bandwidth,
            "flops_per_second": self.flops,
            "threads": torch.get_num_threads(),
        }


class Probe:
    """Measures the ceilings a little at a time, between other measurements.

    Args:
        nbytes: size of the weights that they are held against.
    """

    WIDTH, SQUARE = 2048, 1024

    def __init__(self, nbytes: int) -> None:
        rows = max(1, int(nbytes) // 4 // self.WIDTH)
        self._matrix = torch.randn(rows, self.WIDTH)
        self._vector = torch.randn(1, self.WIDTH)
        self._square = torch.randn(self.SQUARE, self.SQUARE)
        self.times = {name: Times() for name in ("stream", "product", "flops")}
        self._nbytes = self._matrix.numel() * 4

    @torch.inference_mode()
    def once(self) -> None:
        """Measure every ceiling once."""
        self._measure("stream", lambda: self._matrix.sum())
        self._measure("product", lambda: F.linear(self._vector, self._matrix))
        self._measure("flops", lambda: self._square @ self._square)

    def _measure(self, name: str, work: Callable[[], object]) -> None:
        timed(work, self.times[name])

    def ceilings(self, clock: str = "cpu") -> Ceilings:
        """Return the median ceilings by one of the two clocks; the first round warms up."""
        import statistics

        def middle(name: str) -> float:
            seconds = getattr(self.times[name], clock)
            return statistics.median(seconds[1:] if len(seconds) > 1 else seconds)

        return Ceilings(
            stream=self._nbytes / middle("stream"),
            product=self._nbytes / middle("product"),
            flops=2 * self.SQUARE**3 / middle("flops"),
        )


@contextmanager
def memory_beyond() -> Iterator[dict[str, int]]:
    """Measure the most memory that this process takes meanwhile beyond what it held (Linux).

    Gives, in bytes, "resident_bytes", with files that are mapped (VmHWM), and "own_bytes", without
    them (RssAnon, looked at a hundred times a second); see proc(5).
    """
    status, found, stop = Path("/proc/self/status"), {}, threading.Event()

    def read(name: str) -> int:
        line = next(one for one in status.read_text().splitlines() if one.startswith(name))
        return 1024 * int(line.split()[1])

    def look() -> None:
        while not stop.wait(0.01):
            most.append(max(most.pop(), read("RssAnon")))

    Path("/proc/self/clear_refs").write_text("5")  # counts VmHWM anew
    resident, own = read("VmRSS"), read("RssAnon")
    most = [own]
    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield found
    finally:
        stop.set()
        watch.join()
        found |= {"resident_bytes": read("VmHWM") - resident, "own_bytes": most[0] - own}
