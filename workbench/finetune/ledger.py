"""The ledger of a run: what was trained, on what, what it cost, and what changed.

Does not know: how any of it was measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench._repr import short_repr
from workbench.errors import InputError
from workbench.evaluation.intervals import Estimate
from workbench.finetune.measuring import ProbeRow

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LEDGER_FILE = "ledger.json"


@dataclass(frozen=True)
class Ledger:
    """What one run did.

    Attributes:
        name: of the run.
        stage: "encoder", "projector" or "instruct".
        base: name and SHA-256 of the weight files it started from.
        recipe: every field.
        trainable: part -> {"tensors", "parameters"} that learned.
        parameters: of the whole model.
        data: source, digest, cases, patients, turns by task, known findings by part.
        frozen: "before", "after": SHA-256 of everything that did not learn; "equal".
        curves: one row per logged step: step, loss, learning_rate, measures.
        best: "step" and value of the measure that the kept weights were chosen by.
        memory: "predicted" and "measured" bytes, and "as": what was measured.
        cost: "seconds", "cpu_seconds", "steps", "processes", "precision", "device".
        scores: skills that were trained for, before and after.
        forgetting: skills that were not.
        explained: saliency and grounding of the same cases before and after.
        cache: images computed and read, where there was a feature cache.
        versions: of the libraries.
        notes: what a person should know.
    """

    name: str
    stage: str
    base: Mapping[str, Any]
    recipe: Mapping[str, Any] = field(repr=False)
    trainable: Mapping[str, Mapping[str, int]]
    parameters: int
    data: Mapping[str, Any] = field(repr=False)
    frozen: Mapping[str, Any] = field(repr=False)
    curves: Sequence[Mapping[str, float]] = field(repr=False)
    best: Mapping[str, Any]
    memory: Mapping[str, Any]
    cost: Mapping[str, Any]
    scores: tuple[ProbeRow, ...] = ()
    forgetting: tuple[ProbeRow, ...] = ()
    explained: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    cache: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    __repr__ = short_repr

    def skills(self) -> list[tuple[str, ProbeRow]]:
        """Return all skills, each behind "trained for" or "not trained for"."""
        groups = (("trained for", self.scores), ("not trained for", self.forgetting))
        return [(kind, row) for kind, found in groups for row in found]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per skill, trained for and not: before, after, change with interval."""
        import pandas as pd

        rows = [
            {
                "kind": kind,
                "skill": row.skill,
                "n": row.n,
                "before": row.before,
                "after": row.after,
                "change": row.change.value,
                "low": row.change.low,
                "high": row.change.high,
            }
            for kind, row in self.skills()
        ]
        columns = ["kind", "skill", "n", "before", "after", "change", "low", "high"]
        return pd.DataFrame(rows, columns=columns)

    def curves_frame(self) -> pd.DataFrame:
        """Return one row per logged step."""
        import pandas as pd

        return pd.DataFrame(list(self.curves))

    def explained_frame(self) -> pd.DataFrame:
        """Return one row per case and stated finding: maps and grounding before and after."""
        import pandas as pd

        return pd.DataFrame(list(self.explained))

    def plot(self) -> Figure:
        """Draw the curves, and what changed."""
        from workbench.finetune.figures import plot_ledger

        return plot_ledger(self)

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return asdict(self)

    def save(self, path: str | Path) -> Path:
        """Write the ledger as JSON and return the path."""
        path = Path(path)
        text = json.dumps(self.to_dict(), indent=1, default=str)
        path.write_text(text + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Ledger:
        """Read a ledger.

        Raises:
            InputError: there is none.
        """
        path = Path(path)
        path = path / LEDGER_FILE if path.is_dir() else path
        if not path.is_file():
            raise InputError(f"no {path.name} in {path.parent}; give the folder of a finished run")
        values = json.loads(path.read_text(encoding="utf-8"))
        for name in ("scores", "forgetting"):
            values[name] = tuple(
                ProbeRow(**{**row, "change": Estimate(**row["change"])}) for row in values[name]
            )
        for name in ("explained", "notes"):
            values[name] = tuple(values[name])
        return cls(**values)

    def summary(self) -> str:
        """Return the ledger as a few lines of text."""
        learned = sum(part["parameters"] for part in self.trainable.values())
        lines = [
            f"{self.name}: stage {self.stage} on {self.base['name']}",
            f"  learned {learned:,} of {self.parameters:,} parameters in {self.cost['steps']} "
            f"steps, {self.cost['seconds']:.0f} s ({self.cost['cpu_seconds']:.0f} s of CPU), "
            f"{self.cost['processes']} process(es), {self.cost['precision']}",
            f"  frozen weights {'bit-identical' if self.frozen['equal'] else 'CHANGED'}",
            f"  memory {self.memory['measured'] / 1e9:.2f} GB {self.memory['as']}, "
            f"{self.memory['predicted'] / 1e9:.2f} GB predicted",
        ]
        for row in (*self.scores, *self.forgetting):
            lines.append(f"  {row.skill} ({row.n}): {_number(row.before)} -> {_number(row.after)}, "
                         f"change {row.change}")  # fmt: skip
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        head, *rest = self.summary().split("\n")
        facts = "".join(f"<li>{escape(line.strip())}</li>" for line in rest[:3])
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        parts = ", ".join(
            f"{part}: {row['parameters']:,} in {row['tensors']} tensors"
            for part, row in self.trainable.items()
            if row["parameters"]
        )
        return (
            f"<h4>{escape(head)}</h4><ul><li>learned: {escape(parts)}</li>{facts}</ul>"
            + frame_table(self.to_frame())
            + (f"<ul>{notes}</ul>" if notes else "")
        )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
