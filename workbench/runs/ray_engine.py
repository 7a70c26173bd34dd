"""Blocks answered by several models, one in each worker of Ray.

Workers are actors, each with one GPU where there is one, else one CPU. Ray starts a dead one again
and retries its block (`max_restarts`, `max_task_retries`; docs.ray.io, "Actor fault tolerance").

Without an address a Ray of its own is started, which listens on loopback only and sends no usage
statistics. By itself Ray listens on all interfaces. It has one CPU more than there are workers, for
this process: with none left, Ray waits for ever.
"""

from __future__ import annotations

import ipaddress
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from workbench.errors import MissingDependencyError, RunError, WorkbenchError
from workbench.interface import ChestXrayModel
from workbench.runs.plan import Block, RunPlan
from workbench.runs.worker import BlockWorker

#: Times that a block is tried again after its worker died.
RETRIES = 3
#: Blocks given to each worker, the one it is at included.
_AHEAD = 2
_LOOPBACK = "127.0.0.1"
#: Bytes; rows are small and images are read by the workers.
_OBJECTS = 128 << 20


class RayWorker:
    """Lives in a process of its own; loads the model when it is first needed."""

    def __init__(self, load: Callable[[], ChestXrayModel], plan: RunPlan, root: Path) -> None:
        self._made_of = (load, plan, root)

    @cached_property
    def _worker(self) -> BlockWorker:
        load, plan, root = self._made_of
        return BlockWorker(load(), plan, root)

    def describe(self) -> dict:
        """Return what `run.json` says of model, device and packages."""
        return self._worker.describe()

    def answer(self, block: Block) -> tuple[int, list[dict]]:
        """Return the number and the rows of a block."""
        return block.number, self._worker.answer(block)


class RayEngine:
    """Answers blocks with several workers, in the order in which they finish.

    Args:
        load: gives each worker its model.
        root: folder of the images; every machine must see it at this place.
        workers, address: see `run`.

    Raises:
        MissingDependencyError: Ray is not installed.
    """

    name = "ray"

    def __init__(
        self,
        load: Callable[[], ChestXrayModel],
        plan: RunPlan,
        root: Path,
        *,
        workers: int | None,
        address: str | None,
    ) -> None:
        self._ray = _import_ray(own=address is None)
        self._made_of = (load, plan, root.resolve())
        self._wanted = workers
        self._address = address
        self._started = False
        self._actors: list = []  # of Ray's handles

    def __enter__(self) -> RayEngine:
        try:
            self._start()
            resources = self._ray.cluster_resources()
            gpus = int(resources.get("GPU", 0))
            cpus = max(1, int(resources.get("CPU", 2)) - 1)  # one is for this process
            count = self._wanted or gpus or cpus
            actor = self._ray.remote(RayWorker).options(
                num_cpus=1,
                num_gpus=1 if gpus else 0,
                max_restarts=-1,
                max_task_retries=RETRIES,
            )
            self._actors = [actor.remote(*self._made_of) for _ in range(count)]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        if self._started:
            self._ray.shutdown()
            self._started = False

    def describe(self) -> dict:
        """Return what `run.json` says of model, device and packages, as the first worker has it."""
        return self._get(self._actors[0].describe.remote()) | {"workers": len(self._actors)}

    def answer_all(self, blocks: Iterable[Block]) -> Iterator[tuple[int, list[dict]]]:
        """Yield the number and the rows of each block as it is finished."""
        blocks, running = iter(blocks), {}
        idle = deque(self._actors * _AHEAD)
        while True:
            while idle and (block := next(blocks, None)) is not None:
                actor = idle.popleft()
                running[actor.answer.remote(block)] = actor
            if not running:
                return
            (ready,), _ = self._ray.wait(list(running), num_returns=1)
            idle.append(running.pop(ready))
            yield self._get(ready)

    def _get(self, reference: object) -> Any:
        """Return what a worker gave; its errors come as they were raised there."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, WorkbenchError):
                raise error.cause from None
            raise RunError(
                f"a worker failed with {type(error.cause).__name__}; what was finished is kept. "
                "Run with engine='local' to see where"
            ) from error
        except errors.RayError as error:
            raise RunError(
                f"workers died {RETRIES + 1} times on one block; what was finished is kept. Look "
                "for the reason in the logs of Ray (out of memory?), then start the same command "
                "again, with fewer workers where memory is short"
            ) from error

    def _start(self) -> None:
        """Connect to the cluster, or start a Ray on loopback; use one that runs already."""
        ray = self._ray
        if ray.is_initialized():
            return
        options: dict[str, object] = {"address": self._address}
        failed = (
            f"no Ray cluster at {self._address!r}; start one with `ray start --head`, or leave the "
            "address out for this machine alone"
        )
        if self._address is None:
            options = {
                "num_cpus": None if self._wanted is None else self._wanted + 1,
                "_node_ip_address": _LOOPBACK,
                "include_dashboard": False,
                "object_store_memory": _OBJECTS,
            }
            failed = (
                "Ray did not start on this machine; it needs some free CPU and memory and a "
                "minute. Start the same command again, or use engine='local'"
            )
        for again in (self._address is None, False):
            try:
                ray.init(log_to_driver=False, configure_logging=False, **options)
                break
            except Exception as error:  # Ray raises bare ones when its start takes more than 30 s
                ray.shutdown()
                if not again:
                    raise RunError(failed) from error
        self._started = True
        found = ray.util.get_node_ip_address()
        if self._address is None and not ipaddress.ip_address(found).is_loopback:
            raise RunError(
                f"Ray listens on {found}, not on loopback alone, because it was imported before; "
                "run in a fresh process, or give the address of a cluster of your own"
            )


def _import_ray(*, own: bool) -> ModuleType:
    """Import Ray; one of our own must know before its import that it has no other machines."""
    if own:
        # Named after Windows and macOS, where this is the default; it makes Ray use loopback.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Without it Ray hides the GPUs from tasks that ask for none, and warns about it.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingDependencyError(
            "engine 'ray' needs Ray: pip install 'cxr-llava-workbench[ray]'; engine 'local' needs "
            "nothing"
        ) from None
    return ray
