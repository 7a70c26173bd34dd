"""`Front`: the Python side of a widget, which answers what its page asks.

    class Counter(Front):
        _esm, _css = script("counter.js"), styles()

        @quick
        def add(self, message):                  # at once, in the kernel's message handler
            return {"sum": message["a"] + message["b"]}

        @slow
        def count(self, message, job):           # in the widget's one thread
            for n in range(message["to"]):
                job.progress(n, message["to"])
            return {"counted": message["to"]}

Messages of the page: {id, ask: name, ...} and {cancel: id}. Messages to it: {id, answer},
{id, failure: text, kind}, {id, cancelled: true}, {id, piece: text}, {id, progress: {done, total,
text}}, and {tell: name, ...} to all views at once. An error of the package becomes a failure with
the package's own words; any other is logged as well, and the widget stays usable. "state" is asked
by every view that is drawn, and answered by `state()`: what matters is kept in Python, so reloaded
pages and second views show the same.

The files in `static` are ordinary ES modules that import from each other by
`import { a, b } from "./x.js";`, one statement on one line. A notebook takes a single text, so the
modules are put behind one another, those that are imported first, without the words "import" and
"export"; top-level names are therefore shared and must differ. Nothing is fetched or built.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import weakref
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import traitlets

from workbench._repr import plain
from workbench._store import JsonLines
from workbench.errors import InputError, OptionError, WorkbenchError
from workbench.review.study_session import check_text
from workbench.runs.record import now
from workbench.widgets._worker import Cancelled, Job, Worker

logger = logging.getLogger(__name__)


def quick(function: Callable) -> Callable:
    """Let a method answer the ask of its name at once: `method(message) -> dict | None`."""
    function._answers = "quick"
    return function


def slow(function: Callable) -> Callable:
    """Let a method answer in the widget's thread: `method(message, job) -> dict | None`."""
    function._answers = "slow"
    return function


class Front(anywidget.AnyWidget):
    """A widget whose page asks and whose Python answers; `worker` does the slow work."""

    #: The model's own statement about its use; every page shows it.
    notice = traitlets.Unicode("").tag(sync=True)
    title = traitlets.Unicode("").tag(sync=True)

    #: Seconds between two looks at what others write meanwhile; for fronts that look.
    every: float = 2.0

    #: Ask -> method, collected from the class and its bases.
    _asks: ClassVar[dict[str, Callable]] = {"state": quick(lambda self, message: self.state())}

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {name: method for name, method in vars(cls).items() if hasattr(method, "_answers")}
        cls._asks = cls._asks | own

    def __init__(self, **traits: Any) -> None:
        super().__init__(**traits)
        self.worker = Worker(type(self).__name__)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        #: Message handlers may run in several threads of the kernel (subshells).
        self._gate = threading.RLock()
        self._wire = threading.Lock()
        self.on_msg(lambda _, content, buffers: self._receive(content))

    def state(self) -> dict[str, Any]:
        """Return everything that a newly drawn view needs; called for every view."""
        return {}

    def still(self) -> str:
        """Return HTML that stands in where no widget can run: a picture and text, no script."""
        return ""

    def tell(self, name: str, **content: object) -> None:
        """Tell all views something; from any thread."""
        self._say({"tell": name, **content})

    def _receive(self, content: object) -> None:
        """Take one message of a page; never raises."""
        content = content if isinstance(content, Mapping) else {}
        if "cancel" in content:
            self.worker.cancel(content["cancel"])
            return
        number, name = content.get("id"), content.get("ask")
        if not isinstance(number, (int, str)):
            logger.warning("%s got a message without an id; left out", type(self).__name__)
            return
        job = Job(number, str(name), lambda message: self._say({"id": number, **message}))
        method = self._asks.get(name) if isinstance(name, str) else None
        if method is not None and method._answers == "slow":
            self.worker.submit(
                job, lambda job: self._answer(job, lambda: method(self, content, job), gate=False)
            )
        else:
            self._answer(job, lambda: (method or Front._unknown)(self, content))

    def _unknown(self, message: Mapping) -> None:
        known = ", ".join(sorted(self._asks))
        raise OptionError(f"the page asked for {message.get('ask')!r}; expected one of: {known}")

    def _answer(self, job: Job, work: Callable[[], Any], *, gate: bool = True) -> None:
        """Do the work and say what came of it, whatever that is."""
        try:
            job.check()
            with self._gate if gate else nullcontext():
                answer = work()
            job.flush()
            self._say({"id": job.id, "answer": answer or {}})
        except Cancelled:
            self._say({"id": job.id, "cancelled": True})
        except WorkbenchError as error:
            self._say({"id": job.id, "failure": str(error), "kind": type(error).__name__})
        except Exception as error:
            logger.exception("%s failed to answer %r", type(self).__name__, job.name)
            text = f"unexpected {type(error).__name__}: {error}. The log of the kernel has more."
            self._say({"id": job.id, "failure": text, "kind": "unexpected"})

    def _say(self, message: dict[str, Any]) -> None:
        """Send one message; one at a time, whichever thread it comes from."""
        message = plain(message)
        with self._wire:
            self.send(message)

    def tick(self) -> bool:
        """Look once and tell all views what is new; return whether nothing can come any more."""
        raise NotImplementedError

    def _start(self) -> None:
        """Begin to look regularly, in a thread of its own, unless that has begun."""
        if self._thread is None or not self._thread.is_alive():
            work = (weakref.ref(self), self._stop, self.every)
            self._thread = threading.Thread(
                target=_keep_looking, args=work, name=type(self).__name__, daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop looking, take back all work and close the widget."""
        if hasattr(self, "_stop"):
            self._stop.set()
            self.worker.close()
        super().close()

    def _repr_html_(self) -> str:
        """Return the still picture, which exported notebooks show in place of the widget."""
        try:
            return self.still()
        except WorkbenchError as error:
            logger.warning("no still picture of %s: %s", type(self).__name__, error)
            return ""


class Sharing(Front):
    """A front over files that other tabs and people write too."""

    _turn = 0

    def _news(self) -> bool:
        """Return whether something was written elsewhere since this was asked last."""
        raise NotImplementedError

    def tick(self) -> bool:
        """Tell the views where something was written elsewhere; there is always more to come."""
        with self._gate:
            news = self._news()
        if news:
            self._turned()
        return False

    def _turned(self) -> None:
        """Tell the views that what they show has changed."""
        self._turn += 1
        self.tell("changed", turn=self._turn)


class Drafts:
    """What somebody has typed and not yet handed in, so that a closed tab loses no sentence.

    The file, private (0600) and made at the first draft, only grows; nothing that scores reads it.
    The last draft of a person about a thing counts; an empty one says that nothing is left to keep.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self._lines = JsonLines(path)
        self.path = self._lines.path

    def keep(self, who: str, about: tuple[str, ...], texts: Mapping[str, str]) -> None:
        """Keep what a person typed about a thing, field by field; the same again writes nothing."""
        for name, text in texts.items():
            check_text(name, text)
        kept = {name: text for name, text in texts.items() if text}
        if kept != self.of(who).get(about, {}):
            record = {"what": "draft", "who": who, "about": about, "texts": kept}
            self._lines.add(record | {"time": now()})

    def of(self, who: str) -> dict[tuple, dict[str, str]]:
        """Return what a person has typed, by thing; things without a draft are left out."""
        found: dict[tuple, dict[str, str]] = {}
        for record in self._lines.read()[0]:
            about, texts = record.get("about"), record.get("texts")
            own = record.get("what") == "draft" and record.get("who") == who
            if own and isinstance(about, list) and isinstance(texts, dict):
                found[tuple(about)] = {str(k): str(v) for k, v in texts.items()}
        return {about: texts for about, texts in found.items() if texts}


def _keep_looking(held: weakref.ref, stop: threading.Event, every: float) -> None:
    while not stop.wait(every):
        widget = held()
        try:
            if widget is None or widget.tick():
                return
        except Exception:
            logger.exception("a look at the run failed; the next one follows")
        del widget


def text_in(message: Mapping, name: str) -> str:
    """Return a text of a message; raise InputError where it is none."""
    value = message.get(name)
    if not isinstance(value, str):
        raise InputError(f"{name} must be a text, got {type(value).__name__}")
    return value


def number_in(message: Mapping, name: str) -> int:
    """Return a whole number of a message; raise InputError where it is none."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{name} must be a whole number, got {type(value).__name__}")
    return value


STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|class|const|let)\b)", re.MULTILINE)


@cache
def script(name: str) -> str:
    """Return a module of `static` and all it imports as one module that exports its `render`."""
    return "\n".join([*_modules(name, []), "export default { render };\n"])


def _modules(name: str, seen: list[str]) -> list[str]:
    """Return the modules behind a name that were not seen yet, the deepest first."""
    if name in seen:
        return []
    seen.append(name)
    text = (STATIC / name).read_text(encoding="utf-8")
    before = [part for found in _IMPORT.findall(text) for part in _modules(found, seen)]
    return [*before, f"// {name}\n{_EXPORT.sub('', _IMPORT.sub('', text))}"]


@cache
def styles(*names: str) -> str:
    """Return the common style and those of the files named."""
    files = (STATIC / name for name in ("common.css", *names))
    return "\n".join(file.read_text(encoding="utf-8") for file in files)
