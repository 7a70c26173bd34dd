"""A score card as a page for browsers and as a card for notebooks, and as files in a folder.

The page is one file: pictures are inside it, there are no scripts, and nothing is fetched. All
text from inputs is escaped; ids in CSV files cannot start a formula.
Does not know: how anything was counted or drawn.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.evaluation.scorecard_rows import neutral_frame
from workbench.figures.page import embedded_png, html_page, scoped
from workbench.figures.tables import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from workbench.evaluation.comparison import Comparison
    from workbench.evaluation.intervals import Estimate
    from workbench.evaluation.scorecard_result import FindingRow, ScoreCard

_STYLE = """
body{font:15px/1.55 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;color:#1b1b1b;
background:#fff;max-width:1180px;margin:32px auto;padding:0 24px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 8px}
p{margin:6px 0 10px;max-width:880px}.muted,small{color:#595959}
table{border-collapse:collapse;margin:10px 0;font-variant-numeric:tabular-nums}
th,td{padding:4px;border-bottom:1px solid #d9d9d9;text-align:right;vertical-align:top}
th{border-bottom:2px solid #1b1b1b;vertical-align:bottom}
td{white-space:nowrap}th:first-child,td:first-child{text-align:left;white-space:normal}
td.text{white-space:normal;text-align:left}
.wide{overflow-x:auto}tr.average td{font-weight:600}tr.first td{border-top:2px solid #1b1b1b}
tr.silent td{color:#767676}img{max-width:100%;height:auto;display:block;margin:8px 0}
.notes{border-left:4px solid #b36b00;background:#fff4dc;color:#5c3a00;
padding:8px 16px;margin:14px 0}
.notes ul{margin:4px 0;padding-left:20px}.low{color:#8a4b00;font-weight:600}
.figures{display:flex;gap:28px;flex-wrap:wrap;margin:14px 0}.figures div{min-width:150px}
.figures b{font-size:24px;display:block}
"""
_LOW = 0.5
_HEAD = ("finding", "pairs scored", "coverage", "positive", "TP", "FP", "TN", "FN")
_HEAD += ("precision", "recall", "specificity", "F1")
_NAMES = {
    "macro": "macro F1 (mean of findings)",
    "micro": "micro F1 (all counts together)",
    "weighted": "weighted F1 (by support)",
    "macro of six": "macro F1 of the paper's six",
}


def card_html(card: ScoreCard) -> str:
    """Return the card for a notebook: numbers, table and notes, without pictures."""
    style = scoped(_STYLE, "scorecard")
    return f'<style>{style}</style><div class="scorecard">{_summary(card)}</div>'


def page_html(
    card: ScoreCard,
    figures: dict[str, Figure],
    *,
    compared: tuple[Comparison, ...] = (),
    cards: tuple[ScoreCard, ...] = (),
) -> str:
    """Return the whole page.

    Args:
        card: what it is about.
        figures: "forest", "coverage", "confusion", and "comparison-1" and so on.
        compared: comparisons to show.
        cards: further systems for the table of published figures.
    """
    parts = [_summary(card), embedded_png(figures["forest"], _forest_alt(card))]
    parts.append("<h2>How much could be scored</h2>")
    parts.append(
        "<p>A pair of reports is scored for a finding only where the policy allows it. "
        "The rest is unknown, not wrong and not right.</p>"
    )
    parts.append(embedded_png(figures["coverage"], _coverage_alt(card)))
    parts += [_omissions(card), "<h2>Codes against codes</h2>"]
    parts.append(embedded_png(figures["confusion"], _confusion_alt(card)))
    for at, found in enumerate(compared, start=1):
        parts.append(f"<h2>{escape(found.a)} against {escape(found.b)}</h2>{_compared_text()}")
        parts.append(f'<div class="wide">{found._repr_html_()}</div>')
        parts.append(embedded_png(figures[f"comparison-{at}"], _comparison_alt(found)))
    parts.append(_published(card, *cards))
    if card.texts is not None:
        parts.append("<h2>Wording</h2>" + _wording_text())
        parts.append(f'<div class="wide">{card.texts._repr_html_()}</div>')
    parts.append(_origin(card))
    return html_page(f"Score card: {card.name}", _STYLE, "".join(parts))


def save_card(
    card: ScoreCard,
    folder: Path,
    *,
    compared: tuple[Comparison, ...] = (),
    cards: tuple[ScoreCard, ...] = (),
) -> dict[str, Path]:
    """Write the page, the tables and the figures; return file name -> path."""
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, Path] = {}

    def text(name: str, content: str) -> None:
        written[name] = folder / name
        written[name].write_text(content, encoding="utf-8")

    figures = {"forest": card.plot().figure, "coverage": card.plot_coverage().figure}
    figures["confusion"] = card.plot_confusion()
    for at, found in enumerate(compared, start=1):
        figures[f"comparison-{at}"] = found.plot().figure
    text("scorecard.html", page_html(card, figures, compared=compared, cards=cards))
    text("scorecard.csv", card.to_frame().to_csv(lineterminator="\n"))
    if card.rows is not None:
        text("rows.csv", neutral_frame(card.rows).to_csv(index=False, lineterminator="\n"))
    result = card.to_dict() | {"comparisons": [found.to_dict() for found in compared]}
    text("scorecard.json", json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    for name, figure in figures.items():
        for kind in ("png", "svg"):
            path = folder / f"{name}.{kind}"
            figure.savefig(path)
            written[path.name] = path
        plt.close(figure)
    return written


def _summary(card: ScoreCard) -> str:
    pairs, patients = len(card.pairs.ids), len(set(card.pairs.patients))
    covered = "\u2013" if card.coverage is None else f"{100 * card.coverage:.0f} %"
    big = [("pairs of reports", f"{pairs:,}"), ("of report and finding scored", covered)]
    big += [(f"{name} F1", _short(card.averages[name].f1)) for name in ("macro", "micro")]
    boxes = "".join(f"<div><b>{value}</b><small>{name}</small></div>" for name, value in big)
    return (
        f"<h1>Score card: {escape(card.name)}</h1>"
        f'<p class="muted">{pairs:,} pairs of {patients:,} patients, 95 % intervals</p>'
        f'<div class="figures">{boxes}</div>'
        f"<p><b>{escape(card.policy.name)}.</b> {escape(card.policy.says)}</p>"
        f"{_notes(card)}<h2>Finding by finding</h2>"
        f'<div class="wide">{_table(card)}</div>{_statuses(card)}'
    )


def _notes(card: ScoreCard) -> str:
    if not card.warnings:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in card.warnings)
    return f'<div class="notes"><b>Before quoting these numbers</b><ul>{items}</ul></div>'


def _table(card: ScoreCard) -> str:
    head = "".join(f"<th>{name}</th>" for name in _HEAD)
    rows = card.per_finding.values()
    body = [_finding_row(row) for row in rows if row.mentioned]
    if card.never_mentioned:
        said = f"{', '.join(card.never_mentioned)}: never mentioned, undefined"
        body.append(
            f'<tr class="silent"><td class="text" colspan="{len(_HEAD)}">{escape(said)}</td></tr>'
        )
    for at, (name, item) in enumerate(card.averages.items()):
        over = f"over {len(item.members)} findings"
        cells = f'<td colspan="{len(_HEAD) - 1}">{_NAMES[name]}, {over}</td>'
        cells += f"<td>{_interval(item.f1)}</td>"
        body.append(f'<tr class="average{" first" if not at else ""}">{cells}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _finding_row(row: FindingRow) -> str:
    covered = "\u2013" if row.coverage is None else f"{100 * row.coverage:.0f} %"
    low = row.coverage is not None and row.coverage < _LOW
    cells = [escape(row.finding), f"{row.n:,}"]
    cells.append(f'<span class="low">{covered}</span>' if low else covered)
    cells += [f"{value:,}" for value in (row.support, row.tp, row.fp, row.tn, row.fn)]
    cells += [_interval(item) for item in (row.precision, row.recall, row.specificity, row.f1)]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _statuses(card: ScoreCard) -> str:
    listed = ", ".join(f"{count:,} {name}" for name, count in card.statuses.items() if count)
    return f'<p class="muted">Rows in: {escape(listed)}.</p>' if listed else ""


def _omissions(card: ScoreCard) -> str:
    rows = []
    for row in card.per_finding.values():
        if row.omission.n:
            counts = (f"{row.omitted:,}", f"{row.omission.n:,}")
            rows.append((row.finding, *counts, row.omission.text()))
    text = (
        "<h2>Omission</h2><p>Present in the reference and not mentioned by the prediction. "
        "A policy that scores only what is mentioned does not see these.</p>"
    )
    if not rows:
        return f"{text}<p>No finding is present in the references.</p>"
    names = ("finding", "omitted", "present in the references", "rate [95 %]")
    return text + html_table(names, rows)


def _compared_text() -> str:
    return (
        "<p>Only pairs that could be scored for both systems are compared, so F1 here may differ "
        "from the tables of each. McNemar's exact test with Holm's correction over findings.</p>"
    )


def _published(*cards: ScoreCard) -> str:
    from workbench.evaluation.published import published_table

    own = {card.name: card for card in cards}
    tables = "".join(
        f'<div class="wide">{published_table(own, table=name)._repr_html_()}</div>'
        for name in ("internal", "external")
    )
    return (
        "<h2>Beside published figures</h2><p>Published figures rest on another labeler and on the "
        "published test sets. A new run may be compared with one of these tables only where it "
        f"was scored on the same cases.</p>{tables}"
    )


def _wording_text() -> str:
    return (
        "<p>How alike the words are. A wrong side or a missing negation costs one word here; "
        "these numbers say nothing about findings.</p>"
    )


def _origin(card: ScoreCard) -> str:
    said: dict[str, Any] = {"resamples": card.resamples, "seed": card.seed, **card.provenance}
    listed = ", ".join(f"{escape(str(key))}: {escape(str(value))}" for key, value in said.items())
    return f'<h2>Origin</h2><p class="muted">{listed}. For research, not for clinical use.</p>'


def _forest_alt(card: ScoreCard) -> str:
    said = [f"{row.finding} {_short(row.f1)}" for row in card.per_finding.values() if row.mentioned]
    return f"Figure: F1 with 95 % intervals of {card.name}: {', '.join(said) or 'nothing scored'}"


def _coverage_alt(card: ScoreCard) -> str:
    rows = [row for row in card.per_finding.values() if row.mentioned and row.coverage is not None]
    said = ", ".join(f"{row.finding} {100 * (row.coverage or 0):.0f} %" for row in rows)
    return f"Figure: share of pairs scored by finding: {said or 'none'}"


def _confusion_alt(card: ScoreCard) -> str:
    return (
        "Figure: for each finding, counts of reference code (present, absent, uncertain, not "
        f"mentioned) by prediction code, {len(card.pairs.ids):,} pairs"
    )


def _comparison_alt(found: Comparison) -> str:
    macro = found.averages["macro"].difference
    value = "undefined" if macro.value is None else f"{macro.value:+.2f}"
    return f"Figure: difference of F1, {found.a} minus {found.b}, by finding; macro {value}"


def _short(found: Estimate) -> str:
    return "undefined" if found.value is None else f"{found.value:.2f}"


def _interval(found: Estimate) -> str:
    if found.value is None:
        return '<span class="muted">undefined</span>'
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f}<br><small>[{found.low:.2f}, {found.high:.2f}]</small>"
