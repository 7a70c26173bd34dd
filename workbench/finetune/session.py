"""What the stages share: the folder, the base, training to the best weights, cost, the record."""

from __future__ import annotations

import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from workbench._memory import peak_memory
from workbench.errors import TrainingError
from workbench.finetune.adapters import save_adapter
from workbench.finetune.cases import Case, gather, phantom_case
from workbench.finetune.datasets import LabelRows, TurnRows, plan_batches
from workbench.finetune.ledger import (
    ADAPTER,
    EVIDENCE_FILE,
    LEDGER_FILE,
    RECIPE_FILE,
    Ledger,
    Run,
)
from workbench.finetune.measuring import explained_rows, forgetting
from workbench.finetune.parts import frozen, parts_learned, weights_sha256
from workbench.finetune.recipe import Recipe
from workbench.finetune.trainer import (
    FinetuneTrainer,
    curves,
    process_rank,
)
from workbench.interface import ChestXrayModel
from workbench.model.load import LoadedCheckpoint, load_checkpoint

#: Seconds that other processes wait for the first one.
_PATIENCE = 120

_LIBRARIES = ("torch", "transformers", "accelerate", "peft", "numpy")


def claim(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Take a folder for a run, new or to be resumed; other processes wait for the first one."""
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
        return
    if out.is_dir() and any(out.iterdir()):
        raise TrainingError(f"{out} is not empty and has no run; name another folder")
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(recipe.to_yaml(), encoding="utf-8")


def wait_for(note: Path, *, seconds: float | None = None) -> None:
    """Wait until the first process has written a file; `TrainingError` where it takes too long."""
    seconds = _PATIENCE if seconds is None else seconds
    deadline = time.monotonic() + seconds
    while not note.is_file():
        if time.monotonic() > deadline:
            raise TrainingError(
                f"the first process has not written {note.name} in {note.parent} within "
                f"{seconds:g} seconds; see what it says, and start all processes again"
            )
        time.sleep(0.05)


def open_base(recipe: Recipe, *, device: str) -> LoadedCheckpoint:
    """Load the model that a run starts from."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = f"cuda:{local}" if torch.cuda.is_available() else "cpu"
    # what learns on a CPU is float32; a GPU takes what it computes in
    dtype = "float32" if device == "cpu" else "auto"
    return load_checkpoint(recipe.base, device=device, dtype=dtype, quantize=recipe.tuning.quantize)


class Stage(ABC):
    """One run of one stage.

    Attributes:
        loaded: the base; its weights are trained in place.
        cases: what is learned from and what chooses the checkpoint.
    """

    def __init__(self, recipe: Recipe, out: Path, *, device: str, show: bool = False) -> None:
        self.recipe, self.out, self.show = recipe, out, show
        self.loaded, self.cases = open_base(recipe, device=device), gather(recipe)

    @abstractmethod
    def prepare(self) -> tuple[nn.Module, TurnRows | LabelRows]:
        """Measure the base, make its parts learn; return what is trained, and its rows."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Return what checkpoints are chosen by, by name."""

    @abstractmethod
    def finish(self, trainer: FinetuneTrainer) -> tuple[dict[str, Any], dict[str, Any]]:
        """Save what learned and measure it; return the evidence, and fields of the ledger."""

    @abstractmethod
    def predicted_memory(self) -> float:
        """Return the bytes that training was to take."""

    def train(self, *, resume: bool, callbacks: Sequence[TrainerCallback]) -> Run | None:
        """Train to the best weights and write everything; None on every process but the first."""
        student, rows = self.prepare()
        training, device = self.recipe.training, self.loaded.model.device
        sha_before = weights_sha256(frozen(self.loaded.model))
        batches = plan_batches(
            rows.lengths, micro=training.micro_batch, batch=training.batch_size,
            epochs=training.epochs, seed=self.recipe.seed,
        )  # fmt: skip
        trainer = FinetuneTrainer(
            self.recipe, student, rows, batches, self.measure, self.out,
            device=device, show=self.show, callbacks=callbacks,
        )  # fmt: skip
        cost, memory = _train(trainer, _last_checkpoint(self.out) if resume else None, device)
        if process_rank() != 0:
            return None
        if trainer.best_file.is_file():
            student.load_state_dict(load_file(trainer.best_file), strict=False)
        self.loaded.model.eval()
        evidence, measured = self.finish(trainer)
        write_json(self.out / EVIDENCE_FILE, evidence)
        memory = {"predicted": self.predicted_memory(), **memory}
        ledger = self._ledger(trainer, sha_before, cost=cost, memory=memory, **measured)
        write_json(self.out / LEDGER_FILE, ledger.to_dict())
        self.save(_card_facts(ledger))
        return Run(self.out, self.recipe, ledger, evidence)

    def save(self, facts: Mapping[str, object] | None = None) -> Path:
        """Write the adapter, with what its card says, and return its folder."""
        recipe = self.recipe
        return save_adapter(
            self.out / ADAPTER, self.loaded, recipe.tuning, name=recipe.name, facts=facts
        )

    def compared(self, explained: Sequence[Case] = ()) -> dict[str, Any]:
        """Return skills that were not trained for, and some cases explained, before and after."""
        base = ChestXrayModel(open_base(self.recipe, device=str(self.loaded.model.device)))
        tuned, first = ChestXrayModel(self.loaded), self.recipe.evaluation.seed
        seeds = range(first, first + self.recipe.evaluation.forgetting)
        return {
            "forgetting": forgetting(base, tuned, [phantom_case(seed) for seed in seeds]),
            "explained": explained_rows(base, tuned, explained),
        }

    def _ledger(self, trainer: FinetuneTrainer, sha_before: str, **measured: Any) -> Ledger:
        card, state, recipe = self.loaded.card, trainer.state, self.recipe
        sha_after = weights_sha256(frozen(self.loaded.model))
        return Ledger(
            name=recipe.name,
            stage=recipe.stage,
            base={"name": card.name, "sha256": dict(card.sha256s)},
            recipe=recipe.model_dump(mode="json"),
            trainable=parts_learned(self.loaded.model),
            parameters=card.parameters["total"],
            frozen={"before": sha_before, "after": sha_after, "equal": sha_before == sha_after},
            curves=curves(trainer),
            best={
                "measure": recipe.metric,
                "step": state.best_global_step,
                "value": state.best_metric,
            },
            versions={name: version(name) for name in _LIBRARIES},
            **measured,
        )


def _train(
    trainer: FinetuneTrainer, checkpoint: Path | None, device: torch.device
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train, from a checkpoint where there is one; return cost and memory for the ledger."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began, cpu = time.perf_counter(), time.process_time()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        transformers_logging.set_verbosity(verbosity)
    args = trainer.args
    cost = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "steps": trainer.state.global_step,
        "processes": trainer.accelerator.num_processes,
        "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        "device": str(device),
    }
    if device.type == "cuda":
        used = torch.cuda.max_memory_allocated(device)
        return cost, {"measured": used, "as": "allocated on GPU"}
    return cost, {"measured": peak_memory(), "as": "peak of the whole process"}


def _last_checkpoint(out: Path) -> Path | None:
    """Return the newest checkpoint that was written whole; None for none."""
    found = [
        path
        for path in (out / "checkpoints").glob("checkpoint-*")
        if (path / "trainer_state.json").is_file() and (path / "model.safetensors").is_file()
    ]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _card_facts(ledger: Ledger) -> dict[str, Any]:
    """Return what the model card says of a run."""
    rows = [
        {"what": row.skill, "n": row.n, "before": row.before, "after": row.after,
         "change": str(row.change)}
        for _, row in ledger.skills()
    ]  # fmt: skip
    data = {key: ledger.data[key] for key in ("source", "train", "validation", "digest")}
    return {"data": data, "scores": rows, "notes": list(ledger.notes)}


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write plain values."""
    path.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
