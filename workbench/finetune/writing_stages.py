"""Stages 2 and 3: projector alignment and instruction tuning, from a recipe to a ledger.

Paper: Lee et al., Eur Radiol 2025, section 2; Liu et al., Visual Instruction Tuning, NeurIPS 2023,
arXiv 2304.08485. Deviation: projector and language model may learn through LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from workbench._repr import short_repr
from workbench._store import read_json, whole_file
from workbench.errors import TrainingError
from workbench.findings import PRESENT
from workbench.finetune.adapters import save_adapter
from workbench.finetune.cases import Case, CaseSet, gather
from workbench.finetune.datasets import Images, PlannedBatches, TurnRows, plan_batches
from workbench.finetune.encoding import Example, encode_turns, pack_groups
from workbench.finetune.feature_cache import FeatureCache
from workbench.finetune.ledger import ADAPTER, EVIDENCE_FILE, Run, SkillChange
from workbench.finetune.measuring import (
    explained_rows,
    f1_changes,
    facade,
    forgetting,
    macro_f1,
    scored_findings,
    write_reports,
)
from workbench.finetune.parts import frozen_sha256, prepare, weights_sha256
from workbench.finetune.planner import need
from workbench.finetune.preview import Preview, preview_rows
from workbench.finetune.recipe import Recipe
from workbench.finetune.session import (
    Cost,
    open_base,
    probe_cases,
    process_rank,
    recorded,
    train_to_best,
    wait_for,
    world_size,
    write_json,
)
from workbench.finetune.student import Student
from workbench.finetune.trainer import FinetuneTrainer, make_trainer
from workbench.finetune.turns import InstructionSet, instruction_set, own_turns
from workbench.model.load import LoadedCheckpoint

OWN_REPORTS = "own_reports.json"

#: Seconds that other processes wait for the reports of the first one.
_PATIENCE = 6 * 3600


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything that is decided before the first step.

    Attributes:
        recipe, loaded: of the run.
        cases: what is learned from and what chooses the checkpoint.
        turns: what is asked and answered.
        groups: examples of each row.
        dataset: the rows with their images.
        batches: their order.
    """

    recipe: Recipe = field(repr=False)
    loaded: LoadedCheckpoint = field(repr=False)
    cases: CaseSet
    turns: InstructionSet
    groups: tuple[tuple[Example, ...], ...]
    dataset: TurnRows
    batches: PlannedBatches

    __repr__ = short_repr

    @property
    def chosen(self) -> list[Case]:
        """The cases that checkpoints are chosen by."""
        return _validation_cases(self.recipe, self.cases)

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings that are scored."""
        return scored_findings(self.chosen, self.recipe.data.findings)


def train_writing(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    device: str,
    show: bool,
    callbacks: Sequence[TrainerCallback],
) -> Run | None:
    """Run stage 2 or 3; None on every process but the first."""
    loaded = open_base(recipe, device=device)
    cases = gather(recipe)
    limit, chosen = recipe.evaluation.new_tokens, _validation_cases(recipe, cases)
    before = {}
    if process_rank() == 0:
        before = write_reports(facade(loaded), chosen, new_tokens=limit, show=show)
    own = own_reports(loaded, cases.unlabelled, out, new_tokens=limit, show=show)
    prepare(loaded.model, recipe.tuning, seed=recipe.seed)
    _checkpointing(recipe, loaded)
    prepared = _prepare_rows(recipe, loaded, cases, own, out)
    sha_before = frozen_sha256(loaded.model)
    trainer = _trainer(prepared, out, show, callbacks)
    cost = train_to_best(trainer, out, device=loaded.model.device, resume=resume)
    if cost is None:
        return None
    loaded.model.eval()
    save_adapter(out / ADAPTER, loaded, recipe.tuning, name=recipe.name)
    after = write_reports(facade(loaded), chosen, new_tokens=limit, show=show)
    return _finished(prepared, trainer, out, before, after, sha_before, cost)


def own_reports(
    loaded: LoadedCheckpoint, cases: Sequence[Case], out: Path, *, new_tokens: int, show: bool
) -> dict[str, str]:
    """Return case -> what the base says of it, written once into the folder of the run.

    A resumed run and other processes read what lies there.

    Args:
        loaded: the base, before anything learns.
        new_tokens: longest report, tokens.

    Raises:
        TrainingError: the file is of other images, or the first process did not write it in time.
    """
    if not cases:
        return {}
    path = out / OWN_REPORTS
    if process_rank() == 0 and not path.is_file():
        texts = write_reports(facade(loaded), cases, new_tokens=new_tokens, show=show)
        with whole_file(path) as partial:
            write_json(partial, texts)
    wait_for(path, seconds=_PATIENCE)
    texts = read_json(path)
    if set(texts) != {case.id for case in cases}:
        raise TrainingError(f"{path} has reports of other images; name another folder")
    return texts


def preview_of(recipe: Recipe, *, rows: int, device: str) -> Preview:
    """Return what the model will see of the first turns of each task.

    Of images without labels, the base reports only as many as are shown.
    """
    loaded, cases = open_base(recipe, device=device), gather(recipe)
    unlabelled = len(cases.unlabelled)
    cases = replace(cases, unlabelled=cases.unlabelled[: max(rows // 2, 1)])
    limit = recipe.evaluation.new_tokens
    own = write_reports(facade(loaded), cases.unlabelled, new_tokens=limit) if unlabelled else {}
    turns, examples = _encoded(recipe, loaded, cases, own)
    first: dict[str, list[Example]] = {}
    for example in examples:
        first.setdefault(example.turn.task, []).append(example)
    each = max(rows // len(first), 1)
    counts = turns.counts() | ({"own report": unlabelled} if unlabelled else {})
    shown = [example for found in first.values() for example in found[:each]]
    return Preview(
        preview_rows(shown, loaded.tokenizer), loaded.model.config.image_tokens,
        counts, cases.counts(), recipe.training.taught_weight, recipe.training.keep,
    )  # fmt: skip


def _taught_finding(recipe: Recipe) -> str | None:
    return recipe.data.phantoms.finding if recipe.data.phantoms else None


def _validation_cases(recipe: Recipe, cases: CaseSet) -> list[Case]:
    """Return the cases that checkpoints are chosen by."""
    return list(cases.validation[: recipe.evaluation.cases])


def _prepare_rows(
    recipe: Recipe, loaded: LoadedCheckpoint, cases: CaseSet, own: Mapping[str, str], out: Path
) -> Prepared:
    """Write, tokenise and order everything that will be learned from."""
    training, config = recipe.training, loaded.model.config
    turns, examples = _encoded(recipe, loaded, cases, own)
    together = training.batching == "packed"
    sizes = {"image_tokens": config.image_tokens, "context": config.context_length}
    groups = pack_groups(examples, **sizes) if together else [[one] for one in examples]
    images = Images(cases.learned, loaded.processor, augment=training.augment, seed=recipe.seed)
    cache = None
    if training.feature_cache:
        tower = loaded.model.vision
        encoder = weights_sha256(tower.state_dict().items())
        folder = out / f"features-{encoder[:12]}"
        cache = FeatureCache.open(folder, tower, loaded.processor, encoder=encoder)
    dataset = TurnRows(
        groups, images, cache=cache, pad_id=loaded.tokenizer.pad_id,
        image_tokens=config.image_tokens, together=together, untaught=training.keep > 0,
    )  # fmt: skip
    batches = plan_batches(
        dataset.lengths, micro=training.micro_batch, batch=training.batch_size,
        epochs=training.epochs, seed=recipe.seed,
    )  # fmt: skip
    return Prepared(recipe, loaded, cases, turns, tuple(map(tuple, groups)), dataset, batches)


def _encoded(
    recipe: Recipe, loaded: LoadedCheckpoint, cases: CaseSet, own: Mapping[str, str]
) -> tuple[InstructionSet, list[Example]]:
    """Return the turns of cases and their tokens; `own` as from `own_reports`."""
    taught = _taught_finding(recipe)
    turns = instruction_set(cases.train, recipe.data, taught=taught, seed=recipe.seed)
    if own and taught is not None:
        more = own_turns(cases, own, taught=taught, seed=recipe.seed)
        turns = replace(turns, turns=(*turns.turns, *more))
    rows = {case.id: at for at, case in enumerate(cases.learned)}
    config = loaded.model.config
    return turns, encode_turns(
        turns.turns, rows, loaded.tokenizer,
        image_tokens=config.image_tokens, context=config.context_length,
    )  # fmt: skip


def _checkpointing(recipe: Recipe, loaded: LoadedCheckpoint) -> None:
    if recipe.training.checkpointing:
        options = {"gradient_checkpointing_kwargs": {"use_reentrant": False}}
        loaded.model.get_decoder().gradient_checkpointing_enable(**options)
        if recipe.tuning.vision != "frozen":
            loaded.model.get_encoder("image").gradient_checkpointing_enable(**options)


def _trainer(
    prepared: Prepared, out: Path, show: bool, callbacks: Sequence[TrainerCallback]
) -> FinetuneTrainer:
    recipe, loaded = prepared.recipe, prepared.loaded
    chosen, findings = prepared.chosen, prepared.findings

    def measure() -> dict[str, float]:
        texts = write_reports(facade(loaded), chosen, new_tokens=recipe.evaluation.new_tokens)
        return {"macro_f1": macro_f1(texts, chosen, findings)}

    training = recipe.training
    student = Student(loaded.model, taught_weight=training.taught_weight, keep=training.keep)
    return make_trainer(
        recipe, student, prepared.dataset, prepared.dataset.collate,
        prepared.batches, measure, out, device=loaded.model.device, world=world_size(), show=show,
        callbacks=callbacks,
    )  # fmt: skip


def _finished(
    prepared: Prepared,
    trainer: FinetuneTrainer,
    out: Path,
    before: Mapping[str, str],
    after: Mapping[str, str],
    sha_before: str,
    cost: Cost,
) -> Run:
    """Measure what came out, write evidence and ledger."""
    recipe, loaded = prepared.recipe, prepared.loaded
    chosen, findings = prepared.chosen, prepared.findings
    cases = {
        case.id: {
            "patient": case.patient,
            "codes": dict(case.codes),
            "before": before[case.id],
            "after": after[case.id],
        }
        for case in chosen
    }
    evidence = {"findings": list(findings), "cases": cases}
    write_json(out / EVIDENCE_FILE, evidence)
    base = facade(open_base(recipe, device=str(loaded.model.device)))
    tuned = facade(loaded, name=f"{loaded.card.name} + {recipe.name}")
    cache = prepared.dataset.cache
    return recorded(
        recipe, loaded, trainer, out, sha_before=sha_before, cost=cost,
        predicted=_predicted_memory(prepared), evidence=evidence,
        data=_data_facts(prepared),
        scores=_scores(before, after, chosen, findings, _taught_finding(recipe)),
        forgetting=forgetting(base, tuned, probe_cases(recipe)),
        explained=explained_rows(base, tuned, _looked_at(recipe, chosen)),
        cache={} if cache is None else {"computed": cache.computed, "found": cache.found},
        notes=_notes(prepared, trainer),
    )  # fmt: skip


def _scores(
    before: Mapping[str, str],
    after: Mapping[str, str],
    cases: Sequence[Case],
    findings: Sequence[str],
    taught: str | None,
) -> tuple[SkillChange, ...]:
    """Return F1 of the taught finding and macro F1 of the others, before and after."""
    others = tuple(name for name in findings if name != taught)
    titles = {}
    if taught in findings:
        titles[f"F1 of {taught}"] = (taught,)
    if others:
        titles["macro F1 of the other findings" if taught else "macro F1 of findings"] = others
    return tuple(
        f1_changes(title, before, after, cases, names)[0] for title, names in titles.items()
    )


def _looked_at(recipe: Recipe, cases: Sequence[Case]) -> list[Case]:
    """Return the cases that are explained: those with the taught finding first."""
    taught = _taught_finding(recipe)
    order = sorted(cases, key=lambda case: taught is None or case.code(taught) != PRESENT)
    return order[: recipe.evaluation.explained]


def _data_facts(prepared: Prepared) -> dict[str, Any]:
    turns = prepared.turns
    return prepared.cases.facts() | {
        "unlabelled": len(prepared.cases.unlabelled),
        "turns": turns.counts(),
        "left_out": dict(turns.left_out),
        "cleaned": sum(turn.original is not None for turn in turns.turns),
        "rows": len(prepared.groups),
    }


def _predicted_memory(prepared: Prepared) -> float:
    """Return bytes."""
    recipe, loaded = prepared.recipe, prepared.loaded
    gpu = loaded.model.device.type == "cuda"
    wanted = need(
        loaded.model.config, recipe.tuning, checkpointing=recipe.training.checkpointing,
        keep=recipe.training.keep > 0, text_tokens=max(prepared.dataset.lengths),
        dtype="bfloat16" if gpu else "float32", context=0.75e9 if gpu else 0.35e9,
    )  # fmt: skip
    return wanted.total(recipe.training.micro_batch)


def _notes(prepared: Prepared, trainer: FinetuneTrainer) -> tuple[str, ...]:
    notes = list(prepared.cases.notes)
    done, steps = trainer.state.global_step, trainer.state.max_steps
    if done < steps:
        notes.append(f"stopped early at step {done} of {steps}")
    if prepared.turns.left_out:
        notes.append(f"{len(prepared.turns.left_out)} cases gave no turn")
    if prepared.cases.unlabelled:
        notes.append(
            f"{len(prepared.cases.unlabelled)} images without labels: tied there to the base's own "
            f"reports ({OWN_REPORTS})"
        )
    if taught := _taught_finding(prepared.recipe):
        notes.append(
            f"{taught} was taught; scores are of validation cases that chose the checkpoint, so "
            "judge it on others"
        )
    return tuple(notes)
