"""Before anything heavy is imported: files that are not there are named, and loading is said."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.cli import DONE, FAILED, USAGE, main
from workbench.commands import report as answers
from workbench.hallucination.rewriting import Change

HEAVY = ("torch", "transformers", "pandas", "pyarrow", "matplotlib", "scipy")

MISSING = [
    "report nowhere.png",
    "report nowhere.png nowhere.dcm --mitigation revise",
    "report picture.png --model nowhere",
    "ask nowhere.png q",
    "ask folder q",
    "ask picture.png q --model ./nowhere",
    "run --manifest nowhere.csv --out r",
    "run --manifest table.csv --out r --root nowhere",
    "run --manifest table.csv --out r --cohort nowhere.json",
    "run --manifest table.csv --out r --model nowhere",
    "evaluate --predictions nowhere.csv --references table.csv",
    "evaluate --predictions table.csv --references nowhere.csv",
    "evaluate --predictions table.csv --references table.csv --compare nowhere.csv",
    "review queue nowhere",
    "review queue folder --manifest nowhere.csv",
    "review agreement nowhere",
    "review export nowhere --out x.csv",
    "review export folder --dicom-sr --root nowhere --out x",
    "review study nowhere --readers A,B --out s",
    "review analyse nowhere",
    "manifest check nowhere.csv",
    "manifest check table.csv --against nowhere.csv",
    "manifest check table.csv --root nowhere",
    "manifest split nowhere.csv --out x.csv",
    "manifest split table.csv --out x.csv --list nowhere.txt",
    "manifest subset nowhere.csv --out x.csv",
    "manifest freeze nowhere.csv --out x.json",
    "manifest croissant nowhere.csv --out x.json",
    "manifest verify table.csv --cohort nowhere.json",
    "manifest quality nowhere.csv",
    "doctor --mini --model nowhere",
    "demo --model nowhere --out o",
    "benchmark saliency --model nowhere",
    "models mini nowhere",
    "train nowhere.yaml --plan",
    "app --image nowhere.png",
    "app --run nowhere",
    "app --training nowhere",
    "app --model nowhere",
    "doctor --parity nowhere",
    "label nowhere.csv",
    "label nowhere.csv --json",
    "check-text nowhere.csv",
]

#: What is refused before a model is loaded, or all texts of a run are read; and what is said.
REFUSED = [
    (["ask", "picture.png", "is it\udce9?"], "character 6 of the text"),
    (["ask", "picture.png", ""], "a question needs text"),
    (["ask", "picture.png", "  "], "a question needs text"),
    (["ask", "picture.png", "q", "--device", "cdua"], "--device must be .* did you mean 'cuda'"),
    (["ask", "picture.png", "q", "--device", "cuda:x"], "--device must be one of"),
    (["ask", "picture.png", "q", "--top-p", "1.5"], "--top-p must be above 0"),
    (["report", "picture.png", "--temperature", "-1"], "--temperature must be 0"),
    (["report", "picture.png", "--max-new-tokens", "0"], "--max-new-tokens must be"),
    (["run", "--manifest", "table.csv", "--out", "r", "--top-k", "-1"], "--top-k must be"),
    (["run", "--manifest", "table.csv", "--out", "r", "--batch-size", "0"], "--batch-size must"),
    (["run", "--manifest", "table.csv", "--out", "r", "--task", "ask:\udce9"], "character 6 of"),
    (["demo", "--out", "o", "--device", "gpu"], "--device must be"),
    (["benchmark", "saliency", "--methods", "oclusion"], "did you mean 'occlusion'"),
    (["benchmark", "saliency", "--slow", "0"], "--slow must be a whole number of 1 or more"),
    (["benchmark", "saliency", "--randomised", "-1"], "--randomised must be"),
    (["benchmark", "hallucination", "--samples", "-1"], "--samples must be"),
    (["benchmark", "mitigation", "--jobs", "0"], "--jobs must be"),
    (["benchmark", "mitigation", "--seed", "-1"], "--seed must be"),
    (["doctor", "--mini", "--n", "0"], "--n must be"),
    (["doctor", "--mini", "--batch-size", "0"], "--batch-size must be"),
    (["app", "--device", "gpu"], "--device must be"),
    (["train", "mni"], "did you mean 'mini'"),
    (["train", "stage3_lor", "--plan"], "did you mean 'stage3_lora'"),
    (["train", "stage3_lora", "--device", "gpu"], "--device must be"),
    (["review", "queue", "folder", "--kind", "missed"], "did you mean 'missed finding'"),
    (["review", "queue", "folder", "--finding", "pneumthorax"], "did you mean 'pneumothorax'"),
    (["review", "queue", "folder", "--sample", "0"], "--sample must be"),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder with a picture, a table and a folder."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(7).integers(0, 255, (90, 70), dtype=np.uint8)
    Image.fromarray(pixels).save("picture.png")
    Path("table.csv").write_text("image_id,path\n1,picture.png\n")
    Path("folder").mkdir()


def test_what_is_not_there_is_said_before_anything_is_imported(tmp_path):
    code = (
        "import contextlib, io, json, sys\nfrom workbench.cli import main\nfound = {}\n"
        f"for typed in {MISSING!r}:\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "        code = main(typed.split())\n"
        f"    heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "    found[typed] = (code, heavy, said.getvalue())\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert [typed for typed, (code, _, _) in found.items() if code != FAILED] == []
    assert {typed: heavy for typed, (_, heavy, _) in found.items() if heavy} == {}
    said = {typed: text for typed, (*_, text) in found.items()}
    assert [typed for typed, text in said.items() if "loading" in text] == []
    assert [t for t, text in said.items() if "nowhere" not in text and "folder" not in text] == []


@pytest.mark.parametrize(("typed", "message"), REFUSED)
def test_what_is_not_allowed_is_refused_before_a_model_is_loaded(
    typed, message, monkeypatch, capsys
):
    def never(*given, **options):
        raise AssertionError("loaded, or read")

    for place in ("workbench.interface.load_model", "workbench.review.queue",
                  "workbench.finetune.running.run"):  # fmt: skip
        monkeypatch.setattr(place, never)
    assert main(typed) in (FAILED, USAGE)
    said = capsys.readouterr()
    assert re.search(message, said.err)
    assert "loading" not in said.err and said.out == ""


@pytest.mark.parametrize("command", ["label", "check-text"])
@pytest.mark.parametrize("table", ["nowhere.csv", "table.csv", "folder"])
def test_a_table_that_cannot_be_read_is_said_with_nothing_on_stdout(command, table, capsys):
    assert main([command, table]) == FAILED
    said = capsys.readouterr()
    assert said.out == "" and table in said.err


@pytest.mark.parametrize(
    "typed",
    [
        "report picture.png",
        "report nowhere.png picture.png --json",
        "ask picture.png q",
        "run --manifest table.csv --out r",
        "demo --out o",
        "benchmark hallucination",
        "doctor --mini",
    ],
)
def test_loading_is_said_before_it_begins(typed):
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'torch': sys.exit('torch is imported')\n"
        "sys.meta_path.insert(0, Stop())\n"
        f"from workbench.cli import main; main({typed.split()!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = done.stderr.strip().splitlines()
    assert lines[-2:] == ["loading mini ...", "torch is imported"]
    assert done.stdout == ""


def test_a_model_is_loaded_only_for_an_image_that_can_be_read(tiny, monkeypatch, capsys):
    import workbench.commands._shared as shared

    opened = []
    real = shared.open_model
    monkeypatch.setattr(shared, "open_model", lambda args: opened.append(1) or real(args))
    assert main(["report", "table.csv", "--model", tiny]) == FAILED
    assert opened == []
    files = ["nowhere.png", "picture.png", "table.csv", "picture.png"]
    assert main(["report", *files, "--model", tiny, "--max-new-tokens", "2", "--json"]) == FAILED
    result = json.loads(capsys.readouterr().out)
    assert opened == [1]
    assert [item["image"] for item in result["reports"]] == ["picture.png", "picture.png"]
    assert [item["image"] for item in result["failed"]] == ["nowhere.png", "table.csv"]


def test_a_run_without_one_row_done_has_failed(tiny, capsys):
    Path("torn.png").write_bytes(b"torn")
    Path("torn.csv").write_text("image_id,path\n1,torn.png\n2,torn.png\n")
    arguments = ["run", "--manifest", "torn.csv", "--model", tiny]
    assert main([*arguments, "--out", "r"]) == FAILED
    assert "0 of 2 rows done, 2 failed" in capsys.readouterr().out
    assert main([*arguments, "--out", "r", "--json"]) == FAILED
    assert json.loads(capsys.readouterr().out)["done"] == 0


def test_a_run_elsewhere_than_its_images_says_how_to_name_them(tiny, capsys):
    Path("folder/table.csv").write_text("image_id,path\n1,picture.png\n")
    arguments = ["run", "--manifest", "folder/table.csv", "--model", tiny, "--out", "r"]
    assert main(arguments) == FAILED
    assert "none of its 1 rows has an image in" in (said := capsys.readouterr().err)
    assert said.strip().endswith("with --root")
    assert main([*arguments, "--root", ".", "--max-new-tokens", "2"]) == DONE
    assert main([*arguments, "--max-new-tokens", "2"]) == DONE


# --- what a mitigation did -----------------------------------------------------------------------


@pytest.fixture
def written(tiny):
    """A report, and the contract of the image that it is about."""
    from workbench.hallucination.mitigation import extended
    from workbench.imaging import load_radiograph
    from workbench.interface import load_model

    image = load_radiograph("picture.png")
    report = load_model(tiny).report(image, max_new_tokens=2)
    return image.contract, extended(report, mitigation={"name": "revision"}, original=report)


CHANGES = {
    Change("nodule", "drop", "There is a\nnodule.", "", 0.625): (
        '- nodule, taken out (score 0.62): "There is a nodule."'
    ),
    Change("nodule", "deny", "A nodule.", "No nodule."): (
        '- nodule, denied: "A nodule." -> "No nodule."'
    ),
    Change("nodule", "doubt", "A nodule.", "Possible nodule.", 0.5): (
        '- nodule, put in doubt (score 0.50): "A nodule." -> "Possible nodule."'
    ),
}


def test_every_change_of_a_mitigation_is_said_and_saved(written, tmp_path):
    contract, report = written
    report = replace(report, changes=tuple(CHANGES))
    shown = list(answers.lines(contract, report, title="t", spoken=str))
    assert ["  revision: 3 changes", *(f"  {line}" for line in CHANGES.values())] == (shown[-5:-1])
    answers.save(contract, report, tmp_path / "saved")
    saved = (tmp_path / "saved.txt").read_text()
    assert all(line in saved for line in CHANGES.values())
    stored = json.loads((tmp_path / "saved.json").read_text())
    assert [change["edit"] for change in stored["changes"]] == ["drop", "deny", "doubt"]


def test_a_mitigation_that_changed_nothing_says_so(written):
    contract, report = written

    def shown(generation) -> str:
        return "\n".join(answers.lines(contract, generation, title="t", spoken=str))

    assert "  revision: nothing changed" in shown(report)
    assert "revision: took part in the writing" in shown(replace(report, original=None))
    assert "revision" not in shown(report.original)
