"""Tables as HTML: words left, numbers right, intervals whole, whole numbers without a point."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from workbench.figures.numbers import number_text
from workbench.figures.tables import facts_table, frame_table, html_table, unbroken


def cells(html: str, tag: str = "td") -> list[tuple[str, str]]:
    """(left or right, text) of each cell, in order."""
    found = re.findall(rf'<{tag}[^>]*style="text-align:(\w+)[^"]*"[^>]*>(.*?)</{tag}>', html)
    return found


@pytest.mark.parametrize(
    "column",
    [
        ["1", "2,345", "-0.7"],
        ["0.83 [0.71, 0.92]", "undefined", ""],
        ["92 %", "< 0.001", "100 %"],
        ["+0.10 [-0.02, +0.21]", "\u2212 3", "\u2013"],
        ["3 / 40", "12 of 17", "5"],
        ["1e-12", "2.5e+03", "0.6 [no interval]"],
        ["0.8\n48 % scored", "0.9", "not known"],
    ],
)
def test_a_column_of_numbers_is_set_right_with_its_name(column):
    html = html_table(["finding", "value"], [["nodule", cell] for cell in column])
    assert [side for side, _ in cells(html)] == ["left", "right"] * 3
    assert [side for side, _ in cells(html, "th")] == ["left", "right"]


@pytest.mark.parametrize(
    "column",
    [["present", "absent"], ["1", "present"], ["", ""], ["undefined", "\u2013"], ["3 mm nodule"]],
)
def test_any_other_column_is_set_left(column):
    html = html_table(["x"], [[cell] for cell in column])
    assert {side for side, _ in cells(html) + cells(html, "th")} == {"left"}


def test_an_interval_does_not_break_and_a_wide_table_scrolls():
    html = html_table(["change [95 %]"], [["0.1 [0.0, 0.2]"], ["0.2 [0.1, 0.3]"]])
    assert 'change <span style="white-space:nowrap">[95 %]</span>' in html
    assert html.count('white-space:nowrap">0.') == 2
    assert html.startswith('<div style="overflow-x:auto')
    kept = '<span style="white-space:nowrap">[0.0, 0.2]</span>'
    assert unbroken("fell by 0.1 [0.0, 0.2]") == f"fell by 0.1 {kept}"


def test_texts_are_escaped_and_small_print_stands_below_its_number():
    html = html_table(["<n>"], [["0.8 [0.7, 0.9]\n<48> scored"]])
    assert "&lt;n&gt;" in html and "<n>" not in html
    html = html_table(["n"], [["0.8 [0.7, 0.9]\n48 % scored"]])
    assert "[0.7, 0.9]<br><small>48 % scored</small>" in html
    assert "<b>" not in facts_table([("<b>", "<b>")])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (339, "339"),
        (np.int64(1234567), "1,234,567"),
        (np.float32(0.25), "0.250"),
        (2.0, "2.000"),
        (True, "True"),
        (np.bool_(False), "False"),
        (None, ""),
        (float("nan"), ""),
        (pd.NA, ""),
        (float("inf"), "inf"),
        ("007", "007"),
    ],
)
def test_a_number_is_written_as_what_it_is(value, text):
    assert number_text(value) == text


def test_a_frame_keeps_whole_numbers_whole_and_leaves_out_what_is_missing():
    frame = pd.DataFrame(
        {
            "what": ["steps", "F1"],
            "n": pd.array([8, None], "Int64"),
            "value": pd.Series([96, 0.5], ["a", "b"], object),
        },
        index=pd.Index(["a", "b"], name="row"),
    )
    assert [text for _, text in cells(frame_table(frame))] == [
        "a", "steps", "8", "96", "b", "F1", "", "0.500",
    ]  # fmt: skip
    assert frame_table(frame, digits=1).count("0.5<") == 1
    assert "row" not in frame_table(frame.rename_axis(None))


def test_rows_that_are_left_out_are_counted():
    frame = pd.DataFrame({"n": range(1234)})
    html = frame_table(frame, limit=3)
    assert len(cells(html)) == 3
    assert "and 1,231 more rows" in html
