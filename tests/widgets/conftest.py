"""A bare page in Chromium with a stand-in for anywidget's model; no Jupyter, no network.

`bare` opens pages: `page = bare(script("counter.js"), styles(), traits, python="js code")`. The
JavaScript in `python` is the body of `(content, reply)`, called for each message of the page.
`bare.live(widget)` connects a real widget of this process instead. After the test there must have
been no console error and no request beyond the page itself.
"""

from __future__ import annotations

import os
import queue
import shutil

import pytest

import workbench as wb
from workbench._repr import plain

FINDING = "pleural effusion"
#: How many times as slow as it is the browser pretends to be: WORKBENCH_SLOW_BROWSER=8 finds tests
#: and pages that rely on a fast machine.
SLOWER = float(os.environ.get("WORKBENCH_SLOW_BROWSER", "1"))
ADDRESS = "http://bench.invalid/"
#: Features of Chromium that are left out: those that Playwright leaves out, whose list this one
#: replaces, and what a page of a test never shows but pays for: three more processes each.
LEFT_OUT = (
    "AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding",
    "ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect", "OptimizationHints",
    "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch",
    "WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup",
    "SpareRendererForSitePerProcess", "IsolateOrigins", "site-per-process",
)  # fmt: skip
SWITCHES = ["--no-sandbox", "--disable-site-isolation-trials",
            f"--disable-features={','.join(LEFT_OUT)}"]  # fmt: skip
#: Counts the pictures that are being decoded, which `settled` waits for.
DECODING = """
  window.decoding = 0;
  const decode = window.createImageBitmap.bind(window);
  window.createImageBitmap = async (...given) => {
    window.decoding += 1;
    try { return await decode(...given); } finally { window.decoding -= 1; }
  };
"""
PAGE = (
    "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>bench</title>"
    "<link rel='icon' href='data:,'></head><body><div id='app'></div></body></html>"
)

OPEN = """
async ({esm, css, traits, python, live}) => {
  const style = document.createElement("style");
  style.textContent = css;
  document.head.append(style);
  const handlers = {};
  const values = {...traits};
  window.sent = [];
  window.owed = new Set();
  const model = {
    get: (name) => values[name],
    set: (name, value) => { values[name] = value; },
    save_changes() {},
    on(event, act) { (handlers[event] ??= []).push(act); },
    off(event, act) { handlers[event] = (handlers[event] ?? []).filter((one) => one !== act); },
    send(content) {
      window.sent.push(content);
      if (live) {
        if (content.ask) window.owed.add(content.id);
        window.toPython(content);
        return;
      }
      setTimeout(() => window.python(content, window.reply), 0);
    },
  };
  window.model = model;
  window.reply = (message) => {
    const ends = ["answer", "failure", "cancelled"];
    if (ends.some((name) => Object.hasOwn(message ?? {}, name))) window.owed.delete(message.id);
    for (const act of handlers["msg:custom"] ?? []) act(message, []);
  };
  window.python = new Function("content", "reply", python);
  if (live) (async () => {
    for (;;) for (const message of await window.fromPython()) window.reply(message);
  })();
  const url = URL.createObjectURL(new Blob([esm], {type: "text/javascript"}));
  const module = await import(url);
  window.draw = (el) => module.default.render({model, el});
  window.close_view = await window.draw(document.getElementById("app"));
}
"""


class Bare:
    """Opens bare pages and remembers what went wrong on them."""

    def __init__(self, browser) -> None:
        self.browser = browser
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self.contexts: list = []

    def page(
        self, *, width: int = 1280, height: int = 900, dark: bool = False, alone: bool = False
    ):
        """Return an empty page that reports every error and lets no request out.

        `alone` gives the page to the widget, as in `workbench app`; else it is as in a notebook.
        """
        context = self.browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if dark else "light",
            accept_downloads=True,
        )
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        if SLOWER > 1:
            page.context.new_cdp_session(page).send(
                "Emulation.setCPUThrottlingRate", {"rate": SLOWER}
            )
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route("**/*", self._route)
        page.add_init_script(DECODING)
        page.goto(ADDRESS)
        if alone:
            page.evaluate("document.body.setAttribute('data-workbench-page', '')")
        return page

    def _route(self, route) -> None:
        url = route.request.url
        if url == ADDRESS:
            route.fulfill(body=PAGE, content_type="text/html")
            return
        if not url.startswith(("blob:", "data:")):
            self.foreign.append(url)
        route.abort() if url.startswith("http") else route.continue_()

    def __call__(self, esm: str, css: str, traits=None, *, python: str = "", **options):
        """Open a page with a widget whose Python is a few lines of JavaScript."""
        page = self.page(**options)
        given = {"esm": esm, "css": css, "traits": plain(traits or {}), "python": python}
        page.evaluate(OPEN, given | {"live": False})
        return page

    def live(self, widget, **options):
        """Open a page with a widget of this process behind it."""
        page = self.page(**options)
        outbox: queue.Queue = queue.Queue()
        widget.send = lambda content, buffers=None: outbox.put(plain(content))

        def pull() -> list:
            found = []
            try:
                found.append(outbox.get(timeout=0.02))
                while True:
                    found.append(outbox.get_nowait())
            except queue.Empty:
                return found

        page.expose_function("toPython", widget._receive)
        page.expose_function("fromPython", pull)
        traits = {name: getattr(widget, name) for name in ("title", "notice")}
        page.evaluate(
            OPEN,
            {"esm": str(widget._esm), "css": str(widget._css), "traits": traits, "python": ""}
            | {"live": True},
        )
        return page

    def close(self) -> None:
        for context in self.contexts:
            context.close()


@pytest.fixture(scope="module")
def mini():
    """The small model, once for each module of tests."""
    return wb.load_model("mini")


@pytest.fixture(scope="module")
def case():
    """A drawn chest with `FINDING`."""
    return wb.phantom(seed=7, findings=[FINDING])


@pytest.fixture(scope="module")
def browser():
    """Chromium, once for each module of tests."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright for a real browser")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs chromium on the PATH")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture
def bare(browser):
    """Opens bare pages; fails the test where one of them had an error or asked the network."""
    opened = Bare(browser)
    yield opened
    opened.close()
    assert opened.errors == []
    assert opened.foreign == []
