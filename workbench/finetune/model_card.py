"""The model card of what a run learned, as README.md.

Idea: Mitchell et al., Model Cards for Model Reporting, FAT* 2019, arXiv 1810.03993.
Does not know: anything that is not in the adapter's note.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_card(path: Path, note: Mapping[str, Any], *, merged: bool = False) -> Path:
    """Write the card of an adapter, or of the checkpoint it was merged into."""
    facts = note.get("facts", {})
    tuning = note["tuning"]
    base = note["base"]
    how = {"frozen": "frozen", "full": "every weight", "lora": f"LoRA of rank {tuning['rank']}"}
    lines = [
        f"# {note['name']}",
        "",
        f"> **{note['notice']}**",
        "",
        f"{'A checkpoint merged from' if merged else 'An adapter on'} `{base['name']}`"
        + (f" (revision {base['revision']})" if base.get("revision") else "")
        + f". Licence: {note['licence']}. Not for clinical use.",
        "",
        "| weights of the base | SHA-256 |",
        "|---|---|",
        *(f"| {name} | `{digest}` |" for name, digest in base["sha256"].items()),
        "",
        "| part | learned |",
        "|---|---|",
        *(
            f"| {part} | {how[tuning[part]]} |"
            for part in ("language", "embeddings", "projector", "vision")
        ),
        "",
    ]
    if facts.get("data"):
        lines += ["## Data", "", *(f"- {key}: {value}" for key, value in facts["data"].items()), ""]
    if facts.get("scores"):
        lines += [
            "## Before and after",
            "",
            "| what | n | before | after | change (95 %) |",
            "|---|---|---|---|---|",
            *(
                f"| {row['what']} | {row['n']} | {_number(row['before'])} | "
                f"{_number(row['after'])} | {row['change']} |"
                for row in facts["scores"]
            ),
            "",
        ]
    if facts.get("notes"):
        lines += ["## To know", "", *(f"- {text}" for text in facts["notes"]), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
