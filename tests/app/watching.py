"""A browser page that remembers what went wrong on it and whom it asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.app.serving import PATIENCE
from tests.widgets.seeing import settled

#: Screenshots that are kept.
ARTEFACTS = Path(__file__).parents[2] / "out" / "artefacts"

#: A number that changes with any pixel of a radiograph.
PIXELS = """(nth) => {
  const canvas = document.querySelectorAll(".wbf-canvas")[nth ?? 0];
  if (!canvas || canvas.width < 100) return null;
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const pixels = new Uint32Array(data.buffer);
  let sum = 0;
  for (let at = 0; at < pixels.length; at += 3) sum = (Math.imul(sum, 31) + pixels[at]) | 0;
  return sum;
}"""


class Watched:
    """A page, what it asked, and what it complained of.

    Attributes:
        page: of Playwright.
        asked: addresses of all requests and connections.
        errors: of the console, and those that nobody caught.
    """

    def __init__(self, page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.errors: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("websocket", lambda socket: self.asked.append(socket.url))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def foreign(self, port: int) -> list[str]:
        """Return what was asked of anybody but 127.0.0.1 at a port."""
        own = (f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}", "blob:", "data:")
        return [url for url in self.asked if not url.startswith(own) and urlsplit(url).scheme]

    def keep(self, name: str) -> None:
        """Keep a picture of the page, once it has settled."""
        settled(self.page)
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{name}.png")

    def radiograph(self) -> int:
        """Return what the radiograph looks like, once it is drawn."""
        found = self.page.wait_for_function(f"() => ({PIXELS})(0)")
        return found.json_value()

    def image_changes(self, act) -> int:
        """Do something and wait until the radiograph looks different."""
        before = self.radiograph()
        act()
        self.page.wait_for_function(
            f"(before) => ![null, before].includes(({PIXELS})(0))", arg=before
        )
        return self.radiograph()


@contextmanager
def watched(browser, **options) -> Iterator[Watched]:
    """Open an empty page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
    context.set_default_timeout(PATIENCE * 1000)
    try:
        seen = Watched(context.new_page())
        yield seen
        seen.page.goto("about:blank")  # as where a tab is closed, which ends its process
    finally:
        context.close()
