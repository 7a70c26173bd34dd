"""Real requests to a real app on 127.0.0.1: who is answered, with what, and what stays closed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest

from tests.app.serving import PATIENCE, App, serving

pytest.importorskip("voila", reason="needs voila (the app extra)")

NOBODY = "12345678-1234-1234-1234-123456789abc"

#: Addresses that are served, and one that is not.
SERVED = (
    "/",
    "/page/explorer",
    "/app/app.js",
    "/voila/static/voila.js",
    f"/api/kernels/{NOBODY}",
    f"/api/kernels/{NOBODY}/channels",
    "/logout",
    "/nowhere",
)

#: What Voila and Jupyter would serve, and ways out of the folders that are.
CLOSED = (
    "/voila/files/",
    "/voila/files/settings.json",
    "/voila/files/explorer.ipynb",
    "/voila/files/../../etc/passwd",
    "/voila/files/%2e%2e/%2e%2e/etc/passwd",
    "/voila/tree",
    "/voila/render/explorer.ipynb",
    "/voila/api/contents",
    "/voila/api/contents/settings.json",
    "/voila/api/themes/@jupyterlab/theme-light-extension/index.css",
    "/voila/templates/base/static/voila.js",
    "/voila/templates/..%2f..%2f..%2fetc/static/passwd",
    f"/voila/query/{NOBODY}",
    f"/voila/execution/{NOBODY}",
    "/api/kernels",
    "/api/contents",
    "/api/contents/settings.json",
    "/api/sessions",
    "/api/terminals",
    "/api/status",
    "/files/settings.json",
    "/explorer.ipynb",
    "/settings.json",
    "/open.html",
    "/page/",
    "/page/reviewer",
    "/page/settings",
    "/page/explorer.ipynb",
    "/page/../settings.json",
    "/page/%2e%2e/settings.json",
    "/page/..%2fsettings.json",
    "/app/",
    "/app/index.html.j2",
    "/app/../_app_site.py",
    "/app/..%2f_app_site.py",
    "/app/%2e%2e/%2e%2e/cli.py",
    "/app//etc/passwd",
    "/voila/static/../index.html.j2",
    "/voila/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/voila/static/..%2f..%2f..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "/voila/static//etc/passwd",
    "/voila/static/../../../../../kernels/x.js",
    "/voila/labextensions/anywidget/package.json",
    "/voila/labextensions/anywidget/static/%2e%2e/package.json",
    "/voila/labextensions/anywidget/static/../../jupyterlab_pygments/static/style.js",
    "/voila/labextensions/jupyterlab_pygments/static/style.js",
    "//etc/passwd",
    "/../../../../etc/passwd",
    "/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "/..%5c..%5cetc%5cpasswd",
    "/%00",
)


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> App:
    with serving(tmp_path_factory.mktemp("app")) as running:
        yield running


def test_the_start_lists_what_is_there_and_what_else_there_could_be(app):
    status, _, text = app.ask("/")
    assert status == 200
    assert '<a href="/page/explorer">Explorer</a>' in text
    assert "/page/reviewer" not in text
    for needed in ("--run DIR", "--study DIR --reader NAME", "--training DIR"):
        assert f"<code>{needed}</code>" in text
    assert "not for real radiographs. Not for clinical use." in text


def test_the_token_buys_a_cookie_and_leaves_the_address(app):
    status, headers, _ = app.ask(f"/?token={app.token}", key=False)
    assert (status, headers["location"]) == (302, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert app.token not in cookie
    status, _, text = app.ask("/", key=False, Cookie=cookie.partition(";")[0])
    assert status == 200
    assert app.token not in text


@pytest.mark.parametrize("path", SERVED)
@pytest.mark.parametrize("key", ["none", "wrong", "forged"])
def test_without_the_key_nothing_is_served(app, path, key):
    asked = {"none": "", "wrong": "?token=wrong", "forged": "?token="}[key]
    forged = {"Cookie": f"username-127-0-0-1-{app.port}=e30="} if key == "forged" else {}
    status, headers, text = app.ask(path + asked, key=False, **forged)
    assert status in (302, 403)
    if status == 302:
        assert headers["location"].startswith("/login?next=")
    assert "voila" not in text.lower()


def test_the_login_is_all_that_is_open(app):
    status, _, text = app.ask("/login", key=False)
    assert status == 200
    assert 'type="password"' in text
    assert "Log out" not in text


@pytest.mark.parametrize("path", [*SERVED, "/login"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost@evil.example", "[::2]"],
)
def test_a_foreign_host_is_refused_although_it_has_the_key(app, path, host):
    for name in (host, f"{host}:{app.port}"):
        assert app.ask(path, host=name)[0] in (400, 403)


def test_this_computer_may_be_called_by_its_own_names(app):
    for host in ("127.0.0.1", "localhost", "[::1]", "LOCALHOST"):
        assert app.ask("/", host=f"{host}:{app.port}")[0] == 200


@pytest.mark.parametrize("path", SERVED)
def test_a_foreign_page_is_refused_although_it_has_the_key(app, path):
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{app.port + 1}", "file://"):
        status, headers, _ = app.ask(path, Origin=origin)
        assert status in (403, 404)
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", CLOSED)
def test_everything_else_is_closed_also_with_the_key(app, path):
    status, _, text = app.ask(path)
    assert status in (400, 403, 404)
    assert "root:" not in text
    assert '"images"' not in text
    assert "open_page" not in text
    assert app.ask(path, key=False)[0] in (302, 400, 403)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/page/explorer", f"/api/kernels/{NOBODY}", "/api/kernels"])
def test_pages_can_only_be_read(app, method, path):
    status, headers, _ = app.ask(path, method=method, body="")
    assert status in (403, 404, 405)
    assert not [name for name in headers if name.startswith("access-control")]


def test_a_process_is_not_ended_from_another_page(app):
    cookie = app.ask(f"/?token={app.token}", key=False)[1]["set-cookie"].partition(";")[0]
    path = f"/voila/api/shutdown/{NOBODY}"
    assert app.ask(path, key=False, method="POST", body="")[0] == 403
    assert app.ask(path, key=False, method="POST", body="", Cookie=cookie)[0] == 403
    status, _, _ = app.ask(path, key=False, method="POST", body="_xsrf=a",
                           Cookie=f"{cookie}; _xsrf=a", Origin="http://evil.example")  # fmt: skip
    assert status in (403, 404)


@pytest.mark.parametrize(
    ("path", "key"),
    [("/", True), ("/", False), ("/login", False), ("/nowhere", True), ("/app/app.js", True),
     ("/voila/static/voila.js", True), (f"/api/kernels/{NOBODY}", True), ("/logout", True)],
)  # fmt: skip
def test_every_answer_forbids_what_pages_do_not_need(app, path, key):
    _, headers, _ = app.ask(path, key=key, Origin=app.origin)
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self' blob:"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    foreign = set(" ".join(policy.values()).split()) - {"'self'", "'none'", "'unsafe-inline'"}
    assert foreign == {"blob:", "data:"}
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert "no-" in headers["cache-control"]
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers


def knock(app: App, **headers: str) -> int:
    """Ask for the connection of a page with its process."""
    shake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13",
             "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
    key = headers.pop("key", "")
    return app.ask(f"/api/kernels/{NOBODY}/channels{key}", key=False, **shake, **headers)[0]


def test_a_connection_needs_the_key_too(app):
    good = f"?token={app.token}"
    assert knock(app) == 403
    assert knock(app, key="?token=wrong") == 403
    assert knock(app, key=good, Origin="http://evil.example") == 403
    assert knock(app, key=good, host="evil.example") == 403
    assert knock(app, key=good, Origin=app.origin) == 404  # let in; there is no such process


def test_keys_cannot_be_tried_without_end(app):
    _, headers, text = app.ask("/login", key=False)
    cookie = headers["set-cookie"].partition(";")[0]
    form = re.search(r'name="_xsrf" value="([^"]+)"', text)[1]

    def log_in(key: str, *, xsrf: str = form, onward: str = "/"):
        body = f"_xsrf={xsrf}&password={key}&next={onward}"
        return app.ask("/login", key=False, method="POST", body=body, Cookie=cookie)

    assert log_in(app.token, xsrf="wrong")[0] == 403
    for onward in ("//evil.example", "https://evil.example/", "/%5Cevil.example"):
        status, headers, _ = log_in(app.token, onward=onward)
        assert (status, "username" in headers["set-cookie"]) == (302, True)
        assert not headers["location"].startswith(("//", "http", "/\\"))
    for _ in range(10):
        status, _, text = log_in("wrong")
        assert status == 401
        assert "That is not the key" in text
    status, headers, text = log_in(app.token)
    assert status == 429
    assert "Wait a minute" in text
    assert "set-cookie" not in headers


def test_it_listens_to_this_computer_only(app):
    listening = [
        line.laddr.ip
        for line in psutil.Process(app.process.pid).net_connections("tcp")
        if line.status == psutil.CONN_LISTEN and line.laddr.port == app.port
    ]
    assert listening == ["127.0.0.1"]


def test_nothing_of_the_key_is_written_anywhere(app):
    app.ask(f"/?token={app.token}", key=False)
    app.ask(f"/nowhere?token={app.token}", key=False)
    app.ask(f"/voila/static/..%2f?token={app.token}", key=False)
    log = app.log.read_text()
    assert "GET /nowhere" in log
    assert app.token not in log
    for path in app.temporary.rglob("*"):
        if path.is_file():
            assert app.token not in path.read_text(errors="replace"), path.name


def test_the_folder_is_private_and_the_port_cannot_be_had_twice(app):
    assert stat.S_IMODE(app.folder.stat().st_mode) == 0o700
    from workbench.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.commands.app._ready", lambda *a: pytest.fail("it was served"))
        assert main(["app", "--no-browser", "--port", str(app.port)]) == 1


# --- with processes --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nasty(tmp_path_factory) -> tuple[Path, Path]:
    """A good image and a bad one whose names try to be code and a script."""
    from workbench.phantom.case import phantom

    folder = tmp_path_factory.mktemp("films")
    good = folder / "\"); __import__('os').mkdir('pwned') #{{7*7}}.png"
    bad = folder / "<img src=x onerror=alert(1)>.png"
    drawn = phantom(seed=7).image
    from PIL import Image

    Image.fromarray((drawn.pixels * 255).astype("uint8")).save(good)
    bad.write_text("this is no image")
    return good, bad


@pytest.fixture(scope="module")
def opened(tmp_path_factory, nasty) -> tuple[App, str, str]:
    """An app that allows one page, which is open."""
    work = tmp_path_factory.mktemp("opened")
    with serving(work, "--tabs", "1", "--image", *map(str, nasty)) as running:
        # what stands behind the question mark changes nothing
        yield running, *running.open_page("explorer-1?template=lab&theme=../../etc")


def test_a_page_opens_whatever_its_file_is_called(opened, nasty):
    app, _, text = opened
    assert "application/vnd.jupyter.widget-view+json" in text
    assert 'role="alert"' not in text
    for path in nasty:
        assert path.name not in text
    assert not list(app.temporary.rglob("pwned"))
    assert not Path("pwned").exists()
    assert "open_page" not in text  # sources are not shown


def test_the_page_asks_for_nothing_elsewhere(opened):
    _, _, text = opened
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", text) == []
    scripts = re.findall(r"<script[^>]*>", text)
    assert [tag for tag in scripts if ' src="/' not in tag and "application/" not in tag] == []
    assert len([tag for tag in scripts if ' src="/' in tag]) == 2
    assert re.findall(r"<\w+[^>]*\son\w+=", text) == []


@pytest.mark.skipif(os.name != "posix", reason="needs sockets that are files")
def test_other_users_of_this_computer_cannot_listen_to_a_process(opened):
    app, _, _ = opened
    for process in app.processes():
        assert process.net_connections("tcp") == []
    (said,) = app.folder.glob("voila_*/kernel-*.json")
    assert json.loads(said.read_text())["transport"] == "ipc"
    assert said.parent.stat().st_mode & 0o777 == 0o700  # Jupyter adds the sticky bit


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_link_from_elsewhere_starts_no_process(app, site):
    status, headers, _ = app.ask("/page/explorer", Sec_Fetch_Site=site)
    assert (status, headers["location"]) == (302, "/")
    assert app.processes() == []


def test_a_connection_runs_no_code(opened, tmp_path):
    """Even who has the key and the id of a process can only ask what the page can."""
    websocket = pytest.importorskip("websocket", reason="needs websocket-client")
    app, kernel, _ = opened
    line = websocket.create_connection(
        f"ws://127.0.0.1:{app.port}/api/kernels/{kernel}/channels?session_id=s",
        header=[f"Authorization: token {app.token}"], origin=app.origin, timeout=PATIENCE,
    )  # fmt: skip

    def send(kind: str, content: dict) -> None:
        header = {"msg_id": kind, "msg_type": kind, "session": "s", "username": "",
                  "version": "5.3", "date": "2020-01-01T00:00:00Z"}  # fmt: skip
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        line.send(json.dumps({**message, "channel": "shell", "buffers": []}))

    made = tmp_path / "made"
    code = f"open({str(made)!r}, 'w').close()"
    send("execute_request", {"code": code, "silent": False, "store_history": False,
                             "user_expressions": {"x": code}, "allow_stdin": False})  # fmt: skip
    send("complete_request", {"code": "imp", "cursor_pos": 3})
    send("kernel_info_request", {})
    answered = set()
    while "kernel_info_reply" not in answered:  # messages of one channel are answered in order
        answered.add(json.loads(line.recv()).get("msg_type"))
    line.close()
    assert not made.exists()
    assert answered.isdisjoint({"execute_reply", "execute_input", "complete_reply"})


def test_no_more_pages_than_allowed(opened):
    status, _, text = opened[0].ask("/page/explorer-2")
    assert status == 503
    assert "--tabs" in text


def test_the_end_of_a_page_is_the_end_of_its_process_and_a_bad_file_is_said(opened, nasty):
    app, kernel, _ = opened
    (process,) = app.processes()
    status, _, _ = app.ask(f"/voila/api/shutdown/{kernel}", method="POST", body="")
    assert status == 204
    assert psutil.wait_procs([process], timeout=PATIENCE)[1] == []
    _, text = app.open_page("explorer-2")
    said = re.search(r'role="alert">(.*?)</p>', text, flags=re.DOTALL)[1]
    assert "This page could not be opened." in said
    assert "onerror=alert(1)&gt;" in said
    assert "<img" not in text
    assert "Traceback" not in text


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_end_of_the_app_leaves_nothing_behind(tmp_path, how):
    with serving(tmp_path / "app", "--training", str(tmp_path)) as app:
        app.open_page("monitor")
        processes = app.processes()
        assert len(processes) == 1
        assert app.stop(how) == 0
        assert psutil.wait_procs(processes, timeout=PATIENCE)[1] == []
        assert list(app.temporary.glob("workbench-*")) == []
        assert app.log.read_text().endswith("The app has ended.\n")


# --- open to the network ---------------------------------------------------------------------

SECRET = "four unrelated words"


@pytest.fixture(scope="module")
def public(tmp_path_factory) -> App:
    work = tmp_path_factory.mktemp("public")
    names = ("--public", "--allow-host", "films.example.org")
    with serving(work, *names, WORKBENCH_APP_PASSWORD=SECRET) as running:
        yield running


def test_public_has_no_token_and_listens_to_all(public):
    assert public.said["public"] is True
    assert "token" not in public.url
    assert public.ask("/?token=", key=False)[0] == 302
    assert public.ask("/", key=False, Authorization="token ")[0] == 302


def test_public_answers_to_the_names_it_was_given(public):
    own = socket.gethostname().lower()
    for host in ("films.example.org", own, f"127.0.0.1:{public.port}"):
        assert public.ask("/login", key=False, host=host)[0] == 200
    for host in ("evil.example", "example.org", "films.example.org.evil.example"):
        assert public.ask("/login", key=False, host=host)[0] == 403


def test_public_asks_for_the_password(public):
    _, headers, text = public.ask("/login", key=False)
    cookie = headers["set-cookie"].partition(";")[0]
    form = re.search(r'name="_xsrf" value="([^"]+)"', text)[1]
    body = f"_xsrf={form}&next=/&password="
    wrong = public.ask("/login", key=False, method="POST", body=body + "wrong", Cookie=cookie)
    assert wrong[0] == 401
    right = public.ask("/login", key=False, method="POST", Cookie=cookie,
                       body=body + SECRET.replace(" ", "+"))  # fmt: skip
    assert right[0] == 302
    entered = next(x for x in right[1]["set-cookie"].split("\n") if x.startswith("username"))
    assert public.ask("/", key=False, Cookie=entered.partition(";")[0])[0] == 200


def test_the_password_stays_with_the_server(public):
    assert SECRET not in public.log.read_text()
    assert SECRET not in str(psutil.Process(public.process.pid).cmdline())
    assert SECRET not in str(public.said)
