"""Rewriting: what is rejected goes, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.errors import OptionError
from workbench.findings import DEVICE, PHANTOM_FINDINGS
from workbench.hallucination.grounding_result import mentions_of
from workbench.hallucination.rewriting import EDITS, NOTHING_LEFT, rewrite
from workbench.phantom.case import sample_scene
from workbench.phantom.wording import write_report
from workbench.reports import label

REPORT = (
    "There is an endotracheal tube in place. Heart size is normal. No consolidation. There is "
    "atelectasis in the right lower lung zone, lobar, of moderate extent. Moderate left pleural "
    "effusion. Impression: Moderate lobar right lower lung zone atelectasis. Left pleural effusion."
)


def reports(n: int):
    for seed in range(7_000_000, 7_000_000 + n):
        scene = sample_scene(seed, domain="internal")
        yield write_report(scene.lesions, np.random.default_rng(seed), "internal")


def codes(text: str) -> dict:
    return {row.finding: row for row in label(text).rows}


def test_nothing_to_change_returns_the_very_text():
    for text in (REPORT, "", "  odd   white\n\nspace. ", *reports(20)):
        assert rewrite(text, {}) == (text, ())
        assert rewrite(text, {"fracture": "drop"}) == (text, ())


@pytest.mark.parametrize("edit", EDITS)
def test_a_rejected_finding_is_no_longer_stated_and_others_keep_their_labels(edit):
    expected = {"drop": None, "deny": "absent", "doubt": "uncertain"}[edit]
    seen = 0
    for text in reports(150):
        for name in label(text).present:
            if name not in PHANTOM_FINDINGS:
                continue
            new, changes = rewrite(text, {name: edit})
            before, after = codes(text), codes(new)
            row = after.pop(name, None)
            assert (row and row.code) == expected, (name, text, new)
            kept = {k: (r.code, r.side, r.zone, r.severity) for k, r in after.items()}
            old = {k: (r.code, r.side, r.zone, r.severity) for k, r in before.items() if k != name}
            assert kept == old, (name, text, new)
            assert {change.finding for change in changes} == {name}
            seen += 1
    assert seen > 100


def test_all_other_sentences_stay_to_the_character():
    new, changes = rewrite(REPORT, {"atelectasis": "drop"}, scores={"atelectasis": -3.5})
    assert new == (
        "There is an endotracheal tube in place. Heart size is normal. No consolidation. Moderate "
        "left pleural effusion. Impression: Left pleural effusion."
    )
    assert [change.score for change in changes] == [-3.5, -3.5]
    assert changes[1].before == "Moderate lobar right lower lung zone atelectasis."


def test_denial_is_said_once():
    new, _ = rewrite(REPORT, {"pleural effusion": "deny"})
    assert new.count("No pleural effusion.") == 1
    assert new.endswith("zone atelectasis.")


def test_doubt_keeps_the_place():
    new, _ = rewrite(REPORT, {"atelectasis": "doubt", DEVICE: "doubt"})
    assert "Possible atelectasis in the right lower lung zone." in new
    assert new.startswith("Possible endotracheal tube.")


def test_an_impression_that_lost_everything_says_so():
    new, _ = rewrite(
        "No pneumothorax. Impression: Left pleural effusion.", {"pleural effusion": "drop"}
    )
    assert new == f"No pneumothorax. Impression: {NOTHING_LEFT}"
    assert not label(new).present


def test_a_sentence_of_several_findings_keeps_the_others():
    text = "Small left pleural effusion with left lower lobe atelectasis. Heart size is normal."
    new, _ = rewrite(text, {"atelectasis": "drop"})
    row = label(new)["pleural effusion"]
    assert (row.code, row.side, row.severity) == ("present", "left", "small")
    assert label(new)["atelectasis"] is None
    assert new.endswith("Heart size is normal.")


def test_an_unknown_edit_is_refused():
    with pytest.raises(OptionError, match="edit must be one of drop, deny, doubt; got 'erase'"):
        rewrite(REPORT, {"atelectasis": "erase"})


@pytest.mark.parametrize(
    "heading",
    ["IMPRESSION:\n", "IMPRESSION\n", "**Impression:** ", "FINAL IMPRESSION: ", "Opinion: ",
     "IMPRESSION:\n\n"],
)  # fmt: skip
def test_headings_are_those_of_the_reader_and_stay_to_the_character(heading):
    text = f"Heart size is normal.\n{heading}Left pleural effusion. Pneumothorax."
    assert rewrite(text, {"pneumothorax": "drop"})[0] == (
        f"Heart size is normal.\n{heading}Left pleural effusion."
    )
    new, changes = rewrite(text, {"pleural effusion": "drop", "pneumothorax": "drop"})
    assert new == f"Heart size is normal.\n{heading}{NOTHING_LEFT}"
    assert {change.before for change in changes} == {"Left pleural effusion.", "Pneumothorax."}


@pytest.mark.parametrize("heading", ["RESULT: ", "Chest findings: ", "OPINION:\n", "Diagnosis: "])
def test_a_heading_decides_nothing(heading):
    text = f"{heading}Left pleural effusion."
    (found,) = mentions_of(text, [(at, at + 1) for at in range(len(text))])
    assert found.deciding[0] == len(heading)
