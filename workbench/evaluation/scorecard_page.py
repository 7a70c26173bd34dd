"""A score card as files in a folder, a page, tables and figures; and beside published figures.

The page is one file: pictures are inside it, there are no scripts, and nothing is fetched. All
text from inputs is escaped; ids in CSV files cannot start a formula.

The paper's two tables are shown with any number of score cards in them. A number that is not in a
source named in `published.yaml` is unknown and shown as such. Compare with care: our labels come
from another labeler, the test sets are not the same cases unless you scored the same cases, and the
published average is named by its authors only as "average F1" (ours beside it is the macro F1 over
the same findings).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workbench._repr import result
from workbench._store import read_yaml
from workbench._tables import neutral
from workbench.errors import OptionError, unknown_name
from workbench.evaluation.comparison import Comparison
from workbench.evaluation.counts import FindingRow
from workbench.evaluation.intervals import Estimate
from workbench.evaluation.scorecard import ScoreCard
from workbench.figures.numbers import fixed, percent
from workbench.figures.page import PAGE_STYLE, embedded_png, html_page, save_files
from workbench.figures.tables import bullets, html_table


def save_card(
    card: ScoreCard,
    folder: str | Path,
    *,
    compared: Sequence[Comparison] = (),
    cards: Sequence[ScoreCard] = (),
) -> dict[str, Path]:
    """Write scorecard.html, .csv, .json, rows.csv and figures (PNG, SVG); return name -> path.

    The folder is made if needed, and files of the same names are replaced. `compared` are shown on
    the page; `cards` are further systems for the table of published figures.

    >>> card = wb.evaluation.score({"a": "No nodule."}, {"a": "No nodule."})
    >>> sorted(wb.evaluation.save_card(card, "card"))[:3]
    ['confusion.png', 'confusion.svg', 'coverage.png']
    """
    drawn = {"forest": card.plot(), "coverage": card.plot_coverage()}
    drawn |= {f"comparison-{at}": found.plot() for at, found in enumerate(compared, start=1)}
    figures = {name: cast("Figure", ax.get_figure(root=True)) for name, ax in drawn.items()}
    figures["confusion"] = card.plot_confusion()
    result = card.to_dict() | {"comparisons": [found.to_dict() for found in compared]}
    texts = {
        "scorecard.html": _page(card, figures, compared, cards),
        "scorecard.csv": card.to_frame().to_csv(lineterminator="\n"),
        "scorecard.json": json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    rows, named = card.rows.copy(), ["id", "patient"]
    rows[named] = rows[named].map(neutral, na_action="ignore")
    texts["rows.csv"] = rows.to_csv(index=False, lineterminator="\n")
    return save_files(folder, texts, figures, "png", "svg")


def _page(
    card: ScoreCard,
    figures: Mapping[str, Figure],
    compared: Sequence[Comparison],
    cards: Sequence[ScoreCard],
) -> str:
    own = {one.name: one for one in (card, *cards)}
    rows = [row for row in card.per_finding.values() if row.mentioned]
    f1 = _listed(rows, lambda row: fixed(row.f1.value, missing="undefined"))
    shares = _listed(rows, lambda row: percent(row.coverage))
    parts = [
        card.summary_html(),
        embedded_png(figures["forest"], f"Figure: F1 with 95 % intervals of {card.name}: {f1}"),
        "<h2>How much could be scored</h2>"
        "<p>A pair of reports is scored for a finding only where the policy allows it. "
        "The rest is unknown, not wrong and not right.</p>",
        embedded_png(figures["coverage"], f"Figure: share of pairs scored by finding: {shares}"),
        _omissions(card),
        "<h2>Codes against codes</h2>",
        embedded_png(
            figures["confusion"],
            "Figure: for each finding, counts of reference code (present, absent, uncertain, not "
            f"mentioned) by prediction code, {len(card.pairs.ids):,} pairs",
        ),
        _variety(card),
        *(
            _compared(found, figures[f"comparison-{at}"])
            for at, found in enumerate(compared, start=1)
        ),
        "<h2>Beside published figures</h2><p>Published figures rest on another labeler and on the "
        "published test sets. A new run may be compared with one of these tables only where it "
        "was scored on the same cases.</p>",
        *(published_table(own, table=name)._repr_html_() for name in ("internal", "external")),
        _wording(card),
        _origin(card),
    ]
    return html_page(f"Score card: {card.name}", PAGE_STYLE, "".join(parts))


def _omissions(card: ScoreCard) -> str:
    rows = [
        (row.finding, f"{row.omitted:,}", f"{row.omission.n:,}", row.omission.text())
        for row in card.per_finding.values()
        if row.omission.n
    ]
    text = (
        "<h2>Omission</h2><p>Present in the reference and not mentioned by the prediction. "
        "A policy that scores only what is mentioned does not see these.</p>"
    )
    if not rows:
        return f"{text}<p>No finding is present in the references.</p>"
    names = ("finding", "omitted", "present in the references", "rate [95 %]")
    return text + html_table(names, rows)


def _variety(card: ScoreCard) -> str:
    if card.variety is None:
        return ""
    spread = card.variety.spread.items()
    rows = [(name, fixed(own, 3), fixed(true, 3)) for name, (own, true) in spread]
    head = ("finding", "variance over reports", "variance over references")
    return (
        "<h2>How different the reports are</h2><p>Whether a finding is stated, 0 or 1: what is "
        "said of all images alike has no variance.</p>" + html_table(head, rows)
    )


def _compared(found: Comparison, figure: Figure) -> str:
    macro = fixed(found.averages["macro"].difference.value, sign=True, missing="undefined")
    alt = f"Figure: difference of F1, {found.a} minus {found.b}, by finding; macro {macro}"
    return (
        f"<h2>{escape(found.a)} against {escape(found.b)}</h2>"
        "<p>Only pairs that could be scored for both systems are compared, so F1 here may differ "
        "from the tables of each. McNemar's exact test with Holm's correction over findings.</p>"
        f"{found._repr_html_()}{embedded_png(figure, alt)}"
    )


def _wording(card: ScoreCard) -> str:
    if card.texts is None:
        return ""
    return (
        "<h2>Wording</h2><p>How alike the words are. A wrong side or a missing negation costs one "
        "word here; these numbers say nothing about findings.</p>"
        f"{card.texts._repr_html_()}"
    )


def _origin(card: ScoreCard) -> str:
    said: dict[str, Any] = {"resamples": card.resamples, "seed": card.seed, **card.provenance}
    listed = ", ".join(f"{escape(str(key))}: {escape(str(value))}" for key, value in said.items())
    return f'<h2>Origin</h2><p class="muted">{listed}. For research, not for clinical use.</p>'


def _listed(rows: Sequence[FindingRow], say: Callable[[FindingRow], str]) -> str:
    return ", ".join(f"{row.finding} {say(row)}" for row in rows) or "none"


# ---------------------------------------------------------------- published figures

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

    >>> wb.evaluation.published_table(table="external").findings[:2]
    ('atelectasis', 'cardiomegaly')
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
    return read_yaml("workbench.evaluation", "published.yaml")


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
