"""Figures of a score card, and a card as files in a folder: a page, tables and figures.

The page is one file: pictures are inside it, there are no scripts, and nothing is fetched. All
text from inputs is escaped; ids in CSV files cannot start a formula.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench._tables import neutral
from workbench.evaluation.comparison import Comparison, published_table
from workbench.evaluation.counts import OUTCOMES, REASONS, FindingRow
from workbench.evaluation.scorecard import AVERAGE_NAMES, ScoreCard
from workbench.figures.estimates import draw_forest, name_rows
from workbench.figures.numbers import fixed, percent
from workbench.figures.page import PAGE_STYLE, embedded_png, html_page, save_files
from workbench.figures.style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    new_axes,
    new_figure,
    style,
)
from workbench.figures.tables import html_table
from workbench.findings import CODES

#: Where a number is undefined.
_DASH = "  \u2013  "
_REASON_COLOURS = (PURPLE, ORANGE, SKY, "#e4e4e4")
_SHORT = {"not mentioned": "not men-\ntioned"}


def draw_confusion(table: np.ndarray, outcomes: np.ndarray, ax: Axes, *, title: str = "") -> None:
    """Draw reference code (rows) by prediction code (columns), counts in every cell.

    Cells that the policy scores are framed and marked TP, FP, TN or FN; `outcomes` is from
    `Policy.outcomes`.
    """
    from matplotlib.patches import Rectangle

    size = len(CODES)
    shade = np.log1p(table) / max(np.log1p(table).max(), 1e-9)
    ax.imshow(shade, cmap="Blues", vmin=0, vmax=1.35, aspect="equal", interpolation="nearest")
    for row in range(size):
        for column in range(size):
            scored = outcomes[row, column] < len(OUTCOMES)
            dark = shade[row, column] > 0.8
            colour = "white" if dark else INK if table[row, column] else "#9a9a9a"
            ax.text(column, row + (0.1 if scored else 0), f"{table[row, column]:,}",
                    ha="center", va="center", color=colour, fontsize=12,
                    fontweight="bold" if scored else "normal")  # fmt: skip
            if scored:
                name = OUTCOMES[outcomes[row, column]].upper()
                ax.text(column - 0.38, row - 0.37, name, ha="left", va="top", fontsize=8.5,
                        color="white" if dark else MUTED)  # fmt: skip
                colour = BLUE if name[0] == "T" else VERMILION
                corner = (column - 0.46, row - 0.46)
                ax.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, ec=colour, lw=2.2))
    names = [_SHORT.get(code, code) for code in CODES]
    ax.set_xticks(range(size), names, fontsize=9.5)
    ax.set_yticks(range(size), names, fontsize=9.5)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(title, fontsize=13.5)


@style()
def plot_forest(card: ScoreCard, ax: Axes | None) -> Axes:
    """Draw F1 of every finding and average, with counts and coverage at the right."""
    shown = _shown(card)
    lines = [(row.finding, [row.f1], _note(row)) for row in shown]
    for name, mean in card.averages.items():
        note = f"{mean.f1.text(undefined=_DASH)}   over {len(mean.members)} findings"
        lines.append((AVERAGE_NAMES[name], [mean.f1], note))
    ax = ax or new_axes(11.5, 2.3 + 0.42 * len(lines))
    draw_forest(lines, ax, split=len(shown))
    pairs = f"{len(card.pairs.ids):,} pairs of reports"
    ax.set_title(f"{card.name}: {pairs}, {card.policy.name}", pad=14)
    if hidden := [row.finding for row in card.per_finding.values() if row not in shown]:
        text = textwrap.fill(f"Not drawn, no side mentions them: {', '.join(hidden)}", 92)
        ax.annotate(text, (-0.3, 0), (0, -58), xycoords="axes fraction", va="top",
                    textcoords="offset points", fontsize=11.5, color=MUTED)  # fmt: skip
    return ax


def _shown(card: ScoreCard) -> list[FindingRow]:
    """Return the rows that a side mentions; all where none is."""
    rows = list(card.per_finding.values())
    return [row for row in rows if row.mentioned] or rows


def _note(row: FindingRow) -> str:
    covered = "" if row.coverage is None else f" ({percent(row.coverage)})"
    scored = f"{row.n:,} of {row.pairs:,} scored{covered}, {row.support:,} positive"
    return scored if row.f1.value is None else f"{row.f1.text()}   {scored}"


@style()
def plot_coverage(card: ScoreCard, ax: Axes | None) -> Axes:
    """Draw a bar to 100 % per finding: scored, and by `REASONS` why the other pairs were not."""
    shown = _shown(card)
    names = [row.finding for row in shown]
    parts = np.column_stack([[row.n for row in shown], card.not_scored().loc[names]])
    shares = 100 * parts / np.maximum(parts.sum(1, keepdims=True), 1)
    ax = ax or new_axes(11, 3.0 + 0.42 * len(names))
    notes = [f"{row.n:,} of {row.pairs:,} ({percent(row.coverage)})" for row in shown]
    places, left = name_rows(ax, names, notes), np.zeros(len(names))
    labels = ("scored", *(f"not scored: {reason}" for reason in REASONS))
    for label, share, colour in zip(labels, shares.T, (BLUE, *_REASON_COLOURS), strict=True):
        bars = {"left": left, "height": 0.72, "color": colour, "label": label}
        ax.barh(places, share, **bars, edgecolor="white", linewidth=0.8)
        left = left + share
    ax.set(xlim=(0, 100), xlabel="share of pairs, %")
    ax.set_title(f"{card.name}: what {card.policy.name} could score", pad=12)
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", ncols=2)
    return ax


@style()
def plot_confusions(card: ScoreCard) -> Figure:
    """Draw a table of codes for each finding that any side mentions; see `draw_confusion`."""
    shown, outcomes = _shown(card), card.policy.outcomes()
    columns = min(4, max(1, len(shown)))
    lines = max(1, -(-len(shown) // columns))
    figure = new_figure(figsize=(3.35 * columns + 0.6, 3.5 * lines + 1.0), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    for at, row in enumerate(shown):
        draw_confusion(row.confusion, outcomes, axes[at], title=row.finding)
        if at % columns:
            axes[at].set_yticks([])
        if at + columns < len(shown):
            axes[at].set_xticks([])
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    figure.supylabel("reference", fontsize=14)
    figure.supxlabel("prediction", fontsize=14)
    title = f"{card.name}: codes of {len(card.pairs.ids):,} pairs; framed cells are scored"
    figure.suptitle(title, fontsize=16, fontweight="bold", ha="left", x=0.01)
    return figure


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
    named = card.rows[["id", "patient"]].map(neutral, na_action="ignore")
    texts["rows.csv"] = card.rows.assign(**named).to_csv(index=False, lineterminator="\n")
    return save_files(folder, texts, figures, "png", "svg")


def _page(
    card: ScoreCard,
    figures: Mapping[str, Figure],
    compared: Sequence[Comparison],
    cards: Sequence[ScoreCard],
) -> str:
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
        *(
            _compared(found, figures[f"comparison-{at}"])
            for at, found in enumerate(compared, start=1)
        ),
        _published(card, *cards),
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


def _compared(found: Comparison, figure: Figure) -> str:
    macro = fixed(found.averages["macro"].difference.value, sign=True, missing="undefined")
    alt = f"Figure: difference of F1, {found.a} minus {found.b}, by finding; macro {macro}"
    return (
        f"<h2>{escape(found.a)} against {escape(found.b)}</h2>"
        "<p>Only pairs that could be scored for both systems are compared, so F1 here may differ "
        "from the tables of each. McNemar's exact test with Holm's correction over findings.</p>"
        f"{found._repr_html_()}{embedded_png(figure, alt)}"
    )


def _published(*cards: ScoreCard) -> str:
    own = {card.name: card for card in cards}
    tables = "".join(
        published_table(own, table=name)._repr_html_() for name in ("internal", "external")
    )
    return (
        "<h2>Beside published figures</h2><p>Published figures rest on another labeler and on the "
        "published test sets. A new run may be compared with one of these tables only where it "
        f"was scored on the same cases.</p>{tables}"
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
