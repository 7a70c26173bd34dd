"""A person at an error queue: what comes next, verdicts, what was typed, and resuming later.

    desk = Reviewing(queue, reviewer="AB")
    desk.judge(desk.at, "model wrong", comment="the effusion is old")
    desk.undo()

Everything that must outlive a browser or a kernel is in the folder of the run: verdicts in
`annotations.jsonl` (`review.verdicts`), what is typed and not yet judged in a file of drafts. So a
second tab, process or day resumes where the first one was. Where a second tab has judged the same
entry meanwhile, nothing is written over it unseen: the person is told, looks, and decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench._store import file_stamp
from workbench.errors import InputError, OptionError, RunError
from workbench.review.cases import ReviewCase
from workbench.review.error_queue import ErrorQueue
from workbench.review.study_session import check_boxes
from workbench.review.suspects import KINDS
from workbench.review.verdicts import Annotation, Annotations, check_initials, open_annotations
from workbench.widgets._front import Drafts

STATES = {
    "all": "all entries",
    "to judge": "without a verdict of mine",
    "judged": "with a verdict of mine",
}
#: What a person fills in besides the verdict; texts, "errors" joined by "|".
FORM = ("comment", "report", "severity", "errors", "true", "side", "boxes")
EMPTY: dict[str, str] = dict.fromkeys(FORM, "")
#: Filters that list everything.
EVERYTHING = {"kind": "", "finding": "", "state": "all"}
#: Marks a saved view among the drafts; an entry's key has four parts.
_VIEW = "view"


@dataclass(frozen=True)
class Entry:
    """One suspected error: its number in the whole queue, from 0, and its row of the queue."""

    n: int
    id: str
    source: str
    kind: str
    finding: str
    facts: Mapping[Any, Any]

    @property
    def key(self) -> tuple[str, str, str, str]:
        """As `Annotation.key`."""
        return (self.source, self.id, self.kind, self.finding)

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.id}, {self.finding or self.kind}"


class Reviewing:
    """One person, by initials, at one queue; new rows of a running run need a new queue.

    `notes` is where verdicts are kept; beside the run when None.
    """

    def __init__(
        self, queue: ErrorQueue, *, reviewer: str, notes: Annotations | None = None
    ) -> None:
        self.queue, self.reviewer = queue, check_initials(reviewer)
        self.notes = open_annotations(queue) if notes is None else notes
        self.drafts = Drafts(self.notes.path.with_name("annotations.drafts.jsonl"))
        self.entries = tuple(
            Entry(n, str(row["id"]), str(row["source"]), str(row["kind"]), str(row["finding"]), row)
            for n, row in enumerate(queue.to_frame().to_dict("records"))
        )
        self._stamp: tuple[int, int] | tuple[()] | None = ()
        self._current: list[Annotation] = []
        self._mine: dict[tuple, Annotation] = {}
        self.skipped: set[int] = set()
        self.filters = EVERYTHING
        self.listed: list[int] = []
        self.at: int | None = None
        self.filter()

    def refresh(self) -> bool:
        """Read the verdicts again where their file has changed; return whether it had."""
        seen = file_stamp(self.notes.path)
        if seen == self._stamp:
            return False
        self._stamp, self._current = seen, self.notes.current()
        own = (item for item in self._current if item.reviewer == self.reviewer)
        self._mine = {item.key: item for item in own}
        return True

    def mine(self, n: int) -> Annotation | None:
        """Return the standing verdict of this reviewer about an entry; None where there is none."""
        return self._mine.get(self.entry(n).key)

    def others(self, n: int) -> list[Annotation]:
        """Return what other reviewers say of an entry, for after one's own verdict."""
        key = self.entry(n).key
        said = [i for i in self._current if i.key == key and i.reviewer != self.reviewer]
        return sorted(said, key=lambda item: item.reviewer)

    def entry(self, n: int) -> Entry:
        """Return an entry by its number, or raise InputError."""
        if not 0 <= n < len(self.entries):
            raise InputError(f"the queue has {len(self.entries):,} entries, from 0; got {n!r}")
        return self.entries[n]

    def case(self, n: int) -> ReviewCase:
        """Return the case of an entry."""
        entry = self.entry(n)
        return self.queue.case(entry.id, source=entry.source)

    def form(self, n: int) -> dict[str, str]:
        """Return what the form of an entry holds: the draft, else the standing verdict's words."""
        typed = self.drafts.of(self.reviewer).get(self.entry(n).key)
        return _words(self.mine(n)) if typed is None else EMPTY | typed

    def corrected(self, n: int) -> str:
        """Return the reference report of the case as this reviewer last corrected it, or ""."""
        case = self.entry(n).key[:2]
        reports = [item.report for key, item in self._mine.items() if key[:2] == case]
        return next((report for report in reversed(reports) if report), "")

    def progress(self) -> dict[str, int]:
        """Return how many entries are judged by this reviewer: of those listed, and of all."""
        mine = [entry.key in self._mine for entry in self.entries]
        return {
            "judged": sum(mine[n] for n in self.listed), "listed": len(self.listed),
            "all_judged": sum(mine), "all": len(mine),
        }  # fmt: skip

    def last(self) -> Annotation | None:
        """Return the verdict that `undo` would take back; None where there is none."""
        own = [item for item in self.notes.standing() if item.reviewer == self.reviewer]
        return own[-1] if own else None

    def filter(self, *, kind: str = "", finding: str = "", state: str = "all") -> None:
        """List a part of the queue, "" for all, and go to its first entry without a verdict."""
        findings = sorted({entry.finding for entry in self.entries})
        for name, value, allowed in (
            ("kind", kind, ("", *KINDS)),
            ("finding", finding, ("", *findings)),
            ("state", state, tuple(STATES)),
        ):
            if value not in allowed:
                raise OptionError(f"no {name} {value!r}; expected one of: {', '.join(allowed)}")
        self.refresh()
        self.filters = {"kind": kind, "finding": finding, "state": state}
        self.listed = [
            entry.n
            for entry in self.entries
            if kind in ("", entry.kind)
            and finding in ("", entry.finding)
            and (state == "all" or (self.mine(entry.n) is None) == (state == "to judge"))
        ]
        self.at = self.listed[0] if self.listed else None
        if self.at is not None and self.mine(self.at) is not None:
            self.advance()

    def views(self) -> list[dict[str, str]]:
        """Return the filters that this reviewer saved, each with its `name`."""
        kept = self.drafts.of(self.reviewer).items()
        found = [EVERYTHING | filters for about, filters in kept if about[:-1] == (_VIEW,)]
        return [{"name": _named(filters), **filters} for filters in found]

    def keep_view(self, keep: bool) -> str:
        """Save the filters as a view, or forget that view; return its name."""
        name = _named(self.filters)
        self.drafts.keep(self.reviewer, (_VIEW, name), self.filters if keep else {})
        return name

    def go(self, n: int) -> None:
        """Go to an entry, listed or not."""
        self.at = self.entry(n).n

    def step(self, by: int) -> int | None:
        """Go that many entries on in the list, at most to its ends."""
        if self.listed:
            place = self.listed.index(self.at) if self.at in self.listed else -1
            self.at = self.listed[min(max(place + by, 0), len(self.listed) - 1)]
        return self.at

    def advance(self) -> int | None:
        """Go to the next listed entry without a verdict, those skipped last; stay where none is."""
        place = self.listed.index(self.at) + 1 if self.at in self.listed else 0
        around = [*self.listed[place:], *self.listed[:place]]
        left = [n for n in around if self.mine(n) is None and n != self.at]
        fresh = [n for n in left if n not in self.skipped]
        if fresh or left:
            self.at = (fresh or left)[0]
        return self.at

    def skip(self) -> int | None:
        """Leave an entry for later; it comes again when all others are judged."""
        if self.at is not None:
            self.skipped.add(self.at)
        return self.advance()

    def judge(
        self, n: int, verdict: str, *, seen: str | None = None, errors: Sequence[str] = (),
        **words: str,
    ) -> Annotation:  # fmt: skip
        """Write a verdict, at once, and drop the draft; words as in `Annotations.add`.

        `seen` is `n` of the verdict that the person saw standing, "" for none; None does not ask.
        With another one standing nothing is written, and a `RunError` says so.
        """
        entry = self.entry(n)
        self.refresh()
        stands = self.mine(n)
        if seen is not None and seen != (stands.n if stands else ""):
            raise RunError(
                f"{entry.name}: in another tab or process you have "
                + (f"said {stands.verdict!r} meanwhile" if stands else "taken your verdict back")
                + "; it is shown now and nothing was written. Give your verdict again to replace it"
            )
        said = self.notes.add(
            entry.facts, verdict=verdict, reviewer=self.reviewer, errors=errors, **words
        )
        self.drafts.keep(self.reviewer, entry.key, {})
        self.skipped.discard(n)
        self.refresh()
        return said

    def undo(self, *, seen: str | None = None) -> Annotation:
        """Take back the reviewer's last verdict, go to its entry, and keep its words as a draft.

        `seen` is `n` of the verdict that the person expects to take back; None does not ask.
        """
        last = self.last()
        if last is not None and seen is not None and seen != last.n:
            self.refresh()
            raise RunError(
                f"your last verdict, {last.verdict!r} about {last.id}, {last.finding or last.kind},"
                " was given in another tab or process; nothing was taken back. Undo once more to "
                "take that one back"
            )
        gone = self.notes.undo(reviewer=self.reviewer, n=None if last is None else last.n)
        self.refresh()
        n = next((entry.n for entry in self.entries if entry.key == gone.key), None)
        if n is not None:
            self.at = n
            if self.mine(n) is None:
                self.drafts.keep(self.reviewer, gone.key, _words(gone))
        return gone

    def draft(self, n: int, words: Mapping[str, str]) -> None:
        """Keep what is typed about an entry, of `FORM`; nothing where it repeats what stands."""
        whole = {**EMPTY, **words}
        whole["boxes"] = check_boxes(whole["boxes"])
        same = whole == _words(self.mine(n))
        self.drafts.keep(self.reviewer, self.entry(n).key, {} if same else whole)


def _named(filters: Mapping[str, str]) -> str:
    """Return what filters list, in words."""
    state = "" if filters["state"] == "all" else STATES[filters["state"]]
    return ", ".join(filter(None, (filters["kind"], filters["finding"], state))) or STATES["all"]


def _words(item: Annotation | None) -> dict[str, str]:
    if item is None:
        return EMPTY
    found = {name: getattr(item, name) for name in EMPTY}
    return found | {"errors": "|".join(item.errors)}
