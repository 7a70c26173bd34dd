"""Stages 2 and 3: projector alignment and instruction tuning, from a recipe to a ledger.

CXR-LLaVA takes all turns of an image in one row. Any other model of transformers takes a turn as
its checkpoint's own processor and chat template give it, behind the prompt that it is asked with
later; rows are read one by one, so that none is padded, whatever its family does with a batch.

Paper: Lee et al., Eur Radiol 2025, section 2; Liu et al., Visual Instruction Tuning, NeurIPS 2023,
arXiv 2304.08485. Deviation: projector and language model may learn through LoRA.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn.utils.rnn import pad_sequence

from workbench._store import read_json, whole_file, write_json
from workbench.backends.transformers_vlm import Vlm
from workbench.backends.vlm_processor import render
from workbench.cases import Case
from workbench.errors import OptionError, TrainingError
from workbench.findings import PRESENT
from workbench.finetune.cases import CaseSet
from workbench.finetune.datasets import FeatureCache, Images, TurnRows
from workbench.finetune.encoding import Example, Student, encode_turns, example_of, pack_groups
from workbench.finetune.ledger import SkillChange
from workbench.finetune.measuring import f1_changes, macro_f1, scored_findings, write_reports
from workbench.finetune.parts import prepare
from workbench.finetune.planner import need
from workbench.finetune.recipe import Recipe, TrainingRecipe
from workbench.finetune.session import Stage, wait_for
from workbench.finetune.trainer import process_rank
from workbench.finetune.turns import InstructionSet, Turn, instruction_set, own_turns
from workbench.interface import ChestXrayModel, CxrLlavaModel, TransformersModel
from workbench.model.placement import on_cpu
from workbench.model.prompt import IGNORE_LABEL, IMAGE_TOKEN_ID, Message

OWN_REPORTS = "own_reports.json"

#: Seconds that other processes wait for the reports of the first one.
_PATIENCE = 6 * 3600


class Base(ABC):
    """A model as stages 2 and 3 train it.

    Attributes:
        image_id, positions: the id of an image in the ids of an example, and for how many positions
            one such id stands.
        note: what a person should know of its rows; empty for nothing.
    """

    image_id: int
    positions: int
    note: str = ""

    def __init__(self, model: ChestXrayModel) -> None:
        self.model = model

    @abstractmethod
    def examples(self, turns: Sequence[Turn], cases: Sequence[Case]) -> list[Example]:
        """Return turns as token ids; `ContextBudgetError` where one is too long."""

    @abstractmethod
    def rows(self, examples: list[Example], images: Images, recipe: Recipe, out: Path) -> TurnRows:
        """Return the rows of a run; `out` is its folder."""

    @abstractmethod
    def student(self, training: TrainingRecipe) -> Student:
        """Return the prepared network with its loss."""


def base_of(model: ChestXrayModel) -> Base:
    """Return a model as stages train it; `OptionError` where it is behind an endpoint."""
    if isinstance(model, CxrLlavaModel):
        return CxrLlavaBase(model)
    if isinstance(model, TransformersModel):
        return TransformersBase(model)
    raise OptionError(
        f"{model.identity.id} is behind an endpoint and cannot be trained; give the directory of "
        "its checkpoint as base"
    )


class CxrLlavaBase(Base):
    """CXR-LLaVA: all turns of an image in one row, on cached features where asked."""

    model: CxrLlavaModel
    image_id = IMAGE_TOKEN_ID

    def __init__(self, model: CxrLlavaModel) -> None:
        super().__init__(model)
        self.positions = model.network.config.image_tokens

    def examples(self, turns: Sequence[Turn], cases: Sequence[Case]) -> list[Example]:
        rows = {case.id: at for at, case in enumerate(cases)}
        return encode_turns(
            turns, rows, self.model.tokenizer, image_tokens=self.positions,
            context=self.model.network.config.context_length,
        )  # fmt: skip

    def rows(self, examples: list[Example], images: Images, recipe: Recipe, out: Path) -> TurnRows:
        training, context = recipe.training, self.model.network.config.context_length
        groups = [[example] for example in examples]
        if training.batching == "packed":
            groups = pack_groups(examples, image_tokens=self.positions, context=context)
        cache = None
        if training.feature_cache:
            cache = FeatureCache(out / "features", self.model.vision)
        return TurnRows(groups, images, cache, self.positions, untaught=training.keep > 0)

    def student(self, training: TrainingRecipe) -> Student:
        network = self.model.network
        return Student(network, taught_weight=training.taught_weight, keep=training.keep)


class TransformersBase(Base):
    """Any other model of transformers: one turn in a row."""

    model: TransformersModel
    positions = 1
    note = "each turn was read with its image: only CXR-LLaVA takes several turns in one row"

    def __init__(self, model: TransformersModel) -> None:
        super().__init__(model)
        self.image_id = model.image_id

    def examples(self, turns: Sequence[Turn], cases: Sequence[Case]) -> list[Example]:
        rows, found = {case.id: at for at, case in enumerate(cases)}, []
        prompts: dict[tuple[object, ...], tuple[int, ...]] = {}
        model, context = self.model, self.model.card.context_length
        for case, mine in groupby(turns, key=lambda turn: turn.case):
            pixels = model.pixels(cases[rows[case]].load())
            for turn in mine:
                messages = turn.messages(model.prompts)
                asked = (*pixels.shape, *messages)
                if asked not in prompts:  # of an image its size alone decides
                    prompts[asked] = model.prompt_ids(messages, pixels)
                ids = prompts[asked], self.answer_ids(messages, turn.answer)
                found.append(example_of(turn, rows[case], *ids, model.tokenizer, context))
        return found

    def answer_ids(self, messages: Sequence[Message], answer: str) -> tuple[int, ...]:
        """Return the ids that follow a prompt up to the end of an answer, as the template has it.

        The end is the first token behind the answer that ends a text when the model writes; where
        the template has none, it is the tokenizer's.
        """
        processor, ends = self.model.own_processor, self.model.end_ids
        prompt, whole = (render(processor, messages, text) for text in (None, answer))
        if not whole.startswith(prompt) or answer not in whole[len(prompt) :]:
            whole = prompt + answer
        ids = self._behind(prompt, whole)
        stop = next((at for at, one in enumerate(ids) if one in ends), None)
        if stop is not None:
            return ids[: stop + 1]
        whole = whole[: whole.rindex(answer) + len(answer)]
        return (*self._behind(prompt, whole), self.model.tokenizer.eos_id)

    def _behind(self, prompt: str, whole: str) -> tuple[int, ...]:
        """Return the ids of a text behind a prompt; read together where that splits the prompt."""
        encode = self.model.tokenizer.encode
        first, both = encode(prompt), encode(whole)
        if both[: len(first)] == first:
            return tuple(both[len(first) :])
        return tuple(encode(whole[len(prompt) :]))

    def rows(self, examples: list[Example], images: Images, recipe: Recipe, out: Path) -> TurnRows:
        if recipe.training.feature_cache:
            raise TrainingError(
                f"features of {self.model.card.name} cannot be cached, only those of CXR-LLaVA; "
                "set training.feature_cache to false"
            )
        groups, keep = [[example] for example in examples], recipe.training.keep > 0
        return SingleRows(groups, images, None, 1, untaught=keep)

    def student(self, training: TrainingRecipe) -> Student:
        how = {"taught_weight": training.taught_weight, "keep": training.keep}
        return SingleStudent(self.model, **how)


class SingleRows(TurnRows):
    """Rows of one turn each, of images of any size."""

    def texts(self, groups: Sequence[Sequence[Example]]) -> dict[str, Any]:
        """Return labels and about (B, L) of the answers, padded, and what is read of each row."""
        each = [group[0] for group in groups]
        cut = [one.answer_start for one in each]
        labels = [torch.tensor(one.labels[at:]) for one, at in zip(each, cut, strict=True)]
        about = [torch.tensor(one.about) for one in each]
        return {
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE_LABEL),
            "about": pad_sequence(about, batch_first=True),
            "prompts": [torch.tensor(one.ids[:at]) for one, at in zip(each, cut, strict=True)],
            "answers": [torch.tensor(one.ids[at:]) for one, at in zip(each, cut, strict=True)],
        }

    def seen(self, images: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Return the images of a batch, each of its own size."""
        return list(images)


class SingleStudent(Student):
    """`Student` on rows of one turn each: the network's own forward pass, as in teacher forcing."""

    def __init__(self, vlm: Vlm, *, taught_weight: float = 1.0, keep: float = 0.0) -> None:
        super().__init__(vlm.network, taught_weight=taught_weight, keep=keep)
        self.vlm = vlm

    def _answers(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        labels: torch.Tensor,
        about: torch.Tensor,
        *,
        pixel_values: Sequence[torch.Tensor],
        prompts: Sequence[torch.Tensor],
        answers: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows = zip(pixel_values, prompts, answers, strict=True)
        wanted = labels != IGNORE_LABEL
        read = [self._read(*row) for row in rows]
        pairs = zip(read, wanted.to(read[0].device), strict=True)
        logits = torch.cat([one[own[: len(one)]] for one, own in pairs])
        return logits, labels[wanted], about[wanted]

    def _read(
        self, pixels: torch.Tensor, prompt: torch.Tensor, answer: torch.Tensor
    ) -> torch.Tensor:
        """Return the logits (n, V) that each token of an answer is chosen from."""
        inputs: Mapping[str, torch.Tensor] = self.vlm.inputs(pixels[None])
        # what was kept in inference mode has no place in a graph
        own = {name: one.clone() if one.is_inference() else one for name, one in inputs.items()}
        return cast(torch.Tensor, self.vlm.logits(own, prompt.tolist(), answer.tolist()))[0]


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
        wanted = need(
            network.config, recipe.tuning, checkpointing=recipe.training.checkpointing,
            keep=recipe.training.keep > 0, text_tokens=max(self.rows.lengths),
            cpu=on_cpu(network.device),
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
