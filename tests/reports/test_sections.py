"""Reports as people lay them out: what is read of them, and which section holds it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from workbench.data.sections import sections
from workbench.reports import label

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
