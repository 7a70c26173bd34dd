"""What long work tells of itself: a bar on stderr, and the most memory that it has held."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_STATUS = Path("/proc/self/status")


def progress(
    items: Iterable[T], *, total: int | None = None, label: str = "", show: bool = True
) -> Iterable[T]:
    """Return the items with a bar around them when they take longer than two seconds.

    There is none with `show=False`, and none when stderr is a file.
    """
    from tqdm import tqdm

    hidden = None if show else True  # None: where stderr is no terminal
    return tqdm(items, total=total, desc=label, delay=2.0, leave=False, disable=hidden)


def peak_memory() -> int:
    """Return the largest resident set of this process so far, in bytes; 0 where it is not known.

    Linux counts it anew for a program that is started (VmHWM of proc(5)), while ru_maxrss of
    getrusage(2) also holds what the process held before that: a copy of the one that started it.
    """
    with suppress(OSError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
