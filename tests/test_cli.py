"""The `workbench` command: help, exit codes, JSON, and errors in one line."""

from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.cli import COMMANDS, DONE, FAILED, INTERRUPTED, USAGE, build_parser, main
from workbench.commands._shared import table, to_json, wrap
from workbench.errors import InputError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands write below the working directory."""
    monkeypatch.chdir(tmp_path)


def usage_error(arguments: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == USAGE
    return capsys.readouterr().err


# --- the parser ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == DONE
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: workbench {command}")
    assert COMMANDS[command].split(":")[0][1:] in " ".join(shown.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command):
    parser = build_parser(command)._subparsers._group_actions[0].choices[command]
    unexplained = [
        action.dest
        for action in parser._actions
        if not action.help and not (action.choices and action.option_strings)
    ]
    assert unexplained == []


@pytest.mark.parametrize("command", [name for name in COMMANDS])
def test_every_command_prints_json(command):
    parser = build_parser(command)._subparsers._group_actions[0].choices[command]
    assert "--json" in parser._option_string_actions


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["report"],
        ["ask", "image.png"],
        ["report", "image.png", "--task", "poem"],
        ["report", "image.png", "--fit", "stretch"],
        ["report", "image.png", "--dtype", "int3"],
        ["phantom", "--seed", "seven"],
        ["phantom", "--domain", "mars"],
        ["train"],
    ],
)
def test_wrong_usage_exits_2_and_says_so(arguments, capsys):
    assert "usage: workbench" in usage_error(arguments, capsys)


def test_unknown_finding_lists_the_known_ones(capsys):
    message = usage_error(["phantom", "--findings", "gremlin"], capsys)
    assert "unknown finding 'gremlin'" in message
    assert "pleural effusion" in message


def test_module_and_console_script_are_the_same():
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()[0]) == (DONE, "workbench")


# --- how errors are said --------------------------------------------------------------------------


class _Broken:
    """Stands in for a command module that raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add_arguments(self, parser) -> None:
        pass

    def run(self, args) -> int:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InputError("first line\nsecond line"), FAILED, "workbench: first line second line\n"),
        (PermissionError(13, "Permission denied"), FAILED, "Permission denied"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted"),
    ],
)
def test_errors_are_one_line_without_traceback(error, code, said, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "workbench.commands.models", _Broken(error))
    assert importlib.import_module("workbench.commands.models").error is error
    assert main(["models"]) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    assert len(shown.strip().splitlines()) == 1


def test_a_programming_error_is_not_hidden(monkeypatch):
    monkeypatch.setitem(sys.modules, "workbench.commands.models", _Broken(KeyError("oops")))
    with pytest.raises(KeyError, match="oops"):
        main(["models"])


def test_a_reader_that_closes_the_pipe_is_no_error():
    code = "import sys\nfrom workbench.cli import main\nsys.exit(main(['phantom', '--size', '64']))"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert b"Traceback" not in done.stderr
    assert b"Broken pipe" not in done.stderr


# --- what is printed ------------------------------------------------------------------------------


def test_json_is_strict():
    value = {"nan": float("nan"), "array": np.array([1.5, np.inf]), "path": Path("a") / "b"}
    value["scalar"] = np.float32(2)
    assert json.loads(to_json(value)) == {
        "nan": None,
        "array": [1.5, None],
        "path": "a/b",
        "scalar": 2.0,
    }


def test_table_aligns_words_left_and_numbers_right():
    shown = table([["a", 5], ["bcd", 12]], header=("name", "n"))
    assert shown.splitlines() == ["name   n", "----  --", "a      5", "bcd   12"]


def test_wrap_keeps_line_breaks_and_width():
    lines = wrap("one\n\n" + "word " * 50).splitlines()
    assert lines[:2] == ["  one", ""]
    assert max(map(len, lines)) <= 92


# --- phantom --------------------------------------------------------------------------------------


def test_phantom_writes_image_masks_and_truth(capsys):
    arguments = ["phantom", "--seed", "5", "--findings", "effusion, nodule", "--size", "128"]
    assert main([*arguments, "--out", "p", "--json"]) == DONE
    (record,) = json.loads(capsys.readouterr().out)["phantoms"]
    assert json.loads(Path("p/phantom_internal_5.json").read_text()) == record
    assert np.asarray(Image.open(Path("p") / record["image"])).shape == (128, 128)
    drawn = {name for name, code in record["labels"].items() if code == "present"}
    assert drawn == {"pleural effusion", "nodule"} == set(record["masks"])
    for name in record["masks"].values():
        values = np.unique(np.asarray(Image.open(Path("p") / name)))
        assert values.tolist() == [0, 255]


def test_phantom_repeats_itself(capsys):
    for folder in ("a", "b"):
        main(["phantom", "--seed", "3", "--size", "128", "--domain", "external", "--out", folder])
    first, second = (Path(f) / "phantom_external_3.png" for f in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_phantom_draws_a_normal_chest_and_a_series(capsys):
    arguments = ["phantom", "--findings", "normal", "--count", "2", "--size", "64", "--json"]
    assert main(arguments) == DONE
    records = json.loads(capsys.readouterr().out)["phantoms"]
    assert [record["seed"] for record in records] == [0, 1]
    assert {code for record in records for code in record["labels"].values()} == {"absent"}


def test_phantom_of_an_impossible_size_is_an_error(capsys):
    assert main(["phantom", "--size", "9"]) == FAILED
    assert "size must be between 64 and 2048" in capsys.readouterr().err
    assert not Path("out").exists()


# --- label ----------------------------------------------------------------------------------------

TEXTS = "id,report\na,Small left pleural effusion. No pneumothorax.\nb,Thank you.\nc,\n"


def test_label_writes_one_row_per_finding_and_one_for_silence(capsys):
    Path("reports.csv").write_text(TEXTS, encoding="utf-8")
    assert main(["label", "reports.csv", "--text-column", "report", "--out", "o/l.csv"]) == DONE
    with open("o/l.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0]) == ["id", "finding", "code", "side", "start", "end", "rule"]
    said = [(row["id"], row["finding"], row["code"], row["side"]) for row in rows]
    assert said == [
        ("a", "pleural effusion", "present", "left"),
        ("a", "pneumothorax", "absent", ""),
        ("b", "no mention", "not mentioned", ""),
        ("c", "no mention", "not mentioned", ""),
    ]
    text = "Small left pleural effusion. No pneumothorax."
    assert text[int(rows[0]["start"]) : int(rows[0]["end"])] == "pleural effusion"


def test_label_counts_unknown_apart_from_absent(capsys):
    Path("reports.csv").write_text(TEXTS, encoding="utf-8")
    assert main(["label", "reports.csv", "--text-column", "report", "--json"]) == DONE
    summary = json.loads(capsys.readouterr().out)
    assert (summary["texts"], summary["no_mention"]) == (3, 2)
    assert summary["findings"]["pneumothorax"] == {"present": 0, "absent": 1, "uncertain": 0}
    assert "pulmonary edema" not in summary["findings"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"id,text\na,b\n", ["--text-column", "report"], "no column 'report'; it has: id, text"),
        (b"id,text\na,b\n", ["--id-column", "study"], "no column 'study'"),
        (b"", [], "no column 'text'; it has: none"),
        (b"id,text\na,\xff\xfe\n", [], "not a CSV file in UTF-8"),
    ],
)
def test_label_says_what_is_wrong_with_a_file(content, options, message, capsys):
    Path("reports.csv").write_bytes(content)
    assert main(["label", "reports.csv", *options, "--out", "l.csv"]) == FAILED
    assert message in capsys.readouterr().err
    assert not Path("l.csv").exists()


def test_label_without_a_file(capsys):
    assert main(["label", "nowhere.csv"]) == FAILED
    assert "nowhere.csv is not a file" in capsys.readouterr().err
