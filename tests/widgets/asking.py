"""Widgets whose messages to their pages are kept, and that can be asked as a page asks."""

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
