"""What a run of stages 2 and 3 comes to: adapter, evidence, ledger.

Does not know: how it was trained (`writing_stages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.findings import PRESENT
from workbench.finetune.adapters import save_adapter
from workbench.finetune.batches import PlannedBatches
from workbench.finetune.cases import Case, CaseSet, phantom_case
from workbench.finetune.datasets import TurnRows
from workbench.finetune.encoding import Example
from workbench.finetune.explaining import explained_rows
from workbench.finetune.ledger import LEDGER_FILE, Ledger
from workbench.finetune.measuring import (
    ProbeRow,
    card_difference,
    facade,
    forgetting,
    report_card,
    scored_findings,
    write_reports,
)
from workbench.finetune.planner import need
from workbench.finetune.recipe import Recipe
from workbench.finetune.run_result import ADAPTER, EVIDENCE_FILE, Run
from workbench.finetune.session import (
    Cost,
    frozen_sha256,
    open_base,
    parts_learned,
    versions,
    write_json,
)
from workbench.finetune.trainer import FinetuneTrainer, curves
from workbench.finetune.turns import InstructionSet
from workbench.model.load import LoadedCheckpoint


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that is decided before the first step.

    Attributes:
        cases: who is learned from and who chooses the checkpoint.
        turns: what is asked and answered.
        groups: examples of each row.
        dataset: the rows with their images.
        batches: their order.
    """

    cases: CaseSet
    turns: InstructionSet
    groups: tuple[tuple[Example, ...], ...]
    dataset: TurnRows
    batches: PlannedBatches


def taught_finding(recipe: Recipe) -> str | None:
    """Return the finding that a recipe teaches, where it names one."""
    return recipe.data.phantoms.finding if recipe.data.phantoms else None


def validation_cases(recipe: Recipe, cases: CaseSet) -> list[Case]:
    """Return the cases that checkpoints are chosen by."""
    return list(cases.validation[: recipe.evaluation.cases])


def probe_cases(recipe: Recipe) -> list[Case]:
    """Return drawn cases of the eight known findings, for the forgetting probe."""
    first = recipe.evaluation.seed
    return [phantom_case(seed) for seed in range(first, first + recipe.evaluation.forgetting)]


def finished(
    recipe: Recipe, loaded: LoadedCheckpoint, prepared: Prepared, trainer: FinetuneTrainer,
    out: Path, before: dict[str, Any], sha_before: str, cost: Cost, show: bool,
) -> Run:  # fmt: skip
    """Measure what came out, write adapter, evidence and ledger."""
    adapter = save_adapter(out / ADAPTER, loaded, recipe.tuning, name=recipe.name)
    sha_after = frozen_sha256(loaded.model)
    chosen = validation_cases(recipe, prepared.cases)
    limit = recipe.evaluation.new_tokens
    after = write_reports(facade(loaded), chosen, new_tokens=limit, show=show)
    findings = scored_findings(chosen, recipe.data.findings)
    evidence = {
        "findings": list(findings),
        "cases": {
            case.id: {
                "patient": case.patient,
                "codes": dict(case.codes),
                "before": before["texts"][case.id],
                "after": after[case.id],
            }
            for case in chosen
        },
    }
    write_json(out / EVIDENCE_FILE, evidence)
    base = facade(open_base(recipe, device=str(loaded.model.device)))
    tuned = facade(loaded, name=f"{loaded.card.name} + {recipe.name}")
    probes = forgetting(base, tuned, probe_cases(recipe)) if recipe.evaluation.forgetting else ()
    looked = explained_rows(base, tuned, _looked_at(recipe, chosen))
    ledger = Ledger(
        name=recipe.name,
        stage=recipe.stage,
        base={"name": loaded.card.name, "sha256": dict(loaded.card.sha256s)},
        recipe=recipe.to_dict(),
        trainable=parts_learned(loaded.model),
        parameters=loaded.card.parameters["total"],
        data=_data_facts(prepared),
        frozen={"before": sha_before, "after": sha_after, "equal": sha_before == sha_after},
        curves=curves(trainer),
        best={"measure": recipe.metric, "step": trainer.state.best_global_step,
              "value": trainer.state.best_metric},
        memory=_memory(recipe, loaded, prepared, cost),
        cost=_cost(recipe, loaded, trainer, cost),
        scores=score_rows(before["texts"], after, chosen, findings, taught_finding(recipe)),
        forgetting=probes,
        explained=looked,
        cache=_cache_facts(prepared),
        versions=versions(),
        notes=_notes(recipe, prepared, trainer),
    )  # fmt: skip
    ledger.save(out / LEDGER_FILE)
    save_adapter(adapter, loaded, recipe.tuning, name=recipe.name, facts=card_facts(ledger))
    return Run(out, recipe, ledger, evidence)


def score_rows(
    before: dict[str, str], after: dict[str, str], cases: Sequence[Case],
    findings: Sequence[str], taught: str | None,
) -> tuple[ProbeRow, ...]:  # fmt: skip
    """Return F1 of the taught finding and macro F1 of the others, before and after."""
    groups = [("F1 of " + name, (name,)) for name in findings if name == taught]
    others = tuple(name for name in findings if name != taught)
    if others:
        title = "macro F1 of the other findings" if taught else "macro F1 of findings"
        groups.append((title, others))
    rows = []
    for title, names in groups:
        cards = [report_card(texts, cases, names, name=when)
                 for when, texts in (("before", before), ("after", after))]  # fmt: skip
        macro = card_difference(*cards).averages["macro"]
        rows.append(ProbeRow(title, len(cases), macro.f1_b, macro.f1_a, macro.difference))
    return tuple(rows)


def card_facts(ledger: Ledger) -> dict[str, Any]:
    """Return what the model card says of a run."""
    rows = [
        {"what": row.skill, "n": row.n, "before": row.before, "after": row.after,
         "change": str(row.change)}
        for row in (*ledger.scores, *ledger.forgetting)
    ]  # fmt: skip
    data = {key: ledger.data[key] for key in ("source", "train", "validation", "digest")}
    return {"data": data, "scores": rows, "notes": list(ledger.notes)}


def _looked_at(recipe: Recipe, cases: Sequence[Case]) -> list[Case]:
    """Return the cases that are explained: those with the taught finding first."""
    taught = taught_finding(recipe)
    order = sorted(cases, key=lambda case: taught is None or case.code(taught) != PRESENT)
    return order[: recipe.evaluation.explained]


def _data_facts(prepared: Prepared) -> dict[str, Any]:
    cases = prepared.cases
    return {
        "source": cases.source,
        "digest": cases.digest,
        "train": len(cases.train),
        "validation": len(cases.validation),
        "patients": len({case.patient for case in cases.train}),
        "turns": prepared.turns.counts(),
        "left_out": dict(prepared.turns.left_out),
        "cleaned": sum(turn.original is not None for turn in prepared.turns.turns),
        "findings": cases.counts(),
        "rows": len(prepared.groups),
    }


def _memory(
    recipe: Recipe, loaded: LoadedCheckpoint, prepared: Prepared, cost: Cost
) -> dict[str, Any]:
    config = loaded.model.config
    longest = max(prepared.dataset.lengths)
    gpu = loaded.model.device.type == "cuda"
    wanted = need(
        config, recipe.tuning, checkpointing=recipe.training.checkpointing, text_tokens=longest,
        dtype="bfloat16" if gpu else "float32", context=0.75e9 if gpu else 0.35e9,
    )  # fmt: skip
    return {
        "predicted": wanted.total(recipe.training.micro_batch),
        "measured": cost.memory,
        "as": cost.measured_as,
    }


def _cost(
    recipe: Recipe, loaded: LoadedCheckpoint, trainer: FinetuneTrainer, cost: Cost
) -> dict[str, Any]:
    args = trainer.args
    return {
        "seconds": cost.seconds,
        "cpu_seconds": cost.cpu_seconds,
        "steps": trainer.state.global_step,
        "processes": trainer.accelerator.num_processes,
        "precision": "bfloat16" if args.bf16 else "float16" if args.fp16 else "float32",
        "device": str(loaded.model.device),
    }


def _cache_facts(prepared: Prepared) -> dict[str, int]:
    cache = prepared.dataset.cache
    return {} if cache is None else {"computed": cache.computed, "found": cache.found}


def _notes(recipe: Recipe, prepared: Prepared, trainer: FinetuneTrainer) -> tuple[str, ...]:
    notes = list(prepared.cases.notes)
    if trainer.state.global_step < trainer.state.max_steps:
        notes.append(f"stopped early at step {trainer.state.global_step} of "
                     f"{trainer.state.max_steps}")  # fmt: skip
    if prepared.turns.left_out:
        notes.append(f"{len(prepared.turns.left_out)} cases gave no turn")
    if taught := taught_finding(recipe):
        notes.append(f"{taught} was taught; scores are of validation cases that chose the "
                     "checkpoint, so judge it on others")  # fmt: skip
    return tuple(notes)
