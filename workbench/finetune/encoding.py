"""Turns as token ids with the answers marked, rows of a batch, and the loss on the answers.

All turns of an image stand in one row behind a shared prefix (system prompt and image), so that the
image is read once. Mask and positions keep the turns apart: each sees the prefix and itself, and
its positions continue from the prefix. Only answer tokens and the end of the answer carry loss.
Rows of one turn each ("bucketed") give the same loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from transformers import PreTrainedModel

from workbench._repr import result
from workbench.errors import ContextBudgetError
from workbench.finetune.parts import trainable
from workbench.finetune.turns import Turn
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.prompt import IGNORE_LABEL, IMAGE_TOKEN_ID, render_chat
from workbench.model.tokenizer import CxrTokenizer

#: What a token of an answer has to do with the taught finding: nothing; it follows what is about
#: it; it is about it; it is in the sentence that decides; it is about it and carries no loss.
OTHER, AFTER, ABOUT, DECIDES, GIVEN = range(5)


@result(eq=True)
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
    found, room = [], context - image_tokens + 1  # one id stands for the image
    for turn in turns:
        prompt = tokenizer.encode_prompt(render_chat(turn.messages()))
        answer = [*tokenizer.encode(turn.answer, add_bos=False), tokenizer.eos_id]
        found.append(example_of(turn, rows[turn.case], prompt, answer, tokenizer, room))
    return found


def example_of(
    turn: Turn,
    case: int,
    prompt: Sequence[int],
    answer: Sequence[int],
    tokenizer: CxrTokenizer,
    room: int,
) -> Example:
    """Return a turn from the ids of prompt and answer; `room` is how many there may be.

    Raises:
        ContextBudgetError: there are more.
    """
    if len(prompt) + len(answer) > room:
        raise ContextBudgetError(
            f"a {turn.task} of case {turn.case} takes {len(prompt) + len(answer)} tokens, the "
            f"context has room for {room}: shorten the text"
        )
    # some templates write a space in front of an answer
    skip = max(tokenizer.decode(answer).find(turn.answer), 0)
    places = [(start - skip, end - skip) for start, end in tokenizer.offsets(answer)]
    return Example(case, (*prompt, *answer), len(prompt), turn, _about(turn, places))


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


class Student(nn.Module):
    """A prepared model with the loss of instruction tuning.

    It wraps the whole model without changing it, so that everything else (generation, saliency,
    grounding) runs on the very module that is being trained.

    Word pieces that a model has never written share one direction in its output head: training only
    ever pushed them down, together. Behind a frozen head no LoRA can tell them apart (`mini`: each
    stays at 1 in 700), so a new word needs `tuning.embeddings: full`.

    A hundred cases teach a word, and their own habits of writing, at the cost of what the base
    knew. `keep` ties the tokens that are not about the taught finding to what the base would say
    without that finding: it has no idea what follows a word that it never saw. The base needs no
    second model: it is this one with its parameters as they began.

    Args:
        taught_weight: weight of the loss on tokens that decide about the taught finding; that of
            all others is 1.
        keep: share of the loss on other tokens that is the KL divergence from what the base would
            say there, not the distance from the reference.

    Paper: Li and Hoiem, Learning without Forgetting, ECCV 2016, arXiv 1606.09282 (deviation: per
    token, on texts without the new words, at temperature 1).
    """

    accepts_loss_kwargs = True

    def __init__(
        self, model: PreTrainedModel, *, taught_weight: float = 1.0, keep: float = 0.0
    ) -> None:
        super().__init__()
        self.model = model
        self.taught_weight, self.keep = taught_weight, keep
        learning = trainable(self) if keep else ()
        self._began = {name: p.detach().clone() for name, p in learning}

    def forward(
        self,
        labels: torch.Tensor,
        about: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
        base: Mapping[str, torch.Tensor] | None = None,
        unlabelled: torch.Tensor | None = None,
        only_logits: bool = False,
        **batch: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Return the "loss" of a batch from `encoding`: the weighted sum over its answer tokens.

        The sum is divided by `num_items_in_batch`, the answer tokens of the whole step over all
        processes.

        Args:
            base: the same rows without what is about it, where the base is asked.
            unlabelled: True in rows without labels, which only tie the model to the base; then also
                "parts" (2, 2) are returned: the sum and the tokens of labelled and of other rows.
            only_logits: return "logits" (T, V) of the T tokens that have nothing to do with it.
            **batch: `pixel_values` (B, 1, S, S), or `vision_tokens` (B, N, W) that the frozen tower
                made of them, and the rest of a packed batch.
        """
        rows = None if unlabelled is None else unlabelled[labels != IGNORE_LABEL]
        logits, *marks = self._answers(labels, about, **batch)
        targets, about = (one.to(logits.device) for one in marks)
        if only_logits:
            return {"logits": logits[about == OTHER]}
        each = F.cross_entropy(logits.float(), targets, reduction="none")
        each = torch.where(about == DECIDES, self.taught_weight * each, each)
        total, whole = each.sum(), each.detach().clone()
        if self.keep:
            other = about == OTHER
            more = self.keep * (self._moved(logits[other], base or {}, batch) - each[other])
            total = total + more.sum()
            whole[other] += more.detach()
        count = len(targets) if num_items_in_batch is None else num_items_in_batch
        found = {"loss": total / count}
        if rows is not None:
            rows = rows.to(logits.device)
            sums = [torch.stack([(whole * own).sum(), 1.0 * own.sum()]) for own in (~rows, rows)]
            found["parts"] = torch.stack(sums)
        return found

    def _moved(
        self,
        logits: torch.Tensor,
        base: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return (T,) divergence of the model from the base, nats."""
        seen = {name: batch[name] for name in ("pixel_values", "vision_tokens") if name in batch}
        asked = {**base, **seen, "only_logits": True}
        with torch.no_grad():
            now = dict(self.named_parameters())
            began = {name: value.to(now[name].device) for name, value in self._began.items()}
            said = functional_call(self, began, kwargs=asked)["logits"]
        return F.kl_div(
            logits.float().log_softmax(-1), said.float().log_softmax(-1), reduction="none",
            log_target=True,
        ).sum(-1)  # fmt: skip

    def _answers(
        self,
        labels: torch.Tensor,
        about: torch.Tensor,
        *,
        ids: torch.Tensor,
        positions: torch.Tensor,
        allowed: torch.Tensor,
        image_start: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        vision_tokens: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits (T, V), ids (T,) and `about` (T,) of the answer tokens."""
        model, start = cast(CxrLlavaForConditionalGeneration, self.model), int(image_start[0])
        tokens = model.vision(pixel_values).tokens if vision_tokens is None else vision_tokens
        weight = model.projector.weight
        features = model.projector(tokens.to(device=weight.device, dtype=weight.dtype))
        embeds = model.get_input_embeddings()(ids)
        behind = embeds[:, start + features.shape[1] :]
        embeds = torch.cat([embeds[:, :start], features.to(embeds.dtype), behind], dim=1)
        mask = torch.zeros(allowed.shape, dtype=embeds.dtype, device=embeds.device)
        states = model.decoder(
            inputs_embeds=embeds,
            attention_mask=mask.masked_fill(~allowed, torch.finfo(embeds.dtype).min),
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        rows = labels != IGNORE_LABEL
        return model.head(states[rows.to(states.device)]), labels[rows], about[rows]
