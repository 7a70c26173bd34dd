"""What `workbench app` answers: the start, the pages, and what these need to live.

Does not know: what is on the pages; who may see them (`_app_guard`).
"""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from functools import partial
from typing import Any

import tornado.web
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_core.utils import ensure_async
from jupyter_server._tz import utcnow
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Int, default
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import MultiStaticFileHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from workbench.commands._app_cards import Card
from workbench.commands._app_guard import Guarded
from workbench.commands._app_site import Site
from workbench.errors import InputError
from workbench.model.licence import notice_by_name

logger = logging.getLogger(__name__)

#: Seconds after which the process of a page that nobody looks at ends, and of one left open.
ALONE, LEFT_OPEN = 120, 4 * 3600

#: Seconds that the start page waits for the pictures of its images.
CARD_PATIENCE = 3

#: What is started as the process of a page.
_PROCESS = f"{__package__}._app_process"

#: How often, every tenth of a second, it is looked whether another page may be opened.
ROOM_TRIES = 50


class Processes(AsyncMappingKernelManager):
    """The processes of the pages: ended when nobody looks at them, sooner where no page is open.

    Attributes:
        most: how many there may be at a time.
    """

    most = Int(1, min=1).tag(config=True)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._opening: set[str] = set()

    async def start_kernel(self, **options: Any) -> str:
        """Start the process of a page, if there is room for one.

        Raises:
            HTTPError: 503, as many pages are open as may be.
        """
        # the process of a page that is being closed or loaded again goes away in a moment
        for _ in range(ROOM_TRIES):
            if len(self._opening.union(self.list_kernel_ids())) < self.most:
                break
            await asyncio.sleep(0.1)
        else:
            raise HTTPError(503)
        name = self.new_kernel_id()
        self._opening.add(name)
        try:
            started = await super().start_kernel(kernel_id=name, **options)
        finally:
            self._opening.remove(name)
        # one that was started again would know nothing of the page
        self.add_restart_callback(name, partial(self._died, name), "dead")
        return started

    def _died(self, name: str) -> None:
        """Forget a process that ended by itself, so that its page says so."""
        logger.warning("the process of a page has ended by itself; memory may be short")
        self._ending = asyncio.ensure_future(ensure_async(self.shutdown_kernel(name, now=True)))

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End the process of a page that is closed or forgotten."""
        kernel = self._kernels[kernel_id]
        looking = self._kernel_connections.get(kernel_id, 0) > 0
        busy = getattr(kernel, "execution_state", None) == "busy"
        idle = utcnow() - getattr(kernel, "last_activity", utcnow())
        # a page that is still opening is busy and has no connection yet
        limit = LEFT_OPEN if looking or busy else ALONE
        if idle > timedelta(seconds=limit) and not (busy and looking):
            await ensure_async(self.shutdown_kernel(kernel_id, now=True))


class OwnInterpreter(KernelSpecManager):
    """Of the kernels only this interpreter's own, also where the user has another "python3"."""

    @default("kernel_dirs")
    def _nowhere_else(self) -> list[str]:
        return []

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return how a process is started: as `_app_process`, which opens no port."""
        spec = super().get_kernel_spec(kernel_name)
        spec.argv = [_PROCESS if part == "ipykernel_launcher" else part for part in spec.argv]
        return spec


class Start(Guarded):
    """The start page."""

    in_address_bar = True

    async def get(self) -> None:
        """List the pages, each with what it is about."""
        site: Site = self.settings["workbench_site"]
        cards = self.settings["workbench_cards"]
        found = await asyncio.get_running_loop().run_in_executor(None, cards.ready, CARD_PATIENCE)
        shown = [
            (page, found[page.number or 0] if page.kind == "explorer" else Card(page.shows))
            for page in site.pages
        ]
        notice = notice_by_name(site.model)
        self.write(self.page("start.html", pages=shown, model=site.model, notice=notice))


class Shown(Guarded, TornadoVoilaHandler):
    """One page."""

    in_address_bar = True

    async def get(self, name: str) -> None:
        """Start the process of a page and write the page while it opens."""
        site: Site = self.settings["workbench_site"]
        try:
            page = site.page(name)
        except InputError:
            raise HTTPError(404) from None
        if self.request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            # a link on another page may lead to the app, but starts no process
            self.redirect("/")
            return
        self.xsrf_token  # noqa: B018  a cookie, with which the page may end its process
        async for html in self.get_generator(path=f"{page.name}.ipynb"):
            # Voila's sign of life is a script, which pages here may not have
            self.write("<!-- at work -->\n" if "voila_heartbeat" in html else html)
            await self.flush()


class OneProcess(Guarded, KernelHandler):
    """What is known of a process; it is ended by `Ended` only."""

    SUPPORTED_METHODS = ("GET",)


class Channels(Guarded, VoilaKernelWebsocketHandler):
    """The connection of a page with its process."""


class Ended(Guarded, VoilaShutdownKernelHandler):
    """Ends the process of a page that was closed."""


class VoilaFiles(Guarded, MultiStaticFileHandler):
    """Scripts and fonts of Voila."""


class OwnFiles(Guarded, tornado.web.StaticFileHandler):
    """Scripts of the app."""


class Extensions(Guarded, FileFindHandler):
    """Scripts of the extensions."""
