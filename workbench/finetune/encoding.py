"""Turns as token ids with the answers marked, and rows of a batch.

All turns of an image stand in one row behind a shared prefix (system prompt and image), so that the
image is read once. Mask and positions keep the turns apart: each sees the prefix and itself, and
its positions continue from the prefix. Only answer tokens and the end of the answer carry loss.
Rows of one turn each ("bucketed") give the same loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

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


@dataclass(frozen=True)
class Block:
    """One thread after the shared prefix: ids from just behind the image to the end of the answer.

    The token at `answer_start` is the first that carries loss; `about` as in `Example`.
    """

    ids: tuple[int, ...]
    answer_start: int
    about: tuple[int, ...] = ()


def pack(prefix: list[int], image_tokens: int, rows: list[list[Block]]) -> dict[str, torch.Tensor]:
    """Pack one list of blocks per image behind the shared prefix and `image_tokens` places.

    Returns:
        ids, positions, labels, about (B, T), allowed (B, 1, T, T) bool: where a row may look, and
        image_start (B,). The ids of the image are 0, positions are those in the own thread; labels
        and about stand where the logits that predict them stand, one before the token itself.
    """
    head = len(prefix) + image_tokens
    length = head + max(sum(len(block.ids) for block in blocks) for blocks in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    positions, about = torch.zeros_like(ids), torch.full_like(ids, OTHER)
    owner, labels = torch.full_like(ids, -1), torch.full_like(ids, IGNORE_LABEL)
    ids[:, : len(prefix)] = torch.tensor(prefix)
    positions[:, :head] = torch.arange(head)
    owner[:, :head] = 0
    for row, blocks in enumerate(rows):
        column = head
        for number, block in enumerate(blocks, start=1):
            end = column + len(block.ids)
            ids[row, column:end] = torch.tensor(block.ids)
            positions[row, column:end] = torch.arange(head, head + len(block.ids))
            owner[row, column:end] = number
            start = column + block.answer_start
            labels[row, start - 1 : end - 1] = ids[row, start:end]
            if block.about:
                about[row, start - 1 : end - 1] = torch.tensor(block.about)
            column = end
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    same = (owner[:, None, :] == owner[:, :, None]) | (owner[:, None, :] == 0)
    same |= torch.eye(length, dtype=torch.bool)
    return {
        "ids": ids,
        "positions": positions,
        "allowed": (same & causal)[:, None],
        "labels": labels.masked_fill(about == GIVEN, IGNORE_LABEL),
        "about": about,
        "image_start": torch.full((len(rows),), len(prefix)),
    }


def packed(groups: Sequence[Sequence[Example]], image_tokens: int) -> dict[str, torch.Tensor]:
    """Return one row per group as `pack` does; all examples have one prefix before the image."""
    first = groups[0][0].ids
    behind = first.index(IMAGE_TOKEN_ID) + 1
    rows = [
        [Block(one.ids[behind:], one.answer_start - behind, one.about) for one in group]
        for group in groups
    ]
    return pack(list(first[: behind - 1]), image_tokens, rows)


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
