"""What a run learned, on top of a named base: saved, loaded, merged, exported.

    folder = wb.finetune.save_adapter(...)                      # a run does this itself
    model = wb.finetune.load_adapter("mini", "runs/x/adapter")  # refused on any other base
    wb.finetune.export("runs/x/adapter", "runs/x/model")        # a whole checkpoint

A folder holds `adapter.json` (the base by name and by the SHA-256 of its weight files, what learns
and how), `adapter.safetensors` (every tensor that learned) and README.md (the model card).

Does not know: how they were trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench._files import file_sha256
from workbench._version import __version__
from workbench.errors import CheckpointError
from workbench.finetune.model_card import write_card
from workbench.finetune.recipe import TuningRecipe
from workbench.finetune.student import has_adapter, merge, prepare
from workbench.finetune.trainer import load_tensors, save_tensors
from workbench.interface import ChestXrayModel
from workbench.model.load import LoadedCheckpoint, load_checkpoint
from workbench.model.save import save_checkpoint

FORMAT = "workbench-adapter/1"
NOTE, TENSORS = "adapter.json", "adapter.safetensors"


def save_adapter(
    folder: str | Path,
    loaded: LoadedCheckpoint,
    tuning: TuningRecipe,
    *,
    name: str,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write what learned in a model.

    Args:
        folder: made where it is missing; files of these names in it are replaced.
        loaded: the base, with the trained model in it.
        tuning: which parts learned.
        name: what the result is called.
        facts: what the card says of training and measures.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / TENSORS, loaded.model)
    card = loaded.card
    note = {
        "format": FORMAT,
        "name": name,
        "base": {"name": card.name, "revision": card.revision, "sha256": dict(card.sha256s)},
        "tuning": tuning.model_dump(),
        "sha256": {TENSORS: file_sha256(folder / TENSORS)},
        "domain": card.domain,
        "licence": card.licence,
        "notice": card.notice,
        "workbench": __version__,
        "facts": dict(facts or {}),
    }
    (folder / NOTE).write_text(json.dumps(note, indent=1, default=str) + "\n", encoding="utf-8")
    write_card(folder / "README.md", note)
    return folder


def read_note(folder: str | Path) -> dict[str, Any]:
    """Read what is known of an adapter.

    Raises:
        CheckpointError: the folder holds none, or its weights are not those it names.
    """
    folder = Path(folder)
    path = folder / NOTE
    if not path.is_file():
        raise CheckpointError(f"no {NOTE} in {folder}; give the adapter folder of a run")
    note = json.loads(path.read_text(encoding="utf-8"))
    if note.get("format") != FORMAT:
        raise CheckpointError(f"{path.name} has the format {note.get('format')!r}, not {FORMAT}")
    tensors = folder / TENSORS
    if not tensors.is_file() or file_sha256(tensors) != note["sha256"][TENSORS]:
        raise CheckpointError(
            f"{TENSORS} in {folder.name} is missing or not the one that {NOTE} names; copy it again"
        )
    return note


def load_adapter(
    base: Any, folder: str | Path, *, merged: bool = False, **options: Any
) -> ChestXrayModel:
    """Return a model with an adapter on it.

    Args:
        base: a name, a directory or a hub id, loaded anew; or a `ChestXrayModel`, whose weights get
            the adapter in place. None takes the base that the adapter names.
        folder: the adapter.
        merged: fold LoRA updates into the weights.
        **options: of `load_checkpoint`, where the base is loaded.

    Raises:
        CheckpointError: no adapter, or it belongs to another base.
    """
    note = read_note(folder)
    if isinstance(base, ChestXrayModel):
        loaded = base.loaded
    else:
        loaded = load_checkpoint(note["base"]["name"] if base is None else base, **options)
    check_base(loaded, note)
    if has_adapter(loaded.model):
        raise CheckpointError("the model carries an adapter already; load the base anew")
    prepare(loaded.model, TuningRecipe(**note["tuning"]))
    load_tensors(Path(folder) / TENSORS, loaded.model)
    if merged:
        merge(loaded.model)
    loaded.model.eval().requires_grad_(False)
    hashes = {**loaded.card.sha256s, TENSORS: note["sha256"][TENSORS]}
    facts = {**loaded.card.facts, "adapter": note["name"], **note["facts"]}
    card = replace(
        loaded.card, name=f"{note['base']['name']} + {note['name']}", sha256s=hashes, facts=facts
    )
    return ChestXrayModel(replace(loaded, card=card))


def check_base(loaded: LoadedCheckpoint, note: Mapping[str, Any]) -> None:
    """Refuse another base than the one that an adapter was trained on.

    Raises:
        CheckpointError: the hashes differ; both are named.
    """
    wanted, found = note["base"]["sha256"], dict(loaded.card.sha256s)
    if sorted(wanted.values()) != sorted(found.values()):
        raise CheckpointError(
            f"this adapter was trained on {note['base']['name']} ({_short(wanted)}), and the base "
            f"here is {loaded.card.name} ({_short(found)}); load that base, since on another one "
            "the update means nothing"
        )


def export(folder: str | Path, out: str | Path, *, base: Any = None, dtype: str | None = None):
    """Write base and adapter as one checkpoint in the published layout.

    Args:
        folder: the adapter.
        out: directory of the checkpoint.
        base: as in `load_adapter`.
        dtype: on disk; by default as the base was loaded (float32 on the CPU).

    Returns:
        The directory; `wb.load_model` and `workbench doctor --parity` take it.

    Raises:
        CheckpointError: see `load_adapter`.
        TrainingError: the base is quantised.
    """
    model = load_adapter(base, folder, merged=True)
    loaded, note = model.loaded, read_note(folder)
    facts = {
        **{k: v for k, v in loaded.card.facts.items() if k not in ("name", "sha256", "exam")},
        "name": f"{note['base']['name']} + {note['name']}",
        "domain": note["domain"],
        "licence": note["licence"],
        "notice": note["notice"],
        "base": note["base"],
    }
    generation = {k: v for k, v in loaded.generation.items() if not k.endswith("token_id")}
    out = save_checkpoint(
        out, loaded.model, loaded.tokenizer, dtype=dtype, generation=generation, facts=facts
    )
    write_card(out / "README.md", note, merged=True)
    return out


def _short(hashes: Mapping[str, str]) -> str:
    return ", ".join(sorted(value[:8] for value in hashes.values())) or "no hash"
