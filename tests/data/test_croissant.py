"""Manifests as Croissant: the validator accepts them, and mlcroissant reads the same rows."""

from __future__ import annotations

import json
import shutil
import sys

import mlcroissant
import pandas as pd
import pytest

from workbench.cli import main
from workbench.data import FINDING_COLUMNS, Manifest, save_croissant
from workbench.data.frames import conform
from workbench.errors import InputError, MissingDependencyError


@pytest.fixture
def manifest() -> Manifest:
    """Three rows with a column of their own, an age that is not known, and a formula."""
    rows = {"image_id": ["a", "b", "c"], "path": ["x/a.png", None, "c.dcm"], "age": [50, None, 7]}
    table = pd.DataFrame(rows).assign(source="openi", licence="CC0", device=["A", "B", "A"])
    table = table.assign(patient_id=["p", "p", "q"], study_id=["s", "t", "u"])
    table = table.assign(report_findings=["=1+1", None, "Ödem."], sex="female")
    return Manifest(conform(table.assign(**{"pleural effusion": ["present", None, "absent"]})))


def records(path) -> list[dict]:
    """What mlcroissant reads, texts as texts."""
    read = mlcroissant.Dataset(jsonld=str(path)).records("images")
    return [
        {name.removeprefix("images/"): v.decode() if isinstance(v, bytes) else v
         for name, v in row.items()} for row in read
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_validator_accepts_it_and_reads_the_same_rows(manifest, tmp_path, suffix):
    table = manifest.save(tmp_path / "tables" / f"m{suffix}")
    path = save_croissant(table, tmp_path / "m.json")
    described = mlcroissant.Dataset(jsonld=str(path)).metadata
    assert described.ctx.issues.errors == set()
    frame = manifest.frame
    (fields,) = [records.fields for records in described.record_sets]
    assert [field.name for field in fields] == list(frame.columns)
    found = records(path)
    assert [row["image_id"] for row in found] == ["a", "b", "c"]
    for name in (*FINDING_COLUMNS, "sex", "device"):
        got = [row[name.replace(" ", "_")] for row in found]
        assert got == frame[name].astype(str).tolist(), name
    assert [None if pd.isna(row["age"]) else int(row["age"]) for row in found] == [50, None, 7]


def test_it_moves_with_its_file_and_says_nothing_of_the_machine(manifest, tmp_path):
    here = tmp_path / "here"
    path = save_croissant(manifest.save(here / "m.parquet"), here / "m.json", name="My images")
    said = json.loads(path.read_text(encoding="utf-8"))
    assert said["name"] == "My images" and said["license"] == "CC0"
    assert "Demner-Fushman" in said["citeAs"] and "not mentioned" in said["description"]
    assert said["distribution"][0]["contentUrl"] == "m.parquet"
    assert str(tmp_path) not in path.read_text(encoding="utf-8")
    assert "Ödem" not in path.read_text(encoding="utf-8")
    assert "report texts" in said["rai:personalSensitiveInformation"]
    shutil.move(here, tmp_path / "there")
    assert len(records(tmp_path / "there" / "m.json")) == 3


@pytest.mark.parametrize("source", ["phantom", "csv", "openi"])
def test_only_an_address_is_a_url(manifest, tmp_path, source):
    table = Manifest(manifest.frame.assign(source=source)).save(tmp_path / "m.csv")
    said = json.loads(save_croissant(table, tmp_path / "m.json").read_text(encoding="utf-8"))
    assert said.get("url", "").startswith("https://") == (source == "openi")
    assert ("url" in said) == (source == "openi")


def test_another_file_than_was_described_is_refused_by_the_reader(manifest, tmp_path):
    table = manifest.save(tmp_path / "m.csv")
    path = save_croissant(table, tmp_path / "m.json")
    digest = json.loads(path.read_text(encoding="utf-8"))["distribution"][0]["sha256"]
    assert len(digest) == 64
    manifest.select([0]).save(table)
    assert save_croissant(table, path) == path
    assert json.loads(path.read_text(encoding="utf-8"))["distribution"][0]["sha256"] != digest


def test_errors_say_what_to_do(manifest, tmp_path, monkeypatch):
    table = manifest.save(tmp_path / "m.csv")
    with pytest.raises(InputError, match=r"m\.xml: a Croissant description is written as \.json"):
        save_croissant(table, tmp_path / "m.xml")
    with pytest.raises(InputError, match=r"m\.txt: no such file; expected a manifest"):
        save_croissant(tmp_path / "m.txt", tmp_path / "m.json")
    monkeypatch.setitem(sys.modules, "mlcroissant", None)
    with pytest.raises(MissingDependencyError, match=r"mlcroissant; install it with .*croissant"):
        save_croissant(table, tmp_path / "m.json")


def test_command(manifest, tmp_path, capsys):
    table = manifest.save(tmp_path / "m.parquet")
    given = ["manifest", "croissant", str(table), "--out", str(tmp_path / "m.json")]
    assert main([*given, "--name", "images"]) == 0
    assert "wrote" in capsys.readouterr().out
    assert len(records(tmp_path / "m.json")) == 3
