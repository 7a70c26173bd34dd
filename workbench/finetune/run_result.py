"""`Run`: what a finished training run returns, and what can be read back from its folder.

    run = wb.finetune.run("stage3_lora", out="runs/fracture")
    run.ledger                          # what changed
    model = run.model()                 # the trained model, like any other
    wb.finetune.open_run("runs/fracture")

Does not know: how it was trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import InputError
from workbench.finetune.adapters import export, load_adapter
from workbench.finetune.cases import Case
from workbench.finetune.ledger import LEDGER_FILE, Ledger
from workbench.finetune.recipe import Recipe, read_recipe

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from workbench.interface import ChestXrayModel

RECIPE_FILE, EVIDENCE_FILE, ADAPTER = "recipe.yaml", "evidence.json", "adapter"


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: where everything is.
        recipe: what was asked for.
        ledger: what was done.
        evidence: validation cases with what both models said of them.
    """

    folder: Path
    recipe: Recipe = field(repr=False)
    ledger: Ledger
    evidence: Mapping[str, Any] = field(repr=False)

    @property
    def adapter(self) -> Path:
        """Folder of what was learned."""
        return self.folder / ADAPTER

    def model(self, *, merged: bool = False, **options: Any) -> ChestXrayModel:
        """Load the base again and put on it what was learned; options as `load_adapter`."""
        return load_adapter(self.recipe.base, self.adapter, merged=merged, **options)

    def export(self, out: str | Path, *, dtype: str | None = None) -> Path:
        """Write base and adapter as one checkpoint in the published layout."""
        return export(self.adapter, out, base=self.recipe.base, dtype=dtype)

    def to_frame(self) -> pd.DataFrame:
        """Return the skills of the ledger, before and after."""
        return self.ledger.to_frame()

    def plot(self) -> Figure:
        """Draw the curves and what changed."""
        return self.ledger.plot()

    def _repr_html_(self) -> str:
        return self.ledger._repr_html_()


def open_run(folder: str | Path) -> Run:
    """Read a finished run back.

    Raises:
        InputError: the folder holds none.
    """
    folder = Path(folder)
    if not (folder / LEDGER_FILE).is_file():
        raise InputError(
            f"{folder} holds no finished run (no {LEDGER_FILE}); finish it with resume=True "
            "(--resume), or give another folder"
        )
    evidence = json.loads((folder / EVIDENCE_FILE).read_text(encoding="utf-8"))
    return Run(folder, read_recipe(folder / RECIPE_FILE), Ledger.load(folder), evidence)


def evidence_cases(evidence: Mapping[str, Any]) -> list[Case]:
    """Return the validation cases of a run as far as scoring needs them."""
    return [
        Case(id=name, patient=row["patient"], codes=row["codes"], sections={}, load=_no_image)
        for name, row in evidence["cases"].items()
    ]


def _no_image():
    raise InputError("a case read back from a run has no image; gather the recipe's cases again")
