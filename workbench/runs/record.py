"""`run.json`: what a run is, so that another machine, or another year, can tell and repeat it.

"fixed" is what decides the texts; a folder takes no results of another. "sessions" lists each time
the run was started, with package versions, device and engine. "outcome" is there at the end.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workbench._store import read_json, write_private
from workbench.errors import RunError

NAME = "run.json"
FORMAT = 1
_SHOWN = 5


def now() -> str:
    """Return the time in UTC, seconds, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_record(folder: Path) -> dict:
    """Return the record of a folder, empty where there is none; a RunError where it is damaged."""
    path = folder / NAME
    if not path.is_file():
        return {}
    try:
        record = read_json(path)
        if record["format"] == FORMAT and _well_formed(record):
            return record
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise RunError(
        f"{folder.name}/{NAME} is damaged or of another version of this package; choose another "
        "folder, or restore the file"
    )


def place(found: Path, folder: Path) -> dict[str, str]:
    """Return where another folder is: by itself, and seen from the folder of the run."""
    whole = os.path.realpath(found)
    try:
        beside = Path(os.path.relpath(whole, os.path.realpath(folder))).as_posix()
    except ValueError:  # on another drive
        beside = ""
    return {"path": whole, "from_run": beside}


def kept_places(record: Mapping[str, Any], folder: Path, name: str = "root") -> list[Path]:
    """Return the folders that a run was started with and that are there, latest first.

    "root" of the images, or "manifest_folder"; also where they were moved together with the run.
    """
    found: dict[Path, None] = {}
    for session in reversed(record.get("sessions", [])):
        kept = session.get(name, {})
        texts = [kept[seen] for seen in ("path", "from_run") if kept.get(seen)]
        found |= dict.fromkeys((folder.resolve() / text).resolve() for text in texts)
    return [path for path in found if path.is_dir()]


def turned_upright(record: Mapping[str, Any]) -> bool:
    """Return whether the images of a run were turned as their files say."""
    return record.get("fixed", {}).get("upright") is True


def stated_notice(record: Mapping[str, Any]) -> str | None:
    """Return what the model of a run states about its use; None where the record does not say."""
    return record.get("fixed", {}).get("model", {}).get("notice") or None


def _well_formed(record: dict) -> bool:
    """Say whether everything that is read of a record is of its kind."""
    fixed, outcome = record["fixed"], record.get("outcome", {})
    model = fixed.get("model", {})
    found = [(fixed.get(name, {}), dict) for name in ("model", "manifest", "decoding")]
    found += [(model.get(name, ""), str) for name in ("id", "notice", "licence")]
    found += [(task["name"], str) for task in fixed.get("tasks", [])]
    found += [(outcome, dict), (outcome.get("seconds", 0.0), (int, float))]
    for session in record["sessions"]:
        texts = [session.get("manifest", "")]
        for name in ("root", "manifest_folder"):
            texts += session.get(name, {}).values()
        found += [(text, str) for text in texts]
    return all(isinstance(value, kind) for value, kind in found)


def write_record(folder: Path, record: dict) -> None:
    """Write the record; the file appears whole or not at all."""
    text = json.dumps({"format": FORMAT, **record}, indent=1, ensure_ascii=False, sort_keys=True)
    write_private(folder / NAME, (text + "\n").encode("utf-8", "surrogatepass"))


def check_same(old: dict, new: dict, folder: Path) -> None:
    """Raise a RunError that shows how settings differ from those of a folder, where they do."""
    found = list(differences(old, json.loads(json.dumps(new))))
    if not found:
        return
    shown = "; ".join(
        f"{name} was {_short(was)}, is {_short(value)}" for name, was, value in found[:_SHOWN]
    )
    shown += "" if len(found) <= _SHOWN else f" and {len(found) - _SHOWN} more"
    raise RunError(
        f"{folder.name} holds a run with other settings: {shown}. Use the old settings to resume, "
        "or another folder for a new run"
    )


def differences(old: object, new: object, name: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield (dotted name, old value, new value) of everything that differs."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from differences(
                old.get(key, "nothing"), new.get(key, "nothing"), f"{name}.{key}".lstrip(".")
            )
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (one, two) in enumerate(zip(old, new, strict=True)):
            yield from differences(one, two, f"{name}[{index}]")
    elif old != new:
        yield name, old, new


def _short(value: object) -> str:
    if isinstance(value, list) and all(isinstance(one, dict) and "name" in one for one in value):
        value = [one["name"] for one in value]
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 90 else text[:87] + "..."
