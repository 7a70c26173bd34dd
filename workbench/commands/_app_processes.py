"""The processes of the pages of `workbench app`: started, kept ready, ended."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_core.utils import ensure_async
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Int, List, Set, Unicode

import workbench.commands._shared as shared
from workbench.commands._app_site import WARM

logger = logging.getLogger(__name__)

#: How often, every tenth of a second, it is looked whether another page may be opened.
ROOM_TRIES = 50
#: Seconds that a process may take to load the model.
LONGEST_LOAD = 600
#: Seconds after which a process takes the place of one that a page got: the page goes first.
REFILL_AFTER = 10


class Processes(AsyncMappingKernelManager):
    """The processes of the pages, at most so many at a time.

    Of these `warm` wait for a page with the model in them, as far as there is room.
    """

    most = Int(1, min=1).tag(config=True)
    warm = Int(0, min=0).tag(config=True)
    _opening = Set(Unicode())
    _waiting = List(Unicode())
    _filling: asyncio.Task | None = None

    async def start_kernel(self, **options: Any) -> str:
        """Give a page a process that waits, or start one; 503 where no more pages may be open."""
        name = await self._taken() or await self._started(**options)
        self.fill()
        return name

    async def _taken(self) -> str:
        """Return a process that waited for a page, "" where there is none."""
        while self._waiting:
            kernel = self._kernels.get(name := self._waiting.pop(0))
            if kernel is not None and await ensure_async(kernel.is_alive()):
                kernel.last_activity = datetime.now(UTC)  # pyright: ignore[reportAttributeAccessIssue]
                return name
        return ""

    async def _started(self, **options: Any) -> str:
        # the process of a page that is being closed or loaded again goes away in a moment
        for _ in range(ROOM_TRIES):
            if self._room():
                break
            await asyncio.sleep(0.1)
        else:
            raise HTTPError(503)
        name = self.new_kernel_id()
        self._opening.add(name)
        try:
            return await super().start_kernel(kernel_id=name, **options)
        finally:
            self._opening.remove(name)

    def _room(self) -> bool:
        return len(self._opening.union(self.list_kernel_ids())) < self.most

    def fill(self) -> None:
        """Start the processes that should wait, one after another, in the background."""
        if self.warm and (self._filling is None or self._filling.done()):
            self._filling = asyncio.get_running_loop().create_task(self._filled())

    async def _filled(self) -> None:
        if (before := len(self._waiting)) or self.list_kernel_ids():
            await asyncio.sleep(REFILL_AFTER)
        while len(self._waiting) < self.warm and self._room():
            try:
                name = await self._started(env=os.environ | {WARM: "1"}, path="")
                await self._answers(name)
            except (RuntimeError, HTTPError):
                logger.warning("no process could be kept ready for a page", exc_info=True)
                return
            self._waiting.append(name)
        if not before and len(self._waiting) == self.warm:
            shared.note(f"Pages that are ready to open: {self.warm}")

    async def _answers(self, name: str) -> None:
        """Wait until a process has loaded what a page needs; RuntimeError where it died."""
        client = self.get_kernel(name).client()
        client.start_channels()
        self._opening.add(name)
        try:
            await ensure_async(client.wait_for_ready(timeout=LONGEST_LOAD))
        finally:
            self._opening.discard(name)
            client.stop_channels()

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End a process that no page looks at, unless it waits for its first one."""
        if kernel_id not in self._opening.union(self._waiting):
            await super().cull_kernel_if_idle(kernel_id)

    async def shutdown_kernel(
        self, kernel_id: str, now: bool = False, restart: bool = False
    ) -> None:
        """End a process; another may now wait in its place."""
        await super().shutdown_kernel(kernel_id, now=now, restart=restart)
        self.fill()

    async def shutdown_all(self, now: bool = False) -> None:
        """End all processes; none waits any more."""
        self.warm = 0
        await super().shutdown_all(now=now)


class OwnInterpreter(KernelSpecManager):
    """Of the kernels only this interpreter's own, also where the user has another "python3"."""

    kernel_dirs = List(Unicode())

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return how a process is started: as `_app_site`, which opens no port.

        Nothing that happens to lie in the user's folder is imported there (`-P`, `--ignore-cwd`).
        """
        spec = super().get_kernel_spec(kernel_name)
        start = [sys.executable, "-P", "-m", f"{__package__}._app_site", "--ignore-cwd"]
        spec.argv = [*start, "-f", "{connection_file}"]
        return spec
