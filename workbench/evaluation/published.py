"""Score cards beside published figures.

The paper's two tables, with any number of score cards in them. A number that is
not in a source named in `published.yaml` is unknown and shown as such. Compare with care: our
labels come from another labeler, the test sets are not the same cases unless you scored the same
cases, and the published average is named by its authors only as "average F1" (ours beside it is the
macro F1 over the same findings).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import yaml

from workbench._repr import result
from workbench.errors import OptionError, unknown_name
from workbench.evaluation.intervals import Estimate
from workbench.evaluation.scorecard import ScoreCard
from workbench.figures.numbers import percent
from workbench.figures.tables import bullets, html_table

AVERAGE = "average"


@result(eq=True)
class PublishedTable:
    """Published figures and ours in one table.

    Attributes:
        cells: system -> row ("average" among them) -> estimate, where the number is known.
        covered: system -> row -> what share of pairs was scored, for our own systems.
        notes: system -> where its numbers come from, and what to mind.
    """

    title: str
    findings: tuple[str, ...]
    cells: Mapping[str, Mapping[str, Estimate]]
    covered: Mapping[str, Mapping[str, float | None]]
    notes: Mapping[str, str]

    def to_frame(self) -> pd.DataFrame:
        """Return F1, rows by system; NaN where it is unknown or undefined."""
        values = {
            system: {name: cell.value for name, cell in cells.items()}
            for system, cells in self.cells.items()
        }
        return pd.DataFrame(values, index=[*self.findings, AVERAGE], dtype=float)

    def _repr_html_(self) -> str:
        rows = [
            [name, *(self._cell(system, name) for system in self.cells)]
            for name in (*self.findings, AVERAGE)
        ]
        notes = bullets(f"{one}: {note}" for one, note in self.notes.items())
        table = html_table(["F1", *self.cells], rows)
        return f"<p><b>{escape(self.title)}</b></p>{table}{notes}"

    def _cell(self, system: str, row: str) -> str:
        cell = self.cells[system].get(row)
        if cell is None:
            return "not known"
        share = self.covered.get(system, {}).get(row)
        return cell.text() if share is None else f"{cell.text()}\n{percent(share)} scored"


def published_table(
    cards: Mapping[str, ScoreCard] | ScoreCard | None = None, *, table: str = "internal"
) -> PublishedTable:
    """Return a table of the paper, "internal" (MIMIC-CXR) or "external" (Open-i).

    Score cards, one or several by name, are further columns.

    Raises:
        OptionError: there is no such table.
    """
    known = read_published()
    if table not in known["tables"]:
        raise OptionError(unknown_name("table", table, known["tables"]))
    found = known["tables"][table]
    findings = tuple(found["findings"])
    cells: dict[str, dict[str, Estimate]] = {}
    notes = {}
    for system in found["systems"]:
        numbers = (system["per_finding"] or {}) | {AVERAGE: system["average_f1"]}
        cells[system["name"]] = {
            row: Estimate(float(value), None, None, 0)
            for row, value in numbers.items()
            if value is not None
        }
        said = [known["sources"][system["source"]]["cite"]]
        said += [f"average over {system['over']} findings", system.get("note")]
        notes[system["name"]] = "; ".join(filter(None, said))
    covered = {}
    given = {cards.name: cards} if isinstance(cards, ScoreCard) else dict(cards or {})
    for name, card in given.items():
        unused = name if name not in cells else f"{name} (scored here)"
        cells[unused], covered[unused] = _own_cells(card, findings)
        notes[unused] = f"scored here, {len(card.pairs.ids):,} pairs, macro F1, {card.policy.name}"
        if card.policy.name != found["policy"]:
            notes[unused] += f" (the published figures are {found['policy']}: do not compare)"
    return PublishedTable(found["title"], findings, cells, covered, notes)


@cache
def read_published() -> dict[str, Any]:
    """Return the published figures as they are in `published.yaml`."""
    text = (files("workbench.evaluation") / "published.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def _own_cells(
    card: ScoreCard, findings: tuple[str, ...]
) -> tuple[dict[str, Estimate], dict[str, float | None]]:
    rows = {name: card.per_finding[name] for name in findings if name in card.per_finding}
    cells = {name: row.f1 for name, row in rows.items()}
    covered = {name: row.coverage for name, row in rows.items()}
    if len(rows) == len(findings):
        same = len(card.per_finding) == len(findings)
        cells[AVERAGE] = card.averages["macro" if same else "macro of six"].f1
        shares = [share for share in covered.values() if share is not None]
        covered[AVERAGE] = float(np.mean(shares)) if shares else None
    return cells, covered
