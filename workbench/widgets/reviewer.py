"""The reviewer: a run's suspected errors one by one, and a verdict by one key.

    wb.review.app("runs/first", reviewer="AB", manifest="radiographs.parquet")

An entry goes to the page as plain values. Marks are words, not offsets: a piece of text says itself
what it states about which finding, so that a page needs no colour and no counting of characters to
show it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import wraps
from html import escape
from typing import Any

from workbench.errors import InputError, RunError, WorkbenchError
from workbench.findings import CODES, SIDES
from workbench.hallucination.taxonomy import KINDS as ERROR_KINDS
from workbench.model.licence import RESEARCH_NOTICE
from workbench.reports import FindingLabel, label
from workbench.review.error_queue import ErrorQueue
from workbench.review.error_queue import queue as open_queue
from workbench.review.readings import FINDINGS
from workbench.review.suspects import KINDS
from workbench.review.verdicts import SEVERITIES, VERDICTS, Annotation
from workbench.runs.record import stated_notice, turned_upright
from workbench.widgets._front import Sharing, number_in, quick, script, slow, styles, text_in
from workbench.widgets._worker import Job
from workbench.widgets.radiographs import ImageSource, image_source, pixels_of, thumbnail_of
from workbench.widgets.reviewing import FORM, STATES, Reviewing

_ROWS = 60

#: Everything that a verdict can be made of, in the order of its keys.
FORM_WORDS = {
    "verdicts": [
        {"key": str(at), "name": name, "means": text}
        for at, (name, text) in enumerate(VERDICTS.items(), start=1)
    ],
    "severities": [{"name": name, "means": text} for name, text in SEVERITIES.items()],
    "errors": ERROR_KINDS,
    "codes": CODES,
    "findings": FINDINGS,
    "sides": SIDES,
    "states": [{"value": name, "label": text} for name, text in STATES.items()],
}


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
            "views": self.desk.views(),
            **self._shown,
        }

    @acting
    def filter(self, message: Mapping) -> str:
        """List a part: kind, finding, state."""
        self.desk.filter(**{name: text_in(message, name) for name in ("kind", "finding", "state")})
        count = len(self.desk.listed)
        return f"{count:,} {'entry' if count == 1 else 'entries'} listed"

    @acting
    def keep_view(self, message: Mapping) -> str:
        """Save what is listed as a view, or forget that view: keep."""
        keep = bool(number_in(message, "keep"))
        return f"view {'saved' if keep else 'forgotten'}: {self.desk.keep_view(keep)}"

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
        end = ". All listed entries are judged" if self._on(self.desk.advance) else ""
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
        return self._radiograph(message, pixels_of)

    @slow
    def thumbnail(self, message: Mapping, job: Job) -> dict[str, Any]:
        """Return the radiograph of an entry in small, or why there is none: n."""
        return self._radiograph(message, thumbnail_of)

    def _radiograph(self, message: Mapping, seen: Callable) -> dict[str, Any]:
        entry = self.desk.entry(number_in(message, "n"))
        try:
            own = self._radiographs
            found = own(entry.source, entry.id) if own else self.desk.case(entry.n).radiograph()
            return {"n": entry.n, "radiograph": seen(found)}
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

    >>> wb.review.app(run, reviewer="AB", manifest=manifest, images=manifest).state()["reviewer"]
    'AB'
    """
    found = run if isinstance(run, ErrorQueue) else open_queue(run, manifest=manifest, **options)
    desk = Reviewing(found, reviewer=reviewer)
    desk.filter(kind=kind)
    return Reviewer(desk, radiographs=image_source(images, upright=turned_upright(found.record)))


def choices(desk: Reviewing) -> dict[str, Any]:
    """Return the reasons and findings that the queue has, with counts."""
    kinds = Counter(entry.kind for entry in desk.entries)
    findings = Counter(entry.finding for entry in desk.entries)
    return {
        "kinds": [{"value": name, "count": kinds[name]} for name in KINDS if name in kinds],
        "findings": [{"value": name, "count": findings[name]} for name in sorted(findings) if name],
    }


def listing(desk: Reviewing, *, start: int | None = None, rows: int = _ROWS) -> dict[str, Any]:
    """Return so many rows of the list, from `start` or around where one is."""
    total = len(desk.listed)
    place = desk.listed.index(desk.at) if desk.at in desk.listed else None
    if start is None:
        start = max(0, min((place or 0) - rows // 2, total - rows))
    shown = [_row(desk, n) for n in desk.listed[start : start + rows]]
    return {"start": start, "total": total, "place": place, "rows": shown}


def case_view(desk: Reviewing, n: int) -> dict[str, Any]:
    """Return everything a page shows of one entry, but for the image."""
    entry, case = desk.entry(n), desk.case(n)
    mine, others, given = desk.mine(n), desk.others(n), case.reference
    also = [other for other in desk.entries if other.key[:2] == entry.key[:2]]
    about = {other.finding for other in also} - {entry.finding, ""}
    return {
        **_row(desk, n),
        "why": _why(entry.facts),
        "facts": {k: v for k, v in case.facts.items() if v not in ("", "unknown", case.id)},
        "report": pieces(case.text, entry.finding, about),
        "reference": None if given is None else pieces(given, entry.finding, about),
        "reference_text": given or "",
        "corrected": desk.corrected(n),
        "findings": case.findings.reset_index().to_dict("records"),
        "first": also[0].n,
        "mine": None if mine is None else _said(mine),
        "form": desk.form(n),
        "others": len(others),
        # what others say is told after one's own verdict only
        "others_said": [] if mine is None else [_said(item) for item in others],
    }


def standing(desk: Reviewing) -> dict[str, Any]:
    """Return the counts and the verdict that would be taken back."""
    last = desk.last()
    return {"progress": desk.progress(), "last": None if last is None else _said(last)}


def pieces(text: str, finding: str, about: set[str]) -> list[dict[str, str]]:
    """Return a report in pieces {text, mark, says}, the words about findings marked.

    `mark` is "asked" (of the finding in question, "" where the whole report is), "also" (of another
    one of the case, in `about`), "cue" (negates or weakens the one in question) or "".
    """
    spans: list[tuple[int, int, str, str]] = []
    for item in label(text).mentions:
        if item.finding != finding and item.finding not in about:
            continue
        asked = item.finding == finding
        spans.append((item.start, item.end, "asked" if asked else "also", _says(item)))
        if asked and item.cue_start is not None and item.cue_end is not None:
            spans.append((item.cue_start, item.cue_end, "cue", f"reads it as {item.code}"))
    found, at = [], 0
    order = {"asked": 0, "also": 1, "cue": 2}
    for start, end, mark, says in sorted(spans, key=lambda s: (s[0], order[s[2]], -s[1])):
        if end > at:
            start = max(start, at)
            found += [(text[at:start], "", ""), (text[start:end], mark, says)]
            at = end
    found.append((text[at:], "", ""))
    return [{"text": part, "mark": mark, "says": says} for part, mark, says in found if part]


def _row(desk: Reviewing, n: int) -> dict[str, Any]:
    entry, mine = desk.entry(n), desk.mine(n)
    row = {name: getattr(entry, name) for name in ("n", "id", "source", "kind", "finding")}
    return row | {"verdict": mine.verdict if mine else "", "skipped": n in desk.skipped}


def _said(item: Annotation) -> dict[str, Any]:
    names = ("n", "verdict", "reviewer", "severity", "comment")
    return {name: getattr(item, name) for name in names}


def _says(item: FindingLabel) -> str:
    place = " ".join(word for word in (item.side, item.zone) if word)
    return f"{item.finding}: {item.code}{f', {place}' if place else ''}"


def _why(row: Mapping[str, Any]) -> list[str]:
    """Return in words why an entry is in the queue."""
    said = []
    if row["said"]:
        sides = row["said side"], row["reference side"]
        model, known = (f", {side}" if side else "" for side in sides)
        said.append(f"the model says {row['said']}{model}")
        said.append(f"known: {row['reference']}{known}")
    if row["evidence"]:
        said.append(str(row["evidence"]))
    if row["confidence"] == row["confidence"] and row["confidence"] is not None:
        said.append(_rank(float(row["confidence"])))
    return said


def _rank(share: float) -> str:
    """Return where the token confidence of a report stands among those of its run, 0 to 1."""
    if share >= 1:
        return "highest token confidence of this run"
    if share <= 0:
        return "lowest token confidence of this run"
    # never rounded to none or all of them
    percent = min(max(round(100 * share), 1), 99)
    return f"token confidence above that of {percent} % of this run's reports"
