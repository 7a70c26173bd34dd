"""Every source has a card that says what it needs to say; the copies for readers do not drift."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

import workbench as wb
from workbench.data.cards import SOURCES, card, card_text, plain, source_key
from workbench.data.columns import BY_NAME, FINDING_COLUMNS, PROVENANCES
from workbench.data.sources import READERS
from workbench.errors import OptionError
from workbench.findings import ALL_FINDINGS, CODES

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = [name for name in SOURCES if name not in ("phantom", "folder", "csv")]


@pytest.mark.parametrize("name", SOURCES)
def test_card_is_complete(name):
    found = card(name)
    assert found.key == name
    for field in ("title", "about", "url", "licence", "terms", "agreement", "citation"):
        assert getattr(found, field), field
    assert found.files
    assert found.variants
    assert found.faults
    assert callable(READERS[name])
    assert found.provenance in PROVENANCES
    assert {finding for stated in found.labels.values() for finding in stated} <= {*FINDING_COLUMNS}
    assert set(found.translations.values()) <= set(found.labels)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_card_says_where_and_how_many(name):
    found = card(name)
    assert found.url.startswith("https://")
    assert found.fetch
    assert found.expected
    assert re.search(r"doi|arXiv", found.citation)
    assert found.labels


def test_copies_for_readers_are_those_of_the_package():
    folder = ROOT / "data_manifests"
    copies = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")}
    assert set(copies) == set(SOURCES)
    for name, text in copies.items():
        assert text == card_text(name), f"workbench manifest card --out {folder.name}"
        assert yaml.safe_load(text)["key"] == name


def test_cards_ship_as_package_data():
    shipped = {path.name for path in (files("workbench.data") / "cards").iterdir()}
    assert shipped == {f"{name}.yaml" for name in SOURCES}
    assert set(READERS) == set(SOURCES)


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("MIMIC", "mimic-cxr"),
        ("Open-i", "openi"),
        ("VinBigData", "vindr-cxr"),
        ("siim covid", "rsna-covid"),
        ("rsna", "rsna-pneumonia"),
        ("NIH", "nih"),
    ],
)
def test_what_people_type_is_understood(typed, key):
    assert source_key(typed) == key


def test_unknown_source_lists_those_there_are():
    with pytest.raises(OptionError, match=r"unknown source 'x'; expected one of: nih, chexpert"):
        card("x")


def test_spanish_vocabulary_maps_with_and_without_accents():
    padchest = card("padchest")
    for word in ("neumon\u00eda", "neumonia", "NEUMONIA", "pneumonia", " pneumonia"):
        assert padchest.findings_of(word) == ("pneumonia",), word
    assert padchest.findings_of("derrame pleural") == ("pleural effusion",)
    assert padchest.findings_of("cuerpo extra\u00f1o externo") == ()
    assert padchest.findings_of("derrame pleurall") is None
    assert plain("  Neumon\u00eda  ATI\u0301PICA ") == "neumonia atipica"
    assert len(padchest.translations) > 190
    assert all(place in padchest.locations for place in padchest.location_translations.values())


def test_spanish_places_have_sides_and_zones():
    from workbench.data.sources.padchest import place_of

    padchest = card("padchest")
    assert place_of(padchest, "loc derecho") == {"side": "right"}
    assert place_of(padchest, "loc l\u00f3bulo inferior izquierdo") == {
        "side": "left", "zone": "lower",
    }  # fmt: skip
    assert place_of(padchest, "loc hilar") == {"zone": "mid"}
    assert place_of(padchest, "loc nowhere") is None


def test_the_columns_hold_the_findings_and_four_codes():
    assert set(ALL_FINDINGS) <= set(FINDING_COLUMNS)
    assert len(FINDING_COLUMNS) == len(set(FINDING_COLUMNS)) >= 14
    assert all(BY_NAME[name].values == CODES for name in FINDING_COLUMNS)
    assert "0" not in CODES


def test_examples_of_the_folder_are_what_they_claim():
    folder = ROOT / "data_manifests" / "examples"
    assert wb.data.load(folder / "phantoms.csv").check().ok
    faulty = wb.data.load(folder / "faulty.csv", check=False).check()
    assert set(faulty.counts) == {
        "age-range", "duplicate-image", "path-outside-root", "patient-in-two-splits",
        "unknown-code", "unmapped-label",
    }  # fmt: skip


def test_the_page_for_newcomers_names_every_source_and_command():
    text = (ROOT / "data_manifests" / "README.md").read_text(encoding="utf-8")
    for name in SOURCES:
        assert f"`{name}`" in text
    for action in ("build", "check", "split", "subset", "freeze", "verify", "quality", "card"):
        assert f"workbench manifest {action}" in text
    for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (ROOT / "data_manifests" / link).exists(), link
