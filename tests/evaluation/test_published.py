"""Published figures beside ours: every number has a source, and unknown stays unknown."""

from __future__ import annotations

import pytest

from workbench.errors import OptionError
from workbench.evaluation import published_table, score
from workbench.evaluation.scorecard_page import AVERAGE, read_published
from workbench.findings import PAPER_FINDINGS, standard_name

SIDE = {
    "a": dict.fromkeys(PAPER_FINDINGS, "present") | {"nodule": "absent"},
    "b": dict.fromkeys(PAPER_FINDINGS, "absent") | {"atelectasis": ""},
}


def test_every_number_has_a_source_that_exists():
    known = read_published()
    for table in known["tables"].values():
        assert [standard_name(name) for name in table["findings"]] == list(PAPER_FINDINGS)
        for system in table["systems"]:
            assert known["sources"][system["source"]]["cite"]
            assert known["sources"][system["source"]]["url"].startswith("https://")


@pytest.mark.parametrize(
    ("table", "system", "value"),
    [
        ("internal", "CXR-LLaVA (journal)", 0.81),
        ("internal", "CXR-LLaVA (preprint)", 0.81),
        ("external", "CXR-LLaVA (journal)", 0.56),
        ("external", "CXR-LLaVA (preprint)", 0.62),
    ],
)
def test_published_averages_are_those_of_the_abstracts(table, system, value):
    frame = published_table(table=table).to_frame()
    assert frame.loc[AVERAGE, system] == value
    assert frame.loc[list(PAPER_FINDINGS), system].isna().all(), "not known, not guessed"


def test_seven_findings_are_not_passed_off_as_six():
    notes = published_table(table="external").notes
    assert "average over 7 findings" in notes["CXR-LLaVA (preprint)"]
    assert "average over 6 findings" in notes["CXR-LLaVA (journal)"]


def test_our_cards_stand_beside_with_coverage():
    card = score(SIDE, SIDE, name="ours", resamples=10)
    found = published_table({"ours": card, "theirs": card}, table="internal")
    frame = found.to_frame()
    assert list(frame.columns[-2:]) == ["ours", "theirs"]
    assert frame.index.tolist() == [*PAPER_FINDINGS, AVERAGE]
    assert frame.loc[AVERAGE, "ours"] == card.averages["macro of six"].f1.value == 1
    assert found.covered["ours"]["atelectasis"] == 0.5
    html = found._repr_html_()
    assert "not known" in html
    assert "50 % scored" in html


def test_a_card_without_the_six_findings_has_no_average():
    card = score(SIDE, SIDE, findings=["atelectasis", "nodule"], resamples=5)
    frame = published_table(card).to_frame()
    assert frame.loc["atelectasis", "predictions"] == 1
    assert frame.isna().loc[AVERAGE, "predictions"]


def test_another_policy_is_said():
    card = score(SIDE, SIDE, name="x", policy="blank-as-negative", resamples=5)
    assert "do not compare" in published_table(card).notes["x"]


def test_a_card_named_like_a_published_system_does_not_replace_it():
    card = score(SIDE, SIDE, name="GPT-4-vision", resamples=5)
    frame = published_table(card).to_frame()
    assert frame["GPT-4-vision"].isna().all()
    assert frame.loc[AVERAGE, "GPT-4-vision (scored here)"] == 1


def test_unknown_table_says_which_there_are():
    with pytest.raises(OptionError, match="unknown table 'mimic'; expected one of: internal"):
        published_table(table="mimic")
