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
    """Let a page wait half a second before it asks its Python for something of a name."""
    page.evaluate(
        """(name) => { const send = window.model.send.bind(window.model);
        window.model.send = (content) =>
          setTimeout(() => send(content), content.ask === name ? 500 : 0); }""",
        name,
    )
