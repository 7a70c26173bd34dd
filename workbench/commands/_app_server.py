"""The server of `workbench app`: Voila, with only those of its handlers that the pages need.

Voila renders a page (a notebook) with our own template, starts its process and connects the two.
Left out are its tree of folders, contents, files and template overrides; configuration files of the
user are not read, so that none can open what is closed here.

Does not know: what is on the pages; who may see them (`_app_guard`); how one is answered
(`_app_handlers`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
import tempfile
import uuid
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import jinja2
import tornado.httpserver
import tornado.netutil
import tornado.web
from jupyter_core.utils import ensure_async
from jupyter_server.auth.security import passwd
from traitlets.config import Config
from voila.app import Voila
from voila.paths import collect_static_paths
from voila.utils import get_voila_labextensions_path

from workbench._store import write_private
from workbench.commands._app_cards import Cards
from workbench.commands._app_guard import AppIdentity, Login, Logout, Nothing
from workbench.commands._app_handlers import (
    ALONE,
    Channels,
    Ended,
    Extensions,
    OneProcess,
    OwnFiles,
    OwnInterpreter,
    Processes,
    Shown,
    Start,
    VoilaFiles,
)
from workbench.commands._app_site import Site
from workbench.errors import OptionError

logger = logging.getLogger(__name__)

#: Our own templates, style and script.
PAGES = Path(__file__).parent / "app_pages"

#: JupyterLab extensions that the pages need: the basic widgets, their manager, and anywidget.
EXTENSIONS = (
    "@jupyter-widgets/jupyterlab-manager",
    "@voila-dashboards/widgets-manager8",
    "anywidget",
)

#: Bytes that the path of a socket may have on every system, its end included.
LONGEST_SOCKET = 103

#: A file in the folder itself: no way leads out of it.
_FILE = r"[A-Za-z0-9_.-]+"

_KERNEL = r"(?P<kernel_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"


class AppServer(Voila):
    """The server; made by `open`.

    Attributes:
        site: what is served.
    """

    name = "workbench-app"

    @classmethod
    def open(
        cls,
        site: Site,
        folder: Path,
        *,
        port: int,
        tabs: int,
        password: str | None,
        names: frozenset[str],
    ) -> AppServer:
        """Listen, and answer as soon as `serve` is called.

        Args:
            site: what is served.
            folder: the private folder with its pages.
            port: 0 takes a free one.
            tabs: most pages open at a time.
            password: opens the app to the network; None keeps it on this computer.
            names: Host headers that are answered.

        Raises:
            OptionError: the port is taken.
        """
        sockets = _sockets(port, public=password is not None)
        token = None if password is not None else secrets.token_urlsafe(32)
        hashed = "" if password is None else passwd(password)
        server = cls(config=_configuration(folder, hashed, token, tabs))
        server.initialize([])
        server.site, server.folder, server.sockets = site, folder, sockets
        server.names, server.key = names, token
        server.port = sockets[0].getsockname()[1]
        return server

    @property
    def url(self) -> str:
        """The address of the start page, with the token where there is one."""
        return f"http://127.0.0.1:{self.port}/" + (f"?token={self.key}" if self.key else "")

    def entrance(self) -> Path:
        """Return a private file that leads a browser to the app."""
        path = self.folder / "open.html"
        url = escape(self.url, quote=True)
        page = (
            f'<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0; url={url}"><title>Workbench</title>'
            f'<p><a href="{url}">Open the workbench</a>'
        )
        write_private(path, page.encode())
        return path

    def serve(self, *, ready: Callable[[], None]) -> None:
        """Answer until Ctrl-C or SIGTERM; then end all processes.

        Args:
            ready: called once the app answers.
        """
        asyncio.run(self._serve(ready))

    async def _serve(self, ready: Callable[[], None]) -> None:
        ended = asyncio.Event()
        _on_signals(ended.set)
        if not logger.isEnabledFor(logging.INFO):
            # it warns of numbers that Jupyter sets
            logging.getLogger("tornado.general").setLevel(logging.ERROR)
        self.connection_dir = tempfile.mkdtemp(prefix="p-", dir=self.folder)
        if _fits_a_socket(self.connection_dir):
            # files in a private folder: what goes over a port, other users can read
            self.config.KernelManager.transport = "ipc"
        self.cards = Cards(self.site.images, upright=self.site.upright)
        settings = {**self.init_settings(), **self._own_settings()}
        application = tornado.web.Application(self.init_handlers(), **settings)
        http = tornado.httpserver.HTTPServer(application, max_buffer_size=16 << 20)
        try:
            http.add_sockets(self.sockets)
            ready()
            await ended.wait()
        finally:
            http.stop()
            self.cards.close()
            await ensure_async(self.kernel_manager.shutdown_all(now=True))

    def setup_template_dirs(self) -> None:
        """Use our own template, and of Voila the scripts only."""
        self.template_paths = [str(PAGES)]
        self.static_paths = collect_static_paths(["voila"], "base")

    def _own_settings(self) -> dict[str, Any]:
        loader = jinja2.FileSystemLoader(PAGES)
        return {
            "allow_remote_access": True,  # the names are checked by `Guarded.check_host`
            "allow_unauthenticated_access": False,
            "default_handler_class": Nothing,
            "log_function": _log_request,
            "websocket_max_message_size": 16 << 20,
            "workbench_names": self.names,
            "workbench_site": self.site,
            "workbench_cards": self.cards,
            "workbench_templates": jinja2.Environment(loader=loader, autoescape=True),
        }

    def init_handlers(self) -> list[tuple]:
        """Return the handlers; everything else is answered by `Nothing`."""
        names = "|".join(EXTENSIONS)
        voila = {"voila_configuration": self.voila_configuration}
        return [
            (r"/", Start),
            (r"/login", Login),
            (r"/logout", Logout),
            (r"/page/([a-z0-9-]+)", Shown,
             {**voila, "template_paths": self.template_paths, "config": self.config}),
            (rf"/api/kernels/{_KERNEL}", OneProcess),
            (rf"/api/kernels/{_KERNEL}/channels", Channels),
            (rf"/voila/api/shutdown/{_KERNEL}", Ended),
            (rf"/voila/static/({_FILE}\.(?:js|css|woff2?|ttf|eot|svg))", VoilaFiles,
             {"paths": self.static_paths}),
            (rf"/voila/labextensions/((?:{names})/static/{_FILE}\.js)", Extensions,
             {"path": get_voila_labextensions_path()}),
            (r"/app/(app\.js)", OwnFiles, {"path": str(PAGES)}),
        ]  # fmt: skip


def _configuration(folder: Path, hashed: str, token: str | None, tabs: int) -> Config:
    """Return the configuration of Voila: closed wherever it can be."""
    own = Config()
    own.AppServer.config_file_paths = []
    own.AppServer.root_dir = str(folder)
    own.AppServer.connection_dir_root = str(folder)
    own.AppServer.identity_provider_class = AppIdentity
    own.AppServer.log_level = logging.INFO if logger.isEnabledFor(logging.INFO) else logging.ERROR
    own.AppServer.token = token
    own.AppIdentity.hashed_password = hashed
    pages = own.VoilaConfiguration
    pages.template = "base"
    pages.allow_template_override = "NO"
    pages.allow_theme_override = "NO"
    pages.strip_sources = True
    pages.show_tracebacks = False
    pages.file_allowlist = []
    pages.file_denylist = [".*"]
    pages.extension_allowlist = list(EXTENSIONS)
    pages.extension_denylist = []
    pages.multi_kernel_manager_class = Processes
    pages.resources = {}
    own.Processes.cull_idle_timeout = ALONE
    own.Processes.cull_interval = 30
    own.Processes.most = tabs
    own.KernelRestarter.restart_limit = 0
    pages.kernel_spec_manager_class = OwnInterpreter
    return own


def _sockets(port: int, *, public: bool) -> list[socket.socket]:
    """Listen on a port.

    Raises:
        OptionError: it is taken, or not for this user.
    """
    try:
        return tornado.netutil.bind_sockets(port, None if public else "127.0.0.1")
    except OSError as error:
        raise OptionError(
            f"cannot listen on port {port}: {os.strerror(error.errno or 0)}; give another one by "
            "--port, or --port 0 for a free one"
        ) from error


def _fits_a_socket(folder: str) -> bool:
    """Return whether processes can be talked to by files in a folder; paths of such are short."""
    longest = os.path.join(folder, f"kernel-{uuid.uuid4()}-ipc-5")
    return os.name == "posix" and len(os.fsencode(longest)) <= LONGEST_SOCKET


def _on_signals(act: Callable[[], Any]) -> None:
    """Act on Ctrl-C and SIGTERM."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, act)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(act))


def _log_request(handler: tornado.web.RequestHandler) -> None:
    """Log a request without what stands behind the question mark, where the token may be."""
    status, request = handler.get_status(), handler.request
    level = logging.WARNING if status >= 500 else logging.INFO
    logger.log(level, "%d %s %s", status, request.method, request.path)


__all__ = ["AppServer"]
