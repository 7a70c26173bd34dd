"""Turns as token ids with the answers marked, and rows of a batch.

Two forms give the same loss: "bucketed" has one turn in a row, rows of like length together and
padded; "packed" has all turns of an image in one row behind a shared prefix, kept apart by mask and
positions, so that the image is read once. Only answer tokens and the end of the answer carry loss.

Does not know: pixels; a row says which case it is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from workbench.errors import ContextBudgetError
from workbench.finetune.mini.packing import pack
from workbench.finetune.mini.texts import Block
from workbench.finetune.turns import Turn
from workbench.model.prompt import render_chat
from workbench.model.splice import IGNORE_LABEL, IMAGE_TOKEN_ID
from workbench.model.tokenizer import CxrTokenizer


@dataclass(frozen=True)
class Example:
    """One turn as the model reads it.

    Attributes:
        case: row of the case in its set.
        ids: token ids with -200 at the image, prompt and answer.
        answer_start: index of the first id that carries loss.
        turn: what it was made of.
        focus: whether each id of the answer is about the taught finding.
    """

    case: int
    ids: tuple[int, ...]
    answer_start: int
    turn: Turn
    focus: tuple[bool, ...]

    @property
    def labels(self) -> tuple[int, ...]:
        """Ids of the answer, -100 before it; one for each id."""
        return (IGNORE_LABEL,) * self.answer_start + self.ids[self.answer_start :]


def encode_turns(
    turns: Sequence[Turn],
    rows: dict[str, int],
    tokenizer: CxrTokenizer,
    *,
    image_tokens: int,
    context: int,
) -> list[Example]:
    """Tokenise turns as they are asked when the model is used.

    Args:
        turns: from `instruction_set`.
        rows: case id -> row.
        tokenizer: of the model.
        image_tokens: positions that an image takes.
        context: positions of the language model.

    Raises:
        ContextBudgetError: a turn is longer than the context.
    """
    found = []
    for turn in turns:
        prompt = tokenizer.encode_prompt(render_chat(turn.messages()))
        answer = [*tokenizer.encode(turn.answer, add_bos=False), tokenizer.eos_id]
        if len(prompt) + len(answer) - 1 + image_tokens > context:
            raise ContextBudgetError(
                f"a {turn.task} of case {turn.case} takes {len(prompt) + len(answer)} tokens "
                f"beside {image_tokens} of the image; the context holds {context}: shorten the text"
            )
        focus = tuple(
            any(start < b and a < end for a, b in turn.focus)
            for start, end in tokenizer.offsets(answer)
        )
        found.append(Example(rows[turn.case], (*prompt, *answer), len(prompt), turn, focus))
    return found


def pad(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Return one row per example, padded on the right.

    Returns:
        input_ids, labels, focus and attention_mask, (B, L); the image counts as one id.
    """
    length = max(len(example.ids) for example in examples)
    ids = torch.full((len(examples), length), pad_id, dtype=torch.long)
    labels = torch.full_like(ids, IGNORE_LABEL)
    mask = torch.zeros_like(ids)
    focus = torch.zeros(ids.shape, dtype=torch.bool)
    for row, example in enumerate(examples):
        size = len(example.ids)
        focus[row, example.answer_start : size] = torch.tensor(example.focus)
        ids[row, :size] = torch.tensor(example.ids)
        labels[row, :size] = torch.tensor(example.labels)
        mask[row, :size] = 1
    return {"input_ids": ids, "labels": labels, "focus": focus, "attention_mask": mask}


def packed(groups: Sequence[Sequence[Example]], image_tokens: int) -> dict[str, torch.Tensor]:
    """Return one row per image with all its turns.

    Args:
        groups: examples of one case in each group, all with the same prefix before the image.
        image_tokens: N.

    Returns:
        packed_ids, positions, labels, focus (B, T), allowed (B, 1, T, T) bool and image_start
        (B,); labels and focus stand where the logits that predict them stand, one before the
        token itself.
    """
    first = groups[0][0].ids
    prefix = list(first[: first.index(IMAGE_TOKEN_ID)])
    rows = [[_block(example, prefix) for example in group] for group in groups]
    made = pack(prefix, image_tokens, rows)
    focus = torch.zeros(made.targets.shape, dtype=torch.bool)
    for row, group in enumerate(groups):
        each = [inside for example in group for inside in example.focus]
        focus[row, made.targets[row] != IGNORE_LABEL] = torch.tensor(each)
    return {
        "packed_ids": made.ids,
        "positions": made.positions,
        "allowed": made.allowed,
        "shift_labels": made.targets,
        "labels": made.targets,
        "focus": focus,
        "image_start": torch.full((len(groups),), made.image_start),
    }


def pack_groups(
    examples: Sequence[Example], *, image_tokens: int, context: int
) -> list[list[Example]]:
    """Return examples in groups of one case that fit the context together."""
    groups: list[list[Example]] = []
    room: dict[int, tuple[int, int]] = {}
    for example in examples:
        start = example.ids.index(IMAGE_TOKEN_ID)
        size = len(example.ids) - start - 1
        at, used = room.get(example.case, (-1, context))
        if used + size > context:
            groups.append([])
            at, used = len(groups) - 1, start + image_tokens
        groups[at].append(example)
        room[example.case] = (at, used + size)
    return groups


def _block(example: Example, prefix: list[int]) -> Block:
    behind = len(prefix) + 1
    return Block(example.ids[behind:], example.answer_start - behind)
