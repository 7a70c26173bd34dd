"""`MitigatedGeneration`: a report that something was done about, with what was done.

It is a `Generation`, so that every analysis takes it. Where the text was rewritten its tokens are
those of the new text, read by the model as if it had written them.

Does not know: how to decide what to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch

from workbench._repr import short_repr
from workbench.generation import Generation
from workbench.hallucination.rewriting import Change

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class MitigatedGeneration(Generation):
    """A `Generation` with what was done to keep it true.

    Attributes:
        mitigation: name and options of what was done.
        changes: what was changed in the text of `original`.
        original: the report as the model wrote it by itself; None where the mitigation took part
            in writing it.
    """

    mitigation: Mapping[str, Any] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    original: Generation | None = None

    __repr__ = short_repr

    def changes_frame(self) -> pd.DataFrame:
        """Return one row per change: finding, edit, before, after, score."""
        import pandas as pd

        names = [field.name for field in fields(Change)]
        rows = [tuple(getattr(change, name) for name in names) for change in self.changes]
        return pd.DataFrame(rows, columns=names)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return super().to_dict() | {
            "mitigation": dict(self.mitigation),
            "changes": [vars(change) for change in self.changes],
            "original": None if self.original is None else self.original.text,
        }

    def _repr_html_(self) -> str:
        from workbench.hallucination.html import changes_html

        return super()._repr_html_() + changes_html(self.mitigation["name"], self.changes)


def extended(generation: Generation, **more: Any) -> MitigatedGeneration:
    """Return a generation with other or further fields of `MitigatedGeneration`."""
    own = {item.name: getattr(generation, item.name) for item in fields(Generation)}
    return MitigatedGeneration(**{**own, **more})


def reworded(
    model: Any, original: Generation, pixels: torch.Tensor, text: str, **more: Any
) -> MitigatedGeneration:
    """Return a generation of another text about the same image, its tokens read by the model.

    Args:
        model: a `ChestXrayModel`.
        original: what the model wrote.
        pixels: (1, 1, S, S) normalised, that it wrote it about.
        text: the new text; the old one keeps the old tokens.
        **more: further fields of `MitigatedGeneration`.
    """
    if text == original.text:
        return extended(original, original=original, **more)
    responder = model.responder
    tokenizer = responder.tokenizer
    ids = (*tokenizer.encode(text, add_bos=False), tokenizer.eos_id)
    logits = responder.engine.force(pixels, original.prompt_ids, ids)
    logs = logits.log_softmax(-1).cpu()
    chosen = logs.gather(1, torch.tensor(ids)[:, None])[:, 0]
    return extended(
        original,
        text=tokenizer.decode(ids),
        token_ids=ids,
        tokens=tuple(tokenizer.pieces(ids)),
        logprobs=chosen.tolist(),
        offsets=tuple(tokenizer.offsets(ids)),
        stopped_by="eos",
        original=original,
        **more,
    )
