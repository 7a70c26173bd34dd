"""A fine-tuning run seen from outside, while another process writes its folder.

    watch = RunWatch("runs/fracture")
    state = watch.look()
    state.state, state.step, state.steps, state.curve

What is read: `recipe.yaml` (which run), `checkpoints/*/trainer_state.json` (curves, best, steps),
`progress.jsonl` (every logged step, memory, whether the process lives) and `ledger.json` (the end).
Nothing is written or locked. A file that is only half there is read again next time; what was seen
once is kept although old checkpoints are deleted.

Without `progress.jsonl`, which older runs lack, only files tell whether a run goes on:
"running" then means that one changed lately, "silent" that none did for much longer than usual.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from workbench._repr import short_repr
from workbench._store import parse_json
from workbench.errors import WorkbenchError
from workbench.finetune.ledger import LEDGER_FILE, LOGGED, PROGRESS_FILE, RECIPE_FILE, Ledger
from workbench.finetune.recipe import Recipe, read_recipe
from workbench.model.licence import RESEARCH_NOTICE
from workbench.widgets.monitoring_files import (
    best_so_far,
    is_alive,
    json_of,
    ledger_view,
    modified,
    notice_of,
    spoken,
    step_of,
    watched,
)

#: Silence that counts: this many usual gaps between two changes, and at least so many seconds.
_GAPS, _LEAST = 5, 180.0
#: Moments that the speed is taken from.
_LATELY = 12
_WORDS = {
    "waiting": "no run in this folder yet",
    "starting": "preparing: data and model are read before the first step",
    "running": "running",
    "measuring": "all steps are done; what changed is being measured",
    "silent": "silent: probably stopped",
    "stopped": "stopped before its end",
    "finished": "finished",
}


@dataclass(frozen=True)
class RunState:
    """What can be told of a run now.

    Attributes:
        state: a key of `_WORDS`: waiting, starting, running, measuring, silent, stopped, finished.
        words: the state as a sentence, with what to do where it needs somebody.
        name, stage, base, notice: of the run and its model; "" while unknown.
        step, steps: done, and in all; None while unknown.
        curve: one row per logged step, ascending: step, loss, learning_rate, measures.
        measure: name of the validation measure that the best weights are chosen by.
        best: {"step", "value"} so far, None while there is none.
        rate: steps a second, lately; None while unknown.
        left: seconds to the last step at that rate; None while unknown.
        early: whether the run may end before its last step.
        memory: {"bytes", "as"}; None while unknown.
        quiet: seconds since anything changed; None where nothing is there.
        checkpoint: step that a stopped run goes on from; None where there is none.
        ledger: the finished run: lines, table, notes; None before the end.
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
    quiet: float | None = None
    checkpoint: int | None = None
    ledger: Mapping[str, Any] | None = field(default=None, repr=False)

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"curve": [dict(row) for row in self.curve]}


class RunWatch:
    """A folder of `wb.finetune.run`, looked at again and again.

    Args:
        folder: of the run; it need not be there yet.
        clock: seconds since 1970.
    """

    def __init__(
        self, folder: str | os.PathLike, *, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = Path(folder)
        self._clock = clock
        self._forget()

    def _forget(self) -> None:
        self._recipe: tuple[float, Recipe] | None = None
        self._curve: dict[int, dict[str, float]] = {}
        #: Step -> when it was reached, by the times of checkpoints and by what the run logged.
        self._saved: dict[int, float] = {}
        self._logged: dict[int, float] = {}
        self._head: dict[str, Any] = {}  # of the newest trainer state
        self._log: dict[str, Any] = {}
        self._read_to = 0
        self._ledger: tuple[float, Ledger] | None = None

    def look(self) -> RunState:
        """Read what is there now; never raises for what a running process leaves half done."""
        recipe = self._read_recipe()
        if recipe is None:
            return RunState("waiting", _WORDS["waiting"])
        resumable = self._read_checkpoints()
        self._read_log()
        ledger = self._read_ledger()
        facts = {
            "name": recipe.name,
            "stage": recipe.stage,
            "base": recipe.base,
            "notice": notice_of(recipe, self.folder),
            "measure": recipe.metric,
            "checkpoint": resumable,
            "best": best_so_far(self._head, self._curve, recipe.metric),
        }
        if ledger is not None:
            return self._finished(facts, ledger)
        return self._going(facts, recipe)

    # --- what a look amounts to -------------------------------------------------------------------

    def _finished(self, facts: dict[str, Any], ledger: Ledger) -> RunState:
        steps = int(ledger.cost["steps"])
        seconds = float(ledger.cost["seconds"])
        measure = str(ledger.best.get("measure", ""))
        best = ledger.best if ledger.best.get("value") is not None else None
        return RunState(
            "finished",
            _WORDS["finished"],
            **facts | {"measure": measure, "best": best},
            step=steps,
            steps=steps,
            curve=tuple(dict(row) for row in ledger.curves),
            rate=steps / seconds if seconds else None,
            left=0.0,
            memory={"bytes": ledger.memory["measured"], "as": ledger.memory["as"]},
            quiet=self._quiet(),
            ledger=ledger_view(ledger),
        )

    def _going(self, facts: dict[str, Any], recipe: Recipe) -> RunState:
        step = max((*self._logged, *self._saved, *self._curve), default=None)
        steps = self._log.get("steps") or self._head.get("max_steps")
        rate, quiet = self._rate(), self._quiet()
        state = self._state(step, steps, quiet)
        words = _WORDS[state]
        if state in ("silent", "stopped"):
            words += (
                f"; nothing has changed for {spoken(quiet or 0)}. {_advice(facts['checkpoint'])}"
            )
        moving = state == "running" and rate and steps and step is not None
        return RunState(
            state,
            words,
            **facts,
            step=step,
            steps=steps,
            curve=tuple(self._curve[at] for at in sorted(self._curve)),
            rate=rate,
            left=(steps - step) / rate if moving and rate and steps else None,
            early=recipe.evaluation.patience is not None,
            memory=self._log.get("memory"),
            quiet=quiet,
        )

    def _state(self, step: int | None, steps: int | None, quiet: float | None) -> str:
        alive = is_alive(self._log.get("process"))
        if alive is False:
            return "stopped"
        if alive is None and quiet is not None and quiet > self._patience():
            return "silent"
        if step is None and not self._log:
            return "starting"
        return "measuring" if steps and step is not None and step >= steps else "running"

    def _gaps(self) -> list[tuple[int, float]]:
        """Return (steps, seconds) between the latest moments at which the step was known."""
        marks = self._logged if len(self._logged) > 1 else self._saved
        steps = sorted(marks)[-_LATELY:]
        return [(after - before, marks[after] - marks[before]) for before, after in pairwise(steps)]

    def _patience(self) -> float:
        return max(_LEAST, _GAPS * max((seconds for _, seconds in self._gaps()), default=0.0))

    def _rate(self) -> float | None:
        """Return steps a second, the middle one of late; None where too little is known."""
        rates = [steps / seconds for steps, seconds in self._gaps() if seconds > 0]
        return median(rates) if rates else None

    def _quiet(self) -> float | None:
        """Return seconds since any file of the run changed."""
        times = [modified(path) for path in watched(self.folder)]
        newest = max((t for t in times if t is not None), default=None)
        return None if newest is None else max(0.0, self._clock() - newest)

    # --- reading ----------------------------------------------------------------------------------

    def _read_recipe(self) -> Recipe | None:
        """Return the recipe; a folder that another run has taken since is begun anew."""
        path = self.folder / RECIPE_FILE
        seen = modified(path)
        if seen is None:
            return None
        if self._recipe is None or self._recipe[0] != seen:
            self._forget()
            try:
                self._recipe = (seen, read_recipe(path))
            except (WorkbenchError, OSError, UnicodeDecodeError):
                return None
        return self._recipe[1]

    def _read_checkpoints(self) -> int | None:
        """Take in the states of all checkpoints; return the step of the newest whole one."""
        newest = None
        for path in sorted(self.folder.glob("checkpoints/checkpoint-*"), key=step_of):
            file = path / "trainer_state.json"
            found, changed = json_of(file), modified(file)
            if not isinstance(found, dict) or changed is None:
                continue
            step = int(found.get("global_step", 0))
            self._head = found
            self._saved[step] = changed
            for entry in found.get("log_history", ()):
                self._take(entry)
            if (path / "model.safetensors").is_file():
                newest = step
        return newest

    def _take(self, entry: Mapping[str, Any]) -> None:
        """Merge one logged row into the curve."""
        step = entry.get("step")
        if not isinstance(step, (int, float)):
            return
        row = self._curve.setdefault(int(step), {"step": int(step)})
        for name, value in entry.items():
            short = name.removeprefix("eval_")
            known = name in LOGGED or name.startswith("eval_")
            if known and isinstance(value, (int, float)):
                row[short] = float(value)

    def _read_log(self) -> None:
        """Take in the lines of `progress.jsonl` that are new and whole."""
        try:
            with (self.folder / PROGRESS_FILE).open("rb") as handle:
                if handle.seek(0, os.SEEK_END) < self._read_to:
                    self._read_to = 0
                handle.seek(self._read_to)
                lines = handle.read()
        except OSError:
            return
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for line in whole.splitlines():
            try:
                record = parse_json(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                self._take_record(record)

    def _take_record(self, record: dict[str, Any]) -> None:
        if record.get("what") == "begin":
            # steps that an earlier part of the run lost are done again
            first = int(record.get("step", 0))
            self._curve = {at: row for at, row in self._curve.items() if at <= first}
            self._logged = {first: float(record["time"])} if "time" in record else {}
            self._log = {"steps": record.get("steps"), "process": record.get("process")}
            return
        self._take(record)
        step, when = record.get("step"), record.get("time")
        if isinstance(step, int) and isinstance(when, (int, float)):
            self._logged[step] = float(when)
        if isinstance(record.get("memory"), (int, float)):
            named = str(record.get("memory_as", "of the process, now"))
            self._log["memory"] = {"bytes": record["memory"], "as": named}

    def _read_ledger(self) -> Ledger | None:
        path = self.folder / LEDGER_FILE
        seen = modified(path)
        if seen is None:
            return None
        if self._ledger is None or self._ledger[0] != seen:
            try:
                self._ledger = (seen, Ledger.load(path))
            except (ValueError, KeyError, TypeError, OSError, WorkbenchError):
                return None
        return self._ledger[1]


def _advice(checkpoint: int | None) -> str:
    from_there = "the beginning" if checkpoint is None else f"step {checkpoint:,}"
    return f"The same recipe with resume=True (--resume) goes on from {from_there}"
