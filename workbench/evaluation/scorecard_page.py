"""A score card as files in a folder: a page, tables and figures.

The page is one file: pictures are inside it, there are no scripts, and nothing is fetched. All
text from inputs is escaped; ids in CSV files cannot start a formula.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, cast

from matplotlib.figure import Figure

from workbench._tables import neutral
from workbench.evaluation.comparison import Comparison
from workbench.evaluation.counts import FindingRow
from workbench.evaluation.published import published_table
from workbench.evaluation.scorecard import ScoreCard
from workbench.figures.numbers import fixed, percent
from workbench.figures.page import PAGE_STYLE, embedded_png, html_page, save_files
from workbench.figures.tables import html_table


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
