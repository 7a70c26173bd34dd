"""`workbench run`: its JSON, exit codes, what it says of failed rows; phantoms as a manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from workbench.cli import DONE, FAILED, USAGE, main


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    """Three phantoms as a manifest, and a torn fourth."""
    folder = tmp_path_factory.mktemp("phantoms")
    assert main(["phantom", "--count", "4", "--size", "128", "--out", str(folder)]) == DONE
    manifest = folder / "m.parquet"
    arguments = ["build", "phantom", "--source", str(folder), "--out", str(manifest)]
    assert main(["manifest", *arguments, "--no-hash"]) == DONE
    path = pd.read_parquet(manifest)["path"][2]
    (folder / path).write_bytes(b"torn")
    return manifest


def test_json_is_the_contract_and_results_are_parquet(phantoms, tmp_path, capsys):
    arguments = ["run", "--manifest", str(phantoms), "--out", str(tmp_path / "r"), "--json"]
    arguments += ["--task", "report", "--task", "ask:Is there a pneumothorax?"]
    capsys.readouterr()
    assert main([*arguments, "--max-new-tokens", "4"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert {key: found[key] for key in ("rows", "done", "failed")} == {
        "rows": 8, "done": 6, "failed": 2,
    }  # fmt: skip
    assert found["seconds"] > 0
    frame = pd.read_parquet(tmp_path / "r" / "results.parquet")
    assert {"id", "task", "status", "text", "error"} <= set(frame.columns)
    assert set(frame["status"]) == {"done", "failed"}
    record = json.loads((tmp_path / "r" / "run.json").read_text())
    assert record["fixed"]["model"]["id"] == "mini"
    assert "phantoms" in record["fixed"]["model"]["notice"]


def test_in_words_it_says_failures_and_the_notice(phantoms, tmp_path, capsys):
    capsys.readouterr()
    arguments = ["run", "--manifest", str(phantoms), "--out", str(tmp_path / "r")]
    assert main([*arguments, "--max-new-tokens", "2"]) == DONE
    shown = capsys.readouterr().out
    assert "3 of 4 rows done, 1 failed" in shown
    assert "not for real radiographs" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--manifest", "nothing.csv"], FAILED, "nothing.csv: no such manifest"),
        (["--manifest", "m", "--task", "poem"], USAGE, "unknown task 'poem'"),
        (
            ["--manifest", "m", "--workers", "2"],
            USAGE,
            "workers and address belong to --engine ray",
        ),
    ],
)
def test_failures_are_one_line(arguments, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--out", "r", *arguments]) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert len(shown.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["--manifest", "m"], ["--engine", "spark"]])
def test_wrong_usage_exits_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(["run", *arguments])
    assert caught.value.code == USAGE
