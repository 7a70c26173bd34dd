"""Reports or labels by id, and two sides of them paired: every row that went in, with its status.

Accepted: a mapping id -> text (or id -> {finding: code}); a DataFrame, CSV, TSV or Parquet with an
id column and either a text column, or one column per finding (present, absent, uncertain, not
mentioned or blank; the 1, 0, -1 and blank of CheXpert files too), or the columns finding and code
that `workbench label` writes. A text column wins over labels beside it. Of the folder or the result
of a run, the reports; of a manifest, its labels by `image_id`, and its patients.

Nothing is dropped: an id without text stays, with None, and duplicate ids are refused, because
which of two reports was meant cannot be known. The status of an id:

    scored              both sides are there and the policy could score at least one finding
    nothing to score    both sides are there, and no finding is definite enough for the policy
    no text             an id of both sides whose text is empty on one side or on both
    no prediction       an id of the references only
    no reference        an id of the predictions only

An empty text is not a report that mentions nothing: it is left out of every count, and said so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from workbench._progress import progress
from workbench._repr import result
from workbench._tables import brief, listed, read_frame
from workbench.backends.levels import TEXTS, needs
from workbench.data.frames import refuse_two, within_source
from workbench.data.manifest import Manifest
from workbench.errors import InputError, OptionError
from workbench.evaluation.counts import NOT_SCORED, OUTCOMES, Pairs, Policy
from workbench.evaluation.protocol import Origin, origin_of
from workbench.findings import (
    CODE_CELLS,
    CODES,
    NOT_MENTIONED,
    PRESENT,
    TICKS,
    read_cell,
    standard_name,
)
from workbench.reports import label

#: What a cell of a label table may hold.
CELLS = {**CODE_CELLS, **TICKS}
_LONG = ("finding", "code")
_NO_MENTION = ("no mention", "", NOT_MENTIONED)


@result()
class ReportSet:
    """Reports or labels by id.

    Attributes:
        kind: "texts" or "labels".
        entries: id -> text, or finding -> code, or None where there is no text.
        findings: the findings a label table has columns for; None where any may occur.
        patients: id -> patient, where a patient column was asked for and is there.
        origin: the run or the manifest behind it.
    """

    name: str
    role: str
    kind: str
    entries: Mapping[str, str | Mapping[str, str] | None]
    findings: tuple[str, ...] | None = None
    patients: Mapping[str, str] | None = None
    origin: Origin = field(default=Origin(), repr=False)
    _read: dict[str, Mapping[str, str]] = field(default_factory=dict, repr=False)

    def codes(self, key: str) -> Mapping[str, str]:
        """Return finding -> code of an id that has a text or labels; texts are read once."""
        entry = self.entries[key]
        if isinstance(entry, Mapping):
            return entry
        if key not in self._read:
            self._read[key] = {row.finding: row.code for row in label(entry or "").rows}
        return self._read[key]


@needs(TEXTS)
def read_reports(
    source: Any,
    *,
    role: str = "predictions",
    name: str | None = None,
    id_column: str = "id",
    text_column: str = "text",
    patient_column: str | None = None,
) -> ReportSet:
    """Read one side of a comparison: a mapping, a DataFrame, a run, a manifest, or a path.

    Args:
        source: a `ReportSet` is returned as it is.
        role: "predictions" or "references", for messages.
        name: in tables; when None the stem of the file, the folder of the run, or the role.
        patient_column: may be missing from one of the two sides.

    Raises:
        InputError: no such file, not UTF-8, a column is missing, an id is missing or occurs twice,
            neither texts nor labels, or a label that is not a code.

    >>> len(wb.evaluation.read_reports(run).entries)
    6
    """
    if isinstance(source, ReportSet):
        return source
    if isinstance(source, Mapping):
        return _from_mapping(source, role, name or role)
    table, said, called = _table(source, role)
    frame, called = table.rename(columns=str), name or called
    if id_column == "id" and not {"id", "text"} & set(frame) and "image_id" in frame:
        frame, patient_column = _of_manifest(frame, patient_column)
    columns = list(frame.columns)
    if id_column not in columns:
        raise InputError(
            f"{said} has no column {id_column!r}; it has: {listed(columns)} "
            "(choose with --id-column)"
        )
    ids = _ids(frame[id_column], said)
    kind, entries, findings = _entries(frame, ids, said, text_column, {id_column, patient_column})
    patients = None
    if patient_column in columns:
        found = zip(ids, map(_text, frame[patient_column]), strict=True)
        patients = {key: who for key, who in found if who is not None}
    origin = origin_of(source, frame, ids)
    return ReportSet(called, role, kind, entries, findings, patients, origin)


def _table(source: object, role: str) -> tuple[pd.DataFrame, str, str]:
    """Return a table, what messages call it, and what tables call it."""
    if isinstance(source, pd.DataFrame):
        return source, f"the table of {role}", role
    if isinstance(source, Manifest):
        return source.frame, f"the manifest of {role}", role
    path = getattr(source, "folder", source)  # of the result of a run
    if not isinstance(path, (str, Path)):
        raise InputError(
            f"expected {role} as a mapping id -> text, a DataFrame, a run, a manifest or the path "
            f"of a CSV file, got {type(source).__name__}"
        )
    if (path := Path(path)).is_dir():
        return _reports(_read_file(_results(path), role), path.name), path.name, path.name
    return _read_file(path, role), path.name, path.stem


def _results(folder: Path) -> Path:
    """Return the table of results of a run that has ended."""
    if (path := folder / "results.parquet").is_file():
        return path
    said = "no run in this folder; expected what `workbench run` wrote"
    if (folder / "run.json").is_file():
        said = "the run has not ended; start it again, which resumes it"
    raise InputError(f"{folder.name}: {said}")


def _reports(frame: pd.DataFrame, said: str) -> pd.DataFrame:
    """Return the reports among the answers of a run."""
    if len(frame) and "report" not in (tasks := frame["task"].unique()):
        raise InputError(f"{said}: the run wrote no reports; its tasks: {listed(tasks)}")
    return frame[frame["task"] == "report"]


def _of_manifest(frame: pd.DataFrame, patients: str | None) -> tuple[pd.DataFrame, str | None]:
    """Return the table of a manifest with ids, and its column of patients where all are known."""
    frame = frame.assign(id=frame["image_id"])
    known = {"patient_id", "source"} <= set(frame) and frame["patient_id"].notna().all()
    if patients is None and known:
        return frame.assign(patient_id=within_source(frame, "patient_id")), "patient_id"
    return frame, patients


def _entries(
    frame: pd.DataFrame, ids: list[str], said: str, text_column: str, others: set[str | None]
) -> tuple[str, Mapping[str, Any], tuple[str, ...] | None]:
    """Return the kind of a table, its entries by id, and what it has columns for."""
    columns = list(frame.columns)
    if text_column in columns:
        _refuse_duplicates(ids, said)
        return "texts", dict(zip(ids, map(_text, frame[text_column]), strict=True)), None
    if all(column in columns for column in _LONG):
        return "labels", _long(frame, ids, said), None
    names = _finding_columns([column for column in columns if column not in others])
    if not names:
        raise InputError(
            f"{said} has neither a column {text_column!r} nor label columns (one column per "
            f"finding, or finding and code); it has: {listed(columns)} (choose with --text-column)"
        )
    _refuse_duplicates(ids, said)
    entries: dict[str, dict[str, str]] = {key: {} for key in ids}
    for column, finding in names.items():
        for key, value in zip(ids, frame[column], strict=True):
            entries[key][finding] = _code(value, said, key, column)
    return "labels", entries, tuple(names.values())


def _long(frame: pd.DataFrame, ids: list[str], said: str) -> dict[str, dict[str, str]]:
    """Return the codes of a table with one row for each finding of an id."""
    entries: dict[str, dict[str, str]] = {}
    for key, finding, value in zip(ids, frame["finding"], frame["code"], strict=True):
        codes = entries.setdefault(key, {})
        if _text(finding) is None or str(finding).strip().lower() in _NO_MENTION:
            continue
        try:
            known = standard_name(str(finding))
        except OptionError as error:
            raise InputError(f"{said}, id {key!r}: {error}") from None
        code = _code(value, said, key, "code")
        if codes.setdefault(known, code) != code:
            both = f"{codes[known]} and {code}; keep one"
            raise InputError(f"{said} has two codes for {known} of id {key!r}: {both}")
    return entries


def _from_mapping(source: Mapping[Any, Any], role: str, name: str) -> ReportSet:
    ids = _ids(source, f"the mapping of {role}")
    _refuse_duplicates(ids, f"the mapping of {role}")
    entries: dict[str, str | Mapping[str, str] | None] = {}
    for key, value in zip(ids, source.values(), strict=True):
        if isinstance(value, Mapping):
            entries[key] = {
                standard_name(str(finding)): _code(code, role, key, str(finding))
                for finding, code in value.items()
            }
        elif value is None or isinstance(value, (str, float)):
            entries[key] = _text(value)
        else:
            got = f"id {key!r} has {type(value).__name__}"
            raise InputError(f"expected {role} as id -> text or id -> {{finding: code}}; {got}")
    given = [entry for entry in entries.values() if entry is not None]
    kinds = {"texts" if isinstance(entry, str) else "labels" for entry in given} or {"texts"}
    if len(kinds) > 1:
        raise InputError(f"{role} mix texts and labels; give one kind")
    return ReportSet(name, role, kinds.pop(), entries)


def _read_file(path: Path, role: str) -> pd.DataFrame:
    if not path.is_file():
        raise InputError(f"{path} is not a file; expected {role} as CSV, TSV or Parquet")
    packed = path.suffix.lower() == ".parquet"
    try:
        return pd.read_parquet(path) if packed else read_frame(path)
    except (ValueError, OSError) as error:
        # what pyarrow raises for broken files, and an InputError, are ValueErrors
        kind = "a Parquet file" if packed else "a CSV file in UTF-8"
        said = f"{path.name} cannot be read as {kind} ({error}); save it again and retry"
        raise InputError(said) from None


def _ids(values: Iterable[Any], said: str) -> list[str]:
    ids = [_text(value) for value in values]
    if None in ids:
        raise InputError(f"{said}: row {ids.index(None) + 1} has no id; give every row one")
    return [str(key).strip() for key in ids]


def _refuse_duplicates(ids: list[str], said: str) -> None:
    twice = [key for key, count in Counter(ids).items() if count > 1]
    if twice:
        shown = ", ".join(map(repr, twice[:5]))
        raise InputError(
            f"{said} has {len(twice)} ids more than once ({shown}); ids must be unique: keep one "
            "report for each, or choose another column with --id-column"
        )


def _finding_columns(columns: list[str]) -> dict[str, str]:
    """Return column -> standard name of the columns that are named after findings."""
    owners: dict[str, str] = {}
    for column in columns:
        try:
            finding = standard_name(column)
        except OptionError:
            continue
        refuse_two(owners.get(finding), column, finding)
        owners[finding] = column
    return {column: finding for finding, column in owners.items()}


def _code(value: object, said: str, key: str, column: str) -> str:
    code = read_cell(_text(value), CELLS)
    if code is None:
        raise InputError(
            f"{said}: id {key!r}, column {column!r} holds {brief(repr(value))}; "
            f"expected {', '.join(CODES)}, or 1, 0, -1 and blank"
        )
    return code or NOT_MENTIONED


def _text(value: object) -> str | None:
    """Return a cell as text; None where there is nothing but white space."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    text = str(value)
    return text if text.strip() and text not in ("<NA>", "NaT") else None


SCORED, NOTHING, NO_TEXT = "scored", "nothing to score", "no text"
NO_PREDICTION, NO_REFERENCE = "no prediction", "no reference"
STATUSES = (SCORED, NOTHING, NO_TEXT, NO_PREDICTION, NO_REFERENCE)


def pair_up(
    predicted: ReportSet,
    expected: ReportSet,
    names: tuple[str, ...],
    patients: Mapping[Any, Any] | str | None,
) -> Pairs:
    """Return the codes of every id that has a text or labels on both sides."""
    common = [key for key in expected.entries if key in predicted.entries]
    if not common:
        some = [", ".join(map(repr, list(s.entries)[:3])) or "none" for s in (predicted, expected)]
        raise InputError(
            f"no id of the predictions ({some[0]}) occurs in the references ({some[1]}); "
            "check that both use the same identifiers (--id-column)"
        )
    ids = [key for key in common if None not in (predicted.entries[key], expected.entries[key])]
    sides = [_codes(side, ids, names) for side in (expected, predicted)]
    return Pairs(tuple(ids), _patients(ids, patients, expected, predicted), names, *sides)


def _codes(side: ReportSet, ids: list[str], names: tuple[str, ...]) -> np.ndarray:
    """Return (pairs, findings) int8 indices of `CODES`."""
    index = {code: at for at, code in enumerate(CODES)}
    silent = index[NOT_MENTIONED]
    table = np.full((len(ids), len(names)), silent, dtype=np.int8)
    for row, key in enumerate(progress(ids, label=f"reading {side.role}")):
        codes = side.codes(key)
        table[row] = [index.get(codes.get(name, ""), silent) for name in names]
    return table


def _patients(
    ids: list[str], given: Mapping[Any, Any] | str | None, *sides: ReportSet
) -> tuple[str, ...]:
    if given is None and all(side.patients is None for side in sides):
        return tuple(ids)
    if given is None or isinstance(given, str):
        tables = [side.patients for side in sides if side.patients is not None]
        if not tables:
            raise InputError(f"neither side has a column {given!r} of patients (--patient-column)")
        known = {key: who for table in reversed(tables) for key, who in table.items()}
    else:
        known = {str(key).strip(): str(value) for key, value in given.items()}
    lost = [key for key in ids if key not in known]
    if lost:
        raise InputError(
            f"{len(lost)} ids have no patient ({', '.join(map(repr, lost[:5]))}); "
            "give every paired id one"
        )
    return tuple(known[key] for key in ids)


def status_rows(
    predicted: ReportSet, expected: ReportSet, pairs: Pairs, policy: Policy
) -> pd.DataFrame:
    """Return one row per id: references in their order, then ids of the predictions only.

    Columns: id, patient, status, detail, findings_scored, tp, fp, tn, fn, omitted.
    """
    outcomes = policy.outcomes()[pairs.reference, pairs.prediction]
    silent = pairs.prediction == CODES.index(NOT_MENTIONED)
    counts = {"findings_scored": (outcomes != NOT_SCORED).sum(1)}
    counts |= {name: (outcomes == at).sum(1) for at, name in enumerate(OUTCOMES)}
    counts["omitted"] = ((pairs.reference == CODES.index(PRESENT)) & silent).sum(1)
    ids = list(dict.fromkeys([*expected.entries, *predicted.entries]))
    frame = pd.DataFrame(counts, index=list(pairs.ids), dtype="Int64").reindex(ids)
    scored = dict(zip(pairs.ids, counts["findings_scored"], strict=True))
    said = [_status(key, predicted, expected, scored) for key in ids]
    patients = dict(zip(pairs.ids, pairs.patients, strict=True))
    frame.insert(0, "patient", [patients.get(key) for key in ids])
    frame.insert(1, "status", [status for status, _ in said])
    frame.insert(2, "detail", [detail for _, detail in said])
    return frame.rename_axis("id").reset_index()


def _status(
    key: str, predicted: ReportSet, expected: ReportSet, scored: Mapping[str, int]
) -> tuple[str, str]:
    """Return the status of an id, and what more there is to say about it."""
    if key not in predicted.entries:
        return NO_PREDICTION, ""
    if key not in expected.entries:
        return NO_REFERENCE, ""
    if key not in scored:
        empty = [side.role for side in (predicted, expected) if side.entries[key] is None]
        return NO_TEXT, f"empty in {' and '.join(empty)}"
    return (SCORED if scored[key] else NOTHING), ""
