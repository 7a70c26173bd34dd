"""What a run wrote down: its ledger, and the run as it is read back from its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure
from pydantic import TypeAdapter

from workbench._repr import result
from workbench._store import parse_json, write_json
from workbench.errors import InputError
from workbench.figures.numbers import Estimate, number_text
from workbench.figures.tables import bullets, frame_table
from workbench.figures.training import plot_learning
from workbench.finetune.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    import pandas as pd

    from workbench.interface import ChestXrayModel

LEDGER_FILE, RECIPE_FILE, EVIDENCE_FILE = "ledger.json", "recipe.yaml", "evidence.json"
PROGRESS_FILE, ADAPTER = "progress.jsonl", "adapter"

#: What is shown of each logged step besides measures: the loss that was trained on, per token also
#: of labelled rows and of those that are only tied to the base; the rate that the recipe names.
LOGGED = ("loss", "loss_labelled", "loss_unlabelled", "learning_rate", "grad_norm", "epoch")


@dataclass(frozen=True)
class SkillChange:
    """One skill of `n` cases, before and after.

    Attributes:
        before, after: values in [0, 1]; None where undefined.
        change: after minus before, with a paired bootstrap interval over cases.
    """

    skill: str
    n: int
    before: float | None
    after: float | None
    change: Estimate


def skills_frame(rows: Iterable[SkillChange]) -> pd.DataFrame:
    """Return one row per skill: skill, n, before, after, change with low and high."""
    import pandas as pd

    columns = ["skill", "n", "before", "after", "change", "low", "high"]
    cells = [
        (r.skill, r.n, r.before, r.after, r.change.value, r.change.low, r.change.high) for r in rows
    ]
    return pd.DataFrame(cells, columns=columns)


@result(eq=True)
class Ledger:
    """What one run did.

    Attributes:
        base: name and SHA-256 of the weight files it started from.
        trainable: part -> {"tensors", "parameters"} that learned.
        parameters: of the whole model.
        data: source, digest, cases, patients, turns by task, known findings by part.
        frozen: "before", "after": SHA-256 of everything that did not learn; "equal".
        curves: one row per logged step: step, loss, learning_rate, measures.
        best: "step" and value of the measure that the kept weights were chosen by.
        memory: "predicted" and "measured" bytes, and "as": what was measured.
        cost: "seconds", "cpu_seconds", "steps", "processes", "precision", "device".
        scores, forgetting: skills that were trained for, and that were not, before and after.
        explained: saliency and grounding of the same cases before and after.
        cache: images computed and read, where there was a feature cache.
        notes: what a person should know.

    >>> trained.ledger.frozen["equal"]  # nothing learned that should not
    True
    """

    name: str
    stage: str
    base: Mapping[str, Any]
    recipe: Mapping[str, Any] = field(repr=False)
    trainable: Mapping[str, Mapping[str, int]]
    parameters: int
    data: Mapping[str, Any] = field(repr=False)
    frozen: Mapping[str, Any] = field(repr=False)
    curves: Sequence[Mapping[str, Any]] = field(repr=False)
    best: Mapping[str, Any]
    memory: Mapping[str, Any]
    cost: Mapping[str, Any]
    scores: tuple[SkillChange, ...] = ()
    forgetting: tuple[SkillChange, ...] = ()
    explained: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    cache: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()

    def skills(self) -> list[tuple[str, SkillChange]]:
        """Return all skills, each behind "trained for" or "not trained for"."""
        trained = [("trained for", row) for row in self.scores]
        return trained + [("not trained for", row) for row in self.forgetting]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per skill, trained for and not: before, after, change with interval."""
        frame = skills_frame(row for _, row in self.skills())
        frame.insert(0, "kind", [kind for kind, _ in self.skills()])
        return frame

    def plot(self) -> Figure:
        """Draw the curves, and what changed."""
        changes = [(row.skill, row.before, row.after) for _, row in self.skills()]
        measure = self.best.get("measure", "")
        return plot_learning(self.curves, measure, changes, apart=len(self.scores))

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, path: str | Path) -> Ledger:
        """Read the ledger in a file; `ValueError` where it is damaged."""
        return TypeAdapter(cls).validate_json(Path(path).read_bytes())

    def _facts(self) -> list[str]:
        """Return what learned, proof of what did not, and memory, a line each."""
        learned = sum(part["parameters"] for part in self.trainable.values())
        return [
            f"learned {learned:,} of {self.parameters:,} parameters in {self.cost['steps']} "
            f"steps, {self.cost['seconds']:.0f} s ({self.cost['cpu_seconds']:.0f} s of CPU), "
            f"{self.cost['processes']} process(es), {self.cost['precision']}",
            f"frozen weights {'bit-identical' if self.frozen['equal'] else 'CHANGED'}",
            f"memory {self.memory['measured'] / 1e9:.2f} GB {self.memory['as']}, "
            f"{self.memory['predicted'] / 1e9:.2f} GB predicted",
        ]

    def summary(self) -> str:
        """Return the ledger as a few lines of text."""
        rows = [
            f"{row.skill} ({row.n}): {number_text(row.before) or 'undefined'} -> "
            f"{number_text(row.after) or 'undefined'}, change {row.change}"
            for _, row in self.skills()
        ]
        return "\n  ".join([self._title(), *self._facts(), *rows, *self.notes])

    def _title(self) -> str:
        return f"{self.name}: stage {self.stage} on {self.base['name']}"

    def _repr_html_(self) -> str:
        parts = ", ".join(
            f"{part}: {row['parameters']:,} in {row['tensors']} tensors"
            for part, row in self.trainable.items()
            if row["parameters"]
        )
        facts = bullets([f"learned: {parts}", *self._facts()])
        notes = bullets(self.notes)
        return f"<h4>{escape(self._title())}</h4>{facts}{frame_table(self.to_frame())}{notes}"


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, recipe and ledger, and what both models said of its cases."""

    folder: Path
    recipe: Recipe = field(repr=False)
    ledger: Ledger
    evidence: Mapping[str, Any] = field(repr=False)

    @property
    def adapter(self) -> Path:
        """Folder of what was learned."""
        return self.folder / ADAPTER

    def write(self) -> None:
        """Write evidence and ledger into the folder."""
        write_json(self.folder / EVIDENCE_FILE, self.evidence)
        write_json(self.folder / LEDGER_FILE, self.ledger.to_dict())

    def model(self, *, merged: bool = False, **options: Any) -> ChestXrayModel:
        """Load the base again and put on it what was learned; options as `load_adapter`."""
        from workbench.finetune.adapters import load_adapter

        return load_adapter(self.recipe.base, self.adapter, merged=merged, **options)

    def export(self, out: str | Path, *, dtype: str | None = None) -> Path:
        """Write base and adapter as one checkpoint in the published layout."""
        from workbench.finetune.adapters import export

        return export(self.adapter, out, base=self.recipe.base, dtype=dtype)

    def to_frame(self) -> pd.DataFrame:
        """Return the skills of the ledger, before and after."""
        return self.ledger.to_frame()

    def plot(self) -> Figure:
        """Draw the curves and what changed."""
        return self.ledger.plot()

    def _repr_html_(self) -> str:
        return self.ledger._repr_html_()


def open_run(folder: str | os.PathLike[str]) -> Run:
    """Read a finished run back; `InputError` where the folder has none.

    >>> wb.finetune.open_run("runs/trained").recipe.name
    'stage3_lora'
    """
    folder = Path(folder)
    if not (folder / LEDGER_FILE).is_file():
        raise InputError(
            f"{folder} has no finished run (no {LEDGER_FILE}); finish it with resume=True "
            "(--resume), or give another folder"
        )
    evidence = parse_json((folder / EVIDENCE_FILE).read_bytes())
    ledger = Ledger.load(folder / LEDGER_FILE)
    return Run(folder, read_recipe(folder / RECIPE_FILE), ledger, evidence)


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that was written whole; None for none."""
    found = [
        path
        for path in folder.glob("checkpoints/checkpoint-*[0-9]")
        if (path / "trainer_state.json").is_file() and (path / "model.safetensors").is_file()
    ]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
