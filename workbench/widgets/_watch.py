"""Watch a model while a job runs it: progress by images read, and a way out between two passes.

    with watched(model, job, total=256):
        wb.saliency.explain(trace, method="kernel_shap")

Hooks on the vision tower and the language model count what goes through them and leave the
computation where the job was taken back; they hear their own thread only and are gone when the
block ends, however it ends.

Does not know: what is computed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.widgets._worker import Job


@contextmanager
def watched(model: Any, job: Job, *, total: int | None = None) -> Iterator[None]:
    """Let a job see, and end, what a model does in this thread.

    Args:
        model: a `ChestXrayModel`.
        job: is told how many images went through the vision tower.
        total: how many are expected; None where that is unknown.

    Raises:
        Cancelled: the job was taken back; raised before the next forward pass.
    """
    thread, images = threading.get_ident(), 0

    def count(module: Any, given: tuple) -> None:
        nonlocal images
        if threading.get_ident() != thread:
            return
        job.check()
        images += len(given[0]) if given else 1
        known = total if total and images <= total else None
        job.progress(images, known, f"{images} images" + (f" of {known}" if known else ""))

    def check(module: Any, given: tuple) -> None:
        if threading.get_ident() == thread:
            job.check()

    hooks = [
        model.vision.register_forward_pre_hook(count),
        model.decoder.register_forward_pre_hook(check),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
