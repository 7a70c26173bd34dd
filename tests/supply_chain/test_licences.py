"""All that is used has a licence on `docs/licences.md`, and none binds this code."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from docs import licences
from workbench.data import SOURCES, card
from workbench.model.licence import PUBLISHED_TERMS


def test_the_page_lists_every_pin_with_a_known_licence():
    listed, pins = licences.read_page(), licences.read_pins()
    assert set(listed) == set(pins)
    assert len(pins) > 150
    strange = {
        name: licence
        for name, licence in listed.items()
        if not set(licences.parts_of(licence)) <= licences.ALLOWED
    }
    assert strange == {}


def test_the_page_says_what_the_installed_packages_say():
    """Of packages that are installed in the pinned version; others keep their line."""
    listed, compared = licences.read_page(), 0
    for name, version in licences.read_pins().items():
        try:
            found = distribution(name).version
        except PackageNotFoundError:
            continue
        if found.split("+")[0] == version.split("+")[0]:
            assert licences.licence_of(name, version, {}) == listed[name], name
            compared += 1
    assert compared > 50


def test_models_and_data_sets_are_listed():
    text = licences.PAGE.read_text(encoding="utf-8")
    assert PUBLISHED_TERMS.licence in text and PUBLISHED_TERMS.notice in text
    for name in SOURCES:
        assert f"| {card(name).title} | {card(name).licence} |" in text


def test_versions_on_the_page_are_the_pins():
    text = licences.PAGE.read_text(encoding="utf-8").partition("## Packages")[2]
    rows = dict(re.findall(r"^\| ([\w.-]+) \| ([\w.+-]+) \|", text, flags=re.MULTILINE))
    rows.pop("package", None)
    assert rows == licences.read_pins()


@pytest.mark.parametrize(
    ("stated", "parts"),
    [("MIT", ["MIT"]), ("Apache-2.0 OR BSD-2-Clause", ["Apache-2.0", "BSD-2-Clause"]),
     ("GPL-3.0-only", ["GPL-3.0-only"])],
)  # fmt: skip
def test_expressions_are_taken_apart(stated, parts):
    assert licences.parts_of(stated) == parts
    assert (set(parts) <= licences.ALLOWED) == ("GPL" not in stated)


def test_the_bill_of_materials_names_every_package_once(tmp_path):
    assert licences.main(["--check", "--sbom", str(tmp_path / "sbom.json")]) == 0
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    names = [one["name"] for one in bill["components"]]
    assert names == sorted(licences.read_pins())
    assert len({one["bom-ref"] for one in bill["components"]}) == len(names)
    assert all(one["licenses"][0]["expression"] for one in bill["components"])
