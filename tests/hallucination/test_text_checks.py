"""Rules over texts: the list of sentences, spans, excuses and structure."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workbench.hallucination import CHECKS, check_text

FILE = yaml.safe_load((Path(__file__).parent / "text_check_sentences.yaml").read_text("utf-8"))
ITEMS = FILE["sentences"]


def measured():
    """(text, rules expected, rules found) of every item."""
    return [
        (item["text"], set(item["rules"]), set(check_text(item["text"]).rules)) for item in ITEMS
    ]


def test_list_is_long_and_names_every_rule():
    assert len(ITEMS) >= 150
    assert {rule for item in ITEMS for rule in item["rules"]} == set(CHECKS)
    assert len({item["text"] for item in ITEMS}) == len(ITEMS)


def test_precision_and_recall():
    rows = measured()
    hits = sum(len(wanted & found) for _, wanted, found in rows)
    assert hits / sum(len(found) for *_, found in rows) >= 0.95
    assert hits / sum(len(wanted) for _, wanted, _ in rows) >= 0.95


def test_misses_are_listed():
    wrong = [
        {"text": text} | {
            name: sorted(rules)
            for name, rules in (("missed", wanted - found), ("invented", found - wanted))
            if rules
        }
        for text, wanted, found in measured()
        if wanted != found
    ]  # fmt: skip
    assert wrong == FILE["misses"]


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["text"][:40])
def test_spans_hold_their_words(item):
    for issue in check_text(item["text"]).issues:
        assert issue.text == item["text"][issue.start : issue.end]
        assert issue.text.strip() == issue.text != ""


@pytest.mark.parametrize("text", ["", " ", "\n\n", "...", "\u00e9\u4e2d", "12", "a" * 5000])
def test_any_string_will_do(text):
    assert check_text(text).text == text


def test_claims_of_one_sentence_are_not_excused_by_another():
    found = check_text("A lateral view is recommended. The lateral view shows fluid.")
    assert [(issue.rule, issue.text) for issue in found.issues] == [("unseen view", "lateral view")]
    assert found.issues[0].start > 30


def test_order_is_that_of_the_text():
    text = "Unchanged nodule of 8 mm, discussed with Dr. Ray. No nodule."
    issues = check_text(text).issues
    assert [issue.start for issue in issues] == sorted(issue.start for issue in issues)
    assert check_text(text).rules == (
        "prior comparison", "invented measurement", "invented communication", "contradiction",
    )  # fmt: skip


def test_frame_and_html():
    found = check_text("Unchanged <b>nodule</b>.")
    assert list(found.to_frame().columns) == ["rule", "start", "end", "text"]
    shown = found._repr_html_()
    assert "<mark" in shown and "&lt;b&gt;" in shown
    assert "nothing found" in check_text("The lungs are clear.")._repr_html_()
    assert list(check_text("").to_frame().columns) == ["rule", "start", "end", "text"]


@pytest.mark.parametrize("heading", ["IMPRESSION:", "Conclusion:", "OPINION -", "**Impression:**"])
def test_an_impression_may_say_again_what_the_body_says(heading):
    body = "There is no pleural effusion."
    assert "repetition" not in check_text(f"{body}\n{heading} {body}").rules
    assert "repetition" in check_text(f"{body}\nAlso, {body} {body}").rules


@pytest.mark.parametrize("heading", ["CLINICAL HISTORY", "Reason for exam", "INDICATION/HISTORY"])
def test_an_indication_is_a_history_by_its_heading(heading):
    found = check_text(f"{heading}: fall.\nFINDINGS: No fracture.").issues
    assert ("invented history", f"{heading}:") in [(i.rule, i.text) for i in found]
    assert "invented history" not in check_text("FINDINGS: No fracture.").rules


@pytest.mark.parametrize(
    ("text", "contradicts"),
    [
        ("Central venous catheter removed. Dialysis catheter remains in place.", False),
        ("Chest tube removed. Pigtail catheter is in place.", False),
        ("One of two right chest tubes has been removed. Right chest tube is in place.", False),
        ("The ETT has been removed. A new endotracheal tube ends above the carina.", False),
        ("The right PICC has been removed. A left PICC is in place.", False),
        ("The endotracheal tube has been removed. The endotracheal tube is in place.", True),
        ("Interval removal of the right chest tube. Right chest tube is in place.", True),
        ("No central venous catheter. Right jugular catheter is in place.", True),
        ("No acute fracture. Old healed rib fracture.", False),
        ("No acute fracture. Rib fracture is seen.", True),
        ("No fracture. Old healed rib fracture.", True),
    ],
)
def test_what_is_denied_is_what_is_stated_elsewhere(text, contradicts):
    assert ("contradiction" in check_text(text).rules) == contradicts
