"""Stages 2 and 3: projector alignment and instruction tuning, from a recipe to a ledger.

Does not know: stage 1 (`finding_stage`).
Paper: Lee et al., Eur Radiol 2025, section 2; Liu et al., Visual Instruction Tuning, NeurIPS 2023,
arXiv 2304.08485. Deviation: projector and language model may learn through LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench.finetune.batches import plan_batches
from workbench.finetune.cases import CaseSet, gather
from workbench.finetune.datasets import Images, TurnRows
from workbench.finetune.encoding import Example, encode_turns, pack_groups
from workbench.finetune.feature_cache import FeatureCache
from workbench.finetune.measuring import (
    facade,
    macro_f1,
    scored_findings,
    write_reports,
)
from workbench.finetune.parts import frozen_sha256, prepare, weights_sha256
from workbench.finetune.preview import Preview, preview_rows
from workbench.finetune.recipe import Recipe
from workbench.finetune.recording import train_to_best
from workbench.finetune.run_result import Run
from workbench.finetune.session import (
    open_base,
    process_rank,
    world_size,
)
from workbench.finetune.student import Student
from workbench.finetune.trainer import (
    FinetuneTrainer,
    make_trainer,
)
from workbench.finetune.turns import InstructionSet, instruction_set
from workbench.finetune.unlabelled import own_reports, own_turns
from workbench.finetune.writing_result import (
    Prepared,
    finished,
    taught_finding,
    validation_cases,
)
from workbench.model.load import LoadedCheckpoint


def train_writing(
    recipe: Recipe, out: Path, *, resume: bool, device: str, show: bool, callbacks: Sequence[Any]
) -> Run | None:
    """Run stage 2 or 3; None on every process but the first."""
    loaded = open_base(recipe, device=device)
    cases = gather(recipe)
    before = _before(recipe, loaded, cases, show) if process_rank() == 0 else {}
    limit = recipe.evaluation.new_tokens
    own = own_reports(loaded, cases.unlabelled, out, new_tokens=limit, show=show)
    prepare(loaded.model, recipe.tuning, seed=recipe.seed)
    _checkpointing(recipe, loaded)
    prepared = prepare_rows(recipe, loaded, cases, own, out)
    sha_before = frozen_sha256(loaded.model)
    trainer = _trainer(recipe, loaded, prepared, out, show, callbacks)
    cost = train_to_best(trainer, out, device=loaded.model.device, resume=resume)
    if cost is None:
        return None
    loaded.model.eval()
    return finished(recipe, loaded, prepared, trainer, out, before, sha_before, cost, show)


def prepare_rows(
    recipe: Recipe, loaded: LoadedCheckpoint, cases: CaseSet, own: Mapping[str, str], out: Path
) -> Prepared:
    """Write, tokenise and order everything that will be learned from."""
    training, config = recipe.training, loaded.model.config
    turns, examples = encoded(recipe, loaded, cases, own)
    together = training.batching == "packed"
    sizes = {"image_tokens": config.image_tokens, "context": config.context_length}
    groups = pack_groups(examples, **sizes) if together else [[one] for one in examples]
    images = Images(cases.learned, loaded.processor, augment=training.augment, seed=recipe.seed)
    cache = None
    if training.feature_cache:
        tower = loaded.model.vision_tower
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
    return Prepared(cases, turns, tuple(map(tuple, groups)), dataset, batches)


def encoded(
    recipe: Recipe, loaded: LoadedCheckpoint, cases: CaseSet, own: Mapping[str, str]
) -> tuple[InstructionSet, list[Example]]:
    """Return the turns of cases and their tokens; `own` as from `own_reports`."""
    taught = taught_finding(recipe)
    turns = instruction_set(cases.train, recipe.data, taught=taught, seed=recipe.seed)
    if own:
        held = own_turns(cases, own, taught=taught, seed=recipe.seed)
        turns = replace(turns, turns=(*turns.turns, *held))
    rows = {case.id: at for at, case in enumerate(cases.learned)}
    config = loaded.model.config
    return turns, encode_turns(
        turns.turns, rows, loaded.tokenizer,
        image_tokens=config.image_tokens, context=config.context_length,
    )  # fmt: skip


def preview_of(recipe: Recipe, *, rows: int, device: str) -> Preview:
    """Return what the model will see of the first turns of each task.

    Of images without labels, the base reports only as many as are shown.
    """
    loaded, cases = open_base(recipe, device=device), gather(recipe)
    unlabelled = len(cases.unlabelled)
    cases = replace(cases, unlabelled=cases.unlabelled[: max(rows // 2, 1)])
    limit = recipe.evaluation.new_tokens
    own = write_reports(facade(loaded), cases.unlabelled, new_tokens=limit) if unlabelled else {}
    turns, examples = encoded(recipe, loaded, cases, own)
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


def _checkpointing(recipe: Recipe, loaded: LoadedCheckpoint) -> None:
    if recipe.training.checkpointing:
        options = {"gradient_checkpointing_kwargs": {"use_reentrant": False}}
        loaded.model.llama.gradient_checkpointing_enable(**options)
        if recipe.tuning.vision != "frozen":
            loaded.model.vision_tower.gradient_checkpointing_enable(**options)


def _trainer(
    recipe: Recipe, loaded: LoadedCheckpoint, prepared: Prepared, out: Path, show: bool,
    callbacks: Sequence[Any],
) -> FinetuneTrainer:  # fmt: skip
    chosen = validation_cases(recipe, prepared.cases)
    findings = scored_findings(chosen, recipe.data.findings)

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


def _before(recipe: Recipe, loaded: LoadedCheckpoint, cases: CaseSet, show: bool) -> dict[str, Any]:
    """Write what the base says of the validation cases."""
    chosen, limit = validation_cases(recipe, cases), recipe.evaluation.new_tokens
    return {"texts": write_reports(facade(loaded), chosen, new_tokens=limit, show=show)}
