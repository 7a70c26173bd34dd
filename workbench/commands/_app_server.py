"""The server of `workbench app`: Voila, configured to be closed wherever it can be.

Voila renders a page (a notebook) with our own template, starts its process and connects the two.
Left out are its tree of folders, contents, files and template overrides; configuration files of the
user are not read, so that none can open what is closed here. What never changes is configured in
`app_pages/voila.json`, as Jupyter reads it:

- headers of every answer: widgets bring their JavaScript as blobs, and their styles and pictures
  within the page; nothing is loaded from, or sent to, anybody but the app;
- of JupyterLab's extensions the basic widgets, their manager and anywidget;
- the process of a page ends two minutes after nobody looks at it; one that died is not started
  again, since it would know nothing of its page.
"""

from __future__ import annotations

import functools
import logging
import os
import secrets
import socket
import uuid
from collections.abc import Callable
from html import escape
from pathlib import Path

import jinja2
import tornado.httpserver
import tornado.ioloop
import tornado.netutil
from jupyter_core.utils import run_sync
from jupyter_server.auth.security import passwd
from jupyter_server.log import log_request
from traitlets.config.loader import Config, JSONFileConfigLoader
from voila.app import Voila
from voila.paths import collect_static_paths
from voila.utils import get_voila_labextensions_path

import workbench.commands._app_handlers as handlers
from workbench._store import write_private
from workbench.commands._app_site import Cards, Site
from workbench.errors import OptionError

logger = logging.getLogger(__name__)

#: Our own templates, style and script.
PAGES = Path(__file__).parent / "app_pages"

#: Largest request, in bytes.
LARGEST = 16 << 20
#: Bytes that the path of a socket may have on every system, its end included.
LONGEST_SOCKET = 103
#: A file in the folder itself: no way leads out of it.
_FILE = r"[A-Za-z0-9_.-]+"
_KERNEL = r"(?P<kernel_id>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"


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
        """The address of the start page, with the token where there is one."""
        return f"http://127.0.0.1:{self.port}/" + (f"?token={self.token}" if self.token else "")

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

    def setup_template_dirs(self) -> None:
        """Use our own template, and of Voila the scripts only."""
        self.template_paths = [str(PAGES)]
        self.static_paths = collect_static_paths(["voila"], "base")

    def init_handlers(self) -> list:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the handlers; everything else is answered by `Nothing`."""
        names = "|".join(self.voila_configuration.extension_allowlist)
        voila = {"voila_configuration": self.voila_configuration}
        return [
            (r"/", handlers.Start),
            (r"/login", handlers.Login),
            (r"/logout", handlers.Logout),
            (r"/page/([a-z0-9-]+)", handlers.Shown,
             {**voila, "template_paths": self.template_paths, "config": self.config}),
            (rf"/api/kernels/{_KERNEL}", handlers.OneProcess),
            (rf"/api/kernels/{_KERNEL}/channels", handlers.Channels),
            (rf"/voila/api/shutdown/{_KERNEL}", handlers.Ended),
            (rf"/voila/static/({_FILE}\.(?:js|css|woff2?|ttf|eot|svg))", handlers.Files,
             {"path": self.static_paths}),
            (rf"/voila/labextensions/((?:{names})/static/{_FILE}\.js)", handlers.Files,
             {"path": get_voila_labextensions_path()}),
            (r"/app/(app\.js)", handlers.Files, {"path": str(PAGES)}),
        ]  # fmt: skip

    def listen(self) -> None:
        """Answer on the sockets of `serve` until a signal ends it."""
        http = tornado.httpserver.HTTPServer(self.app, max_buffer_size=LARGEST)
        http.add_sockets(self.sockets)
        self.ioloop = tornado.ioloop.IOLoop.current()
        try:
            self.ready(self)
            self.ioloop.start()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def stop(self) -> None:
        """End all processes at once."""
        self.cards.close()
        run_sync(self.kernel_manager.shutdown_all)(now=True)
        super().stop()


def serve(
    site: Site,
    folder: Path,
    port: int,
    tabs: int,
    password: str | None,
    names: frozenset[str],
    ready: Callable[[AppServer], None],
) -> None:
    """Answer until Ctrl-C or SIGTERM, after a call of `ready`; then end all processes.

    Args:
        folder: the private folder with the pages of the site.
        port: 0 takes a free one.
        tabs: most pages open at a time.
        password: opens the app to the network; None keeps it on this computer.
        names: Host headers that are answered.

    Raises:
        OptionError: the port is taken, or not for this user.
    """
    try:
        sockets = tornado.netutil.bind_sockets(port, "127.0.0.1" if password is None else None)
    except OSError as error:
        raise OptionError(
            f"cannot listen on port {port}: {os.strerror(error.errno or 0)}; give another one by "
            "--port, or --port 0 for a free one"
        ) from error
    server = AppServer(config=configuration(folder, password=password, tabs=tabs))
    server.initialize([])
    server.site, server.folder, server.sockets, server.ready = site, folder, sockets, ready
    server.port = sockets[0].getsockname()[1]
    server.cards = Cards(site.images, upright=site.upright)
    server.tornado_settings = {
        **server.tornado_settings,
        "default_handler_class": handlers.Nothing,
        "jinja2_env": jinja2.Environment(loader=jinja2.FileSystemLoader(PAGES), autoescape=True),
        "local_hostnames": names,
        "log_function": functools.partial(log_request, record_prometheus_metrics=False),
        "workbench_site": site,
        "workbench_cards": server.cards,
    }
    if not logger.isEnabledFor(logging.INFO):
        for name in ("tornado.application", "tornado.general"):
            logging.getLogger(name).setLevel(logging.ERROR)
    server.start()


def configuration(folder: Path, *, password: str | None, tabs: int) -> Config:
    """Return the configuration of Voila and Jupyter Server: closed wherever it can be."""
    own = JSONFileConfigLoader("voila.json", path=str(PAGES)).load_config()
    own.AppServer.root_dir = own.AppServer.connection_dir_root = str(folder)
    own.AppServer.log_level = logging.INFO if logger.isEnabledFor(logging.INFO) else logging.ERROR
    own.AppServer.token = None if password is not None else secrets.token_urlsafe(32)
    own.AppIdentity.hashed_password = "" if password is None else passwd(password)
    own.Processes.most = tabs
    longest = folder / "voila_12345678" / f"kernel-{uuid.uuid4()}-ipc-5"
    if os.name == "posix" and len(os.fsencode(longest)) <= LONGEST_SOCKET:
        # files in a private folder: what goes over a port, other users can read
        own.KernelManager.transport = "ipc"
    return own
