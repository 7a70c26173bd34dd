"""The most memory that this process has held so far."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")


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
