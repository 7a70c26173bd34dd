"""The files of a reader study: what goes in, and what is written for whom.

The file of a reader and the key are written here together, so that all that could betray an origin
can be looked at in one place. Every item of a reader's file is a random name of 16 digits and a
text; nothing in it is sorted, counted or dated by origin.

Does not know: orders (`study_plan`), grades (`study_session`).
"""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from workbench._store import write_private
from workbench.errors import InputError, OptionError
from workbench.model.licence import RESEARCH_NOTICE
from workbench.reports import divide
from workbench.reports.sections import FINDINGS, IMPRESSION
from workbench.review.sources import find_manifest, open_references, open_run
from workbench.review.study_plan import ARMS, MODEL, REFERENCE, Reading
from workbench.review.study_session import FORMAT, GRADES
from workbench.review.suspects import match_rows
from workbench.runs.record import stated_notice, turned_upright

KEY, READERS = "key.json", "readers"
INSTRUCTIONS = (
    "Grade each report as if you had to sign it. Look at the film first. You may change your last "
    "grade; do not go back further."
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,20}")


def check_readers(readers: Sequence[str]) -> tuple[str, ...]:
    """Return names of readers that can be names of files.

    Raises:
        OptionError: there is none, one is no such name, or two are one but for capitals.
    """
    names = (readers,) if isinstance(readers, str) else tuple(readers)
    wrong = [name for name in names if not isinstance(name, str) or not _NAME.fullmatch(name)]
    if wrong or not names:
        raise OptionError(
            "readers must be initials of 1 to 20 letters, digits, - and _; got "
            f"{wrong[0] if wrong else 'none'!r}"
        )
    if len({name.lower() for name in names}) < len(names):
        raise OptionError("two readers have one name; give each initials of his own")
    return names


def both_reports(run: Any, manifest: Any, task: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return source, id, model and reference of every case that has both reports.

    The second value holds what a study keeps of the run: "notice", what the model states about
    itself (that of research models where the run does not say), and "upright", whether it got the
    images turned as their files say.

    Raises:
        InputError: there is no manifest, or no such case.
    """
    record: dict[str, Any] = {}
    if isinstance(run, pd.DataFrame) and {"id", MODEL, REFERENCE} <= set(run.columns):
        source = run["source"] if "source" in run.columns else pd.Series("", index=run.index)
        frame = run[["id", MODEL, REFERENCE]].assign(source=source.fillna("").astype(str))
    else:
        rows = open_run(run, task=task)
        record = rows.record
        manifest = find_manifest(rows) if manifest is None else manifest
        if manifest is None:
            raise InputError(
                "a reader study needs reference reports; name the manifest that has them with "
                "manifest="
            )
        known = open_references(manifest)
        at = match_rows(rows.frame, known.frame)
        reports = known.frame["report"].reindex(at).to_numpy(object)
        frame = rows.frame[["source", "id"]].assign(model=rows.frame["text"], reference=reports)
    texts = frame.dropna(subset=list(ARMS)).reset_index(drop=True)
    for arm in ARMS:
        texts[arm] = [plain_text(str(text)) for text in texts[arm]]
    texts = texts[(texts[MODEL] != "") & (texts[REFERENCE] != "")].reset_index(drop=True)
    if texts.empty:
        raise InputError("no case has both a report of the model and a reference report")
    if texts.duplicated(["source", "id"]).any():
        raise InputError("an id stands twice; a reader study needs one row for each case")
    kept = {"notice": stated_notice(record) or RESEARCH_NOTICE, "upright": turned_upright(record)}
    return texts.assign(id=texts["id"].astype(str)), kept


def plain_text(text: str) -> str:
    """Return a text without what is not content: white space and headings of sections.

    Line breaks and tabs become blanks, one between words and none around; composed characters get
    one form (NFC); invisible ones (zero width, direction marks) and the headings of findings and
    impression are dropped, which manifests keep as columns. All else stays.
    """
    whole = unicodedata.normalize("NFC", text)
    shown = "".join(char for char in whole if unicodedata.category(char) != "Cf")
    parts = (
        shown[part.body if part.name in (FINDINGS, IMPRESSION) else part.start : part.end]
        for part in divide(shown)
    )
    return " ".join("".join(parts).split())


def write_study(
    folder: Path,
    plans: Mapping[str, Sequence[Reading]],
    cases: pd.DataFrame,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the files of the readers and the key; return what the key holds.

    Args:
        folder: new or empty.
        plans: reader -> readings in order.
        cases: source, id, model and reference, by number of case.
        settings: for the key.

    Raises:
        InputError: the folder holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder.name}: expected a new or an empty folder for the study")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / READERS).mkdir(mode=0o700)
    study, items = secrets.token_hex(8), {}
    for reader, plan in plans.items():
        listed = []
        for reading in plan:
            name = secrets.token_hex(8)
            text = cases[reading.arm].iloc[reading.case]
            listed.append({"item": name, "text": text})
            items[name] = {"reader": reader, "case": reading.case, "arm": reading.arm}
            items[name] |= {"repeat": reading.repeat}
        content = {"format": FORMAT, "study": study, "reader": reader}
        content |= {name: settings[name] for name in ("title", "notice")}
        content |= {"upright": True} if settings["upright"] else {}
        content |= {"instructions": INSTRUCTIONS, "grades": GRADES, "items": listed}
        _write(folder / READERS / f"{reader}.json", content)
    pairs = cases[["source", "id"]].to_numpy().tolist()
    key = {"format": FORMAT, "study": study, **settings, "cases": pairs, "items": items}
    _write(folder / KEY, key)
    return key


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=True)
    write_private(path, text.encode("ascii") + b"\n")
