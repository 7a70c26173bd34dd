"""What `workbench app` answers, and to whom.

A request is answered when its Host is a name of this computer (so that no foreign page reaches the
app by a name of its own), its Origin, if any, is the app itself, and it carries the token, or the
cookie that the token or the password bought. The token leaves the address bar with the first
answer. What of this Jupyter Server does by itself is configured in `_app_server`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from typing import Any, ClassVar

import tornado.web
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.identity import PasswordIdentityProvider
from jupyter_server.auth.login import LoginFormHandler
from jupyter_server.base.handlers import FileFindHandler, JupyterHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.web import HTTPError
from traitlets import Int, List, Set, Unicode
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from workbench.commands._app_site import Card, Site
from workbench.errors import InputError
from workbench.model.licence import notice_by_name

logger = logging.getLogger(__name__)

#: Failed logins within a minute after which nobody can log in for the rest of it.
MOST_FAILURES = 10
#: Seconds that the start page waits for the pictures of its images.
CARD_PATIENCE = 3
#: How often, every tenth of a second, it is looked whether another page may be opened.
ROOM_TRIES = 50


class AppIdentity(PasswordIdentityProvider):
    """The key of the app: its token, or the password of `--public`."""

    def should_check_origin(self, handler: tornado.web.RequestHandler) -> bool:
        """Refuse foreign pages although they have the token; Jupyter would answer them."""
        return True


class Processes(AsyncMappingKernelManager):
    """The processes of the pages, at most so many at a time."""

    most = Int(1, min=1).tag(config=True)
    _opening = Set(Unicode())

    async def start_kernel(self, **options: Any) -> str:
        """Start the process of a page; 503 where as many pages are open as may be."""
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
            return await super().start_kernel(kernel_id=name, **options)
        finally:
            self._opening.remove(name)


class OwnInterpreter(KernelSpecManager):
    """Of the kernels only this interpreter's own, also where the user has another "python3"."""

    kernel_dirs = List(Unicode())

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return how a process is started: as `_app_process`, which opens no port.

        Nothing that happens to lie in the user's folder is imported there (`-P`, `--ignore-cwd`).
        """
        spec = super().get_kernel_spec(kernel_name)
        start = [sys.executable, "-P", "-m", f"{__package__}._app_process", "--ignore-cwd"]
        spec.argv = [*start, "-f", "{connection_file}"]
        return spec


class Guarded(JupyterHandler):
    """Base of every handler: answers only those who may ask."""

    #: Whether those without the key are answered too. Handlers of Jupyter have marks of their own
    #: for this, which do not count here: its handlers of static files are marked as open.
    open_to_all = False

    #: Whether people see the address, so that the token has to leave it.
    in_address_bar = False

    def check_host(self) -> bool:
        """Return whether the Host means this computer, by a name or an address."""
        return self.request.host_name.strip("[]") in self.settings["local_hostnames"]

    def get_current_user(self) -> str:
        """Know nobody before `prepare`; pages about errors may be written earlier."""
        return ""

    def set_default_headers(self) -> None:
        """Set the headers of the settings, and do not say which server this is."""
        super().set_default_headers()
        self.clear_header("Server")

    def set_cors_headers(self) -> None:
        """Allow nothing to other origins, not even with the token as Jupyter does."""

    async def prepare(self, **options: bool) -> None:
        """Let the request in, or answer it with a refusal or with the login."""
        await super().prepare(**options)
        if self._finished:
            return
        if not self.check_origin() or (self.current_user is None and not self.open_to_all):
            raise HTTPError(403)
        if self.in_address_bar and "token" in self.request.query_arguments:
            self.redirect(self.request.path)  # the cookie is set

    def log_exception(self, typ: object, value: BaseException | None, tb: object) -> None:
        """Log what failed without what stands behind the question mark, where the token may be."""
        if not isinstance(value, HTTPError):
            logger.error("%s %s failed", self.request.method, self.request.path, exc_info=value)


class Nothing(Guarded):
    """Every other address."""

    def get(self, *path: str) -> None:
        """Answer that nothing is there."""
        raise HTTPError(404)

    head = post = put = delete = patch = options = get


class Login(Guarded, LoginFormHandler):
    """Asks for the key, ten times a minute at most; Jupyter would let keys be tried without end."""

    open_to_all = True
    _failures: ClassVar[deque[float]] = deque(maxlen=MOST_FAILURES)

    @allow_unauthenticated
    def post(self) -> None:
        """Check the key."""
        if len(self._failures) == MOST_FAILURES and time.monotonic() - self._failures[0] < 60:
            raise HTTPError(429)
        super().post()
        if self.get_status() == 401:
            self._failures.append(time.monotonic())


class Logout(Guarded):
    """Forgets the key."""

    def get(self) -> None:
        """Take the cookie back and ask for the key."""
        self.identity_provider.clear_login_cookie(self)
        self.redirect("/login")


class Start(Guarded):
    """The start page."""

    in_address_bar = True

    async def get(self) -> None:
        """List the pages, each with what it is about."""
        site: Site = self.settings["workbench_site"]
        cards = await asyncio.to_thread(self.settings["workbench_cards"].ready, CARD_PATIENCE)
        shown = [
            (page, cards[page.number or 0] if page.kind == "explorer" else Card(page.shows))
            for page in site.pages
        ]
        notice = notice_by_name(site.model)
        self.write(self.render_template("start.html", pages=shown, model=site.model, notice=notice))


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


class Files(Guarded, FileFindHandler):
    """Scripts of the app and of the extensions; scripts and fonts of Voila."""
