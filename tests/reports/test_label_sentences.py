"""The labeler against sentences written for it, misses included (`sentences.yaml`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from workbench.findings import ABSENT, ALL_FINDINGS, PRESENT, SIDES, UNCERTAIN
from workbench.reports import label

CODES = {"+": PRESENT, "-": ABSENT, "?": UNCERTAIN}
GROUPS = yaml.safe_load(Path(__file__).with_name("sentences.yaml").read_text("utf-8"))
SENTENCES = [(group, text, said) for group, items in GROUPS.items() for text, said in items.items()]


def reading(said: str) -> dict[str, tuple[str, str | None]]:
    """Return finding -> (code, side) of the notation in the file."""
    found = {}
    for part in said.removeprefix("miss: ").split("; "):
        if not part:
            continue
        words = part[2:].split()
        side = words.pop() if words[-1] in SIDES else None
        name = " ".join(words)
        assert name in ALL_FINDINGS, part
        found[name] = (CODES[part[0]], side)
    return found


def read(text: str) -> dict[str, tuple[str, str | None]]:
    return {row.finding: (row.code, row.side) for row in label(text).rows}


def right(text: str, said: str) -> bool:
    return read(text) == reading(said)


def test_there_are_two_hundred_and_none_twice():
    assert len(SENTENCES) >= 200
    assert max(Counter(text for _, text, _ in SENTENCES).values()) == 1


@pytest.mark.parametrize(("group", "text", "said"), SENTENCES)
def test_sentence_is_read_as_the_file_says(group, text, said):
    """A sentence marked as missed must be missed: one that is read right loses its mark."""
    if said.startswith("miss: "):
        assert not right(text, said)
    else:
        assert read(text) == reading(said)


def test_share_that_is_read_right():
    exact = [
        {name: code for name, (code, _) in read(text).items()}
        == {name: code for name, (code, _) in reading(said).items()}
        for _, text, said in SENTENCES
    ]
    assert sum(exact) / len(exact) >= 0.97
    sides = [
        read(text).get(name, (None, None)) == (code, side)
        for _, text, said in SENTENCES
        for name, (code, side) in reading(said).items()
        if side
    ]
    assert sum(sides) / len(sides) >= 0.95
