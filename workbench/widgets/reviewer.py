"""The reviewer: a run's suspected errors one by one, and a verdict by one key.

wb.review.app("runs/first", reviewer="AB", manifest="radiographs.parquet")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from html import escape
from typing import Any

from workbench.errors import InputError, RunError, WorkbenchError
from workbench.model.licence import RESEARCH_NOTICE
from workbench.review.error_queue import ErrorQueue
from workbench.review.error_queue import queue as open_queue
from workbench.runs.record import stated_notice, turned_upright
from workbench.widgets._front import Sharing, number_in, quick, script, slow, styles, text_in
from workbench.widgets._worker import Job
from workbench.widgets.radiographs import ImageSource, image_source, pixels_of
from workbench.widgets.reviewing import FORM, Reviewing
from workbench.widgets.reviewing_view import FORM_WORDS, case_view, choices, listing, standing


def acting(method: Callable) -> Callable:
    """Let a method that changes what is shown answer with all of it, and tell the other views."""

    @quick
    @wraps(method)
    def act(self: Reviewer, message: Mapping) -> dict[str, Any]:
        try:
            said = method(self, message) or ""
        except WorkbenchError:
            # another tab was first: what is shown is brought up to date although nothing was done
            if self.desk.refresh() or self._shown != standing(self.desk):
                self._turned()
            raise
        self._turned()
        return {"said": said, **self.here()}

    return act


class Reviewer(Sharing):
    """The reviewer of one queue; what other tabs and people write appears by itself.

    Radiographs are the queue's own where no source of them is given.
    """

    _esm = script("reviewer.js")
    _css = styles("radiograph.css", "desk.css", "reviewer.css")

    def __init__(self, desk: Reviewing, *, radiographs: ImageSource | None = None) -> None:
        self.desk, self._radiographs = desk, radiographs
        self._shown: Any = None
        notice = stated_notice(desk.queue.record) or RESEARCH_NOTICE
        super().__init__(title="Reviewer", notice=notice)

    def _news(self) -> bool:
        return self.desk.refresh()

    def state(self) -> dict[str, Any]:
        """Return everything that a page needs."""
        with self._gate:
            self.desk.refresh()
            self._start()
            return {
                "reviewer": self.desk.reviewer,
                "words": FORM_WORDS,
                "choices": choices(self.desk),
                "notes": [note for note in self.desk.queue.notes if note != self.notice],
                "said": "",
                **self.here(),
            }

    def here(self) -> dict[str, Any]:
        """Return the entry one is at, the list around it and the counts."""
        at = self.desk.at
        self._shown = standing(self.desk)
        return {
            "turn": self._turn,
            "case": None if at is None else case_view(self.desk, at),
            "list": listing(self.desk),
            "filters": self.desk.filters,
            **self._shown,
        }

    @acting
    def filter(self, message: Mapping) -> str:
        """List a part: kind, finding, state."""
        self.desk.filter(**{name: text_in(message, name) for name in ("kind", "finding", "state")})
        count = len(self.desk.listed)
        return f"{count:,} {'entry' if count == 1 else 'entries'} listed"

    @acting
    def go(self, message: Mapping) -> None:
        """Go to an entry: n."""
        self.desk.go(number_in(message, "n"))

    @acting
    def step(self, message: Mapping) -> str:
        """Go on or back in the list: by."""
        before = self.desk.at
        by = number_in(message, "by")
        if self.desk.step(by) == before and before is not None:
            return "this is the last entry" if by > 0 else "this is the first entry"
        return ""

    @acting
    def advance(self, message: Mapping) -> str:
        """Go to the next entry without a verdict."""
        return self._on(self.desk.advance)

    @acting
    def skip(self, message: Mapping) -> str:
        """Leave the entry for later."""
        return self._on(self.desk.skip) or "skipped; it comes again at the end"

    @acting
    def judge(self, message: Mapping) -> str:
        """Write a verdict and go on: n, verdict, seen, form."""
        (n, form), verdict = self._form(message), text_in(message, "verdict")
        words = {**form, "errors": [word for word in form["errors"].split("|") if word]}
        try:
            self.desk.judge(n, verdict, seen=text_in(message, "seen"), **words)
        except RunError:
            with suppress(RunError):  # what was typed outlives a verdict that was not written
                self.desk.draft(n, form)
            raise
        self.desk.at = n
        self.desk.advance()
        over = self.desk.mine(self.desk.at) is not None if self.desk.at is not None else True
        end = ". All listed entries are judged" if over else ""
        return f"{self.desk.entry(n).name}: {verdict}, written{end}"

    @acting
    def undo(self, message: Mapping) -> str:
        """Take the last verdict back: seen."""
        gone = self.desk.undo(seen=text_in(message, "seen"))
        return f"taken back: {gone.verdict}, about {gone.id}, {gone.finding or gone.kind}"

    @quick
    def draft(self, message: Mapping) -> dict[str, Any]:
        """Keep what is typed: n, form."""
        n, form = self._form(message)
        self.desk.draft(n, form)
        return {"kept": n}

    @quick
    def refresh(self, message: Mapping) -> dict[str, Any]:
        """Read the verdicts again, for what other tabs and people have written."""
        if self.desk.refresh():
            self._turned()
        return self.here()

    @quick
    def rows(self, message: Mapping) -> dict[str, Any]:
        """Return another part of the list: start."""
        return listing(self.desk, start=max(0, number_in(message, "start")))

    @slow
    def radiograph(self, message: Mapping, job: Job) -> dict[str, Any]:
        """Return the radiograph of an entry, or why there is none: n."""
        entry = self.desk.entry(number_in(message, "n"))
        try:
            if self._radiographs is not None:
                found = self._radiographs(entry.source, entry.id)
            else:
                found = self.desk.case(entry.n).radiograph()
            return {"n": entry.n, "radiograph": pixels_of(found)}
        except WorkbenchError as error:
            return {"n": entry.n, "none": str(error)}

    def still(self) -> str:
        """Return the counts and the entry one is at as HTML without scripts."""
        done, at = self.desk.progress(), self.desk.at
        case = None if at is None else self.desk.case(at)
        return (
            f"<p><b>Reviewer</b>: {escape(self.desk.reviewer)} has judged {done['all_judged']:,} "
            f"of {done['all']:,} entries.</p><p><b>{escape(self.notice)}</b></p>"
            f"{case._repr_html_() if case else ''}"
            "<p>This is a picture. Run the notebook to judge by one key.</p>"
        )

    def _on(self, move: Callable[[], int | None]) -> str:
        at = move()
        if at is None:
            return "no entry is listed; choose another filter"
        return "" if self.desk.mine(at) is None else "all listed entries are judged"

    def _form(self, message: Mapping) -> tuple[int, dict[str, str]]:
        """Return the entry of a message and its form; an unchanged reference is no correction."""
        n, given = number_in(message, "n"), message.get("form")
        if not isinstance(given, Mapping) or set(given) != set(FORM):
            raise InputError(f"form must hold {', '.join(FORM)}")
        form = {name: text_in(given, name) for name in FORM}
        if form["report"] == (self.desk.case(n).reference or ""):
            form["report"] = ""
        return n, form


def app(
    run: Any,
    *,
    reviewer: str,
    manifest: Any = None,
    images: object = None,
    kind: str = "",
    **options: Any,
) -> Reviewer:
    """Open the error queue of a run in the browser.

    Every verdict is written at once to `annotations.jsonl` in the folder of the run, so that a
    closed tab, another day or a second reviewer resumes from there.

    Args:
        run: folder of a run, its result, or an `ErrorQueue` that is open already.
        reviewer: your initials.
        manifest: what is known of the images; see `wb.review.queue`.
        images: where radiographs are, see `radiographs.image_source`; the manifest's own when None.
        kind: what is listed first; all when "".
        **options: of `wb.review.queue`.

    Raises:
        InputError: there is no run, no folder to write verdicts to, or no initials.
        OptionError: a filter or an option is not allowed.
    """
    found = run if isinstance(run, ErrorQueue) else open_queue(run, manifest=manifest, **options)
    if images is None and isinstance(manifest, Mapping):
        images = manifest
    desk = Reviewing(found, reviewer=reviewer)
    desk.filter(kind=kind)
    return Reviewer(desk, radiographs=image_source(images, upright=turned_upright(found.record)))
