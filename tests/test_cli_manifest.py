"""`workbench manifest`: every action, its JSON, exit codes, and errors in one line."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.cli import DONE, FAILED, USAGE, main

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "data_manifests" / "examples"
RULES = {
    "patient-in-two-splits": "p-0003",
    "duplicate-image": "phantom-5",
    "unknown-code": "presnt",
    "unmapped-label": "derrame pleurall",
    "age-range": "411",
    "path-outside-root": "../../elsewhere/film.png",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands write below the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def films(tmp_path) -> Path:
    """Ten pictures of five patients with a table of labels."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "films"
    folder.mkdir()
    rows = [["path", "patient_id", "labels"]]
    for n in range(10):
        small = Image.fromarray(rng.integers(0, 255, (9, 9), dtype=np.uint8))
        small.resize((80, 80), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
        rows.append([f"{n}.png", f"p{n // 2}", "Effusion" if n % 3 == 0 else "No Finding"])
    with (folder / "labels.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return folder


def answer(capsys, *arguments: str, code: int = DONE) -> dict:
    assert main(["manifest", *map(str, arguments), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_build_prints_the_counts_of_the_contract(films, capsys):
    found = answer(capsys, "build", "csv", "--source", films, "--out", "m.parquet")
    assert (found["rows"], found["patients"], found["studies"], found["boxes"]) == (10, 5, 10, 0)
    counts = found["findings"]["pleural effusion"]
    assert {key: counts[key] for key in ("present", "absent", "uncertain")} == {
        "present": 4, "absent": 0, "uncertain": 0,
    }  # fmt: skip
    assert Path("m.parquet").is_file()


def test_json_may_stand_before_the_action(films, capsys):
    assert main(["manifest", "--json", "build", "folder", "--source", str(films), "--out",
                 "m.csv"]) == DONE  # fmt: skip
    assert json.loads(capsys.readouterr().out)["rows"] == 10


def test_two_builds_write_the_same_bytes(films, capsys):
    for name in ("a/one.parquet", "b/two.parquet"):
        answer(capsys, "build", "csv", "--source", films, "--out", name)
    assert Path("a/one.parquet").read_bytes() == Path("b/two.parquet").read_bytes()


def test_check_names_every_planted_fault(capsys):
    found = answer(capsys, "check", EXAMPLES / "faulty.csv", code=FAILED)
    assert found["ok"] is False
    named = {problem["rule"]: problem for problem in found["problems"]}
    assert {rule: named[rule]["value"] for rule in RULES} == RULES
    for problem in found["problems"]:
        assert set(problem) >= {"row", "column", "rule", "value", "repair"}
        assert isinstance(problem["row"], int)
    assert "Findings:" not in json.dumps(found)


def test_check_of_a_sound_manifest_is_ok_and_says_so(capsys):
    assert answer(capsys, "check", EXAMPLES / "phantoms.csv") == {
        "ok": True, "rows": 12, "counts": {}, "problems": [],
    }  # fmt: skip
    assert main(["manifest", "check", str(EXAMPLES / "phantoms.csv")]) == DONE
    assert "no problem" in capsys.readouterr().out


def test_check_in_words_says_row_rule_and_repair(capsys):
    assert main(["manifest", "check", str(EXAMPLES / "faulty.csv")]) == FAILED
    shown = capsys.readouterr().out
    assert "age: age-range (411)" in shown
    assert "whole years from 0 to 120" in shown


def test_split_subset_freeze_verify(films, capsys):
    answer(capsys, "build", "csv", "--source", films, "--out", "m.parquet")
    shares = ["--train", "0.6", "--test", "0.4", "--seed", "3"]
    divided = answer(capsys, "split", "m.parquet", "--out", "s.parquet", *shares)
    assert divided["splits"] == {"train": 6, "validate": 0, "test": 4}
    assert answer(capsys, "check", "s.parquet")["ok"]
    small = answer(capsys, "subset", "s.parquet", "--out", "u.csv", "--per-finding", "2")
    assert small["rows"] == 4
    frozen = answer(capsys, "freeze", "u.csv", "--out", "c.json")
    assert frozen["rows"] == 4
    assert answer(capsys, "verify", "u.csv", "--cohort", "c.json")["ok"]
    differs = answer(capsys, "verify", "s.parquet", "--cohort", "c.json", code=FAILED)
    assert "6 images are not in the cohort" in differs["problems"][0]


def test_split_by_a_published_list(films, capsys):
    answer(capsys, "build", "csv", "--source", films, "--out", "m.parquet")
    Path("list.txt").write_text("3\n4\n")
    found = answer(capsys, "split", "m.parquet", "--out", "s.parquet", "--list", "list.txt")
    assert found["splits"]["test"] == 2


def test_quality_writes_a_table_and_a_sheet(films, capsys):
    (films / "3.png").write_bytes(b"torn")
    answer(capsys, "build", "csv", "--source", films, "--out", "m.parquet", "--no-hash")
    options = ["--root", films, "--out", "q", "--workers", "1"]
    found = answer(capsys, "quality", "m.parquet", *options)
    assert (found["images"], found["readable"]) == (10, 9)
    assert Path("q/quality.csv").is_file()
    assert Image.open("q/suspects.png").size[0] > 500


def test_card_lists_prints_and_writes(capsys):
    assert main(["manifest", "card"]) == DONE
    assert "nih" in capsys.readouterr().out
    assert main(["manifest", "card", "mimic"]) == DONE
    assert "PhysioNet" in capsys.readouterr().out
    found = answer(capsys, "card", "--out", "cards")
    assert len(found["cards"]) == len(list(Path("cards").glob("*.yaml"))) == 13


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "nih", "--source", ".", "--out", "m.parquet"], "no Data_Entry_2017_v2020.csv"),
        (["build", "mnist", "--source", ".", "--out", "m.parquet"], "unknown source 'mnist'"),
        (["check", "nothing.parquet"], "nothing.parquet: no such manifest"),
        (["verify", "nothing.csv", "--cohort", "c.json"], "nothing.csv: no such manifest"),
    ],
)
def test_failures_are_one_line(arguments, message, capsys):
    assert main(["manifest", *arguments]) == FAILED
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["build", "nih"], ["check"], ["frobnicate"]])
def test_wrong_usage_exits_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(["manifest", *arguments])
    assert caught.value.code == USAGE


@pytest.mark.parametrize("action", ["build", "check", "split", "subset", "freeze", "quality"])
def test_every_action_has_help(action, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["manifest", action, "--help"])
    assert caught.value.code == DONE
    assert "--json" in capsys.readouterr().out
