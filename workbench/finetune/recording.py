"""What every stage does around its own measuring: train to the best weights, and record the run.

Does not know: what is learned, or how it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from workbench.finetune.adapters import save_adapter
from workbench.finetune.cases import Case, phantom_case
from workbench.finetune.ledger import LEDGER_FILE, Ledger
from workbench.finetune.parts import frozen_sha256, parts_learned
from workbench.finetune.recipe import Recipe
from workbench.finetune.run_result import ADAPTER, Run
from workbench.finetune.session import (
    Cost,
    costing,
    last_checkpoint,
    process_rank,
    quiet,
    versions,
)
from workbench.finetune.trainer import BEST_FILE, FinetuneTrainer, curves, load_tensors
from workbench.model.load import LoadedCheckpoint


def train_to_best(
    trainer: FinetuneTrainer, out: Path, *, device: torch.device, resume: bool
) -> Cost | None:
    """Train, and take the best weights back; None on every process but the first.

    Args:
        trainer: ready to go.
        out: folder of the run.
        device: whose memory is measured.
        resume: go on from the newest whole checkpoint.
    """
    with quiet(), costing(device) as cost:
        checkpoint = last_checkpoint(out) if resume else None
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if process_rank() != 0:
        return None
    if (out / "best" / BEST_FILE).is_file():
        load_tensors(out / "best" / BEST_FILE, trainer.model)
    return cost


def recorded(
    recipe: Recipe,
    loaded: LoadedCheckpoint,
    trainer: FinetuneTrainer,
    out: Path,
    *,
    sha_before: str,
    cost: Cost,
    evidence: Mapping[str, Any],
    **measured: Any,
) -> Run:
    """Write ledger and adapter, the measures in its model card, and return the run.

    Args:
        recipe, loaded, trainer, out: of the run.
        sha_before: of what does not learn, before the first step.
        cost: of training.
        evidence: validation cases with what both models said of them.
        **measured: fields of `Ledger` that differ from stage to stage.
    """
    sha_after = frozen_sha256(loaded.model)
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
            "measure": recipe.metric,
            "step": trainer.state.best_global_step,
            "value": trainer.state.best_metric,
        },
        cost=_cost(loaded, trainer, cost),
        versions=versions(),
        **measured,
    )
    ledger.save(out / LEDGER_FILE)
    facts = card_facts(ledger)
    save_adapter(out / ADAPTER, loaded, recipe.tuning, name=recipe.name, facts=facts)
    return Run(out, recipe, ledger, evidence)


def card_facts(ledger: Ledger) -> dict[str, Any]:
    """Return what the model card says of a run."""
    rows = [
        {
            "what": row.skill,
            "n": row.n,
            "before": row.before,
            "after": row.after,
            "change": str(row.change),
        }
        for row in (*ledger.scores, *ledger.forgetting)
    ]
    data = {key: ledger.data[key] for key in ("source", "train", "validation", "digest")}
    return {"data": data, "scores": rows, "notes": list(ledger.notes)}


def probe_cases(recipe: Recipe) -> list[Case]:
    """Return drawn cases of the eight known findings, for the forgetting probe."""
    first = recipe.evaluation.seed
    return [phantom_case(seed) for seed in range(first, first + recipe.evaluation.forgetting)]


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
