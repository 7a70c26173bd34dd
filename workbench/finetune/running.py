"""`wb.finetune.run`: one recipe, trained, measured and written down; `preview`: what it will see.

Several processes are started from outside, by `torchrun --nproc-per-node 2 -m workbench train ...`
or `accelerate launch`; the ledger says how many there were.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from transformers import TrainerCallback

from workbench._repr import result
from workbench.backends.levels import READER, needs
from workbench.errors import OptionError
from workbench.finetune.encoding import DECIDES, Example
from workbench.finetune.finding_stage import FindingStage
from workbench.finetune.ledger import Run
from workbench.finetune.recipe import Recipe, read_recipe
from workbench.finetune.session import claim
from workbench.finetune.trainer import world_size
from workbench.finetune.turns import Turn
from workbench.finetune.writing_stages import WritingStage
from workbench.model.prompt import IGNORE_LABEL, IMAGE_TOKEN_ID
from workbench.model.tokenizer import CxrTokenizer

logger = logging.getLogger(__name__)

_LOSS, _TAUGHT, _PROMPT, _IMAGE = "#cfeadb", "#7cc9a1", "#eef1f5", "#f6c28b"


@needs(READER)
def run(
    recipe: str | os.PathLike | Recipe,
    *,
    out: str | os.PathLike | None = None,
    resume: bool = False,
    device: str = "auto",
    show: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Run | None:
    """Train by a recipe; return None on every process but the first where there are several.

    Args:
        recipe: a YAML file, the name of a shipped recipe, or a recipe.
        out: folder of the run (`runs/NAME`): recipe.yaml, checkpoints, adapter, evidence, ledger.
        resume: take up an earlier part of the same run in the folder; the result is that of a run
            that was never stopped.
        device: "auto", "cpu", "cuda" or "cuda:N".
        show: whether bars may appear.

    Raises:
        OptionError: the recipe is wrong; the message names the field.
        TrainingError: the folder is taken, a part of the data is empty, or a step cannot be shared
            out among the processes.
        InputError, CheckpointError, DeviceError: data or base cannot be used.

    >>> list(trained.ledger.to_frame().columns)
    ['kind', 'skill', 'n', 'before', 'after', 'change', 'low', 'high']
    """
    recipe = read_recipe(recipe)
    out = Path(out) if out is not None else Path("runs") / recipe.name
    claim(out, recipe, resume=resume)
    logger.info("%s on %d process(es)", recipe.name, world_size())
    stage = FindingStage if recipe.stage == "encoder" else WritingStage
    return stage(recipe, out, device=device, show=show).train(resume=resume, callbacks=callbacks)


class PreviewToken(NamedTuple):
    """One position; a label without loss is -100. An image of CXR-LLaVA is one id, -200.

    A token that is `learned` carries loss; a `taught` one is in the sentence that decides about the
    taught finding.
    """

    piece: str
    id: int
    label: int
    learned: bool
    taught: bool


class PreviewRow(NamedTuple):
    """One turn and its tokens."""

    turn: Turn
    tokens: list[PreviewToken]


@result(eq=True)
class Preview:
    """What a model will see of some turns.

    Attributes:
        image_tokens: positions that each `image_id` among the ids stands for.
        turns: of the whole set, by task.
        findings: known findings of the whole set: "train present" and so on.
        taught_weight: weight of the loss on tokens about the taught finding.
        keep: share of the loss on the others that ties them to what the base would say.
    """

    rows: tuple[PreviewRow, ...]
    image_tokens: int
    turns: dict[str, int]
    findings: dict[str, dict[str, int]]
    taught_weight: float = 1.0
    keep: float = 0.0
    image_id: int = IMAGE_TOKEN_ID

    def to_frame(self) -> pd.DataFrame:
        """Return one row per token: case, task, position, and the fields of `PreviewToken`."""
        rows = [
            (row.turn.case, row.turn.task, at, *token)
            for row in self.rows
            for at, token in enumerate(row.tokens)
        ]
        return pd.DataFrame(rows, columns=["case", "task", "position", *PreviewToken._fields])

    def text(self) -> str:
        """Return the rows as plain text: [carries loss], [[about the taught finding]]."""
        lines = [", ".join(f"{count} {task}" for task, count in self.turns.items())]
        for row in self.rows:
            said = " ".join(
                f"(image \u00d7 {image})" if image
                else f"[[{token.piece}]]" if token.taught
                else f"[{token.piece}]" if token.learned
                else token.piece
                for token, image in self._shown(row)
            )  # fmt: skip
            lines += ["", f"{row.turn.case} ({row.turn.task})", said]
        return "\n".join(lines)

    def _shown(self, row: PreviewRow) -> Iterator[tuple[PreviewToken, int]]:
        """Yield tokens with 0, and an image's tokens once with its number of positions."""
        for image, run in groupby(row.tokens, lambda token: token.id == self.image_id):
            tokens = list(run)
            if image:
                yield tokens[0], len(tokens) * self.image_tokens
            else:
                yield from ((t._replace(piece=t.piece.replace("\n", "\u21b5")), 0) for t in tokens)

    def _repr_html_(self) -> str:
        counts = ", ".join(f"{count} {escape(task)}" for task, count in self.turns.items())
        plain = "carries loss"
        if self.keep:
            plain += f", {self.keep:.0%} of it for staying with what the base would say"
        key = [(_LOSS, plain), (_PROMPT, "is only read"),
               (_IMAGE, "image &#215; its positions")]  # fmt: skip
        if any(token.taught for row in self.rows for token in row.tokens):
            key.insert(0, (_TAUGHT, f"about the taught finding, &#215; {self.taught_weight:g}"))
        colours = "".join(
            f'<span style="background:{colour};padding:0 .5em;margin-right:.8em">{name}</span>'
            for colour, name in key
        )
        blocks = "".join(_row_html(row.turn, self._shown(row)) for row in self.rows)
        return f"<p>Turns: {counts}</p><p>{colours}</p>{blocks}"


@needs(READER)
def preview(recipe: str | os.PathLike | Recipe, *, rows: int = 4, device: str = "auto") -> Preview:
    """Show what a model will see, token by token, before anything is trained.

    The base reports only the images without labels that are shown.

    `rows` are the turns to show, shared out among the tasks. `OptionError` where the recipe trains
    the encoder, which sees no text.

    >>> wb.finetune.preview(trained.recipe, rows=1).turns
    {'report': 4, 'question no': 3, 'question yes': 3}
    """
    recipe = read_recipe(recipe)
    if recipe.stage == "encoder":
        raise OptionError("stage encoder sees no text; preview a projector or instruct recipe")
    stage = WritingStage(recipe, Path(), device=device)
    base, cases = stage.base, stage.cases
    shown = replace(cases, unlabelled=cases.unlabelled[: max(rows // 2, 1)])
    turns, examples = stage.encoded(shown, stage.reports(shown.unlabelled))
    first: dict[str, list[Example]] = {}
    for example in examples:
        first.setdefault(example.turn.task, []).append(example)
    each = max(rows // len(first), 1)
    chosen = [example for found in first.values() for example in found[:each]]
    counts = turns.counts()
    if cases.unlabelled:
        counts["own report"] = len(cases.unlabelled)
    return Preview(
        preview_rows(chosen, base.model.tokenizer), base.positions, counts,
        cases.counts(), recipe.training.taught_weight, recipe.training.keep, base.image_id,
    )  # fmt: skip


def preview_rows(examples: Sequence[Example], tokenizer: CxrTokenizer) -> tuple[PreviewRow, ...]:
    """Return what each example looks like to the model."""
    rows = []
    for example in examples:
        taught = [False] * example.answer_start + [what == DECIDES for what in example.about]
        pieces, labels = tokenizer.pieces(example.ids), example.labels
        learned = [label != IGNORE_LABEL for label in labels]
        tokens = map(PreviewToken, pieces, example.ids, labels, learned, taught)
        rows.append(PreviewRow(example.turn, list(tokens)))
    return tuple(rows)


def _row_html(turn: Turn, tokens: Iterable[tuple[PreviewToken, int]]) -> str:
    spans = []
    for token, image in tokens:
        colour = _TAUGHT if token.taught else _LOSS if token.learned else _PROMPT
        shown = escape(token.piece).replace("\u2581", "&#183;").replace("&lt;0x0A&gt;", "&#8629;")
        if image:
            colour, shown = _IMAGE, f"image &#215; {image}"
        spans.append(
            f'<span title="id {token.id}" style="background:{colour};padding:.05em .25em;'
            f"{'font-weight:bold;' if token.taught else ''}"
            f'margin:.08em;border-radius:3px;display:inline-block">{shown}</span>'
        )
    original = ""
    if turn.original:
        original = f'<p style="color:#5c3a00">as it was written: {escape(turn.original)}</p>'
    return (
        f'<p style="margin:.9em 0 .2em"><b>{escape(turn.case)}</b>, {escape(turn.task)}</p>'
        f'<div style="font-family:monospace;font-size:12.5px;line-height:1.7">{"".join(spans)}'
        f"</div>{original}"
    )
