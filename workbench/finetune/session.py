"""What the stages share: the folder, the base, training to the best weights, cost, the record."""

from __future__ import annotations

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

from workbench._progress import peak_memory
from workbench.backends.vlm_reader import is_vlm
from workbench.cases import Case, phantom_case
from workbench.errors import TrainingError
from workbench.finetune.adapters import save_adapter
from workbench.finetune.cases import gather
from workbench.finetune.datasets import LabelRows, TurnRows
from workbench.finetune.ledger import ADAPTER, RECIPE_FILE, Ledger, Run, last_checkpoint
from workbench.finetune.measuring import explained_rows, forgetting
from workbench.finetune.parts import frozen, part_of, parts_learned, trainable, weights_sha256
from workbench.finetune.recipe import Recipe
from workbench.finetune.trainer import FinetuneTrainer, curves, process_rank
from workbench.interface import ChestXrayModel, load_model
from workbench.model.costs import LEARNING
from workbench.model.placement import find_hardware, forget_peak, gpu_memory, need_room
from workbench.model.source import resolve_source

#: Seconds that other processes wait for the first one.
_PATIENCE = 120

_LIBRARIES = ("torch", "transformers", "accelerate", "peft", "numpy")


def claim(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Take a folder for a run, new or to be resumed; other processes wait for the first one."""
    note = out / RECIPE_FILE
    if process_rank() != 0:
        return wait_for(note, _PATIENCE)
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


def wait_for(note: Path, seconds: float) -> None:
    """Wait until the first process has written a file; `TrainingError` where it takes too long."""
    deadline = time.monotonic() + seconds
    while not note.is_file():
        if time.monotonic() > deadline:
            raise TrainingError(
                f"the first process has not written {note.name} in {note.parent} within "
                f"{seconds:g} seconds; see what it says, and start all processes again"
            )
        time.sleep(0.05)


def open_base(recipe: Recipe, *, device: str) -> ChestXrayModel:
    """Load the model that a run starts from; `TrainingError` where the stage is not for it."""
    if recipe.stage == "encoder" and is_vlm(resolve_source(recipe.base).directory):
        raise TrainingError(
            f"stage encoder trains the vision tower of CXR-LLaVA, and {recipe.base} is of another "
            "family; use stage projector or instruct"
        )
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        gpus = find_hardware().gpus
        device = gpus[local].device if gpus else "cpu"
    # what learns on a CPU is float32; a GPU takes what it computes in
    dtype = "float32" if device == "cpu" else "auto"
    return load_model(recipe.base, device=device, dtype=dtype, quantize=recipe.tuning.quantize)


class Stage(ABC):
    """One run of one stage; the weights of the base, `model`, are trained in place.

    Attributes:
        chosen, findings: the cases that checkpoints are chosen by, and what is scored in them.
        explained: cases with saliency and grounding before and after.
        notes: what a person should know.
    """

    chosen: Sequence[Case]
    findings: tuple[str, ...]
    explained: Sequence[Case] = ()

    def __init__(self, recipe: Recipe, out: Path, *, device: str, show: bool = False) -> None:
        self.recipe, self.out, self.show = recipe, out, show
        self.model, self.cases = open_base(recipe, device=device), gather(recipe)
        self.notes = list(self.cases.notes)

    @abstractmethod
    def prepare(self) -> tuple[nn.Module, TurnRows | LabelRows]:
        """Measure the base, make its parts learn; return what is trained, and its rows."""

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Return what checkpoints are chosen by, by name."""

    @abstractmethod
    def finish(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Save what learned; return "before" and "after" of each chosen case, and measures."""

    @abstractmethod
    def predicted_memory(self) -> float:
        """Return the bytes that training was to take."""

    def train(self, *, resume: bool, callbacks: Sequence[TrainerCallback]) -> Run | None:
        """Train to the best weights and write everything; None on every process but the first."""
        student, rows = self.prepare()
        network = self.model.network
        learning = sum(p.numel() for _, p in trainable(network))
        use = "let less learn (tuning.language: lora)"
        need_room(network.device, LEARNING * learning, f"training {learning:,} parameters", use)
        device, sha_before = network.device, weights_sha256(frozen(network))
        trainer = FinetuneTrainer(
            self.recipe, student, rows, self.measure, self.out,
            device=device, parts=part_of(network), show=self.show, callbacks=callbacks,
        )  # fmt: skip
        cost, memory = _train(trainer, last_checkpoint(self.out) if resume else None, device)
        if process_rank() != 0:
            return None
        if trainer.best_file.is_file():
            student.load_state_dict(load_file(trainer.best_file), strict=False)
        network.eval()
        done, steps = trainer.state.global_step, trainer.state.max_steps
        if done < steps:
            self.notes.append(f"stopped early at step {done} of {steps}")
        rows, measured = self.finish()
        cases = {
            case.id: {"patient": case.patient, "codes": dict(case.codes), **row}
            for case, row in zip(self.chosen, rows, strict=True)
        }
        evidence = {"findings": list(self.findings), "cases": cases}
        memory = {"predicted": self.predicted_memory(), **memory}
        ledger = self._ledger(trainer, sha_before, cost=cost, memory=memory, **measured)
        run = Run(self.out, self.recipe, ledger, evidence)
        run.write()
        self.save(_card_facts(ledger))
        return run

    def save(self, facts: Mapping[str, object] | None = None) -> Path:
        """Write the adapter, with what its card says, and return its folder."""
        recipe = self.recipe
        return save_adapter(
            self.out / ADAPTER, self.model, recipe.tuning, name=recipe.name, facts=facts
        )

    def _ledger(self, trainer: FinetuneTrainer, sha_before: str, **measured: Any) -> Ledger:
        card, state, recipe = self.model.card, trainer.state, self.recipe
        network, first = self.model.network, recipe.evaluation.seed
        base = tuned = self.model.under(card)
        if recipe.evaluation.forgetting or self.explained:
            base = open_base(recipe, device=str(network.device))
        phantoms = map(phantom_case, range(first, first + recipe.evaluation.forgetting))
        sha_after = weights_sha256(frozen(network))
        return Ledger(
            name=recipe.name,
            stage=recipe.stage,
            base={"name": card.name, "sha256": dict(card.sha256s)},
            recipe=recipe.model_dump(mode="json"),
            trainable=parts_learned(network),
            parameters=card.parameters["total"],
            frozen={"before": sha_before, "after": sha_after, "equal": sha_before == sha_after},
            curves=curves(trainer),
            best={
                "measure": recipe.metric,
                "step": state.best_global_step,
                "value": state.best_metric,
            },
            versions={name: version(name) for name in _LIBRARIES},
            forgetting=forgetting(base, tuned, list(phantoms)),
            explained=explained_rows(base, tuned, self.explained),
            notes=tuple(self.notes),
            **measured | {"data": self.cases.facts() | measured["data"]},
        )


def _train(
    trainer: FinetuneTrainer, checkpoint: Path | None, device: torch.device
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Train, from a checkpoint where there is one; return cost and memory for the ledger."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    forget_peak(device)
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
    used = gpu_memory(device, peak=True)
    if used is None:
        return cost, {"measured": peak_memory(), "as": "peak of the whole process"}
    return cost, {"measured": used, "as": "allocated on GPU"}


def _card_facts(ledger: Ledger) -> dict[str, Any]:
    """Return what the model card says of a run."""
    rows = [
        {"what": row.skill, "n": row.n, "before": row.before, "after": row.after,
         "change": str(row.change)}
        for _, row in ledger.skills()
    ]  # fmt: skip
    data = {key: ledger.data[key] for key in ("source", "train", "validation", "digest")}
    return {"data": data, "scores": rows, "notes": list(ledger.notes)}
