"""Read the folder of a run that is being written: half-written files are no error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from workbench._store import parse_json
from workbench.evaluation.intervals import Estimate
from workbench.finetune.adapters import NOTE
from workbench.finetune.ledger import ADAPTER, Ledger
from workbench.finetune.recipe import Recipe
from workbench.model.licence import notice_by_name


def json_of(path: Path) -> Any:
    """Return what a file of JSON holds; None where it is missing or half written."""
    try:
        return parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def modified(path: Path) -> float | None:
    """Return when a file was last written, seconds since 1970; None where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def watched(folder: Path) -> Iterator[Path]:
    """Yield the files whose change shows that a run goes on."""
    for pattern in ("*", "best/*", "checkpoints/*", "checkpoints/*/*", "adapter/*"):
        yield from folder.glob(pattern)


def step_of(path: Path) -> int:
    """Return the step of a checkpoint by the name of its folder."""
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def is_alive(process: Any) -> bool | None:
    """Say whether a process lives: None where that is unknown, as for one on another machine.

    Args:
        process: {"pid", "started", "boot"}: number, when it started, and when its machine did,
            seconds since 1970.
    """
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


def best_so_far(
    head: Mapping[str, Any], curve: Mapping[int, Mapping[str, float]], measure: str
) -> dict[str, float] | None:
    """Return step and value of the best measure, by the trainer or by what was logged."""
    logged = [(row[measure], -at) for at, row in curve.items() if row.get(measure) is not None]
    value, step = head.get("best_metric"), head.get("best_global_step")
    if isinstance(value, (int, float)) and isinstance(step, int):
        logged.append((float(value), -step))
    known = [pair for pair in logged if pair[0] == pair[0]]
    if not known:
        return None
    value, step = max(known)
    return {"step": -step, "value": value}


def notice_of(recipe: Recipe, folder: Path) -> str:
    """Return the statement of the model that is trained about its use."""
    note = json_of(folder / ADAPTER / NOTE)
    if isinstance(note, dict) and note.get("notice"):
        return str(note["notice"])
    return notice_by_name(recipe.base)


def ledger_view(ledger: Ledger) -> dict[str, Any]:
    """Return a ledger as plain values: lines, one row for each skill, notes."""
    head, *lines = ledger.summary().split("\n")
    facts = 3
    rows = [
        {
            "kind": kind,
            "skill": row.skill,
            "n": row.n,
            "before": row.before,
            "after": row.after,
            "change": row.change.text(3),
            "verdict": _verdict(row.change),
        }
        for kind, row in ledger.skills()
    ]
    lines = [line.strip() for line in lines[:facts]]
    return {"head": head, "lines": lines, "rows": rows, "notes": list(ledger.notes)}


def spoken(seconds: float) -> str:
    """Return a time in words, as "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def _verdict(change: Estimate) -> str:
    """Return in a word what a change with its interval amounts to."""
    if change.value is None:
        return "undefined"
    if change.low is None or change.high is None:
        return "no interval"
    if change.low > 0:
        return "better"
    return "worse" if change.high < 0 else "no clear change"
