"""Widgets whose messages are kept, and that can be asked as a page asks; pages that ask slowly."""

from __future__ import annotations


class Kept:
    """Put before a `Front` class: what it sends stays in `sent`."""

    def __init__(self, *args, **options):
        self.sent = []
        super().__init__(*args, **options)

    def send(self, content, buffers=None):
        self.sent.append(content)

    def ask(self, name, **content):
        """Ask as a page does; return the answer, or the whole message of a failure."""
        self._receive({"id": len(self.sent) + 1, "ask": name, **content})
        assert self.worker.wait(30)
        found = [one for one in self.sent if "answer" in one or "failure" in one][-1]
        return found.get("answer", found)


def slowly(page, name: str) -> None:
    """Let a page wait a second before it asks its Python for something of a name."""
    page.evaluate(
        """(name) => { const send = window.model.send.bind(window.model);
        window.model.send = (content) =>
          setTimeout(() => send(content), content.ask === name ? 1000 : 0); }""",
        name,
    )


def press_ahead(page, key: str) -> None:
    """Let a key be pressed as soon as it can be about a verdict that was pressed ahead.

    The page itself presses it, since the verdict is shown for less than a second.
    """
    page.evaluate(
        """(key) => { const seen = new MutationObserver(() => {
          if (!document.querySelector(".desk-ahead")) return;
          seen.disconnect();
          const press = new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true});
          setTimeout(() => document.activeElement.dispatchEvent(press), 450);
        });
        seen.observe(document.body, {subtree: true, attributeFilter: ["class"]}); }""",
        key,
    )


def watch_ahead(page) -> None:
    """Let a page keep the words of every verdict that it shows as pressed ahead."""
    page.evaluate(
        """() => { window.ahead = []; new MutationObserver((changes) => {
          for (const {target} of changes) {
            if (target.classList.contains("desk-ahead")) window.ahead.push(target.innerText);
          }
        }).observe(document.body, {subtree: true, attributeFilter: ["class"]}); }"""
    )
