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
