"""What a run learned, on top of a named base: saved, loaded, merged, exported.

    folder = wb.finetune.save_adapter(...)                      # a run does this itself
    model = wb.finetune.load_adapter("mini", "runs/x/adapter")  # refused on any other base
    wb.finetune.export("runs/x/adapter", "runs/x/model")        # a whole checkpoint

The folder is one of peft: `adapter_config.json` and `adapter_model.safetensors`, with LoRA updates
and whole modules, so that `peft.PeftModel.from_pretrained(network, folder)` loads it as well.
Beside them lie `adapter.json` (the base by name and by the SHA-256 of its weight files, what learns
and how) and README.md (the model card).

Idea of the card: Mitchell et al., Model Cards for Model Reporting, FAT* 2019, arXiv 1810.03993.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from transformers import PreTrainedModel

from workbench._store import file_sha256, whole_file, write_json
from workbench._version import __version__
from workbench.backends.levels import READER, needs
from workbench.errors import CheckpointError, check_one_of
from workbench.figures.numbers import number_text
from workbench.figures.tables import markdown_table
from workbench.finetune import parts
from workbench.finetune.recipe import NOTE, TuningRecipe
from workbench.interface import ChestXrayModel, CxrLlavaModel, load_model
from workbench.model.card import CARD_FILE
from workbench.model.load import save_checkpoint
from workbench.model.parts import PARTS
from workbench.model.placement import DTYPES

FORMAT = "workbench-adapter/2"
TENSORS = "adapter_model.safetensors"

#: A name, a directory or a hub id; or a model.
Base = str | os.PathLike | ChestXrayModel

#: What peft writes before the name of every tensor.
_PREFIX = "base_model.model."


@needs(READER)
def save_adapter(
    folder: str | Path,
    model: ChestXrayModel,
    tuning: TuningRecipe,
    *,
    name: str,
    facts: Mapping[str, object] | None = None,
) -> Path:
    """Write what learned in a model, with the facts that its card states; return the folder.

    Files of these names in the folder are replaced. `model` is the base, trained in place.

    >>> tuning, learned = trained.recipe.tuning, trained.model()
    >>> wb.finetune.save_adapter("own", learned, tuning, name="own").name
    'own'
    """
    folder = Path(folder)
    card, network = model.card, model.network
    config = parts.lora_config(network, tuning)
    config.modules_to_save = parts.whole_modules(network, tuning) or None
    config.base_model_name_or_path, config.revision = card.name, card.revision
    config.inference_mode = True
    config.save_pretrained(str(folder))
    with whole_file(folder / TENSORS) as partial:
        save_file(_learned(network, tuning), partial, metadata={"format": "pt"})
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
    write_json(folder / NOTE, note)
    _write_card(folder / "README.md", note)
    return folder


def _learned(model: PreTrainedModel, tuning: TuningRecipe) -> dict[str, torch.Tensor]:
    """Return LoRA updates and whole modules under the names that peft gives them."""
    adapted = parts.has_adapter(model)
    found = get_peft_model_state_dict(model, save_embedding_layers=False) if adapted else {}
    for name in parts.whole_modules(model, tuning):
        module = model.get_submodule(name)
        found |= {f"{name}.{key}": value for key, value in module.state_dict().items()}
    # a copy each: the tensors of a tied head share their bytes, which a file cannot say
    return {f"{_PREFIX}{key}": value.detach().cpu().clone() for key, value in found.items()}


def read_note(folder: str | Path) -> dict[str, Any]:
    """Read what is known of an adapter; `CheckpointError` where it is missing or damaged."""
    folder = Path(folder)
    path = folder / NOTE
    if not path.is_file():
        raise CheckpointError(f"no {NOTE} in {folder}; give the adapter folder of a run")
    note = json.loads(path.read_text(encoding="utf-8"))
    if note.get("format") != FORMAT:
        raise CheckpointError(
            f"{path.name} has the format {note.get('format')!r}, not {FORMAT}; export it as a "
            f"checkpoint with workbench {note.get('workbench', 'of its time')}, or train it again"
        )
    tensors = folder / TENSORS
    if not tensors.is_file() or file_sha256(tensors) != note["sha256"][TENSORS]:
        raise CheckpointError(
            f"{TENSORS} in {folder.name} is missing or not the one that {NOTE} names; copy it again"
        )
    return note


def load_adapter(
    base: Base | None, folder: str | Path, *, merged: bool = False, **options: Any
) -> ChestXrayModel:
    """Return a model with an adapter on it.

    Args:
        base: a name, a directory or a hub id, loaded anew with options of `workbench.load_model`;
            or a model, whose weights get the adapter in place. None takes the base that the
            adapter names.
        merged: fold LoRA updates into the weights.

    Raises:
        CheckpointError: no adapter, or it belongs to another base.
        TrainingError: the model carries an adapter already.

    >>> wb.finetune.load_adapter("mini", trained.adapter).card.domain
    'phantom'
    """
    note = read_note(folder)
    if isinstance(base, ChestXrayModel):
        model = base
    else:
        model = load_model(note["base"]["name"] if base is None else base, **options)
    card, network = model.card, model.network
    wanted, found = (sorted(one.values()) for one in (note["base"]["sha256"], card.sha256s))
    if wanted != found:
        had, has = (", ".join(one[:8] for one in hashes) or "no hash" for hashes in (wanted, found))
        raise CheckpointError(
            f"this adapter was trained on {note['base']['name']} ({had}), and the base here is "
            f"{card.name} ({has}); load that base, since on another one the update means nothing"
        )
    parts.prepare(network, TuningRecipe(**note["tuning"]))
    _take(folder, network)
    if merged:
        parts.merge(network)
    network.eval().requires_grad_(False)
    hashes = {**card.sha256s, TENSORS: note["sha256"][TENSORS]}
    facts = {**card.facts, "adapter": note["name"], **note["facts"]}
    name = f"{note['base']['name']} + {note['name']}"
    return model.under(replace(card, name=name, sha256s=hashes, facts=facts))


def _take(folder: str | Path, model: PreTrainedModel) -> None:
    """Read what learned into a model that is prepared for it."""
    stored = load_peft_weights(str(folder), device="cpu")
    stored = {name.removeprefix(_PREFIX): value for name, value in stored.items()}
    if parts.has_adapter(model):
        found = set_peft_model_state_dict(model, stored)
    else:
        found = model.load_state_dict(stored, strict=False)
    lost = {name for name, _ in parts.trainable(model)} & set(found.missing_keys)
    if lost or found.unexpected_keys:
        raise CheckpointError(f"{TENSORS} has other weights than {NOTE} says; copy both again")


def export(
    folder: str | Path, out: str | Path, *, base: Base | None = None, dtype: str | None = None
) -> Path:
    """Write base and adapter as one checkpoint in the base's own layout; return its directory.

    `base` is as in `load_adapter`; `dtype` is by default as the base was loaded.

    Raises:
        CheckpointError: see `load_adapter`.
        TrainingError: the base is quantised.

    >>> wb.load_model(wb.finetune.export(trained.adapter, "merged")).card.domain
    'phantom'
    """
    model, out = load_adapter(base, folder, merged=True), Path(out)
    note = read_note(folder)
    facts = {k: v for k, v in model.card.facts.items() if k not in ("name", "sha256", "exam")}
    facts |= {key: note[key] for key in ("domain", "licence", "notice", "base")}
    facts["name"] = f"{note['base']['name']} + {note['name']}"
    if isinstance(model, CxrLlavaModel):
        loaded = model.loaded
        generation = {k: v for k, v in loaded.generation.items() if not k.endswith("token_id")}
        save_checkpoint(
            out, loaded.model, loaded.tokenizer, dtype=dtype, generation=generation, facts=facts
        )
    else:
        _save_network(model, out, dtype, facts)
    _write_card(out / "README.md", note, merged=True)
    return out


def _save_network(
    model: ChestXrayModel, out: Path, dtype: str | None, facts: Mapping[str, object]
) -> None:
    """Write a network of transformers, and beside it the base's tokenizer and processor files."""
    network = model.network
    if dtype is not None:
        check_one_of("dtype", dtype, DTYPES)
        cast(nn.Module, network).to(DTYPES[dtype])
    network.save_pretrained(out)
    for path in Path(model.origin[0]).iterdir():
        beside = path.suffix in (".json", ".jinja", ".model", ".txt")
        if beside and not path.name.endswith(".index.json") and not (out / path.name).exists():
            shutil.copyfile(path, out / path.name)
    write_json(out / CARD_FILE, facts)


def _write_card(path: Path, note: Mapping[str, Any], *, merged: bool = False) -> None:
    """Write the model card of an adapter, or of the checkpoint it was merged into."""
    facts, tuning, base = note["facts"], note["tuning"], note["base"]
    how = {"frozen": "frozen", "full": "every weight", "lora": f"LoRA of rank {tuning['rank']}"}
    revision = f" (revision {base['revision']})" if base.get("revision") else ""
    hashes = [[name, f"`{digest}`"] for name, digest in base["sha256"].items()]
    scores = [
        [row["what"], row["n"],
         *(number_text(row[when]) or "undefined" for when in ("before", "after")), row["change"]]
        for row in facts.get("scores", ())
    ]  # fmt: skip
    pieces = [
        f"---\nbase_model: {json.dumps(base['name'])}\n---",  # by which its prompts are found
        f"# {note['name']}",
        f"> **{note['notice']}**",
        f"{'A checkpoint merged from' if merged else 'An adapter on'} `{base['name']}`{revision}. "
        f"Licence: {note['licence']}. Not for clinical use.",
        markdown_table(["weights of the base", "SHA-256"], hashes),
        markdown_table(["part", "learned"], [[part, how[tuning[part]]] for part in PARTS]),
    ]
    if facts.get("data"):
        pieces += ["## Data", _list(f"{key}: {value}" for key, value in facts["data"].items())]
    if scores:
        head = ["what", "n", "before", "after", "change (95 %)"]
        pieces += ["## Before and after", markdown_table(head, scores)]
    if facts.get("notes"):
        pieces += ["## To know", _list(facts["notes"])]
    path.write_text("\n\n".join(pieces) + "\n", encoding="utf-8")


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {text}" for text in texts)
