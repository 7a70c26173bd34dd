"""Contexts around third-party decoders: no identifier in a log, no lenient decoding.

pydicom quotes the values of damaged elements in warnings and log records, and those may be
patient identifiers. Inside `silent_dicom` nothing it says gets out. Pillow accepts truncated files
when some other code in the process has asked it to; inside `strict_pillow` it does not.

Both change state of the whole process, so each is counted: the first thread in makes the change,
the last one out takes it back.

Does not know: what is decoded.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from PIL import Image, ImageFile

_DICOM_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "rle")


class _SharedContext:
    """A context that several threads may hold at once; entered once, left once."""

    def __init__(self, factory: Callable[[], AbstractContextManager]) -> None:
        self._factory = factory
        self._lock = threading.Lock()
        self._holders = 0
        self._active: AbstractContextManager | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._holders == 0:
                self._active = self._factory()
                self._active.__enter__()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if self._holders == 0:
                    active, self._active = self._active, None
                    active.__exit__(None, None, None)


@contextmanager
def _silence() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _DICOM_LOGGERS]
    for logger in loggers:
        logger.addFilter(_drop)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(_drop)


@contextmanager
def _strictness() -> Iterator[None]:
    lenient, limit = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = lenient, limit


def _drop(record: logging.LogRecord) -> bool:
    return False


silent_dicom = _SharedContext(_silence)
strict_pillow = _SharedContext(_strictness)
