"""The report of a reader study as one HTML file: pictures inside, no scripts, nothing fetched.

Does not know: how anything was counted or drawn.
"""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from workbench._store import whole_file
from workbench.errors import InputError
from workbench.evaluation.intervals import Estimate
from workbench.figures.page import embedded_png, html_page, scoped
from workbench.figures.tables import html_table
from workbench.review.study_plan import ARMS
from workbench.review.study_session import GRADES

if TYPE_CHECKING:
    from workbench.review.study_result import StudyResult

_STYLE = """
body{font:15px/1.55 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;color:#1b1b1b;
background:#fff;max-width:960px;margin:32px auto;padding:0 24px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:19px;margin:32px 0 8px}
p{margin:6px 0 10px}.muted{color:#595959}
table{border-collapse:collapse;margin:10px 0;font-variant-numeric:tabular-nums}
th,td{padding:4px 12px;border-bottom:1px solid #d9d9d9;text-align:right}
th{border-bottom:2px solid #1b1b1b}th:first-child,td:first-child{text-align:left}
img{max-width:100%;height:auto;display:block;margin:8px 0}
.notes{border-left:4px solid #b36b00;background:#fff4dc;color:#5c3a00;padding:8px 16px}
"""


def result_html(result: StudyResult) -> str:
    """Return the numbers for a notebook, without the picture."""
    style = scoped(_STYLE, "study")
    return f'<style>{style}</style><div class="study">{_body(result, "")}</div>'


def save_page(result: StudyResult, path: Path) -> Path:
    """Write the whole page.

    Raises:
        InputError: the name does not end in .html.
    """
    if path.suffix.lower() != ".html":
        raise InputError(f"{path.name}: the report of a study is written as .html")
    path.parent.mkdir(parents=True, exist_ok=True)
    page = html_page(result.title, _STYLE, _body(result, _picture(result)))
    with whole_file(path) as partial:
        partial.write_text(page, encoding="utf-8")
    return path


def _body(result: StudyResult, picture: str) -> str:
    frame = result.to_frame()
    readers = [
        name for name in dict.fromkeys(frame.index.get_level_values("reader")) if name != "all"
    ]
    cases = result.readings.groupby(["source", "case"]).ngroups
    parts = [
        f"<h1>{escape(result.title)}</h1>",
        f'<p class="muted">{cases:,} cases, {len(readers)} readers, {len(result.readings):,} '
        "readings, 95 % intervals. Acceptable: grade A or B.</p>",
        _missing(result),
        picture,
        f"<p>Model minus reference: <b>{_signed(result.difference)}</b>, paired by case.</p>",
        "<h2>Grades</h2>",
        _grades(result, frame),
        "<h2>Do readers agree?</h2>",
        _agreement(result),
        "<h2>Time for a report</h2>",
        _time(result),
        "<h2>How to read this</h2>",
        "<p>Over all readers, cases are resampled with all their readings; rows of one reader have "
        "Wilson's interval. Repeated reports count for agreement within a reader only. "
        f"Kappa has {escape(result.weights)} weights. Grades: "
        + "; ".join(f"{grade} {text}" for grade, text in GRADES.items())
        + ". For research, not for clinical use.</p>",
    ]
    return "".join(parts)


def _missing(result: StudyResult) -> str:
    if not result.missing:
        return ""
    return (
        f'<p class="notes">{result.missing:,} reports are not graded yet: these numbers are not '
        "those of the whole study.</p>"
    )


def _grades(result: StudyResult, frame) -> str:
    rows = []
    for (reader, arm), row in frame.iterrows():
        found = result.success[arm] if reader == "all" else result.by_reader[reader, arm]
        counts = [f"{int(row[grade]):,}" for grade in GRADES]
        rows.append([f"{reader}, {arm}", f"{int(row['readings']):,}", *counts, found.text()])
    return html_table(["reader and arm", "readings", *GRADES, "A or B [95 %]"], rows)


def _agreement(result: StudyResult) -> str:
    rows = []
    if result.between is not None:
        for name, found in result.between.measures:
            rows.append([f"between readers: {name}", found.text(), f"{found.n:,}"])
    for reader, found in result.within.items():
        rows.append([f"within {reader}: {found.measure}", found.kappa.text(), f"{found.items:,}"])
        rows.append([f"within {reader}: equal pairs", found.same.text(), f"{found.items:,}"])
    if not rows:
        return "<p>One reader and no repeats: agreement cannot be measured.</p>"
    return html_table(["agreement", "value [95 %]", "n"], rows)


def _time(result: StudyResult) -> str:
    rows = [
        [arm, result.seconds[arm].text(1, undefined="not measured"), f"{result.seconds[arm].n:,}"]
        for arm in ARMS
    ]
    return html_table(["arm", "median seconds [95 %]", "readings"], rows)


def _signed(found: Estimate) -> str:
    if found.value is None:
        return "undefined"
    inside = f" [{found.low:+.2f}, {found.high:+.2f}]" if found.bounded else ""
    return f"{found.value:+.2f}{inside}"


def _picture(result: StudyResult) -> str:
    from matplotlib import pyplot

    figure = result.plot().figure
    said = ", ".join(f"{arm} {result.success[arm].text()}" for arm in ARMS)
    shown = embedded_png(figure, f"Figure: grades by arm; acceptable: {said}")
    pyplot.close(figure)
    return shown
