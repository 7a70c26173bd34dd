"""Contexts around third-party decoders: no identifier in a log, no lenient decoding.

pydicom, Pillow and the codecs behind them quote what they read in warnings and log records, and
that may be a patient identifier. Inside `guarded_decoders` every record of the thread that decodes
is dropped, whichever logger makes it, and so is every record of a decoder's logger in any thread.
Pillow accepts truncated files when other code in the process has asked it to; inside it does not.

Code in C and Rust writes to the terminal itself; inside `silent_terminal` nothing reaches it, of
any thread, so it is only used around the few decoders that do so.

Both change state of the whole process: the first thread in makes the change, the last one out takes
it back.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from PIL import Image, ImageFile

#: Roots of the names of loggers that decoders use, for the threads that they start themselves.
_DECODERS = frozenset(
    ("pydicom", "pylibjpeg", "openjpeg", "libjpeg", "rle", "gdcm", "PIL", "jpeg_ls")
)


class _SharedContext:
    """A context that several threads may hold at once; entered once, left once."""

    def __init__(self, factory: Callable[[], AbstractContextManager]) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self.inside: Counter[int] = Counter()  # how often each thread is in it
        self._active = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        thread = threading.get_ident()
        with self._lock:
            if not self.inside:
                self._active.enter_context(self._factory())
            self.inside[thread] += 1
        try:
            yield
        finally:
            with self._lock:
                self.inside -= Counter({thread: 1})
                if not self.inside:
                    self._active.close()


@contextmanager
def _guards() -> Iterator[None]:
    """Drop what decoders log and warn of, and make Pillow strict.

    Filters of a logger and of its parents do not see the records of its children, and handlers may
    hang anywhere; `Logger.handle` is the one place that every record passes, also of loggers that
    a decoder makes while it runs. Pillow's own limit of pixels is off: sizes are checked here.
    """
    handle = logging.Logger.handle
    lenient, limit = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS

    def heard(self: logging.Logger, record: logging.LogRecord) -> None:
        root = record.name.partition(".")[0]
        if not guarded_decoders.inside[threading.get_ident()] and root not in _DECODERS:
            handle(self, record)

    logging.Logger.handle = heard
    ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # for a decoder that sets filters of its own
            warnings.showwarning = lambda *message, **more: None
            yield
    finally:
        logging.Logger.handle = handle
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = lenient, limit


@contextmanager
def _closed_terminal() -> Iterator[None]:
    try:
        terminal = os.dup(2)
    except OSError:  # nothing to write to
        yield
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


guarded_decoders = _SharedContext(_guards)
silent_terminal = _SharedContext(_closed_terminal)


def silent_libtiff(image: Image.Image) -> AbstractContextManager:
    """Keep what libtiff writes while it decodes an opened image off the terminal."""
    return silent_terminal() if image.format == "TIFF" else nullcontext()
