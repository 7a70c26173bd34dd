"""Who may ask `workbench app` for what: the class that every handler of the app has as its base.

A request is answered when its Host is a name of this computer (so that no foreign page reaches the
app by a name of its own), its Origin, if any, is the app itself, and it carries the token, or the
cookie that the token or the password bought. The token leaves the address bar with the first
answer. Nothing is allowed to other origins; pages may load and ask nothing but the app.

Does not know: what is served.
"""

from __future__ import annotations

import re
import time
from collections import deque
from typing import Any, ClassVar
from urllib.parse import urlsplit

from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.identity import PasswordIdentityProvider
from jupyter_server.auth.login import LoginFormHandler
from jupyter_server.base.handlers import JupyterHandler
from tornado import web

#: Failed logins within a minute after which nobody can log in for the rest of it.
MOST_FAILURES = 10

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

#: Widgets bring their JavaScript as blobs, and their styles and pictures within the page.
POLICY = (
    "default-src 'none'; script-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' {sockets}; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

#: What an error page says.
ADVICE = {
    403: ("Not allowed", "This address is only for those who have the key. Open the address that "
          "the app printed when it was started."),
    404: ("No such page", "The app has nothing at this address."),
    405: ("Not allowed", "The app cannot be asked in this way."),
    429: ("Too many wrong keys", "Wait a minute, then try again."),
    503: ("All pages are in use", "As many pages are open as the app allows. Close one, or start "
          "the app with a higher --tabs."),
}  # fmt: skip
UNEXPECTED = (
    "Something went wrong",
    "Load the page again. Where the app was started stands more about it.",
)

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")


class AppIdentity(PasswordIdentityProvider):
    """The key of the app: its token, or the password of `--public`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.allow_password_change = False
        self.cookie_options = {"httponly": True, "samesite": "lax"}


class Guarded(JupyterHandler):
    """Base of every handler: answers only whom it may."""

    #: Whether who has no key is answered too. Handlers of Jupyter have marks of their own for this,
    #: which do not count here: its handlers of static files are marked as open to everybody.
    open_to_all = False

    #: Whether people see the address, so that the token has to leave it.
    in_address_bar = False

    def host(self) -> str:
        """Return the Host header without port and brackets; "" where it is none."""
        found = _HOST.fullmatch(self.request.host.lower())
        return found.group(1).strip("[]").rstrip(".") if found else ""

    def check_host(self) -> bool:
        """Return whether the request means this computer."""
        return self.host() in self.settings["workbench_names"]

    def check_origin(self, origin: str = "") -> bool:
        """Return whether the request comes from a page of the app, or from no page at all."""
        given = self.request.headers.get("Origin")
        if given is None:
            given = self.request.headers.get("Sec-Websocket-Origin")
        return given is None or urlsplit(given.lower()).netloc == self.request.host.lower()

    def set_default_headers(self) -> None:
        """Forbid what pages do not need."""
        sockets = "ws: wss:"
        if _HOST.fullmatch(self.request.host.lower()):
            sockets = f"ws://{self.request.host} wss://{self.request.host}"
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.set_header("Content-Security-Policy", POLICY.format(sockets=sockets))
        self.clear_header("Server")

    def set_cors_headers(self) -> None:
        """Allow nothing to other origins, not even with the token."""

    async def prepare(self, **options: Any) -> None:
        """Let the request in, or answer it with a refusal or with the login."""
        refused = super().prepare(**options)
        if refused is not None:
            await refused
        if self._finished:
            return
        if not self.check_origin():
            raise web.HTTPError(403)
        if not self._known() and not self.open_to_all:
            raise web.HTTPError(403)
        if self.in_address_bar and "token" in self.request.query_arguments:
            self.redirect(self.request.path)  # the cookie is set

    def write_error(self, status_code: int, **details: Any) -> None:
        """Say what happened and what to do, and nothing about how the app is made."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        title, advice = ADVICE.get(status_code, UNEXPECTED)
        self.write(self.page("error.html", title=title, status=status_code, advice=advice))

    def page(self, template: str, **values: Any) -> str:
        """Return a page of the app as HTML; values are escaped."""
        found = self.settings["workbench_templates"].get_template(template)
        return found.render(logged_in=self._known(), **values)

    def _known(self) -> bool:
        # before the user is looked up, Jupyter's `current_user` raises
        return getattr(self, "_jupyter_current_user", None) is not None

    def _request_summary(self) -> str:
        """Name a request in the log without what stands behind the question mark."""
        return f"{self.request.method} {self.request.path} ({self.request.remote_ip})"


class Nothing(Guarded):
    """Every other address."""

    def get(self, *path: str) -> None:
        """Answer that nothing is there."""
        raise web.HTTPError(404)

    head = post = put = delete = patch = options = get


class Login(Guarded, LoginFormHandler):
    """Asks for the key, ten times a minute at most."""

    open_to_all = True
    _failures: ClassVar[deque[float]] = deque(maxlen=MOST_FAILURES)

    def _render(self, message: dict[str, str] | None = None) -> None:
        wrong = message is not None
        self.write(
            self.page(
                "login.html",
                wrong=wrong,
                password=bool(self.identity_provider.hashed_password),
                next=self.get_argument("next", default="/"),
                # the form is the first to need it
                xsrf=self.xsrf_token.decode(),
            )
        )

    @allow_unauthenticated
    def post(self) -> None:
        """Check the key, and let nobody try keys without end."""
        if len(self._failures) == MOST_FAILURES and time.monotonic() - self._failures[0] < 60:
            raise web.HTTPError(429)
        super().post()
        if self.get_status() == 401:
            self._failures.append(time.monotonic())


class Logout(Guarded):
    """Forgets the key."""

    def get(self) -> None:
        """Take the cookie back and ask for the key."""
        self.identity_provider.clear_login_cookie(self)
        self.redirect("/login")
