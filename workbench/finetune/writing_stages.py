"""Stages 2 and 3: projector alignment and instruction tuning, from a recipe to a ledger.

Paper: Lee et al., Eur Radiol 2025, section 2; Liu et al., Visual Instruction Tuning, NeurIPS 2023,
arXiv 2304.08485. Deviation: projector and language model may learn through LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench._store import read_json, whole_file
from workbench.cases import Case
from workbench.errors import TrainingError
from workbench.findings import PRESENT
from workbench.finetune.bases import base_of
from workbench.finetune.cases import CaseSet
from workbench.finetune.datasets import Images, TurnRows
from workbench.finetune.encoding import Example, Student
from workbench.finetune.ledger import SkillChange, write_json
from workbench.finetune.measuring import f1_changes, macro_f1, scored_findings, write_reports
from workbench.finetune.parts import prepare
from workbench.finetune.planner import need
from workbench.finetune.recipe import Recipe
from workbench.finetune.session import Stage, wait_for
from workbench.finetune.trainer import process_rank
from workbench.finetune.turns import InstructionSet, instruction_set, own_turns
from workbench.interface import ChestXrayModel

OWN_REPORTS = "own_reports.json"

#: Seconds that other processes wait for the reports of the first one.
_PATIENCE = 6 * 3600


class WritingStage(Stage):
    """Stage 2 or 3 of a recipe.

    Attributes:
        taught: the finding that is taught, if any.
        before: case -> report of the base; on the first process.
    """

    turns: InstructionSet
    rows: TurnRows

    def __init__(self, recipe: Recipe, out: Path, *, device: str, show: bool = False) -> None:
        super().__init__(recipe, out, device=device, show=show)
        self.base = base_of(self.model)
        phantoms = recipe.data.phantoms
        self.taught = taught = phantoms.finding if phantoms else None
        self.chosen = self.cases.validation[: recipe.evaluation.cases]
        self.findings = scored_findings(self.chosen, recipe.data.findings)
        shown = sorted(self.chosen, key=lambda case: case.code(taught or "") != PRESENT)
        self.explained = shown[: recipe.evaluation.explained]
        self.before: dict[str, str] = {}

    def prepare(self) -> tuple[Student, TurnRows]:
        """Let the base report; write, tokenise and order everything that will be learned from."""
        recipe, training, network = self.recipe, self.recipe.training, self.model.network
        if process_rank() == 0:
            self.before = self.reports(self.chosen, show=self.show)
        limit, unlabelled = recipe.evaluation.new_tokens, self.cases.unlabelled
        own = own_reports(self.model, unlabelled, self.out, new_tokens=limit, show=self.show)
        prepare(network, recipe.tuning, seed=recipe.seed)
        if training.checkpointing:
            options = {"gradient_checkpointing_kwargs": {"use_reentrant": False}}
            self.model.decoder.gradient_checkpointing_enable(**options)
            if recipe.tuning.vision != "frozen":
                self.model.vision.gradient_checkpointing_enable(**options)
        self.turns, examples = self.encoded(self.cases, own)
        images = Images(
            self.cases.learned, self.model.processor, augment=training.augment, seed=recipe.seed
        )
        self.rows = self.base.rows(examples, images, recipe, self.out)
        return self.base.student(training), self.rows

    def measure(self) -> dict[str, float]:
        """Return the macro F1 of findings in reports of the chosen cases."""
        return {"macro_f1": macro_f1(self.reports(self.chosen), self.chosen, self.findings)}

    def finish(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Save the adapter and let the trained model report."""
        self.save()
        before, after = self.before, self.reports(self.chosen, show=self.show)
        turns, cache, unlabelled = self.turns, self.rows.cache, len(self.cases.unlabelled)
        if self.base.note:
            self.notes.append(self.base.note)
        if turns.left_out:
            self.notes.append(f"{len(turns.left_out)} cases gave no turn")
        if unlabelled:
            self.notes.append(
                f"{unlabelled} images without labels: tied there to the base's own reports "
                f"({OWN_REPORTS})"
            )
        if self.taught:
            self.notes.append(
                f"{self.taught} was taught; scores are of validation cases that chose the "
                "checkpoint, so judge it on others"
            )
        data = {
            "unlabelled": unlabelled,
            "turns": turns.counts(),
            "left_out": dict(turns.left_out),
            "cleaned": sum(turn.original is not None for turn in turns.turns),
            "rows": len(self.rows),
        }
        measured = {
            "data": data,
            "scores": self._scores(before, after),
            "cache": {} if cache is None else {"computed": cache.computed, "found": cache.found},
        }
        rows = [{"before": before[case.id], "after": after[case.id]} for case in self.chosen]
        return rows, measured

    def predicted_memory(self) -> float:
        """Return what the planner says of the longest row."""
        recipe, network = self.recipe, self.model.network
        gpu = network.device.type == "cuda"
        wanted = need(
            network.config, recipe.tuning, checkpointing=recipe.training.checkpointing,
            keep=recipe.training.keep > 0, text_tokens=max(self.rows.lengths),
            dtype="bfloat16" if gpu else "float32", context=0.75e9 if gpu else 0.35e9,
        )  # fmt: skip
        return wanted.total(recipe.training.micro_batch)

    def reports(self, cases: Sequence[Case], *, show: bool = False) -> dict[str, str]:
        """Return case -> what the model says of it as it is now."""
        limit = self.recipe.evaluation.new_tokens
        model = self.model.under(self.model.card)
        return write_reports(model, cases, new_tokens=limit, show=show)

    def encoded(
        self, cases: CaseSet, own: Mapping[str, str]
    ) -> tuple[InstructionSet, list[Example]]:
        """Return the turns of cases and their tokens; `own` as from `own_reports`."""
        recipe, taught = self.recipe, self.taught
        turns = instruction_set(cases.train, recipe.data, taught=taught, seed=recipe.seed)
        if own and taught is not None:
            more = own_turns(cases, own, taught=taught, seed=recipe.seed)
            turns = replace(turns, turns=(*turns.turns, *more))
        return turns, self.base.examples(turns.turns, cases.learned)

    def _scores(
        self, before: Mapping[str, str], after: Mapping[str, str]
    ) -> tuple[SkillChange, ...]:
        """Return F1 of the taught finding and macro F1 of the others, before and after."""
        taught = self.taught
        titles = {f"F1 of {taught}": [taught]} if taught in self.findings else {}
        if others := [name for name in self.findings if name != taught]:
            titles["macro F1 of the other findings" if taught else "macro F1 of findings"] = others
        return tuple(
            f1_changes(title, before, after, self.chosen, names)[0]
            for title, names in titles.items()
        )


def own_reports(
    model: ChestXrayModel, cases: Sequence[Case], out: Path, *, new_tokens: int, show: bool
) -> dict[str, str]:
    """Return case -> what the base says of it, written once into the folder of a run.

    A resumed run and other processes read what lies there; `TrainingError` where it is of other
    images, or is not there in time.
    """
    if not cases:
        return {}
    path = out / OWN_REPORTS
    if process_rank() == 0 and not path.is_file():
        texts = write_reports(model, cases, new_tokens=new_tokens, show=show)
        with whole_file(path) as partial:
            write_json(partial, texts)
    wait_for(path, _PATIENCE)
    texts = read_json(path)
    if set(texts) != {case.id for case in cases}:
        raise TrainingError(f"{path} has reports of other images; name another folder")
    return texts
