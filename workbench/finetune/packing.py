"""Blocks of several images packed into one batch with the mask and positions that keep them apart.

All turns of one image share one prefix (system prompt and image). Each block after it sees the
prefix and itself, never another block, and its positions continue from the prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from workbench.model.splice import IGNORE_LABEL


@dataclass(frozen=True)
class Block:
    """One thread after the shared prefix.

    Attributes:
        ids: token ids from just behind the image to the end of the last answer.
        answer_start: index in `ids` of the first token that carries loss.
    """

    ids: tuple[int, ...]
    answer_start: int


@dataclass(frozen=True)
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


def pack(prefix: list[int], image_tokens: int, rows: list[list[Block]]) -> Packed:
    """Pack one list of blocks per image behind the shared prefix.

    Args:
        prefix: ids before the image.
        image_tokens: number of image tokens.
        rows: blocks of each image.
    """
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
