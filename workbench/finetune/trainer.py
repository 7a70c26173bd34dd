"""transformers' Trainer with the order, the checkpoints and the choice of the best that runs need.

What it adds: batches that were planned before the first step, so that a resumed run and a run on
several processes see what one process would have seen; checkpoints of what learns and nothing else;
the best weights chosen by a clinical measure, kept apart from the checkpoints.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader

from workbench._store import JsonLines, whole_file
from workbench.errors import TrainingError
from workbench.finetune.datasets import LabelRows, TurnRows, plan_batches
from workbench.finetune.ledger import LOGGED, PROGRESS_FILE
from workbench.finetune.parts import trainable
from workbench.finetune.recipe import Recipe
from workbench.model.placement import gpu_memory, on_cpu, pins_memory, training_precision


def world_size() -> int:
    """Return the number of processes that torchrun or accelerate started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return the number of this process; 0 for the first, and for the only one."""
    return int(os.environ.get("RANK", "0"))


class FinetuneTrainer(transformers.Trainer):
    """Trainer of every stage; `measure` returns measures of the model as it is now, by name.

    `parts` is as `workbench.finetune.parts.part_of` gives it.

    Raises:
        TrainingError: there are too few rows, a step cannot be shared out among the processes, or
            they shard the model.
    """

    model: nn.Module

    def __init__(
        self,
        recipe: Recipe,
        model: nn.Module,
        rows: TurnRows | LabelRows,
        measure: Callable[[], Mapping[str, float]],
        folder: Path,
        *,
        device: torch.device,
        parts: Mapping[int, str],
        show: bool = False,
        callbacks: Sequence[transformers.TrainerCallback] = (),
    ) -> None:
        training, stop, self.rows = recipe.training, recipe.evaluation.patience, rows
        self.batches = plan_batches(
            rows.lengths, micro=training.micro_batch, batch=training.batch_size,
            epochs=training.epochs, seed=recipe.seed,
        )  # fmt: skip
        steps = len(self.batches) * training.micro_batch // training.batch_size
        early = [] if stop is None else [transformers.EarlyStoppingCallback(stop)]
        super().__init__(
            model=model,
            args=arguments(recipe, folder / "checkpoints", steps=steps, device=device, show=show),
            data_collator=rows.collate,
            train_dataset=rows,
            eval_dataset=rows,
            callbacks=[_LastEvaluation(), LiveLog(folder), *early, *callbacks],
        )  # fmt: skip
        self.remove_callback(transformers.PrinterCallback)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise TrainingError(
                "sharded training (FSDP, DeepSpeed) is not supported: checkpoints have whole "
                "tensors; use torchrun without sharding, LoRA or QLoRA (--plan says what fits)"
            )
        self.measure = measure
        self.best_file = folder / "best" / "best.safetensors"
        rated = ("vision", "projector", "embeddings")
        self.rates = {part: getattr(training, f"{part}_rate") for part in rated}
        self.parts = parts
        self._loss_shifts_labels = False
        #: Sum of the loss and tokens, of labelled and of other rows, since the last log.
        self._parts = torch.zeros(2, 2, dtype=torch.float64)

    def get_train_dataloader(self) -> DataLoader:
        """Return the planned batches, shared out among the processes."""
        pin, collate = self.args.dataloader_pin_memory, self.rows.collate
        return self.accelerator.prepare(
            DataLoader(self.rows, batch_sampler=self.batches, collate_fn=collate, pin_memory=pin)
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Return AdamW; parts have rates of their own, vectors have no decay."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for _, p in trainable(self.model if model is None else model):
            factor = self.rates.get(self.parts.get(id(p), ""), 1.0)
            groups.setdefault((factor, p.ndim > 1), []).append(p)
        rate, decay = self.args.learning_rate, self.args.weight_decay
        self._factors = [factor for factor, _ in groups]
        settings = [
            {"params": found, "lr": rate * factor, "weight_decay": decay if matrix else 0.0}
            for (factor, matrix), found in groups.items()
        ]
        self.optimizer = torch.optim.AdamW(settings, betas=(0.9, 0.98))
        return self.optimizer

    def _get_learning_rate(self) -> float:
        """Return the rate of parts without one of their own: that which the recipe names."""
        groups = zip(self.optimizer.param_groups, self._factors, strict=True)
        return next((group["lr"] / factor for group, factor in groups if factor), 0.0)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Return the loss, and remember what labelled and other rows had of it."""
        found: Any = super().compute_loss(model, inputs, True, num_items_in_batch)
        loss, outputs = found
        if "parts" in outputs:
            self._parts += outputs["parts"].cpu()
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with passes over the data as epochs, and the loss of each kind of rows."""
        if "loss" in logs:
            parts = self.accelerator.reduce(self._parts.to(self.accelerator.device), "sum")
            names = ("loss_labelled", "loss_unlabelled")
            for name, (total, tokens) in zip(names, torch.as_tensor(parts).cpu(), strict=True):
                if tokens:
                    logs[name] = float(total / tokens)
            self._parts.zero_()
        whole = self.state.epoch  # of transformers, to which the planned run is one pass
        if whole is not None:
            done = self.state.global_step / max(self.state.max_steps, 1)
            self.state.epoch = round(done * self.batches.epochs, 4)
        try:
            super().log(logs, start_time)
        finally:
            self.state.epoch = whole

    def evaluate(self, *_: object, **__: object) -> dict[str, float]:
        """Measure on the first process and tell the others."""
        was_training = self.model.training
        self.model.eval()
        found: list[Any] = [None]
        if self.accelerator.is_main_process:
            with torch.no_grad():
                found = [dict(self.measure())]
        if self.accelerator.num_processes > 1:
            torch.distributed.broadcast_object_list(found, src=0)
        self.model.train(was_training)
        metrics = {f"eval_{name}": value for name, value in found[0].items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: object) -> bool:
        if math.isnan(metrics[f"eval_{self.args.metric_for_best_model}"]):
            return False
        better = super()._determine_best_metric(metrics, trial)
        if better and self.args.should_save:
            self.best_file.parent.mkdir(exist_ok=True)
            learned = {name: p.detach().cpu().contiguous() for name, p in trainable(self.model)}
            with whole_file(self.best_file) as partial:
                save_file(learned, partial)
        return better

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, {name: p.detach().clone() for name, p in trainable(self.model)})

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Say nothing of frozen weights, which checkpoints leave out on purpose."""


class LiveLog(transformers.TrainerCallback):
    """Append every logged step to `progress.jsonl` in the folder of a run, on its first process.

    Its first line names that process, so that a reader can tell whether it lives.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self._file = JsonLines(Path(folder) / PROGRESS_FILE)

    def on_train_begin(self, args, state, control, **_):
        """Log that training begins, at which step, and in which process."""
        process = psutil.Process()
        who = {"pid": process.pid, "started": process.create_time(), "boot": psutil.boot_time()}
        self._add(state, what="begin", steps=state.max_steps, process=who)

    def on_log(self, args, state, control, logs=None, **_):
        """Add one logged step."""
        kept = {
            name: float(value)
            for name, value in (logs or {}).items()
            if (name in LOGGED or name.startswith("eval_")) and isinstance(value, (int, float))
        }
        used = gpu_memory(args.device)
        memory = {"memory": used, "memory_as": "allocated on GPU, now"}
        if used is None:
            rss = psutil.Process().memory_info().rss
            memory = {"memory": rss, "memory_as": "of the process, now"}
        self._add(state, what="log", **kept, **memory)

    def on_train_end(self, args, state, control, **_):
        """Log that all steps are done."""
        self._add(state, what="end")

    def _add(self, state, **record: object) -> None:
        if state.is_world_process_zero:
            self._file.add({"step": state.global_step, "time": time.time(), **record})


class _LastEvaluation(transformers.TrainerCallback):
    """Evaluate at the last step, whatever the interval."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step >= state.max_steps:
            control.should_evaluate = True
            control.should_log = True
        return control


def arguments(
    recipe: Recipe, folder: Path, *, steps: int, device: torch.device, show: bool
) -> transformers.TrainingArguments:
    """Return what transformers is told of a run of `steps` optimiser steps."""
    training, world = recipe.training, world_size()
    per_step = training.batch_size // training.micro_batch
    if per_step % world:
        raise TrainingError(
            f"a step has {per_step} micro-batches, which {world} processes cannot share; set "
            f"training.micro_batch so that batch_size / micro_batch is a multiple of {world}"
        )
    precision = training.precision
    if precision == "auto":
        precision = training_precision(device)
    return transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=training.micro_batch,
        gradient_accumulation_steps=per_step // world,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        lr_scheduler_type=training.schedule,
        warmup_steps=math.ceil(training.warmup * steps),
        max_grad_norm=training.clip,
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
        use_cpu=on_cpu(device),
        seed=recipe.seed,
        eval_strategy="steps",
        eval_steps=math.ceil(steps / recipe.evaluation.times),
        save_steps=training.save_every,
        save_total_limit=2,
        logging_steps=max(steps // 200, 1),
        logging_nan_inf_filter=False,
        metric_for_best_model=recipe.metric,
        report_to=[],
        disable_tqdm=not show,
        dataloader_pin_memory=pins_memory(device),
        remove_unused_columns=False,
        ddp_find_unused_parameters=False,
        average_tokens_across_devices=True,
    )


def curves(trainer: FinetuneTrainer) -> list[dict[str, float]]:
    """Return one row per logged step: step, `LOGGED`, and measures where there were any."""
    rows: dict[int, dict[str, float]] = {}
    for entry in trainer.state.log_history:
        row = rows.setdefault(int(entry["step"]), {"step": int(entry["step"])})
        row |= {name: float(entry[name]) for name in LOGGED if name in entry}
        row |= {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_")}
    return [rows[step] for step in sorted(rows)]
