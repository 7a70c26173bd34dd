"""The protocol card of a score: what its numbers rest on, line by line.

Scores compare models only where nothing else differs. What is not known, as of a table of texts,
says so, and an unknown line is never taken for an equal one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from workbench._store import read_json
from workbench._version import __version__
from workbench.evaluation.counts import Pairs, Policy
from workbench.generation.options import DecodingSettings
from workbench.reports import divide
from workbench.reports.labeler import labeler_version

UNKNOWN = "unknown"

#: Texts whose headings are looked at.
_READ = 500


@dataclass(frozen=True)
class Origin:
    """Where one side of a score comes from.

    Attributes:
        record: content of run.json; empty where it is no run.
        splits: id -> split, where a manifest says.
    """

    record: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)


class Side(Protocol):
    """What is read of a `ReportSet`."""

    @property
    def kind(self) -> str: ...
    @property
    def entries(self) -> Mapping[str, object]: ...
    @property
    def origin(self) -> Origin: ...


def origin_of(source: object, frame: pd.DataFrame, ids: Sequence[str]) -> Origin:
    """Return what is known of a source that was read as `frame`, with these ids."""
    folder, record = getattr(source, "folder", source), {}
    if isinstance(folder, (str, os.PathLike)):
        with suppress(OSError, ValueError):
            record = read_json(Path(folder) / "run.json")
    known = zip(ids, frame["split"].astype(object), strict=True) if "split" in frame else ()
    return Origin(record, {key: str(one) for key, one in known if pd.notna(one)})


def protocol_of(
    predicted: Side, expected: Side, pairs: Pairs, policy: Policy, *, patients: bool
) -> dict[str, str]:
    """Return the protocol card: name of a line -> what is known; `patients` says if they are."""
    count = f"{len(set(pairs.patients)):,}" if patients else UNKNOWN
    sides = {"predictions": predicted, "references": expected}
    splits = {**predicted.origin.splits, **expected.origin.splits}
    parts = Counter(splits.get(key, UNKNOWN) for key in pairs.ids)
    texts = "texts" in (predicted.kind, expected.kind)
    return {
        **_run_lines(predicted.origin.record),
        "images": f"{len(pairs.ids):,}, patients {count}",
        "split": ", ".join(f"{name} {n:,}" for name, n in parts.items())
        if set(parts) - {UNKNOWN} else UNKNOWN,
        "sections scored": "; ".join(f"{n}: {_sections(s, pairs.ids)}" for n, s in sides.items()),
        "policy": f"{policy.name}: {policy.says}",
        "labeler": f"rules of workbench, version {labeler_version()[:12]}" if texts
        else "none, labels as given",
        "workbench": __version__,
    }  # fmt: skip


def differing(
    a: Mapping[str, str], b: Mapping[str, str]
) -> tuple[dict[str, tuple[str, str]], tuple[str, ...]]:
    """Return the lines of two cards that differ, and those that are unknown in either."""
    pairs = {name: (a.get(name, UNKNOWN), b.get(name, UNKNOWN)) for name in {**a, **b}}
    differ = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    return differ, tuple(name for name, pair in pairs.items() if UNKNOWN in pair)


def _run_lines(record: Mapping[str, Any]) -> dict[str, str]:
    """Return what a run says of its model; a damaged record says nothing."""
    lines: dict[str, str] = dict.fromkeys(("model", "prompt", "decoding", "written by"), UNKNOWN)
    with suppress(KeyError, TypeError, AttributeError, IndexError, ValueError):
        fixed = record["fixed"]
        lines["model"] = "{id}, {dtype}, sha256 {sha256}".format(**fixed["model"])
        asked = [one["prompt"] for one in fixed["tasks"] if one["kind"] == "report"]
        lines["prompt"] = " ".join(asked[0].split())
        lines["decoding"] = _decoding(DecodingSettings(**fixed["decoding"]))
        lines["written by"] = f"workbench {record['sessions'][-1]['versions']['workbench']}"
    return lines


def _decoding(settings: DecodingSettings) -> str:
    limit = f"at most {settings.limit} new tokens"
    if settings.greedy:
        return f"greedy, {limit}"
    return (
        f"sampled at temperature {settings.temperature:g}, top-p {settings.top_p:g}, "
        f"top-k {settings.top_k}, seed {settings.seed}, {limit}"
    )


def _sections(side: Side, ids: Sequence[str]) -> str:
    """Return the sections that most texts of a side have."""
    if side.kind == "labels":
        return "labels as given"
    read = [str(side.entries[key]) for key in ids[:_READ]]
    named = Counter(
        name
        for text in read
        for name in {part.name for part in divide(text) if part.name and not part.skipped}
    )
    common = sorted(name for name, count in named.items() if 2 * count > len(read))
    return " and ".join(common) or "whole texts, without headings"
