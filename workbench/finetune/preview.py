"""Exactly what a model will see: every token of a few rows, with the answer tokens marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from workbench._repr import short_repr
from workbench.finetune.encoding import DECIDES, Example
from workbench.finetune.turns import Turn
from workbench.model.prompt import IGNORE_LABEL, IMAGE_TOKEN_ID
from workbench.model.tokenizer import CxrTokenizer

if TYPE_CHECKING:
    import pandas as pd

_LOSS, _TAUGHT, _PROMPT, _IMAGE = "#cfeadb", "#7cc9a1", "#eef1f5", "#f6c28b"


class PreviewToken(NamedTuple):
    """One position.

    Attributes:
        id: token id; -200 for the image.
        label: the id that carries loss here; -100 for none.
        learned: whether the token carries loss.
        taught: whether it is in the sentence that decides about the taught finding.
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


@dataclass(frozen=True)
class Preview:
    """What a model will see of some turns.

    Attributes:
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

    __repr__ = short_repr

    def to_frame(self) -> pd.DataFrame:
        """Return one row per token: case, task, position, and the fields of `PreviewToken`."""
        import pandas as pd

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
                f"[[{token.piece}]]" if token.taught
                else f"[{token.piece}]" if token.learned
                else token.piece
                for token in row.tokens
            )  # fmt: skip
            lines += ["", f"{row.turn.case} ({row.turn.task})", said]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        counts = ", ".join(f"{count} {escape(task)}" for task, count in self.turns.items())
        image = (_IMAGE, f"image, {self.image_tokens} positions")
        key = "".join(
            f'<span style="background:{colour};padding:0 .5em;margin-right:.8em">{name}</span>'
            for colour, name in (*self._learned(), (_PROMPT, "is only read"), image)
        )
        blocks = "".join(_row_html(row, self.image_tokens) for row in self.rows)
        return f"<p>Turns: {counts}</p><p>{key}</p>{blocks}"

    def _learned(self) -> list[tuple[str, str]]:
        """Return colour and meaning of the tokens that carry loss."""
        plain = "carries loss"
        if self.keep:
            plain += f", {self.keep:.0%} of it for staying with what the base would say"
        if not any(token.taught for row in self.rows for token in row.tokens):
            return [(_LOSS, plain)]
        return [(_TAUGHT, f"about the taught finding, &#215; {self.taught_weight:g}"),
                (_LOSS, plain)]  # fmt: skip


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


def _row_html(row: PreviewRow, image_tokens: int) -> str:
    spans = []
    for token in row.tokens:
        colour = _TAUGHT if token.taught else _LOSS if token.learned else _PROMPT
        shown = escape(token.piece).replace("\u2581", "&#183;").replace("&lt;0x0A&gt;", "&#8629;")
        if token.id == IMAGE_TOKEN_ID:
            colour, shown = _IMAGE, f"image &#215; {image_tokens}"
        spans.append(
            f'<span title="id {token.id}" style="background:{colour};padding:.05em .25em;'
            f"{'font-weight:bold;' if token.taught else ''}"
            f'margin:.08em;border-radius:3px;display:inline-block">{shown}</span>'
        )
    turn, original = row.turn, ""
    if turn.original:
        original = f'<p style="color:#5c3a00">as it was written: {escape(turn.original)}</p>'
    return (
        f'<p style="margin:.9em 0 .2em"><b>{escape(turn.case)}</b>, {escape(turn.task)}</p>'
        f'<div style="font-family:monospace;font-size:12.5px;line-height:1.7">{"".join(spans)}'
        f"</div>{original}"
    )
