"""Cells of a closed vocabulary are read by one rule, and names of findings by another."""

from __future__ import annotations

import pytest

from workbench.errors import OptionError
from workbench.findings import CODE_CELLS, TICKS, cell_key, read_cell, standard_name


@pytest.mark.parametrize(
    ("cell", "key"),
    [
        ("1.0", "1"), (1, "1"), (True, "1"), (" TRUE ", "1"), ("+1", "1"), ("01", "1"), ("1.", "1"),
        ("-0.0", "0"), (False, "0"), ("-1.00", "-1"), ("0.5", "0.5"), ("1,0", "1,0"),
        (None, ""), (float("nan"), ""), ("NaN", ""), ("<NA>", ""), ("  ", ""), ("null", ""),
        ("Not  Mentioned", "not mentioned"), ("inf", "inf"), ("?", "?"),
    ],
)  # fmt: skip
def test_cell_key(cell, key):
    assert cell_key(cell) == key


def test_what_is_not_understood_is_not_what_says_nothing():
    assert read_cell("", TICKS) == ""
    assert read_cell("yes", TICKS) is None
    assert read_cell("0.50", TICKS) is None
    assert read_cell("Present", CODE_CELLS) == "present"
    assert read_cell("1", CODE_CELLS) is None, "numbers are no codes by themselves"


@pytest.mark.parametrize("name", [None, 3, ["nodule"], b"nodule", "", "  ", "a poem"])
def test_a_finding_that_is_none_is_refused_in_words(name):
    with pytest.raises(OptionError, match="finding"):
        standard_name(name)
