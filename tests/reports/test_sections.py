"""Reports as people lay them out: what is read of them, and which section holds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.data.mapping import sections
from workbench.reports import divide, label

CODES = {"+": "present", "-": "absent", "?": "uncertain"}
GROUPS = yaml.safe_load(Path(__file__).with_name("sections.yaml").read_text("utf-8"))
ITEMS = [item for group in GROUPS.values() for item in group]
#: Judged by the words around a finding, not by its section.
_ASIDE = ("lung opacity", "enlarged cardiomediastinum", "no finding")


def spoken(text: str) -> dict[str, str]:
    return {row.finding: row.code for row in label(text).rows if row.finding not in _ASIDE}


def stated(says: str) -> dict[str, str]:
    parts = (part.split(" ", 1) for part in says.split("; "))
    return {name: CODES[sign] for sign, name in parts if name not in _ASIDE}


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["text"][:40])
def test_labeler_reads_what_states_and_nothing_else(item):
    assert spoken(item["text"]) == stated(item["says"])


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item["text"][:40])
def test_manifest_holds_the_text_under_its_heading(item):
    found = sections(item["text"])
    for name in ("findings", "impression"):
        assert found.get(name) == item.get(name)


WORDS = st.lists(
    st.sampled_from(
        ["FINDINGS", "Findings", "IMPRESSION", "INDICATION", "CHEST, TWO VIEWS", "history", ":",
         " ",         "\n", "\n\n", "\r\n", ". ", " - ", "/", " AND ", "**", "# ", "LUNGS",
         "No effusion", "5:40", "_"]
    ),
    max_size=25,
).map("".join)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.one_of(WORDS, st.text(max_size=100)))
def test_every_character_is_in_exactly_one_section(text):
    parts = divide(text)
    assert "".join(text[part.start : part.end] for part in parts) == text
    assert all(part.start <= part.body <= part.end for part in parts)


def test_sections_say_what_they_are_and_whether_they_state():
    text = "HISTORY: Cough.\nTECHNIQUE: AP.\nFINDINGS/IMPRESSION: Clear.\nADDENDUM: Edema."
    parts = divide(text)
    assert [(part.name, part.skipped) for part in parts] == [
        ("indication", True), ("technique", True), ("findings", False), ("other", False),
    ]  # fmt: skip
    assert [text[part.body : part.end].strip() for part in parts] == [
        "Cough.", "AP.", "Clear.", "Edema.",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["FINDINGS: " * 5000, "no " * 20000, ":\n" * 20000, "AP " * 20000])
def test_text_without_end_is_divided_in_seconds(text):
    assert divide(text)[-1].end == len(text)
