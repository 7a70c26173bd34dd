"""One model at work on blocks: read the images, decode all tasks, return one record for each row.

The part of the prompt up to the image is computed once for each image, alone, and shared by all
its tasks; then the answers of a block are decoded together. What a row gets so depends on its block
alone. A file that cannot be read is a failed row for each task; an answer that fails in company is
tried once more alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import torch

from workbench._progress import peak_memory
from workbench.data.images import Root
from workbench.errors import RunError, WorkbenchError
from workbench.generation.responder import Job
from workbench.generation.result import Generation, package_versions
from workbench.imaging import load_radiograph
from workbench.interface import ChestXrayModel
from workbench.model.placement import device_name, gpu_memory, pins_memory, release_memory
from workbench.radiograph.contract import InputContract
from workbench.runs.plan import Block, Item, RunPlan
from workbench.runs.store import DONE, FAILED

_LOG = logging.getLogger(__name__)

_DIGITS = 5
#: Images of a block that are read at the same time; decoders of image files leave Python free.
_READERS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True, eq=False)
class Ready:
    """One image with one job for each task, or why it could not be read."""

    jobs: tuple[Job, ...] = ()
    contract: InputContract | None = None
    error: str = ""


class BlockWorker:
    """Answers blocks with one model.

    Attributes:
        largest: answers that fit the memory together, where `batch_size` did not; else None.
    """

    name = "local"

    def __init__(self, model: ChestXrayModel, plan: RunPlan, root: Path) -> None:
        self.model = model
        self.plan = plan
        self.root = Root(root)
        self.largest: int | None = None

    def describe(self) -> dict:
        """Return what `run.json` says of the prompts, the model, the device and the packages.

        Raises:
            ContextBudgetError: a task does not fit the model's context.
        """
        blank = torch.zeros(1, 1, self.model.image_size, self.model.image_size)
        asked = [(task.kind, task.messages(self.model.prompts)) for task in self.plan.tasks]
        jobs = [  # an error comes before anything is written
            self.model.job(blank, messages, self.plan.settings, task=kind, source="check")
            for kind, messages in asked
        ]
        card, identity = self.model.card, asdict(self.model.identity)
        device = identity.pop("device")
        facts = {name: getattr(card, name) for name in ("licence", "notice", "template")}
        files, kind = dict(card.sha256s), device.partition(":")[0]
        return {
            "model": {**identity, **facts, "files": files, "device_type": kind},
            "prompts": [job.prompt for job in jobs],
            "device": device,
            "device_name": device_name(device),
            "versions": dict(package_versions()),
            "threads": torch.get_num_threads(),
        }

    def read(self, block: Block) -> list[Ready]:
        """Read and prepare the images of a block; may run in another thread than `answer`."""
        with ThreadPoolExecutor(max_workers=_READERS) as pool:
            return list(pool.map(self._read, block.items))

    def answer_all(self, blocks: Iterable[Block]) -> Iterator[tuple[int, list[dict]]]:
        """Yield the number and the rows of each block; the next one is read meanwhile."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            begun = ((block, pool.submit(self.read, block)) for block in blocks)
            for now, _ in pairwise(chain(begun, [None])):
                if now is not None:  # None stands behind the last
                    block, ready = now
                    yield block.number, self.answer(block, ready.result())

    def answer(self, block: Block, ready: Sequence[Ready] | None = None) -> list[dict]:
        """Return one record for each row of a block: values by column of the store.

        Raises:
            RunError: nothing at all can be decoded, or the folder of the images is gone.
        """
        ready = self.read(block) if ready is None else ready
        if any(image.error for image in ready) and not self.root.folder.is_dir():
            raise RunError(
                f"{self.root.folder.name}: the folder of the images is gone; what was finished is "
                "kept, start the same command again when it is back"
            )
        try:
            answers = iter(self._decode([job for image in ready for job in image.jobs]))
        finally:
            self.model.forget_images()
        peaks = self._peaks()
        rows = []
        for item, image in zip(block.items, ready, strict=True):
            for position, task in enumerate(self.plan.tasks):
                row = {"row": item.row, "id": item.id, "source": item.source, "task": task.name}
                row |= {"position": position, **peaks, **_seen(image.contract)}
                answer = image.error if not image.jobs else next(answers)
                rows.append(row | _written(answer))
        return rows

    def _read(self, item: Item) -> Ready:
        """Read one image; whatever is wrong with it stays its own."""
        try:
            path = self.root.image(item.path)
            image = load_radiograph(path, fit=self.plan.fit, upright=self.plan.upright)
            asked = [
                (task.kind, task.messages(self.model.prompts), self.plan.settings_of(item, task))
                for task in self.plan.tasks
            ]
            jobs = self._pinned(self.model.jobs(image, asked))
            return Ready(jobs, self.model.contract(image))
        except Exception as error:  # decoders of image files raise many kinds
            return Ready(error=_without_name(_reason(error), item))

    def _pinned(self, jobs: Sequence[Job]) -> tuple[Job, ...]:
        """Put the pixels where a GPU fetches them while it computes, once for all jobs."""
        if not pins_memory(self.model.identity.device):
            return tuple(jobs)
        pixels = jobs[0].request.pixel_values.pin_memory()
        return tuple(
            replace(job, request=replace(job.request, pixel_values=pixels)) for job in jobs
        )

    def _decode(self, jobs: list[Job]) -> list[Generation | str]:
        """Answer jobs in batches; an error takes the place of an answer that failed twice."""
        order = sorted(range(len(jobs)), key=lambda index: len(jobs[index].request.ids))
        found: dict[int, Generation | str] = {}
        size = self.plan.batch_size
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            found.update(zip(batch, self._batch([jobs[index] for index in batch]), strict=True))
        return [found[index] for index in range(len(jobs))]

    def _batch(self, jobs: list[Job]) -> Sequence[Generation | str]:
        if self.largest is not None and len(jobs) > self.largest:
            size = self.largest  # a part may shrink it further
            parts = [jobs[at : at + size] for at in range(0, len(jobs), size)]
            return [one for part in parts for one in self._batch(part)]
        try:
            return self.model.answer_image_by_image(jobs)
        except RunError:  # an endpoint that cannot be reached: the run stops, and resumes
            raise
        except (WorkbenchError, RuntimeError, MemoryError) as error:
            if len(jobs) == 1 and not isinstance(error, WorkbenchError):
                raise _cannot_decode(error) from error
            if len(jobs) == 1:
                return [_reason(error)]
            if _is_memory(error):
                self._shrink(len(jobs))
                return self._batch(jobs)
        alone: list[Generation | str] = []
        failure = None
        for job in jobs:
            try:
                alone += self._batch([job])
            except RunError as error:
                failure = error
                alone.append(_reason(error.__cause__))
        if failure is not None and all(isinstance(one, str) for one in alone):
            raise failure
        return alone

    def _shrink(self, size: int) -> None:
        """Halve what is decoded together from here on, and say so."""
        self.largest = max(1, size // 2)
        self.model.forget_images()
        release_memory()
        _LOG.warning(
            "out of memory with %d answers in a batch; continuing with %d. Texts are the same but "
            "for near ties in 16 bit",
            size,
            self.largest,
        )

    def _peaks(self) -> dict:
        """Return the greatest memory so far, in megabytes, of the process and of its GPU."""
        used = {
            "peak_rss_mb": peak_memory(),
            "peak_gpu_mb": gpu_memory(self.model.identity.device, peak=True),
        }
        return {name: None if size is None else round(size / 1e6, 1) for name, size in used.items()}


def _seen(contract: InputContract | None) -> dict:
    if contract is None:
        return {}
    return {
        "domain": contract.domain,
        "view": contract.view,
        "crop_loss": round(float(contract.crop_loss), _DIGITS),
    }


def _written(answer: Generation | str) -> dict:
    if isinstance(answer, str):
        return {"status": FAILED, "error": answer}
    logprobs = answer.logprobs.astype(np.float64)
    codes = [warning.code for warning in answer.warnings if warning.code != "notice"]
    return {
        "status": DONE,
        "text": answer.text,
        "tokens": len(answer.token_ids),
        "mean_logprob": round(float(logprobs.mean()), _DIGITS) if logprobs.size else None,
        "finish_reason": answer.stopped_by,
        "seed": answer.seed,
        "warnings": "|".join(codes),
        "seconds": round(answer.seconds, 4),
    }


def _reason(error: BaseException | None) -> str:
    """Return why, in one line; of errors that are not ours only the kind, never their text."""
    if isinstance(error, WorkbenchError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__} while reading or decoding; open the image by itself to see why"


def _without_name(reason: str, item: Item) -> str:
    """Return why, without the name of the file: a file may be called after a patient."""
    name = (item.path or "").replace("\\", "/").rsplit("/", 1)[-1]
    return reason.removeprefix(f"{name}: ").replace(name, "the file") if name else reason


def _is_memory(error: Exception) -> bool:
    """Say whether an error is a lack of memory, of the GPU or of the machine."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(word in str(error).lower() for word in words)


def _cannot_decode(error: Exception) -> RunError:
    kept = "what was finished is kept, and the same command resumes"
    if "CUDA" in str(error) and not _is_memory(error):
        return RunError(
            f"the GPU was lost or failed ({type(error).__name__}); {kept}. Start it again, on "
            "another GPU or with device='cpu' in a new folder if it comes back; `nvidia-smi` and "
            "`workbench doctor` show what is there"
        )
    return RunError(
        f"a whole batch failed with {type(error).__name__}; {kept}. Out of memory: a smaller "
        "batch_size in a new folder, or quantize='8bit'; else restart and look at `workbench "
        "doctor`"
    )
