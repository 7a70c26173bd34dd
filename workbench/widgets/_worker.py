"""Slow work of one widget: one thread, in order of asking, that can be watched and cancelled.

    worker = Worker("explorer")
    worker.submit(job, work)         # work(job) runs in the thread
    worker.cancel(job.id)            # the next job.check() raises Cancelled

The thread ends when there is nothing left to do, so an idle widget holds none.

`watched` hooks the vision tower and the language model. The hooks count what goes through them and
leave the computation where the job was taken back; they hear their own thread only and are gone
when the block ends, however it ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.interface import ChestXrayModel

#: Pieces and progress are sent at most this often, seconds.
PACE = 0.04


class Cancelled(Exception):
    """A job was taken back by the page that asked for it; not an error."""


class Job:
    """One piece of work that a page waits for; `send` is called from the working thread."""

    def __init__(self, id: int | str, name: str, send: Callable[[dict[str, Any]], None]) -> None:
        self.id = id
        self.name = name
        self._send = send
        self._stop = threading.Event()
        self._waiting: list[str] = []
        self._sent_piece = self._sent_progress = 0.0

    @property
    def cancelled(self) -> bool:
        """Whether the job was taken back."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Take the job back."""
        self._stop.set()

    def check(self) -> None:
        """Raise `Cancelled` where the job was taken back."""
        if self._stop.is_set():
            raise Cancelled(self.name)

    def piece(self, text: str) -> None:
        """Send a piece of text, after a `check`; quick ones are joined."""
        self.check()
        self._waiting.append(text)
        if time.monotonic() - self._sent_piece >= PACE:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            text, self._waiting = "".join(self._waiting), []
            self._sent_piece = time.monotonic()
            self._send({"piece": text})

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Say how far it is, after a `check`; what follows too quickly is left out, the end is not.

        `total` is None where it is unknown; `text` says what is being done.
        """
        self.check()
        now = time.monotonic()
        if now - self._sent_progress >= PACE or (total is not None and done >= total):
            self._sent_progress = now
            self._send({"progress": {"done": done, "total": total, "text": text}})


class Worker:
    """One thread at a time, of a given name, that does jobs in order."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        #: What runs, and what waits behind it.
        self._jobs: list[tuple[Job, Callable[[Job], None]]] = []
        self._idle = threading.Event()
        self._idle.set()
        self._closed = False

    @property
    def jobs(self) -> list[Job]:
        """What runs, and what waits behind it."""
        with self._lock:
            return [job for job, _ in self._jobs]

    def submit(self, job: Job, work: Callable[[Job], None]) -> None:
        """Do a job when those before it are done; `work` must not raise."""
        with self._lock:
            if self._closed:
                return
            self._jobs.append((job, work))
            if self._idle.is_set():
                self._idle.clear()
                threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def cancel(self, id: int | str) -> None:
        """Take a job back; one that still waits is ended by its first check, and is answered."""
        for job in self.jobs:
            if job.id == id:
                job.cancel()

    def close(self) -> None:
        """Take everything back and accept nothing more."""
        with self._lock:
            self._closed = True
        for job in self.jobs:
            job.cancel()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is left to do; return whether that was reached."""
        return self._idle.wait(seconds)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._idle.set()
                    return
                job, work = self._jobs[0]
            work(job)
            with self._lock:
                del self._jobs[0]


@contextmanager
def watched(model: ChestXrayModel, job: Job, *, total: int | None = None) -> Iterator[None]:
    """Let a job see how many images a model reads in this thread, and end it.

    `total` is how many are expected; None where that is unknown. Once the job was taken back,
    `Cancelled` is raised before the next forward pass.
    """
    thread, images = threading.get_ident(), 0

    def count(module: object, given: tuple) -> None:
        nonlocal images
        if threading.get_ident() == thread:
            images += len(given[0]) if given else 1
            known = total if total and images <= total else None
            job.progress(images, known, f"{images} images" + (f" of {known}" if known else ""))

    def check(module: object, given: tuple) -> None:
        if threading.get_ident() == thread:
            job.check()

    with (
        model.vision.register_forward_pre_hook(count),
        model.decoder.register_forward_pre_hook(check),
    ):
        yield
