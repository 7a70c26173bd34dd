"""What comes out of a score card: figures, page, files; and nothing from inputs runs in them."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from workbench._tables import neutral
from workbench.evaluation import compare, save_card, score
from workbench.evaluation.counts import find_policy
from workbench.evaluation.scorecard_figure import draw_confusion
from workbench.figures.style import new_figure

REFERENCES = {
    "a": "There is a left pleural effusion. No pneumothorax.",
    "b": "No pleural effusion. There is a nodule. No fracture.",
    "c": "Possible pneumothorax. Heart size is enlarged.",
    "=cmd|'/C calc'!A0": "No nodule.",
}
PREDICTIONS = REFERENCES | {
    "a": "No pleural effusion. There is a pneumothorax.",
    "c": "Heart size is enlarged.",
    "@late": "No nodule.",
}
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def card():
    return score(PREDICTIONS, REFERENCES, name="first", resamples=20, text_metrics=True)


@pytest.fixture(scope="module")
def other():
    return score(REFERENCES, REFERENCES, name=EVIL, resamples=20)


class _Page(HTMLParser):
    """Tags that were opened, images, and whether every tag was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images, self.open, self.tags = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# ---------------------------------------------------------------- files


def test_files_are_written_and_can_be_read(card, other, tmp_path):
    written = save_card(card, tmp_path / "new" / "card", compared=(compare(card, other),))
    names = {"scorecard.html", "scorecard.csv", "scorecard.json", "rows.csv"}
    figures = {"forest", "coverage", "confusion", "comparison-1"}
    assert set(written) == names | {f"{f}.{kind}" for f in figures for kind in ("png", "svg")}
    assert {path.name for path in (tmp_path / "new" / "card").iterdir()} == set(written)
    for figure in figures:
        assert Image.open(written[f"{figure}.png"]).size[0] > 800
        assert written[f"{figure}.svg"].read_text(encoding="utf-8").count("<svg") == 1
    result = json.loads(written["scorecard.json"].read_text(encoding="utf-8"))
    assert result["per_finding"] == json.loads(json.dumps(card.to_dict()))["per_finding"]
    assert result["comparisons"][0]["a"] == "first"
    assert result["provenance"]["workbench"]
    with written["scorecard.csv"].open(newline="", encoding="utf-8") as handle:
        rows = {row["finding"]: row for row in csv.DictReader(handle)}
    assert rows["pleural effusion"]["fn"] == "1"
    assert rows["fracture"]["f1"] == "", "undefined is blank, not 0"


def test_no_cell_of_a_file_starts_a_formula(card, tmp_path):
    written = save_card(card, tmp_path)
    with written["rows.csv"].open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    ids = [row["id"] for row in rows]
    assert "'=cmd|'/C calc'!A0" in ids
    assert "'@late" in ids
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in rows for cell in row.values())
    assert "=cmd|'/C calc'!A0" in card.rows["id"].tolist(), "in memory ids stay as they are"


@pytest.mark.parametrize("value", ["=1", "+1+1", "-x", "@x", "\tx", "\rx"])
def test_neutral_marks_what_could_be_a_formula(value):
    assert neutral(value) == f"'{value}"
    assert neutral(f"a{value}") == f"a{value}"


@pytest.mark.parametrize("value", ["+1", "-1", "-0.5", "1e3", ""])
def test_numbers_stay_numbers(value):
    assert neutral(value) == value


# ---------------------------------------------------------------- the page


def test_page_is_one_file_that_fetches_nothing(card, other, tmp_path):
    page = save_card(card, tmp_path, compared=(compare(card, other),))["scorecard.html"]
    text = page.read_text(encoding="utf-8")
    found = _Page(text)
    assert found.open == []
    assert not found.tags & {"script", "link", "iframe", "object"}
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", text)
    assert "url(" not in text
    assert len(found.images) == 4
    for image in found.images:
        assert image["alt"].startswith("Figure: ")
        assert image["src"].startswith("data:image/png;base64,")


def test_names_from_inputs_are_escaped_everywhere(card, other, tmp_path):
    bad = score(PREDICTIONS, REFERENCES, name=EVIL, resamples=5)
    page = save_card(bad, tmp_path, compared=(compare(bad, other),))["scorecard.html"]
    for text in (page.read_text("utf-8"), bad._repr_html_(), compare(bad, card)._repr_html_()):
        assert EVIL not in text
        assert "&lt;script&gt;" in text


def test_page_says_what_a_reader_must_know(card):
    text = card._repr_html_()
    assert "joint-definite" in text
    assert "Only pairs in which both sides say present or absent are scored" in text
    assert "pairs scored" in text
    assert "coverage" in text
    assert "Before quoting these numbers" in text
    assert "never mentioned, undefined" in text
    for warning in card.warnings:
        assert warning.split("'")[0][:40] in text


# ---------------------------------------------------------------- figures


def test_forest_has_a_point_for_each_defined_f1(card):
    ax = card.plot()
    drawn = {round(float(x), 6) for line in ax.lines for x in np.atleast_1d(line.get_xdata())}
    rows = [row for row in card.per_finding.values() if row.mentioned]
    for row in rows:
        if row.f1.value is not None:
            assert round(row.f1.value, 6) in drawn
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[: len(rows)] == [row.finding for row in rows]
    assert "pneumonia" not in labels
    said = " ".join(text.get_text() for text in ax.texts)
    assert "pneumonia" in said
    assert "of 4 scored" in said, "coverage beside every F1"
    assert "undefined" in said
    assert card.plot(ax) is ax


def test_coverage_bars_add_up_to_all_pairs(card):
    ax = card.plot_coverage()
    widths = np.array([bar.get_width() for bars in ax.containers for bar in bars])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert widths.reshape(5, -1).sum(0) == pytest.approx(100)
    assert "1 of 4 (25 %)" in [text.get_text() for text in ax.texts]
    assert names == [row.finding for row in card.per_finding.values() if row.mentioned]
    assert card.not_scored().loc["cardiomegaly"].sum() == 3


def test_confusion_marks_the_scored_cells():
    table = np.arange(16).reshape(4, 4)
    ax = new_figure().add_subplot()
    draw_confusion(table, find_policy("blank-as-negative").outcomes(), ax, title="x")
    texts = [text.get_text() for text in ax.texts]
    assert {str(n) for n in range(16)} <= set(texts)
    assert [texts.count(name) for name in ("TP", "FP", "TN", "FN")] == [1, 2, 4, 2]


def test_confusion_has_a_panel_for_each_finding_mentioned(card):
    titles = [ax.get_title(loc="left") for ax in card.plot_confusion().axes if ax.axison]
    assert titles == [row.finding for row in card.per_finding.values() if row.mentioned]
