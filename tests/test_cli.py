"""The `workbench` command: help, exit codes, JSON, and errors in one line."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench._repr import to_json
from workbench.cli import COMMANDS, DONE, FAILED, INTERRUPTED, USAGE, build_parser, main
from workbench.commands._shared import table, wrap
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


def test_table_leaves_missing_numbers_empty():
    assert table([["a", 5], ["b", None]], header=("name", "n")).splitlines()[3:] == ["b"]
    assert table([[1], [None], [20]], header=("n",)).splitlines()[2:] == [" 1", "", "20"]


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


# --- report and ask -------------------------------------------------------------------------------


@pytest.fixture
def film(tmp_path) -> str:
    """A grey picture that is no phantom."""
    pixels = np.random.default_rng(7).integers(0, 255, (90, 70), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    return "film.png"


def test_report_of_many_files_survives_bad_ones(film, tiny, capsys):
    Path("text.png").write_text("no image")
    arguments = ["report", "nowhere.dcm", film, "text.png", "--model", tiny]
    assert main([*arguments, "--max-new-tokens", "5", "--out", "reports"]) == FAILED
    shown = capsys.readouterr()
    assert film in shown.out
    assert "nowhere.dcm: no such file" in shown.err
    assert "2 of 3 failed: nowhere.dcm, text.png" in shown.err
    written = sorted(path.name for path in Path("reports").iterdir())
    assert written == ["film_report.json", "film_report.txt"]


def test_report_json_holds_the_whole_chain(film, tiny, capsys):
    assert main(["report", film, "--model", tiny, "--max-new-tokens", "5", "--json"]) == DONE
    result = json.loads(capsys.readouterr().out)
    (report,) = result["reports"]
    assert result["failed"] == []
    assert report["image"] == film
    assert report["settings"]["max_new_tokens"] == 5
    assert len(report["model"]["sha256"]) == 64
    assert report["contract"]["original_size"] == [90, 70]
    assert report["contract"]["crop_loss"] > 0
    assert report["warnings"][0]["code"] == "notice"
    assert "<image>" in report["prompt"]
    assert report["versions"]["torch"]
    assert isinstance(report["findings"], list)


def test_report_with_mitigation_says_what_was_changed(film, tiny, capsys):
    wanted = ["report", str(film), "--model", tiny, "--max-new-tokens", "5", "--json"]
    assert main([*wanted, "--mitigation", "contrast"]) == DONE
    report = json.loads(capsys.readouterr().out)["reports"][0]
    assert report["mitigation"]["name"] == "contrastive decoding"
    assert report["changes"] == []
    assert main([*wanted, "--mitigation", "poll", "--task", "differential"]) == FAILED
    assert "--mitigation belongs to reports" in capsys.readouterr().err


def test_report_options_reach_the_model(film, tiny, capsys):
    sampled = ["--temperature", "0.9", "--seed", "5", "--top-k", "7", "--top-p", "0.5"]
    arguments = ["report", film, "--model", tiny, "--max-new-tokens", "4", "--json", "--fit", "pad"]
    assert main([*arguments, *sampled, "--task", "differential"]) == DONE
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    expected = {"temperature": 0.9, "seed": 5, "top_k": 7, "top_p": 0.5}
    assert {name: report["settings"][name] for name in expected} == expected
    assert report["task"] == "differential"
    assert (report["contract"]["fit"], report["contract"]["crop_loss"]) == ("pad", 0)


def test_images_of_one_name_do_not_overwrite_each_other(film, tiny, capsys):
    Path("other").mkdir()
    Path("other/film.png").write_bytes(Path(film).read_bytes())
    arguments = ["report", film, "other/film.png", "--model", tiny, "--max-new-tokens", "3"]
    assert main([*arguments, "--out", "reports"]) == DONE
    assert len(list(Path("reports").glob("*.txt"))) == 2


def test_ask_answers_and_shows_the_notice(film, tiny, capsys):
    arguments = ["ask", film, "Is there a nodule?", "--model", tiny, "--max-new-tokens", "3"]
    assert main(arguments) == DONE
    shown = capsys.readouterr().out
    assert shown.startswith("film.png: Is there a nodule?")
    assert "! notice: " in shown
    assert main([*arguments, "--json"]) == DONE
    answer = json.loads(capsys.readouterr().out)
    assert (answer["question"], answer["task"]) == ("Is there a nodule?", "question")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "nowhere"], "nowhere"),
        (["--temperature", "-1"], "temperature must be 0"),
        (["--device", "abacus"], "abacus"),
        (["--max-new-tokens", "99999"], "too many"),
    ],
)
def test_what_cannot_be_done_is_said(options, message, film, tiny, capsys):
    assert main(["report", film, "--model", tiny, *options]) == FAILED
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_environment_gives_defaults_for_device_and_dtype(film, tiny, monkeypatch, capsys):
    monkeypatch.setenv("WORKBENCH_DTYPE", "bfloat16")
    arguments = ["report", film, "--model", tiny, "--max-new-tokens", "2", "--json"]
    assert main(arguments) == DONE
    assert json.loads(capsys.readouterr().out)["reports"][0]["model"]["dtype"] == "bfloat16"
    assert main([*arguments, "--dtype", "float32"]) == DONE
    assert json.loads(capsys.readouterr().out)["reports"][0]["model"]["dtype"] == "float32"


# --- mini -----------------------------------------------------------------------------------------


def test_real_films_are_out_of_domain_for_mini_and_phantoms_are_not(chest_dicom, capsys):
    main(["phantom", "--seed", "3", "--out", "p"])
    files = [str(chest_dicom), "p/phantom_internal_3.png"]
    capsys.readouterr()
    assert main(["report", *files, "--json"]) == DONE
    film, drawn = json.loads(capsys.readouterr().out)["reports"]
    assert "out-of-domain" in [warning["code"] for warning in film["warnings"]]
    assert "out-of-domain" not in [warning["code"] for warning in drawn["warnings"]]
    assert (film["contract"]["inverted"], film["contract"]["bits"]) == (True, 15)
    assert drawn["contract"]["domain"] == "phantom"


def test_ten_real_films_get_a_report_and_the_warning(shared, capsys):
    films = sorted((shared / "real_cxr" / "images").glob("*.jpg"))[:10]
    assert main(["report", *map(str, films), "--json"]) == DONE
    reports = json.loads(capsys.readouterr().out)["reports"]
    assert len(reports) == 10
    for report in reports:
        assert report["text"]
        assert "out-of-domain" in [warning["code"] for warning in report["warnings"]]


# --- models and doctor ----------------------------------------------------------------------------


def test_models_lists_both_and_counts_the_published_one(capsys):
    assert main(["models", "--json"]) == DONE
    mini, published = json.loads(capsys.readouterr().out)["models"]
    assert (mini["name"], mini["domain"]) == ("mini", "phantom")
    assert published["name"] == "ECOFRI/CXR-LLAVA-v2"
    assert published["parameters"]["total"] == pytest.approx(7.05e9, rel=0.002)
    assert (published["image_tokens"], published["context_length"]) == (1024, 4096)
    assert set(published["memory"]) >= {"float32", "bfloat16", "float16", "8bit", "4bit"}
    assert main(["models"]) == DONE
    assert "Research only" in capsys.readouterr().out


def test_models_plans_tasks_before_anything_is_loaded(capsys):
    assert main(["models", "mini", "--plan", "--batch-size", "2", "--json"]) == DONE
    (plan,) = json.loads(capsys.readouterr().out)["plans"]
    assert plan["predicted"] and plan["asked"]["batch"] == 2
    assert {"report", "relevancy", "train lora"} <= {one["task"] for one in plan["tasks"]}
    assert main(["models", "mini", "--plan"]) == DONE
    assert "predicted, not measured" in capsys.readouterr().out
    times = [importlib.import_module("workbench.commands.models")._time(10.0**n) for n in range(7)]
    assert times == ["1.0 s", "10.0 s", "100.0 s", "17 min", "3 h", "28 h", "12 days"]
    assert main(["models", "mini", "--plan", "--batch-size", "0"]) != DONE


def test_doctor_finds_a_sound_installation(capsys):
    code = main(["doctor", "--json"])
    result = json.loads(capsys.readouterr().out)
    failed = [row for row in result["rows"] if row["status"] == "fail"]
    assert (code, failed) == (DONE, [])
    names = {row["check"] for row in result["rows"]}
    assert names >= {"python", "libraries", "dicom codecs", "notebooks", "mini"}
    assert main(["doctor"]) == DONE
    assert "dicom codecs" in capsys.readouterr().out


def test_a_missing_codec_fails_with_its_repair(monkeypatch):
    from pydicom import pixels

    from workbench.commands import doctor

    absent = types.SimpleNamespace(is_available=False)
    monkeypatch.setattr(pixels, "get_decoder", lambda _: absent)
    (row,) = doctor._codecs()
    assert row.status == "fail"
    assert "cannot decode RLELossless" in row.found
    assert "python-gdcm" in row.repair


def test_doctor_sees_changed_weights(monkeypatch):
    from workbench.commands import doctor
    from workbench.model import card as cards

    shipped = cards.card("mini")
    changed = {name: "0" * 64 for name in shipped.sha256s}
    monkeypatch.setattr(cards, "card", lambda _: dataclasses.replace(shipped, sha256s=changed))
    (row,) = doctor._mini()
    assert row.status == "fail"
    assert "its card says" in row.found


@pytest.mark.parametrize(("difference", "code", "verdict"), [(1e-6, 0, "ok"), (0.01, 1, "MISS")])
def test_doctor_parity_prints_a_row_per_array(difference, code, verdict, monkeypatch, capsys):
    from workbench.generation import parity

    good = difference <= 1e-4
    row = parity.ParityRow("A/noise", "projected", difference, 1e-4, good, note="informative")
    report = parity.ParityReport((row,), "set")
    monkeypatch.setattr(parity, "compare", lambda directory, **_: report)
    assert main(["doctor", "--parity", "set"]) == code
    shown = capsys.readouterr().out.splitlines()
    assert shown[2].split()[:4] == ["A/noise", "projected", f"{difference:.2e}", "1.00e-04"]
    assert verdict in shown[2].split()
    assert main(["doctor", "--parity", "set", "--json"]) == code
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is good
    expected = {"case": "A/noise", "array": "projected", "tolerance": 1e-4, "ok": good}
    assert expected.items() <= result["rows"][0].items()
    assert result["rows"][0]["max_abs_diff"] == difference


def test_doctor_parity_with_nothing_to_compare_is_no_success(monkeypatch, capsys):
    from workbench.generation import parity

    monkeypatch.setattr(parity, "compare", lambda directory, **_: parity.ParityReport((), "empty"))
    assert main(["doctor", "--parity", "empty"]) == FAILED
    assert "nothing to compare" in capsys.readouterr().out


def test_doctor_parity_without_vectors_is_an_error(tmp_path, capsys):
    assert main(["doctor", "--parity", str(tmp_path)]) == FAILED
    assert "no reference vectors" in capsys.readouterr().err


def test_doctor_examines_mini(capsys):
    assert main(["doctor", "--mini", "--n", "3", "--json"]) == DONE
    exam = json.loads(capsys.readouterr().out)
    assert (exam["n"], exam["seed"], exam["held_out"]) == (3, 10_000_000, True)
    for domain in ("internal", "external"):
        score = exam[domain]
        assert {"macro_f1", "per_finding", "laterality", "false_per_normal"} <= set(score)
        assert score["seconds_per_report"] > 0
        for numbers in score["per_finding"].values():
            assert {"precision", "recall", "f1", "n"} <= set(numbers)


def test_parity_and_mini_exclude_each_other(capsys):
    assert "not allowed with" in usage_error(["doctor", "--parity", "x", "--mini"], capsys)


# --- train ----------------------------------------------------------------------------------------


def test_the_help_of_train_names_every_stage_in_order(capsys):
    from recipes.mini.recipe import ALL_STAGES

    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert ", ".join(ALL_STAGES) in " ".join(capsys.readouterr().out.split())


def test_train_passes_everything_on(monkeypatch, capsys):
    from recipes.mini import train
    from recipes.mini.recipe import MiniRecipe

    seen = {}
    monkeypatch.setattr(train, "train_mini", lambda out, **options: seen.update(options) or out)
    arguments = ["train", "mini", "--out", "r", "--resume", "--stages", "phantoms,encoder"]
    assert main([*arguments, "--smoke", "--seed", "11", "--threads", "1", "--json"]) == DONE
    assert seen["recipe"] == dataclasses.replace(MiniRecipe().smoke(), seed=11, threads=1)
    assert (seen["resume"], seen["stages"]) == (True, ("phantoms", "encoder"))
    assert json.loads(capsys.readouterr().out)["model"] is None


def test_train_names_the_stages_it_knows(capsys):
    for given, said in (
        ("magic", "unknown stage 'magic'; expected some of: phantoms, encoder"),
        ("polisch", "did you mean 'polish'?"),
        (",", "expected some of: phantoms"),
    ):
        assert said in usage_error(["train", "mini", "--stages", given], capsys)


def test_train_mini_wants_the_repository(monkeypatch, capsys):
    for name in ("recipes", "recipes.mini", "recipes.mini.recipe"):
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["train", "mini"]) == FAILED
    assert "clone the repository" in capsys.readouterr().err


# --- demo -----------------------------------------------------------------------------------------


def test_demo_writes_a_drawn_and_a_real_case_in_ten_lines(chest_dicom, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert main(["demo", "--no-notebook"]) == DONE
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 10
    assert "activate" not in shown
    assert "make " not in shown  # there is no Makefile in this folder
    assert "not for real radiographs" in shown
    made = {path.name for path in Path("out/demo").iterdir()}
    assert made == {
        f"{case}.{kind}" for case in ("phantom", "dicom") for kind in ("txt", "json", "png")
    }
    for case in ("phantom", "dicom"):
        record = json.loads(Path(f"out/demo/{case}.json").read_text(encoding="utf-8"))
        assert record["text"] in Path(f"out/demo/{case}.txt").read_text(encoding="utf-8")
        keys = {"findings", "contract", "prompt", "settings", "seed", "model", "versions"}
        assert keys <= set(record)
        assert Image.open(f"out/demo/{case}.png").size[0] > 1000
    assert "out-of-domain" in Path("out/demo/dicom.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("elsewhere", [True, False])
def test_demo_ends_with_what_to_type_in_this_terminal(elsewhere, tmp_path, monkeypatch):
    """The environment is activated first, unless its `workbench` is the terminal's already."""
    from workbench.commands import demo

    place = tmp_path / ".venv" / "bin"
    place.mkdir(parents=True)
    for name in ("python", "activate", "workbench"):
        (place / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(place / "python"))
    monkeypatch.setenv("PATH", str(tmp_path if elsewhere else place))
    first, *more = demo._next_steps(tmp_path)
    assert ("`. .venv/bin/activate`" in first) is elsewhere
    assert "`workbench app`" in more[-1]


def test_demo_says_what_it_leaves_out(tiny, monkeypatch, capsys):
    from workbench import imaging
    from workbench.commands import demo
    from workbench.errors import MissingDependencyError

    def missing():
        raise MissingDependencyError("comes with pydicom-data; run: pip install pydicom-data")

    monkeypatch.setattr(imaging, "sample_dicom", missing)
    monkeypatch.setattr(demo, "find_notebook", lambda: None)
    assert main(["demo", "--model", tiny]) == DONE
    shown = capsys.readouterr().out
    assert "pip install pydicom-data" in shown
    assert "not in the package" in shown
    assert not Path("out/demo/dicom.png").exists()


def test_demo_leaves_out_the_lesson_where_it_has_no_chest_to_open(tmp_path):
    from workbench.commands import demo

    made = {"files": [], "skipped": {"dicom": "run: pip install pydicom-data"}}
    demo._notebook(None, tmp_path, made)
    assert made["skipped"][demo.NOTEBOOK] == "skipped: the first lesson opens the real chest too"
    assert made["files"] == []


def test_demo_finds_the_notebook_in_the_repository_or_installed(root, tmp_path, monkeypatch):
    from workbench.commands import demo

    assert demo.find_notebook() == root / "notebooks" / "00_start_here.ipynb"
    installed_elsewhere(monkeypatch, tmp_path, lesson=None)
    assert demo.find_notebook() is None
    installed_elsewhere(monkeypatch, tmp_path, lesson=tmp_path / demo.NOTEBOOK)
    assert demo.find_notebook() == tmp_path / demo.NOTEBOOK


def test_outside_a_repository_nothing_names_what_is_only_there(tmp_path, monkeypatch):
    """A wheel brings no Makefile: the lesson is copied, and JupyterLab opens the copy."""
    from workbench.commands import demo

    (tmp_path / "installed").mkdir()
    installed_elsewhere(monkeypatch, tmp_path, lesson=tmp_path / "installed" / demo.NOTEBOOK)
    (tmp_path / "out").mkdir()
    run = []
    monkeypatch.setattr(demo, "execute_to_html", lambda source, *at, **named: run.append(source))
    assert "jupyter" not in "\n".join(demo._next_steps(tmp_path / "out"))
    demo._notebook(None, tmp_path / "out", {"files": [], "skipped": {}})
    said = "\n".join(demo._next_steps(tmp_path / "out"))
    assert run == [tmp_path / "out" / demo.NOTEBOOK]
    assert f"`jupyter lab {run[0]}`" in said
    assert "make " not in said


def installed_elsewhere(monkeypatch, folder, *, lesson):
    """Let the command lie where no repository is, installed with a lesson or without."""
    from types import SimpleNamespace

    from workbench.commands import demo

    files = []
    if lesson is not None:
        lesson.write_text("{}")
        files = [SimpleNamespace(name=lesson.name, locate=lambda: lesson)]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(demo, "__file__", str(folder / "a/b/c/demo.py"))
    monkeypatch.setattr(demo, "distributions", lambda name: [SimpleNamespace(files=files)])


# --- benchmark ------------------------------------------------------------------------------------


def test_benchmark_saliency_prints_the_truth_table(capsys):
    quick = ["--n", "2", "--methods", "attention", "--randomised", "0"]
    assert main(["benchmark", "saliency", "--seed", "5000000", *quick, "--json"]) == DONE
    result = json.loads(capsys.readouterr().out)
    assert result["drawn"] == 2 == result["cases"] + result["missed"]
    assert [row["method"] for row in result["methods"]] == ["attention"]
    names = {row["method"] for row in result["baselines"]}
    assert names == {"lung prior", "centre prior", "random"}
    keys = {"method", "pointing", "low", "high", "energy", "iou", "seconds", "randomisation_ok"}
    for row in (*result["methods"], *result["baselines"]):
        assert keys <= set(row)
        assert row["randomisation_ok"] is None


def test_benchmark_passes_everything_on_and_writes_files(tiny, monkeypatch, capsys):
    from workbench import bench
    from workbench.bench.saliency_table import MapScore, tabulate

    seen = {}

    def measure(model, **options):
        seen.update(options, model=model.identity.id)
        scores = [
            MapScore("attention", "method", 3, "nodule", True, 0.5, 0.5, 1.0, 0.9),
            MapScore("random", "fixed", 3, "nodule", False, 0.1, 0.1),
        ]
        found = {"methods": options["methods"], "drawn": 1, "missed": 0, "seed": 3}
        return tabulate(scores, **found, provenance={"sha256": "ab"})

    monkeypatch.setattr(bench, "benchmark_saliency", measure)
    arguments = ["--n", "1", "--seed", "3", "--methods", "attention, attention", "--jobs", "2"]
    arguments += ["--slow", "4", "--randomised", "5", "--model", tiny]
    arguments += ["--out", "o/b", "--record", "v.json"]
    assert main(["benchmark", "saliency", *arguments]) == DONE
    assert seen.pop("model") == "A_tiny"
    assert seen == {
        "n": 1,
        "seed": 3,
        "methods": ("attention", "attention"),
        "slow_cases": 4,
        "randomised_cases": 5,
        "causal": False,
        "kept": None,
        "domain": None,
        "jobs": 2,
        "progress": True,
    }
    shown = capsys.readouterr().out
    assert "FAILS (+0.90)" in shown
    assert "1 true positives of 1 phantoms from seed 3" in shown
    assert json.loads(Path("o/b/saliency.json").read_text())["cases"] == 1
    assert Image.open("o/b/saliency.png").size[0] > 300
    verdict = {"ok": False, "similarity": 0.9, "cases": 1}
    assert json.loads(Path("v.json").read_text())["methods"] == {"attention": verdict}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "attention,lime"], "unknown method 'lime'; expected some of: attention"),
        (["--methods", ","], "at least one method"),
        (["--n", "0"], "of 1 or more"),
    ],
)
def test_benchmark_says_what_cannot_be_measured(options, message, tiny, capsys):
    assert main(["benchmark", "saliency", "--model", tiny, *options]) == FAILED
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


def test_benchmark_mitigation_passes_everything_on(tiny, monkeypatch, capsys):
    from workbench import bench
    from workbench.bench.mitigation import PLAIN, MitigatedCase, tabulate

    seen = {}

    def measure(model, **options):
        seen.update(options, model=model.card.name)
        said = {PLAIN: ("nodule",), "revise": ()}
        case = MitigatedCase(
            3, "internal", (), said, dict.fromkeys(said, ()), dict.fromkeys(said, 1)
        )
        return tabulate([case], seed=3, options={"revise": {}}, provenance={}, resamples=9)

    monkeypatch.setattr(bench, "benchmark_mitigation", measure)
    arguments = ["benchmark", "mitigation", "--seed", "3", "--jobs", "2", "--model", tiny]
    assert main([*arguments, "--out", "o"]) == DONE
    assert seen.pop("model") == "A_tiny"
    plain = {"n": None, "seed": 3, "jobs": 2, "kept": None, "domain": None}
    assert seen == plain | {"progress": True}
    assert re.search(r"revise +0\.000", capsys.readouterr().out)
    assert json.loads(Path("o/mitigation.json").read_text())["cases"] == 1
    assert Image.open("o/mitigation.png").size[0] > 300


@pytest.mark.parametrize("what", ["hallucination", "mitigation"])
def test_options_of_saliency_are_refused_elsewhere(what, tiny, capsys):
    assert main(["benchmark", what, "--model", tiny, "--methods", "rollout"]) == FAILED
    assert "--methods belongs to benchmark saliency" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["beauty"], ["saliency", "--n", "many"], ["saliency", "--jobs"]]
)
def test_benchmark_of_nothing_is_wrong_usage(arguments, capsys):
    assert "usage: workbench benchmark" in usage_error(["benchmark", *arguments], capsys)
