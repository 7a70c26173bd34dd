"""Turns as token ids with the answers marked, and rows of a batch.

Two forms give the same loss: "bucketed" has one turn in a row, rows of like length together and
padded; "packed" has all turns of an image in one row behind a shared prefix (system prompt and
image), so that the image is read once. Mask and positions keep the turns apart: each sees the
prefix and itself, and its positions continue from the prefix. Only answer tokens and the end of
the answer carry loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.utils.rnn import pad_sequence

from workbench._repr import short_repr
from workbench.errors import ContextBudgetError
from workbench.finetune.turns import Turn
from workbench.model.prompt import IGNORE_LABEL, IMAGE_TOKEN_ID, render_chat
from workbench.model.tokenizer import CxrTokenizer

#: What a token of an answer has to do with the taught finding: nothing; it follows what is about
#: it; it is about it; it is in the sentence that decides; it is about it and carries no loss.
OTHER, AFTER, ABOUT, DECIDES, GIVEN = range(5)


@dataclass(frozen=True)
class Example:
    """One turn as the model reads it.

    Attributes:
        case: row of the case in its set.
        ids: token ids with -200 at the image, prompt and answer.
        answer_start: index of the first id that carries loss.
        about: `OTHER`, `AFTER`, `ABOUT`, `DECIDES` or `GIVEN` for each id of the answer.
    """

    case: int
    ids: tuple[int, ...]
    answer_start: int
    turn: Turn
    about: tuple[int, ...]

    __repr__ = short_repr

    @property
    def untaught(self) -> Example:
        """The same turn as if nobody had spoken of the taught finding."""
        answer = zip(self.ids[self.answer_start :], self.about, strict=True)
        kept = [(token, what) for token, what in answer if what in (OTHER, AFTER)]
        ids = (*self.ids[: self.answer_start], *(token for token, _ in kept))
        return replace(self, ids=ids, about=tuple(what for _, what in kept))

    @property
    def labels(self) -> tuple[int, ...]:
        """Ids of the answer, -100 before it and where it was given; one for each id."""
        answer = zip(self.ids[self.answer_start :], self.about, strict=True)
        wanted = (IGNORE_LABEL if what == GIVEN else token for token, what in answer)
        return (IGNORE_LABEL,) * self.answer_start + tuple(wanted)


def encode_turns(
    turns: Sequence[Turn],
    rows: dict[str, int],
    tokenizer: CxrTokenizer,
    *,
    image_tokens: int,
    context: int,
) -> list[Example]:
    """Tokenise turns as they are asked when the model is used; `rows` is case id -> row."""
    found = []
    for turn in turns:
        prompt = tokenizer.encode_prompt(render_chat(turn.messages()))
        answer = [*tokenizer.encode(turn.answer, add_bos=False), tokenizer.eos_id]
        if len(prompt) + len(answer) - 1 + image_tokens > context:
            raise ContextBudgetError(
                f"a {turn.task} of case {turn.case} takes {len(prompt) + len(answer)} tokens "
                f"beside {image_tokens} of the image; the context holds {context}: shorten the text"
            )
        about = _about(turn, tokenizer.offsets(answer))
        found.append(Example(rows[turn.case], (*prompt, *answer), len(prompt), turn, about))
    return found


def _about(turn: Turn, places: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return what each id of an answer has to do with the taught finding, from where it stands."""
    found: list[int] = []
    for start, end in places:
        inside = [any(start < b and a < end for a, b in part) for part in (turn.focus, turn.about)]
        behind = bool(found) and found[-1] in (ABOUT, DECIDES)
        found.append(DECIDES if inside[0] else ABOUT if inside[1] else AFTER if behind else OTHER)
    return tuple(GIVEN if turn.given and what in (ABOUT, DECIDES) else what for what in found)


def pad(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """Return one row per example, padded on the right: four tensors (B, L); the image is one id."""
    about = [(OTHER,) * one.answer_start + one.about for one in examples]
    return {
        "input_ids": _padded([one.ids for one in examples], pad_id),
        "labels": _padded([one.labels for one in examples], IGNORE_LABEL),
        "about": _padded(about, OTHER),
        "attention_mask": _padded([(1,) * len(one.ids) for one in examples], 0),
    }


def _padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], True, value)


@dataclass(frozen=True)
class Block:
    """One thread after the shared prefix: ids from just behind the image to the end of the answer.

    The token at `answer_start` is the first that carries loss.
    """

    ids: tuple[int, ...]
    answer_start: int


@dataclass(frozen=True, eq=False)
class Packed:
    """One batch of packed dialogues.

    Attributes:
        ids: (B, L) token ids; the image places hold 0 and are replaced by features.
        positions: (B, L) position of every token in its own thread.
        allowed: (B, 1, L, L) True where a row may look.
        targets: (B, L) id that each row should predict, -100 where there is no loss.
        image_start: column of the first image token.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    allowed: torch.Tensor
    targets: torch.Tensor
    image_start: int

    __repr__ = short_repr


def pack(prefix: list[int], image_tokens: int, rows: list[list[Block]]) -> Packed:
    """Pack one list of blocks per image behind the shared prefix and `image_tokens` places."""
    head = len(prefix) + image_tokens
    length = head + max(sum(len(block.ids) for block in blocks) for blocks in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    positions = torch.zeros_like(ids)
    owner = torch.full_like(ids, -1)
    targets = torch.full_like(ids, IGNORE_LABEL)
    ids[:, : len(prefix)] = torch.tensor(prefix)
    positions[:, :head] = torch.arange(head)
    owner[:, :head] = 0
    for row, blocks in enumerate(rows):
        column = head
        for number, block in enumerate(blocks, start=1):
            n = len(block.ids)
            tokens = torch.tensor(block.ids)
            ids[row, column : column + n] = tokens
            positions[row, column : column + n] = torch.arange(head, head + n)
            owner[row, column : column + n] = number
            start = column + block.answer_start
            targets[row, start - 1 : column + n - 1] = tokens[block.answer_start :]
            column += n
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = (owner[:, None, :] == owner[:, :, None]) | (owner[:, None, :] == 0)
    same |= torch.eye(length, dtype=torch.bool)
    return Packed(ids, positions, (same & causal)[:, None], targets, len(prefix))


def packed(groups: Sequence[Sequence[Example]], image_tokens: int) -> dict[str, torch.Tensor]:
    """Return one row per image with all its turns, which have one prefix before the image.

    Returns:
        packed_ids, positions, labels, about (B, T), allowed (B, 1, T, T) bool and image_start
        (B,); labels and about stand where the logits that predict them stand, one before the
        token itself.
    """
    first = groups[0][0].ids
    prefix = list(first[: first.index(IMAGE_TOKEN_ID)])
    behind = len(prefix) + 1
    rows = [
        [Block(one.ids[behind:], one.answer_start - behind) for one in group] for group in groups
    ]
    made = pack(prefix, image_tokens, rows)
    about = torch.zeros_like(made.targets)
    for row, group in enumerate(groups):
        each = [what for example in group for what in example.about]
        about[row, made.targets[row] != IGNORE_LABEL] = torch.tensor(each)
    targets = made.targets.masked_fill(about == GIVEN, IGNORE_LABEL)
    return {
        "packed_ids": made.ids,
        "positions": made.positions,
        "allowed": made.allowed,
        "labels": targets,
        "about": about,
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
