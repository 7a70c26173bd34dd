"""What stages 2 and 3 need of the model that they train: turns as rows, and logits of answers.

CXR-LLaVA takes all turns of an image in one row. Any other model of transformers takes a turn as
its checkpoint's own processor and chat template give it, behind the prompt that it is asked with
later; rows are read one by one, so that none is padded, whatever its family does with a batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import torch
from torch.nn.utils.rnn import pad_sequence

from workbench.backends.transformers_vlm import Vlm
from workbench.backends.vlm_processor import render
from workbench.cases import Case
from workbench.errors import OptionError, TrainingError
from workbench.finetune.datasets import FeatureCache, Images, TurnRows
from workbench.finetune.encoding import Example, Student, encode_turns, example_of, pack_groups
from workbench.finetune.recipe import Recipe, TrainingRecipe
from workbench.finetune.turns import Turn
from workbench.interface import ChestXrayModel, CxrLlavaModel, TransformersModel
from workbench.model.prompt import IGNORE_LABEL, IMAGE_TOKEN_ID, Message


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
        found = [
            self._read(*row)[own[: len(row[2])]] for row, own in zip(rows, wanted, strict=True)
        ]
        return torch.cat(found), labels[wanted], about[wanted]

    def _read(
        self, pixels: torch.Tensor, prompt: torch.Tensor, answer: torch.Tensor
    ) -> torch.Tensor:
        """Return the logits (n, V) that each token of an answer is chosen from."""
        inputs: Mapping[str, torch.Tensor] = self.vlm.inputs(pixels[None])
        # what was kept in inference mode has no place in a graph
        own = {name: one.clone() if one.is_inference() else one for name, one in inputs.items()}
        return cast(torch.Tensor, self.vlm.logits(own, prompt.tolist(), answer.tolist()))[0]
