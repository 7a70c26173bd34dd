"""The server of `workbench app`: Voila, configured to be closed wherever it can be.

A request is answered when its Host is a name of this computer (so that no foreign page reaches the
app by a name of its own), its Origin, if any, is the app itself, and it carries the token, or the
cookie that the token or the password bought. The token leaves the address bar with the first
answer.

Voila renders a page (a notebook) with our own template, starts its process and connects the two.
Left out are its tree of folders, contents, files and template overrides; configuration files of the
user are not read. What never changes is configured in `app_pages/voila.json`: the headers of every
answer (nothing is loaded from, or sent to, anybody but the app); of JupyterLab's extensions the
basic widgets, their manager and anywidget; the process of a page ends two minutes after nobody
looks at it; one that died is not started again, since it would know nothing of its page.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import os
import secrets
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import jinja2
import tornado.httpserver
import tornado.ioloop
import tornado.netutil
from jupyter_core.utils import run_sync
from jupyter_server.auth import PasswordIdentityProvider, passwd
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.login import LoginFormHandler
from jupyter_server.base.handlers import FileFindHandler, JupyterHandler, Template404
from jupyter_server.log import log_request
from jupyter_server.services.kernels.handlers import KernelHandler
from tornado.web import HTTPError
from traitlets.config.loader import Config, JSONFileConfigLoader
from voila.app import Voila
from voila.paths import collect_static_paths
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.tornado.handler import TornadoVoilaHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler
from voila.utils import get_voila_labextensions_path

from workbench._store import write_private
from workbench.commands._app_site import Cards, Site, own_names
from workbench.errors import InputError, OptionError
from workbench.model.licence import notice_by_name

logger = logging.getLogger(__name__)

#: Our own templates, style and script.
PAGES = Path(__file__).parent / "app_pages"
#: Bytes that the path of a socket may have on every system, its end included.
LONGEST_SOCKET = 103
#: Failed logins within a minute after which nobody can log in for the rest of it.
MOST_FAILURES = 10
#: A file in the folder itself: no way leads out of it.
_FILE = r"[A-Za-z0-9_.-]+"
_KERNEL = r"(?P<kernel_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"


class AppIdentity(PasswordIdentityProvider):
    """The key of the app: its token, or the password of `--public`."""

    def should_check_origin(self, handler: JupyterHandler) -> bool:
        """Refuse foreign pages although they have the token; Jupyter would answer them."""
        return True


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


class Nothing(Template404, Guarded):
    """Answers that nothing is there."""


class Login(Guarded, LoginFormHandler):
    """Asks for the key, ten times a minute at most; Jupyter would let keys be tried without end."""

    open_to_all = True
    _failures: ClassVar[deque[float]] = deque(maxlen=MOST_FAILURES)

    @allow_unauthenticated
    def post(self) -> None:
        if len(self._failures) == MOST_FAILURES and time.monotonic() - self._failures[0] < 60:
            raise HTTPError(429)
        super().post()
        if self.get_status() == 401:
            self._failures.append(time.monotonic())


class Logout(Guarded):
    """Forgets the key."""

    def get(self) -> None:
        self.identity_provider.clear_login_cookie(self)
        self.redirect("/login")


class Start(Guarded):
    """The start page."""

    in_address_bar = True

    async def get(self) -> None:
        site: Site = self.settings["workbench_site"]
        cards = await asyncio.to_thread(self.settings["workbench_cards"].ready, 3)  # seconds
        about = {"site": site, "cards": cards, "notice": notice_by_name(site.model)}
        self.write(self.render_template("start.html", **about))


class Shown(Guarded, TornadoVoilaHandler):
    """One page."""

    in_address_bar = True

    async def get(self, name: str) -> None:
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


class AppServer(Voila):
    """The server of a site, whose pages lie in a private folder; see `serve`."""

    name = "workbench-app"
    site: Site
    folder: Path
    sockets: list[socket.socket]
    cards: Cards
    ready: Callable[[AppServer], None]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/" + (f"?token={self.token}" if self.token else "")

    def entrance(self) -> Path:
        """Return a private file that leads a browser to the app, token and all."""
        path = self.folder / "open.html"
        page = self.app.settings["jinja2_env"].get_template("open.html").render(url=self.url)
        write_private(path, page.encode())
        return path

    def setup_template_dirs(self) -> None:
        """Use our own template, and of Voila the scripts only."""
        self.template_paths = [str(PAGES)]
        self.static_paths = collect_static_paths(["voila"], "base")

    def init_handlers(self) -> list:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the handlers; everything else is answered by `Nothing`."""
        names = "|".join(self.voila_configuration.extension_allowlist)
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
            (rf"/voila/static/({_FILE}\.(?:js|css|woff2?|ttf|eot|svg))", Files,
             {"path": self.static_paths}),
            (rf"/voila/labextensions/((?:{names})/static/{_FILE}\.js)", Files,
             {"path": get_voila_labextensions_path()}),
            (r"/app/(app\.js)", Files, {"path": str(PAGES)}),
        ]  # fmt: skip

    def listen(self) -> None:
        """Answer on the sockets of `serve` until a signal ends it."""
        http = tornado.httpserver.HTTPServer(
            self.app, max_buffer_size=16 << 20
        )  # bytes of a request
        http.add_sockets(self.sockets)
        self.ioloop = tornado.ioloop.IOLoop.current()
        try:
            self.ready(self)
            self.ioloop.add_callback(self.kernel_manager.fill)
            self.ioloop.start()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def stop(self) -> None:
        self.cards.close()
        run_sync(self.kernel_manager.shutdown_all)(now=True)
        super().stop()


def serve(
    args: argparse.Namespace,
    site: Site,
    folder: Path,
    password: str | None,
    ready: Callable[[AppServer], None],
) -> None:
    """Answer until Ctrl-C or SIGTERM, after a call of `ready`; then end all processes.

    A password opens the app to the network; without one it stays on this computer.

    Raises:
        OptionError: the port is taken, or not for this user.
    """
    try:
        sockets = tornado.netutil.bind_sockets(args.port, "127.0.0.1" if password is None else None)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise OptionError(
            f"cannot listen on port {args.port}: {reason}; give another one by --port, or --port 0 "
            "for a free one"
        ) from error
    server = AppServer(
        config=configuration(folder, password=password, tabs=args.tabs, warm=args.warm)
    )
    server.initialize([])
    server.site, server.folder, server.sockets, server.ready = site, folder, sockets, ready
    server.port = sockets[0].getsockname()[1]
    server.cards = Cards(site.images, upright=site.upright)
    server.tornado_settings = {
        **server.tornado_settings,
        "default_handler_class": Nothing,
        "jinja2_env": jinja2.Environment(loader=jinja2.FileSystemLoader(PAGES), autoescape=True),
        "local_hostnames": own_names(network=args.public) | frozenset(args.allow_host),
        "log_function": functools.partial(log_request, record_prometheus_metrics=False),
        "workbench_site": site,
        "workbench_cards": server.cards,
    }
    if not logger.isEnabledFor(logging.INFO):
        for name in ("tornado.application", "tornado.general"):
            logging.getLogger(name).setLevel(logging.ERROR)
    server.start()


def configuration(folder: Path, *, password: str | None, tabs: int, warm: int = 0) -> Config:
    """Return the configuration of Voila and Jupyter Server: closed wherever it can be."""
    own = JSONFileConfigLoader("voila.json", path=str(PAGES)).load_config()
    own.AppServer.root_dir = own.AppServer.connection_dir_root = str(folder)
    own.AppServer.log_level = logging.INFO if logger.isEnabledFor(logging.INFO) else logging.ERROR
    own.AppServer.token = None if password is not None else secrets.token_urlsafe(32)
    own.AppIdentity.hashed_password = "" if password is None else passwd(password)
    own.Processes.most, own.Processes.warm = tabs, warm
    longest = folder / "voila_12345678" / f"kernel-{uuid.uuid4()}-ipc-5"
    if os.name == "posix" and len(os.fsencode(longest)) <= LONGEST_SOCKET:
        # files in a private folder: what goes over a port, other users can read
        own.KernelManager.transport = "ipc"
    return own
