"""Reading answers with care."""

from __future__ import annotations

import pytest

from workbench.errors import OptionError
from workbench.hallucination import read_answer


@pytest.mark.parametrize(
    ("answer", "finding", "reading"),
    [
        ("Yes, there is a small left pleural effusion.", "pleural effusion", "yes"),
        ("No, there is no pneumothorax.", "pneumothorax", "no"),
        ("Yes.", "pneumothorax", "yes"),
        ("No", "pneumothorax", "no"),
        ("yes, it is on the left", "pneumothorax", "yes"),
        ("Heart size is normal.", "cardiomegaly", "no"),
        ("The heart is enlarged.", "cardiomegaly", "yes"),
        ("Heart size is normal.", "pneumothorax", "unclear"),
        ("Yes, heart size is normal.", "pneumothorax", "unclear"),
        ("Yes, heart size is normal.", "cardiomegaly", "unclear"),
        ("There may be a small effusion.", "pleural effusion", "unclear"),
        ("Yes, possibly.", "consolidation", "unclear"),
        ("Yes, there is none.", "nodule", "unclear"),
        ("Yes, there is no nodule.", "nodule", "unclear"),
        ("No, there is a nodule.", "nodule", "unclear"),
        ("There is a right pneumothorax.", "pleural effusion", "unclear"),
        ("Yes, there is a right pneumothorax.", "pleural effusion", "unclear"),
        ("I cannot tell.", "pleural effusion", "unclear"),
        ("", "pleural effusion", "unclear"),
        ("The chest radiograph shows bones.", "atelectasis", "unclear"),
        ("Nodular shadow.", "atelectasis", "unclear"),
    ],
)
def test_reading(answer, finding, reading):
    assert read_answer(answer, finding) == reading


@pytest.mark.parametrize(
    ("answer", "reading"),
    [
        ("Yes.", "no"),
        ("No.", "yes"),
        ("Yes, there is no effusion.", "no"),
        ("No, there is an effusion.", "yes"),
        ("No, there is no effusion.", "unclear"),
    ],
)
def test_negated_question(answer, reading):
    assert read_answer(answer, "pleural effusion", negated=True) == reading


@pytest.mark.parametrize(
    ("answer", "reading"),
    [
        ("On the left.", "yes"),
        ("Moderate.", "yes"),
        ("It is not on the left.", "unclear"),
        ("There is no effusion.", "no"),
        ("The effusion is on the right.", "yes"),
        ("Possibly on the left.", "unclear"),
        ("The nodule is on the left.", "unclear"),
    ],
)
def test_detail_affirms_a_premise(answer, reading):
    assert read_answer(answer, "pleural effusion", premise=True) == reading


def test_detail_without_a_premise_is_unclear():
    assert read_answer("On the left.", "pleural effusion") == "unclear"


def test_unknown_finding():
    with pytest.raises(OptionError, match="unknown finding"):
        read_answer("Yes.", "gout")
