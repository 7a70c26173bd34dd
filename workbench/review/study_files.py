"""A reader study before it starts: who reads what in which order, and the files that are written.

Each radiograph of a reader comes twice, once with the report of the model and once with the
reference: in a first pass with one of the two, in a second with the other. For half of the
radiographs, drawn by lot, the model comes first. Both passes are in random order, and at least
`washout` other reports stand between two readings of one radiograph. Some reports, as many of each
origin, are read again at the end, to see whether a reader agrees with himself.

The file of a reader and the key are written here together, so that all that could betray an origin
can be looked at in one place: nothing in the file is sorted, counted or dated by origin.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from workbench._repr import to_json
from workbench._store import write_private
from workbench.errors import InputError, OptionError
from workbench.model.licence import RESEARCH_NOTICE
from workbench.reports import divide
from workbench.reports.sections import FINDINGS, IMPRESSION
from workbench.review.sources import Known, Run, find_manifest, open_references, open_run
from workbench.review.study_session import FORMAT, GRADES
from workbench.review.suspects import match_rows
from workbench.runs.record import stated_notice, turned_upright

MODEL, REFERENCE = "model", "reference"
ARMS = (MODEL, REFERENCE)
_OTHER = {MODEL: REFERENCE, REFERENCE: MODEL}
KEY, READERS = "key.json", "readers"
INSTRUCTIONS = (
    "Grade each report as if you had to sign it. Look at the radiograph first. You may change your "
    "last grade; do not go back further."
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,20}")

_PLACEHOLDER = re.compile(r"_{2,}|\bX{2,}\b|\[\*\*.*?\*\*\]")
_HEADING = re.compile(r"\b[A-Za-z]{4,}:")
_COMPARED = re.compile(
    r"\b(?:prior|previous|compar\w+|interval|unchanged|stable|again|since|new)\b", re.IGNORECASE
)

#: What the surface of a text shows.
FEATURES: dict[str, Callable[[str], float]] = {
    "characters": len,
    "sentences": lambda text: len(re.findall(r"[.!?](?=\s|$)", text)),
    "headings": lambda text: len(_HEADING.findall(text)),
    "words in capitals": lambda text: sum(w.isupper() and len(w) > 1 for w in text.split()),
    "digits": lambda text: sum(char.isdigit() for char in text),
    "placeholders": lambda text: len(_PLACEHOLDER.findall(text)),
    "words of comparison": lambda text: len(_COMPARED.findall(text)),
}


class PlannedReading(NamedTuple):
    """One report in the list of a reader: of which case and arm, and whether graded before."""

    case: int
    arm: str
    repeat: bool = False


def assign(
    cases: int, readers: Sequence[str], each: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Give every case to `each` readers; each gets as many cases as any other, or one less."""
    if not 1 <= each <= len(readers):
        raise OptionError(
            f"readers_per_case must be from 1 to {len(readers)}, the number of readers; got {each}"
        )
    given: dict[str, list[int]] = {name: [] for name in readers}
    for at, case in enumerate(rng.permutation(cases)):
        for step in range(each):
            given[readers[(at * each + step) % len(readers)]].append(int(case))
    return {name: np.array(sorted(found), dtype=int) for name, found in given.items()}


def arrange(
    cases: np.ndarray, *, repeats: int, washout: int, rng: np.random.Generator
) -> list[PlannedReading]:
    """Return the readings of one reader in order; for `washout` see `reader_study`.

    `repeats` reports, less than `len(cases) - washout`, are read once more, as many of each arm, or
    one less.
    """
    count, gap = len(cases), washout + 1
    if washout < 0 or count < gap:
        raise OptionError(
            f"a reader has {count} cases, too few for {washout} other reports between two "
            "readings of one radiograph; add cases, or lower washout"
        )
    arms = _halved(count, rng)
    first = rng.permutation(count)
    second = _released(first, gap, rng)
    early = np.flatnonzero(np.argsort(second) + count <= 2 * count - gap)
    again = rng.choice(early, repeats, replace=False)
    plan = [PlannedReading(int(cases[at]), arms[at]) for at in first]
    plan += [PlannedReading(int(cases[at]), _OTHER[arms[at]]) for at in second]
    return plan + [
        PlannedReading(int(cases[at]), arm, repeat=True)
        for at, arm in zip(again, _halved(repeats, rng), strict=True)
    ]


def _released(first: np.ndarray, gap: int, rng: np.random.Generator) -> np.ndarray:
    """Return the order of the second pass: random among those that were long enough ago."""
    count = len(first)
    ready = list(first[: count - gap + 1])
    order = []
    for step in range(count):
        order.append(ready.pop(int(rng.integers(len(ready)))))
        following = count - gap + 1 + step
        if following < count:
            ready.append(first[following])
    return np.array(order)


def _halved(count: int, rng: np.random.Generator) -> list[str]:
    """Return `count` arms in random order, as many of each; which has one more is drawn."""
    ones = (count + int(rng.integers(2))) // 2
    return [MODEL if own else REFERENCE for own in rng.permutation(np.arange(count) < ones)]


def check_readers(readers: Sequence[str]) -> tuple[str, ...]:
    """Return names of readers that can be names of files."""
    names = (readers,) if isinstance(readers, str) else tuple(readers)
    wrong = [name for name in names if not _NAME.fullmatch(str(name))]
    if wrong or not names:
        raise OptionError(
            "readers must be initials of 1 to 20 letters, digits, - and _; got "
            f"{wrong[0] if wrong else 'none'!r}"
        )
    if len({name.lower() for name in names}) < len(names):
        raise OptionError("two readers have one name; give each initials of his own")
    return names


def both_reports(
    run: Run, manifest: Known | None, task: str
) -> tuple[pd.DataFrame, dict[str, object]]:
    """Return source, id, model and reference of every case that has both reports.

    The second value is what a study stores about the run: "notice", what the model states about
    itself (that of research models where the run does not say), and "upright", whether it got the
    images turned as their files say.
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
    facts = {"notice": stated_notice(record) or RESEARCH_NOTICE, "upright": turned_upright(record)}
    return texts.assign(id=texts["id"].astype(str)), facts


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
    plans: Mapping[str, Sequence[PlannedReading]],
    cases: pd.DataFrame,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the files of the readers and the key; return the content of the key.

    `plans` are the readings of each reader in order, `cases` have the columns of `both_reports`.
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
            items[name] = {"reader": reader, **reading._asdict()}
        content = {"format": FORMAT, "study": study, "reader": reader}
        content |= {name: settings[name] for name in ("title", "notice")}
        content |= {"upright": True} if settings["upright"] else {}
        content |= {"instructions": INSTRUCTIONS, "grades": GRADES, "items": listed}
        path = folder / READERS / f"{reader}.json"
        write_private(path, to_json(content, ascii_only=True).encode())
    pairs = cases[["source", "id"]].to_numpy().tolist()
    key = {"format": FORMAT, "study": study, **settings, "cases": pairs, "items": items}
    write_private(folder / KEY, to_json(key, ascii_only=True).encode())
    return key


def compare_surfaces(texts: Collection[str], model: np.ndarray) -> pd.DataFrame:
    """Return how well `FEATURES` tell the arms apart; `model` says which texts are the model's."""
    from sklearn.metrics import roc_auc_score

    rows = []
    for name, measure in FEATURES.items():
        values = np.array([measure(text) for text in texts], dtype=float)
        auroc = float(roc_auc_score(model, values))
        rows.append((name, values[model].mean(), values[~model].mean(), auroc))
    frame = pd.DataFrame(rows, columns=["feature", "model", "reference", "auroc"])
    order = (frame["auroc"] - 0.5).abs().sort_values(ascending=False, kind="stable").index
    return frame.loc[order].set_index("feature")
