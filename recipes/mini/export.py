"""Write `mini` in the published layout: config, float16 safetensors, tokenizer and model card."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file

from recipes.mini.learner import Learner
from recipes.mini.recipe import ALL_STAGES, MiniRecipe
from workbench.model.tokenizer import CxrTokenizer
from workbench.settings import FIRST_HELD_OUT_SEED

#: Histories of the checkpoint that a run started from.
STARTED = "started_from.json"
#: Stages that leave a history.
ALL_HISTORIES = ALL_STAGES[1:-1]

LIMITS = (
    "Trained on phantoms only, drawn and projected from the CT of one patient: what it says of a "
    "real radiograph means nothing.",
    "Knows eight findings and the wording of its own training texts.",
    "Sides are the patient's own; sizes of nodules are rounded to 5 mm.",
    "Weakest at small nodules and at linear atelectasis (see exam).",
    "Answers to questions outside its training wording may be off topic.",
)


def export(learner: Learner, tokenizer: CxrTokenizer, recipe: MiniRecipe, folder: Path) -> Path:
    """Write a checkpoint directory; float16 on disk, to be upcast at load.

    Args:
        learner: the trained model.
        tokenizer: its word pieces.
        recipe: what it was trained by.
        folder: created if missing; files of the same names are replaced.

    Returns:
        the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.detach().to(torch.float16).contiguous()
        for name, value in learner.model.state_dict().items()
    }
    path = folder / "model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    path.chmod(0o644)
    config = learner.model.config
    config.dtype = "float16"
    config.architectures = [type(learner.model).__name__]
    config.save_pretrained(folder)
    tokenizer.save(folder)
    generation = {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": 0,
    }
    _write(folder / "generation_config.json", generation)
    return folder


def write_card(folder: Path, recipe: MiniRecipe, run: Path, exam: dict | None = None) -> Path:
    """Write `model_card.json` beside the weights.

    Args:
        folder: the checkpoint directory.
        recipe: what it was trained by.
        run: folder of the training run, for its histories; those of earlier stages come from
            `STARTED` where it began with a checkpoint.
        exam: result of the phantom exam, when it was taken.
    """
    weights, started = folder / "model.safetensors", run / STARTED
    card = {
        "name": "mini",
        "licence": "Apache-2.0",
        "domain": "phantom",
        "notice": "trained on phantoms, not for real radiographs",
        "architecture": "CXR-LLaVA: ViT over one grey channel, linear projector, LLaMA",
        "stages": [
            "encoder: multi-label findings, severities and patch masks (masks go beyond the paper)",
            "language: reports from true patch cover (beyond the paper, which starts from LLaMA-2)",
            "align: projector only, started at a ridge solution",
            "instruct: reports, differentials and questions; projector and language model",
            "polish: the same with more weight on words that carry the truth",
            "sides: the encoder again, on new phantoms, with the side of every finding",
            "polish_again: as polish, behind the encoder that knows sides",
            "ct: the encoder again, on drawn phantoms and others projected from a CT",
            "polish_ct: as polish, behind that encoder",
        ],
        "recipe": recipe.to_dict(),
        "seeds": {
            "train": [recipe.train_first_seed, recipe.train_first_seed + recipe.train_count - 1],
            "sides and polish_again": [
                recipe.sides_first_seed,
                recipe.sides_first_seed + recipe.sides_count - 1,
            ],
            "ct and polish_ct": [recipe.ct_first_seed, recipe.ct_first_seed + recipe.ct_count - 1],
            "validation": [recipe.val_first_seed, recipe.val_first_seed + recipe.val_count - 1],
            "reserved for evaluation": f"{FIRST_HELD_OUT_SEED} and up",
        },
        "history": (json.loads(started.read_text()) if started.exists() else {})
        | {
            path.stem: json.loads(path.read_text())[-1]
            for stage in ALL_HISTORIES
            if (path := run / f"{stage}.json").exists()
        },
        "exam": exam,
        "limits": list(LIMITS),
        "sha256": {weights.name: hashlib.sha256(weights.read_bytes()).hexdigest()},
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
    }
    return _write(folder / "model_card.json", card)


def _write(path: Path, value: dict) -> Path:
    path.write_text(json.dumps(value, indent=1) + "\n")
    return path
