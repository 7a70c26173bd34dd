"""A fine-tuning run on the screen while it runs: `workbench.widgets.monitor("runs/fracture")`.

    state = run_state("runs/fracture")
    state.state, state.step, state.steps, state.curve

The folder is looked at every two seconds by a thread of its own, so that the curve grows although
the kernel trains in another cell; what changed is told to all views. What is read: `recipe.yaml`
(which run), `progress.jsonl` (every logged step, memory, whether the process lives), `checkpoints`
(where a stopped run resumes) and `ledger.json` (the end). Nothing is written or locked, and a file
that is only half there counts as missing.

A process on another machine cannot be asked whether it lives: its run is "silent" when no file has
changed for much longer than usual.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from workbench._lazy import make_callable
from workbench._repr import plain, result
from workbench._store import JsonLines, file_stamp, read_json
from workbench.errors import WorkbenchError
from workbench.figures.numbers import Estimate, fixed
from workbench.figures.tables import html_table
from workbench.finetune.ledger import (
    ADAPTER,
    LEDGER_FILE,
    LOGGED,
    PROGRESS_FILE,
    RECIPE_FILE,
    Ledger,
    last_checkpoint,
)
from workbench.finetune.recipe import NOTE, Recipe, read_recipe
from workbench.model.licence import RESEARCH_NOTICE, notice_by_name
from workbench.widgets._front import Front, quick, script, styles

#: Silence that counts: this many usual gaps between two changes, and at least so many seconds.
_GAPS, _LEAST = 5, 180.0
#: Moments that the speed is taken from.
_LATELY = 12
#: Files whose change shows that a run is alive.
_WATCHED = ("*", "best/*", "checkpoints/*", "checkpoints/*/*", "adapter/*")
#: Parts that are told again only when they have changed.
_HEAVY = ("curve", "ledger")
_WORDS = {
    "waiting": "no run in this folder yet",
    "starting": "preparing: data and model are read before the first step",
    "running": "running",
    "measuring": "all steps are done; what changed is being measured",
    "silent": "silent: probably stopped",
    "stopped": "stopped before its end",
    "finished": "finished",
}


@result(eq=True)
class RunState:
    """What can be told of a run now; None and "" while unknown.

    Attributes:
        state: a key of `_WORDS`: waiting, starting, running, measuring, silent, stopped, finished.
        words: the state as a sentence, with what to do where the run needs you.
        name, stage, base, notice: of the run and its model.
        step, steps: done, and in all.
        curve: one row per logged step, ascending: step, loss, learning_rate, measures.
        measure: name of the validation measure that the best weights are chosen by.
        best: {"step", "value"} so far.
        rate: steps a second, lately.
        left: seconds to the last step at that rate.
        early: whether the run may end before its last step.
        memory: {"bytes", "as"}.
        ledger: of the finished run: lines, table, notes.
    """

    state: str
    words: str
    name: str = ""
    stage: str = ""
    base: str = ""
    notice: str = RESEARCH_NOTICE
    step: int | None = None
    steps: int | None = None
    curve: tuple[Mapping[str, float], ...] = field(default=(), repr=False)
    measure: str = ""
    best: Mapping[str, float] | None = None
    rate: float | None = None
    left: float | None = None
    early: bool = False
    memory: Mapping[str, Any] | None = None
    ledger: Mapping[str, Any] | None = field(default=None, repr=False)


def run_state(folder: str | os.PathLike, *, now: float | None = None) -> RunState:
    """Read what is there of a run; never raises for what a running process leaves half done.

    `now` are seconds since 1970; the clock's when None.
    """
    folder = Path(folder)
    try:
        recipe = read_recipe(folder / RECIPE_FILE)
    except (WorkbenchError, OSError, UnicodeDecodeError):
        return RunState("waiting", _WORDS["waiting"])
    facts = {name: getattr(recipe, name) for name in ("name", "stage", "base")}
    facts["notice"] = _notice(recipe, folder)
    try:
        return _finished(Ledger.load(folder / LEDGER_FILE), facts)
    except (ValueError, KeyError, TypeError, OSError, WorkbenchError):
        return _going(folder, recipe, facts, time.time() if now is None else now)


def _finished(ledger: Ledger, facts: Mapping[str, Any]) -> RunState:
    steps, seconds = int(ledger.cost["steps"]), float(ledger.cost["seconds"])
    return RunState(
        "finished", _WORDS["finished"], **facts,
        measure=str(ledger.best.get("measure", "")),
        best=ledger.best if ledger.best.get("value") is not None else None,
        step=steps, steps=steps, curve=tuple(ledger.curves),
        rate=steps / seconds if seconds else None, left=0.0,
        memory={"bytes": ledger.memory["measured"], "as": ledger.memory["as"]},
        ledger=_ledger_view(ledger),
    )  # fmt: skip


def _going(folder: Path, recipe: Recipe, facts: Mapping[str, Any], now: float) -> RunState:
    log = _Log()
    for record in JsonLines(folder / PROGRESS_FILE).read()[0]:
        log.take(record)
    step = max((*log.reached, *log.curve), default=None)
    quiet = _quiet(folder, now)
    state = _state(log, step, quiet)
    words = _WORDS[state]
    if state in ("silent", "stopped"):
        words += (
            f"; nothing has changed for {spoken(quiet)}. The same recipe with resume=True "
            f"(--resume) continues from {_checkpoint(folder)}"
        )
    rate, left = log.rate(), None
    if state == "running" and rate and log.steps and step is not None:
        left = (log.steps - step) / rate
    return RunState(
        state, words, **facts,
        measure=recipe.metric, best=log.best(recipe.metric),
        step=step, steps=log.steps, curve=tuple(log.curve[at] for at in sorted(log.curve)),
        rate=rate, left=left, early=recipe.evaluation.patience is not None, memory=log.memory,
    )  # fmt: skip


@dataclass
class _Log:
    """The records of `progress.jsonl`, one after another."""

    begun: bool = False
    curve: dict[int, dict[str, float]] = field(default_factory=dict)
    #: Step -> when it was reached, seconds since 1970.
    reached: dict[int, float] = field(default_factory=dict)
    steps: int | None = None
    process: Any = None
    memory: dict[str, Any] | None = None

    def take(self, record: Mapping[str, Any]) -> None:
        """Take in one record; one of an unknown shape changes nothing."""
        step, when = record.get("step"), record.get("time")
        if not isinstance(step, int):
            return
        if record.get("what") == "begin":
            # steps that an earlier part of the run lost are done again
            self.curve = {at: row for at, row in self.curve.items() if at <= step}
            self.reached, self.begun = {}, True
            self.steps, self.process = record.get("steps"), record.get("process")
        for name, value in record.items():
            known = name in LOGGED or name.startswith("eval_")
            if known and isinstance(value, (int, float)):
                row = self.curve.setdefault(step, {"step": step})
                row[name.removeprefix("eval_")] = float(value)
        if isinstance(when, (int, float)):
            self.reached[step] = float(when)
        if isinstance(record.get("memory"), (int, float)):
            self.memory = {"bytes": record["memory"], "as": str(record.get("memory_as", ""))}

    def gaps(self) -> list[tuple[int, float]]:
        """Return (steps, seconds) between the latest moments at which the step was known."""
        steps = sorted(self.reached)[-_LATELY:]
        return [(b - a, self.reached[b] - self.reached[a]) for a, b in pairwise(steps)]

    def rate(self) -> float | None:
        """Return steps a second, the middle one of late; None where too little is known."""
        rates = [steps / seconds for steps, seconds in self.gaps() if seconds > 0]
        return median(rates) if rates else None

    def best(self, measure: str) -> dict[str, float] | None:
        """Return step and value of the best measure; the first of equals."""
        values = ((row.get(measure), -at) for at, row in self.curve.items())
        known = [pair for pair in values if pair[0] is not None and pair[0] == pair[0]]
        value, step = max(known, default=(None, 0))
        return None if value is None else {"step": -step, "value": value}


def _state(log: _Log, step: int | None, quiet: float) -> str:
    alive = _is_alive(log.process)
    if alive is False:
        return "stopped"
    longest = max((seconds for _, seconds in log.gaps()), default=0.0)
    if alive is None and quiet > max(_LEAST, _GAPS * longest):
        return "silent"
    if not log.begun:
        return "starting"
    return "measuring" if log.steps and step is not None and step >= log.steps else "running"


def _is_alive(process: Any) -> bool | None:
    """Say whether a process lives: None where that is unknown, as for one on another machine."""
    if not isinstance(process, Mapping) or not isinstance(process.get("pid"), int):
        return None
    if abs(float(process.get("boot", 0)) - psutil.boot_time()) > 5:
        return None
    try:
        found = psutil.Process(process["pid"])
        same = abs(found.create_time() - float(process.get("started", 0))) < 2
        return same and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return None


def _quiet(folder: Path, now: float) -> float:
    """Return seconds since any file of the run changed."""
    files = (path for pattern in _WATCHED for path in folder.glob(pattern))
    changed = ((file_stamp(path) or (0, 0))[1] for path in files)
    return max(0.0, now - max(changed, default=0) / 1e9)


def _checkpoint(folder: Path) -> str:
    """Return in words where a stopped run resumes."""
    found = last_checkpoint(folder)
    return f"step {int(found.name.rpartition('-')[2]):,}" if found else "the beginning"


def _notice(recipe: Recipe, folder: Path) -> str:
    """Return the statement of the model that is trained about its use."""
    try:
        return str(read_json(folder / ADAPTER / NOTE)["notice"])
    except (OSError, ValueError, KeyError, TypeError):
        return notice_by_name(recipe.base)


def _ledger_view(ledger: Ledger) -> dict[str, Any]:
    """Return a ledger as plain values: lines, one row for each skill, notes."""
    rows = [
        {"kind": kind, "change": row.change.text(3), "verdict": _verdict(row.change)}
        | {name: getattr(row, name) for name in ("skill", "n", "before", "after")}
        for kind, row in ledger.skills()
    ]
    lines = [line.strip() for line in ledger.summary().split("\n")[1:4]]
    return {"lines": lines, "rows": rows, "notes": list(ledger.notes)}


def spoken(seconds: float) -> str:
    """Return a time in words, as "2 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def _verdict(change: Estimate) -> str:
    """Return in a word what a change with its interval amounts to."""
    if change.value is None:
        return "undefined"
    if change.low is None or change.high is None:
        return "no interval"
    if change.low > 0:
        return "better"
    return "worse" if change.high < 0 else "no clear change"


class Monitor(Front):
    """Watch a run of `wb.finetune.run`, whose folder need not be there yet, while it is trained.

    >>> wb.finetune.monitor("runs/trained").state()["folder"]
    'trained'
    """

    _esm = script("monitor.js")
    _css = styles("monitor.css")

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self._told: dict[str, Any] = {}
        super().__init__(title="Training monitor", notice=run_state(folder).notice)

    def state(self) -> dict[str, Any]:
        """Return everything that is known of the run, and begin to look at it regularly."""
        with self._gate:
            self._told = self._look()
            self._start()
            return {"folder": self.folder.name, "run": self._told}

    @quick
    def look(self, message: dict) -> dict[str, Any]:
        """Look at once, without waiting for the next time."""
        self.tick()
        return {}

    def tick(self) -> bool:
        """Look, and tell all views what is new; return whether the run has ended."""
        with self._gate:
            found = self._look()
            same = {name for name in _HEAVY if found[name] == self._told.get(name)}
            self._told = found
        self.tell("run", run={name: found[name] for name in found if name not in same})
        return found["state"] == "finished"

    def still(self) -> str:
        """Return the state and, at the end, what changed, as HTML without scripts."""
        return still_html(run_state(self.folder), self.folder.name)

    def _look(self) -> dict[str, Any]:
        found = run_state(self.folder)
        self.notice = found.notice
        return plain(found)


def still_html(state: RunState, name: str) -> str:
    """Return the state of the run in a folder of this name as HTML without scripts."""
    step = "" if state.step is None else f", step {state.step:,}"
    step += f" of {state.steps:,}" if state.step is not None and state.steps else ""
    best = ""
    if state.best:
        best = f"<p>Best {escape(state.measure)} {state.best['value']:.3f} at step "
        best += f"{state.best['step']:,}.</p>"
    changed = ""
    if state.ledger and state.ledger["rows"]:
        rows = [
            [row["skill"], row["kind"], fixed(row["before"], 3, missing="undefined"),
             fixed(row["after"], 3, missing="undefined"), row["change"], row["verdict"]]
            for row in state.ledger["rows"]
        ]  # fmt: skip
        changed = html_table(["skill", "", "before", "after", "change [95 %]", ""], rows)
    return (
        f"<p><b>Training monitor</b>: {escape(name)}{step}. {escape(state.words)}.</p>"
        f"<p><b>{escape(state.notice)}</b></p>{best}{changed}"
    )


monitor = Monitor
make_callable(__name__, "workbench.widgets.monitor:monitor")
