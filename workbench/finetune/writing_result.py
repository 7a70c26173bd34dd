"""What a run of stages 2 and 3 comes to: adapter, evidence, ledger.

Does not know: how it was trained (`writing_stages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench._repr import short_repr
from workbench.findings import PRESENT
from workbench.finetune.adapters import save_adapter
from workbench.finetune.batches import PlannedBatches
from workbench.finetune.cases import Case, CaseSet
from workbench.finetune.datasets import TurnRows
from workbench.finetune.encoding import Example
from workbench.finetune.explaining import explained_rows
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
from workbench.finetune.recording import probe_cases, recorded
from workbench.finetune.run_result import ADAPTER, EVIDENCE_FILE, Run
from workbench.finetune.session import (
    Cost,
    open_base,
    write_json,
)
from workbench.finetune.trainer import FinetuneTrainer
from workbench.finetune.turns import InstructionSet
from workbench.finetune.unlabelled import OWN_REPORTS
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

    __repr__ = short_repr


def taught_finding(recipe: Recipe) -> str | None:
    """Return the finding that a recipe teaches, where it names one."""
    return recipe.data.phantoms.finding if recipe.data.phantoms else None


def validation_cases(recipe: Recipe, cases: CaseSet) -> list[Case]:
    """Return the cases that checkpoints are chosen by."""
    return list(cases.validation[: recipe.evaluation.cases])


def finished(
    recipe: Recipe, loaded: LoadedCheckpoint, prepared: Prepared, trainer: FinetuneTrainer,
    out: Path, before: dict[str, Any], sha_before: str, cost: Cost, show: bool,
) -> Run:  # fmt: skip
    """Measure what came out, write adapter, evidence and ledger."""
    save_adapter(out / ADAPTER, loaded, recipe.tuning, name=recipe.name)
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
    return recorded(
        recipe, loaded, trainer, out, sha_before=sha_before, cost=cost, evidence=evidence,
        data=_data_facts(prepared),
        memory=_memory(recipe, loaded, prepared, cost),
        scores=score_rows(before["texts"], after, chosen, findings, taught_finding(recipe)),
        forgetting=probes,
        explained=explained_rows(base, tuned, _looked_at(recipe, chosen)),
        cache=_cache_facts(prepared),
        notes=_notes(recipe, prepared, trainer),
    )  # fmt: skip


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
        "unlabelled": len(cases.unlabelled),
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
        config, recipe.tuning, checkpointing=recipe.training.checkpointing,
        keep=recipe.training.keep > 0, text_tokens=longest,
        dtype="bfloat16" if gpu else "float32", context=0.75e9 if gpu else 0.35e9,
    )  # fmt: skip
    return {
        "predicted": wanted.total(recipe.training.micro_batch),
        "measured": cost.memory,
        "as": cost.measured_as,
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
    if prepared.cases.unlabelled:
        notes.append(f"{len(prepared.cases.unlabelled)} images without labels: held there to the "
                     f"base's own reports ({OWN_REPORTS})")  # fmt: skip
    if taught := taught_finding(recipe):
        notes.append(f"{taught} was taught; scores are of validation cases that chose the "
                     "checkpoint, so judge it on others")  # fmt: skip
    return tuple(notes)
