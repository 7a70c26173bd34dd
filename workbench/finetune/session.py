"""What the stages share: the folder, the base, training to the best weights, cost, the record.

Several processes are started from outside, by `torchrun` or `accelerate launch`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from workbench._memory import peak_memory
from workbench.errors import TrainingError
from workbench.finetune.adapters import save_adapter
from workbench.finetune.cases import Case, phantom_case
from workbench.finetune.ledger import ADAPTER, LEDGER_FILE, RECIPE_FILE, Ledger, Run
from workbench.finetune.parts import frozen_sha256, parts_learned
from workbench.finetune.recipe import Recipe
from workbench.finetune.trainer import BEST_FILE, FinetuneTrainer, curves, load_tensors
from workbench.model.load import LoadedCheckpoint, load_checkpoint

#: Seconds that other processes wait for the first one.
_PATIENCE = 120

_LIBRARIES = ("torch", "transformers", "accelerate", "peft", "numpy")


def claim(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Take a folder for a run; the first process takes it, the others wait until it has.

    Raises:
        TrainingError: it has a run already and resume was not asked for, another recipe's, or
            something else; or the first process has not taken it in time.
    """
    note = out / RECIPE_FILE
    if process_rank() != 0:
        wait_for(note)
        return
    if note.is_file():
        if not resume:
            raise TrainingError(
                f"{out} has a run already; resume it by resume=True (--resume), or name another "
                "folder"
            )
        if note.read_text(encoding="utf-8") != recipe.to_yaml():
            raise TrainingError(
                f"{out} has a run of another recipe; name another folder, since a run that "
                "changes its recipe on the way cannot be repeated"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise TrainingError(f"{out} is not empty and has no run; name another folder")
    if not note.is_file():
        out.mkdir(parents=True, exist_ok=True)
        note.write_text(recipe.to_yaml(), encoding="utf-8")


def wait_for(note: Path, *, seconds: float | None = None) -> None:
    """Wait until the first process has written a file.

    Args:
        note: the file, written whole or not at all.
        seconds: to wait; None for a patience that suits small files.

    Raises:
        TrainingError: it was not there in time.
    """
    seconds = _PATIENCE if seconds is None else seconds
    deadline = time.monotonic() + seconds
    while not note.is_file():
        if time.monotonic() > deadline:
            raise TrainingError(
                f"the first process has not written {note.name} in {note.parent} within "
                f"{seconds:g} seconds; see what it says, and start all processes again"
            )
        time.sleep(0.05)


def world_size() -> int:
    """Return the number of processes that torchrun or accelerate started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return the number of this process; 0 for the first, and for the only one."""
    return int(os.environ.get("RANK", "0"))


def open_base(recipe: Recipe, *, device: str) -> LoadedCheckpoint:
    """Load the model that a run starts from; learning weights are float32."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    # what learns on a CPU is float32; a GPU takes what it computes in
    dtype = "float32" if device == "cpu" else "auto"
    return load_checkpoint(recipe.base, device=device, dtype=dtype, quantize=recipe.tuning.quantize)


@dataclass
class Cost:
    """What a run takes: time, processor time and memory.

    Attributes:
        seconds: wall time.
        cpu_seconds: processor time of this process.
        memory: bytes at most.
        measured_as: what was measured.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: int = 0
    measured_as: str = ""


@contextmanager
def _costing(device: torch.device) -> Iterator[Cost]:
    """Measure what happens inside."""
    cost = Cost()
    began, cpu = time.perf_counter(), time.process_time()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield cost
    cost.seconds = time.perf_counter() - began
    cost.cpu_seconds = time.process_time() - cpu
    if device.type == "cuda":
        cost.memory, cost.measured_as = torch.cuda.max_memory_allocated(device), "allocated on GPU"
    else:
        cost.memory = peak_memory()
        cost.measured_as = "peak of the whole process"


@contextmanager
def _quiet() -> Iterator[None]:
    """Let transformers say only what is wrong."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def train_to_best(
    trainer: FinetuneTrainer, out: Path, *, device: torch.device, resume: bool
) -> Cost | None:
    """Train, from the newest whole checkpoint to resume, and take the best weights back.

    Returns:
        what it cost in memory of `device` and time; None on every process but the first.
    """
    with _quiet(), _costing(device) as cost:
        checkpoint = _last_checkpoint(out) if resume else None
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if process_rank() != 0:
        return None
    if (out / "best" / BEST_FILE).is_file():
        load_tensors(out / "best" / BEST_FILE, trainer.model)
    return cost


def _last_checkpoint(out: Path) -> Path | None:
    """Return the newest checkpoint that was written whole; None for none."""
    found = [
        path
        for path in (out / "checkpoints").glob("checkpoint-*")
        if (path / "trainer_state.json").is_file() and (path / "model.safetensors").is_file()
    ]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def recorded(
    recipe: Recipe,
    loaded: LoadedCheckpoint,
    trainer: FinetuneTrainer,
    out: Path,
    *,
    sha_before: str,
    cost: Cost,
    predicted: float,
    evidence: Mapping[str, Any],
    **measured: Any,
) -> Run:
    """Write ledger and adapter, the measures in its model card, and return the run.

    Args:
        sha_before: of what does not learn, before the first step.
        cost: of training.
        predicted: bytes of memory that it was to take.
        evidence: validation cases with what both models said of them.
        **measured: fields of `Ledger` that differ from stage to stage.
    """
    sha_after = frozen_sha256(loaded.model)
    state = trainer.state
    ledger = Ledger(
        name=recipe.name,
        stage=recipe.stage,
        base={"name": loaded.card.name, "sha256": dict(loaded.card.sha256s)},
        recipe=recipe.to_dict(),
        trainable=parts_learned(loaded.model),
        parameters=loaded.card.parameters["total"],
        frozen={"before": sha_before, "after": sha_after, "equal": sha_before == sha_after},
        curves=curves(trainer),
        best={
            "measure": recipe.metric, "step": state.best_global_step, "value": state.best_metric
        },
        memory={"predicted": predicted, "measured": cost.memory, "as": cost.measured_as},
        cost=_cost(loaded, trainer, cost),
        versions={name: version(name) for name in _LIBRARIES},
        **measured,
    )  # fmt: skip
    ledger.save(out / LEDGER_FILE)
    facts = _card_facts(ledger)
    save_adapter(out / ADAPTER, loaded, recipe.tuning, name=recipe.name, facts=facts)
    return Run(out, recipe, ledger, evidence)


def _card_facts(ledger: Ledger) -> dict[str, Any]:
    """Return what the model card says of a run."""
    rows = [
        {"what": row.skill, "n": row.n, "before": row.before, "after": row.after,
         "change": str(row.change)}
        for _, row in ledger.skills()
    ]  # fmt: skip
    data = {key: ledger.data[key] for key in ("source", "train", "validation", "digest")}
    return {"data": data, "scores": rows, "notes": list(ledger.notes)}


def _cost(loaded: LoadedCheckpoint, trainer: FinetuneTrainer, cost: Cost) -> dict[str, Any]:
    args = trainer.args
    return {
        "seconds": cost.seconds,
        "cpu_seconds": cost.cpu_seconds,
        "steps": trainer.state.global_step,
        "processes": trainer.accelerator.num_processes,
        "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        "device": str(loaded.model.device),
    }


def probe_cases(recipe: Recipe) -> list[Case]:
    """Return phantoms of the eight known findings, for the forgetting probe."""
    first = recipe.evaluation.seed
    return [phantom_case(seed) for seed in range(first, first + recipe.evaluation.forgetting)]


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write plain values."""
    path.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
