"""Run readers over damaged inputs in a process of their own, and count what goes wrong.

Input number n of a seed is the same in every run. The process that reads is watched from outside:
one that dies or does not answer is a fault of the input it was at, and another one goes on behind.

Does not know: what the readers are (`readers`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.readers import Reader, all_readers
from workbench._progress import peak_memory
from workbench.errors import WorkbenchError

#: Seconds of a processor for one input, and seconds of silence after which the process is ended.
SLOW, SILENT = 5.0, 60.0
#: Inputs that are counted before the counts are sent on.
_TOGETHER = 250
#: Megabytes by which one input may raise the peak before it is noted.
_GROWTH = 30.0


@dataclass
class Outcome:
    """What came of a number of inputs."""

    seed: int = 0
    inputs: Counter = field(default_factory=Counter)
    taken: Counter = field(default_factory=Counter)
    uncaught: list[dict] = field(default_factory=list)
    hangs: list[dict] = field(default_factory=list)
    deaths: list[dict] = field(default_factory=list)
    slowest: dict = field(default_factory=dict)
    spent: Counter = field(default_factory=Counter)
    growths: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    peak_mb: float = 0.0

    def note(self, reader: Reader, number: int, seed: int) -> None:
        """Read one damaged input and count what came of it."""
        data, began = damaged(reader, number, seed), _cpu()
        came = try_one(reader, data)
        seconds = round(_cpu() - began, 2)
        what = {"reader": reader.name, "number": number, "seconds": seconds}
        self.inputs[reader.name] += 1
        self.taken[reader.name] += came == "taken"
        self.spent[reader.name] += seconds
        peak = _peak()
        if self.peak_mb and peak > self.peak_mb + _GROWTH:
            self.growths.append(what | {"from_mb": round(self.peak_mb), "to_mb": round(peak)})
        self.peak_mb = max(self.peak_mb, peak)
        self.slowest = max(self.slowest, what, key=lambda one: one.get("seconds", -1))
        if came not in ("taken", "refused"):
            self.uncaught.append(what | {"came": came})
        if seconds > SLOW:
            self.hangs.append(what)

    def add(self, other: Outcome) -> None:
        """Add what another process, or an earlier part, has counted."""
        for name in ("inputs", "taken", "spent"):
            getattr(self, name).update(getattr(other, name))
        for name in ("uncaught", "hangs", "deaths", "growths"):
            getattr(self, name).extend(getattr(other, name))
        self.peak_mb = max(self.peak_mb, other.peak_mb)
        self.slowest = max(self.slowest, other.slowest, key=lambda one: one.get("seconds", -1))

    @property
    def total(self) -> int:
        """Inputs so far."""
        return self.inputs.total()

    @property
    def clean(self) -> bool:
        """Nothing but errors of the workbench came out, in time."""
        return not (self.uncaught or self.hangs or self.deaths)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {
            "inputs": self.total,
            "seed": self.seed,
            "uncaught_exceptions": len(self.uncaught),
            "hangs_over_5_s": len(self.hangs),
            "dead_processes": len(self.deaths),
            "peak_memory_mb": round(self.peak_mb, 1),
            "peak_grew_at": self.growths[:50],
            "seconds": round(self.seconds, 1),
            "slowest": self.slowest,
            "readers": {
                name: {
                    "inputs": count,
                    "taken": self.taken[name],
                    "seconds": round(self.spent[name], 1),
                }
                for name, count in sorted(self.inputs.items())
            },
            "faults": (self.uncaught + self.hangs + self.deaths)[:50],
        }


def damaged(reader: Reader, number: int, seed: int) -> bytes:
    """Return input `number` of a reader."""
    rng = random.Random(f"{seed}|{reader.name}|{number}")
    return reader.damage(rng.choice(reader.sound), rng, reader.sound)


def try_one(reader: Reader, data: bytes) -> str:
    """Return "taken", "refused", or the traceback of what should not have come out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader.read(data)
        return "taken"
    except WorkbenchError as error:
        return "refused" if str(error).strip() else "an error without a message"
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        return "".join(traceback.format_exception(error)[-6:])


def fuzz(
    *, count: int = 0, seconds: float = 0.0, seed: int = 0, only: str = "", show: bool = False
) -> Outcome:
    """Read damaged inputs, until there were `count` or `seconds` are over."""
    outcome, start, at = Outcome(seed=seed), time.monotonic(), 0
    context = multiprocessing.get_context("spawn")
    while at < count or (seconds and time.monotonic() - start < seconds):
        mine, theirs = context.Pipe()
        here = context.Value("q", -1)
        left = 0.0 if not seconds else seconds - (time.monotonic() - start)
        process = context.Process(target=_work, args=(theirs, here, at, count, left, seed, only))
        process.start()
        theirs.close()
        fault = _listen(mine, here, process, outcome, show)
        process.join()
        if fault is None:
            break
        outcome.deaths.append(fault)
        if here.value < at:  # it never began
            break
        at = here.value + 1
    outcome.seconds = time.monotonic() - start
    return outcome


def _listen(pipe, here, process, outcome: Outcome, show: bool) -> dict | None:
    """Take what a process says until its end; return what it was at where it dies or hangs."""
    last, since = here.value, time.monotonic()
    while True:
        if pipe.poll(1.0):
            try:
                said = pipe.recv()
            except EOFError:
                process.join()
                return {"number": here.value, "reader": "?", "exit": process.exitcode}
            if said is None:
                return None
            outcome.add(said)
            if show:
                sys.stderr.write(f"{outcome.total:,} inputs, {len(outcome.uncaught)} uncaught\n")
        if here.value != last:
            last, since = here.value, time.monotonic()
        # building the readers takes longer than any input
        elif time.monotonic() - since > (SILENT if last >= 0 else 10 * SILENT):
            process.kill()
            return {"number": last, "reader": "?", "silent": SILENT}


def _work(pipe, here, first: int, count: int, seconds: float, seed: int, only: str) -> None:
    """Read inputs from `first` on; `here` tells which one, whatever becomes of this process."""
    logging.disable(logging.CRITICAL)
    # decoders of images write what they think to the process's own stderr
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with tempfile.TemporaryDirectory() as folder:
        readers = [r for r in all_readers(Path(folder)) if only in r.name]
        turns = [r for r in readers for _ in range(r.share or bool(only))]
        random.Random(seed).shuffle(turns)
        number, start, part = first, time.monotonic(), Outcome(peak_mb=_peak())
        while number < count or (seconds and time.monotonic() - start < seconds):
            here.value = number
            part.note(turns[number % len(turns)], number, seed)
            number += 1
            if part.total >= _TOGETHER:
                pipe.send(part)
                part = Outcome(peak_mb=_peak())
        pipe.send(part)
        pipe.send(None)


def _cpu() -> float:
    """Seconds of a processor that this process, and those it has waited for, have used."""
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


def _peak() -> float:
    """Megabytes that this process, or a process it started, has held at most."""
    unit = 1 if sys.platform == "darwin" else 1024
    waited_for = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    return max(peak_memory(), waited_for) / 1e6
