"""A training run on the screen while it runs: `workbench.widgets.monitor("runs/fracture")`.

The folder is looked at every two seconds by a thread of its own, so that the curve grows although
the kernel trains in another cell; what changed is told to all views. Nothing is written or locked.
"""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

from workbench._lazy import make_callable
from workbench._repr import plain
from workbench.figures.numbers import fixed
from workbench.figures.tables import html_table
from workbench.widgets._front import Looking, quick, script, styles
from workbench.widgets.monitoring import RunState, run_state

#: Parts that are told again only when they have changed.
_HEAVY = ("curve", "ledger")


class Monitor(Looking):
    """Watch a run of `wb.finetune.run` while another cell or process trains it.

    Args:
        folder: of the run; it need not be there yet.
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
            news = {
                name: value
                for name, value in found.items()
                if name not in _HEAVY or value != self._told.get(name)
            }
            self._told = found
        self.tell("run", run=news)
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
