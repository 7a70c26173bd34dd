"""Sentences keep their place, whatever the text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.reports import sentences

REPORTISH = st.lists(
    st.sampled_from(
        ["No effusion", ".", " ", "\n", "\n\n", "1.", "2.5", " cm", "Dr.", "e.g.", "?", "!", ":",
         "IMPRESSION:", "- ", "Heart", "a", "A.", ";", "...", '"', ")"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), REPORTISH))
def test_spans_hold_every_visible_character_once_and_in_order(text):
    found = sentences(text)
    assert [piece.text for piece in found] == [text[piece.start : piece.end] for piece in found]
    assert all(piece.text and piece.text == piece.text.strip() for piece in found)
    assert all(one.end <= other.start for one, other in pairwise(found))
    inside = "".join(piece.text for piece in found)
    assert "".join(inside.split()) == "".join(text.split())


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=100), REPORTISH), st.integers(0, 5))
def test_leading_space_only_moves_the_spans(text, shift):
    plain, moved = sentences(text), sentences(" " * shift + text)
    assert [piece.text for piece in moved] == [piece.text for piece in plain]
    assert [piece.start for piece in moved] == [piece.start + shift for piece in plain]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \n ", []),
        ("Heart size is normal. No edema.", ["Heart size is normal.", "No edema."]),
        ("A 1.5 cm nodule. No mass.", ["A 1.5 cm nodule.", "No mass."]),
        ("Told Dr. Smith at once. Done.", ["Told Dr. Smith at once.", "Done."]),
        ("Opacity, e.g. edema. Clear.", ["Opacity, e.g. edema.", "Clear."]),
        ("Edema vs. pneumonia. Clear.", ["Edema vs. pneumonia.", "Clear."]),
        ("Nodule of 15 mm. No mass.", ["Nodule of 15 mm.", "No mass."]),
        ("See image No. 3 of 4. Clear.", ["See image No. 3 of 4.", "Clear."]),
        ("Seen by J. Smith. Clear.", ["Seen by J. Smith.", "Clear."]),
        ("Done at 3 p.m. Clear lungs.", ["Done at 3 p.m.", "Clear lungs."]),
        ("Done at 3 p.m. on Friday.", ["Done at 3 p.m. on Friday."]),
        ("1. Edema. 2. Effusion.", ["1. Edema.", "2. Effusion."]),
        ("1. Edema\n2. Effusion", ["1. Edema", "2. Effusion"]),
        ("Left\npleural effusion.", ["Left\npleural effusion."]),
        ("Clear lungs\n\nNo edema", ["Clear lungs", "No edema"]),
        ("Clear lungs\nIMPRESSION: Normal.", ["Clear lungs", "IMPRESSION: Normal."]),
        ("No effusion.No edema.", ["No effusion.", "No edema."]),
        ('Read as "normal." Clear.', ['Read as "normal."', "Clear."]),
        ("Is it normal? Yes!", ["Is it normal?", "Yes!"]),
    ],
)
def test_examples(text, expected):
    assert [piece.text for piece in sentences(text)] == expected


@pytest.mark.parametrize(
    "lines",
    [
        ["No pleural effusion", "Small left pneumothorax"],
        ["No pleural effusion", "Small left pneumothorax."],
        ["Heart normal", "Lungs clear", "No effusion or pneumothorax"],
        ["Heart size is normal", "There is a small left effusion", "No edema"],
        ["no pleural effusion", "small left pneumothorax"],
        ["NO PLEURAL EFFUSION", "SMALL LEFT PNEUMOTHORAX"],
        ["Clear lungs", "PICC in place"],
        ["- No effusion", "- small left pneumothorax"],
        ["-No effusion", "-Small left pneumothorax"],
        ["\u2022 no effusion", "\u2022 small left pneumothorax"],
        ["\u2013 no effusion", "\u2013 small left pneumothorax"],
        ["a) no effusion", "b) small left pneumothorax"],
        ["1) no effusion", "2) small left pneumothorax"],
        ["Lungs: no consolidation", "Pleura: small left effusion"],
        ["LINES, TUBES: right PICC", "PLEURA (LEFT): small effusion"],
        ["There is a moderate left effusion with overlying\natelectasis", "No pneumothorax"],
        ["Post-operative chest", "Left effusion", "Right PICC", "Heart enlarged"],
        ["No pneumothorax", "Status: stable"],
        ["Mild cardiomegaly", "\u00c9panchement pleural gauche"],
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n  "])
def test_statements_on_lines_of_their_own_are_told_apart(lines, end):
    text = end.join(line.replace("\n", end) for line in lines)
    assert [" ".join(piece.text.split()) for piece in sentences(text)] == [
        " ".join(line.split()) for line in lines
    ]


@pytest.mark.parametrize(
    "text",
    [
        "No pleural\neffusion or pneumothorax is seen.",
        "There is no\nPICC in place.",
        "NO PLEURAL\nEFFUSION OR PNEUMOTHORAX IS SEEN.",
        "THE HEART IS ENLARGED AND THERE IS A SMALL\nEFFUSION.",
        "no evidence of\npleural effusion",
        " The tip of the newly placed right internal jugular line projects over the\n"
        " SVC and there is no pneumothorax, although the costophrenic angle is not\n included.",
        " Unchanged position of the endotracheal tube, the nasogastric tube and the\n"
        " Swan-Ganz catheter, whose tip lies in the right pulmonary artery, as before\n"
        " and as described.",
        "As compared to the study of\nMay, the left\nPICC has moved.",
        "Nodule of\n15 mm in the left lung.",
        "Right-\nsided effusion.",
        "There is a small effusion,\nLeft more than right.",
        "Discussed with\nDr. Smith.",
        "Seen by Dr.\nSmith at once.",
        "Effusion is small (see\nImage 2) and simple.",
        "There is XXXX\nXXXX opacity.",
    ],
)
def test_wrapped_lines_stay_whole(text):
    assert [piece.text for piece in sentences(text)] == [text.strip()]
    assert len(sentences(text.replace("\n", "\r\n"))) == 1
