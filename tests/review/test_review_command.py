"""`workbench review`: its JSON, its words, its files, its exit codes."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import workbench as wb
from workbench.cli import DONE, FAILED, USAGE, main
from workbench.review import open_annotations, open_study, queue


@pytest.fixture
def run(lab, tmp_path):
    """A run of 300 reports beside its manifest."""
    folder = tmp_path / "run"
    folder.mkdir()
    rows, known = lab.planted(300, rate=0.1)
    rows.to_parquet(folder / "results.parquet")
    reports = "Reference report of " + rows["id"] + "."
    known.with_frame(known.frame.assign(report_findings=reports)).save(folder / "m.parquet")
    return folder


def said(capsys, *arguments: object, code: int = DONE) -> str:
    capsys.readouterr()
    assert main(["review", *map(str, arguments)]) == code
    return capsys.readouterr().out


def test_queue(run, tmp_path, capsys):
    given = ("queue", run, "--manifest", run / "m.parquet", "--kind", "missed finding")
    found = json.loads(said(capsys, *given, "--sample", 9, "--out", tmp_path / "q.csv", "--json"))
    assert found["cases"] == 300 and found["entries"] == found["kinds"]["missed finding"] == 9
    assert {"known_pairs", "disputed_pairs", "unknown_pairs", "worse_slices", "notes"} <= set(found)
    assert len(pd.read_csv(tmp_path / "q.csv")) == 9
    words = said(capsys, "queue", run, "--manifest", run / "m.parquet")
    assert "about 300 reports" in words and "slices are worse than the rest" in words
    every, suspect = (
        json.loads(said(capsys, *given[:4], *more, "--json")) for more in (("--whole",), ())
    )
    assert every["kinds"]["nothing suspect"] == every["entries"] - suspect["entries"] > 0
    rest = json.loads(said(capsys, *given[:4], "--kind", "nothing suspect", "--json"))
    assert rest["entries"] == every["kinds"]["nothing suspect"]


def test_a_queue_without_a_slice_to_test_says_so(run, capsys):
    rows = pd.read_parquet(run / "results.parquet").head(8)
    rows.to_parquet(run / "results.parquet")
    words = said(capsys, "queue", run, "--manifest", run / "m.parquet")
    assert "no slice has enough patients" in words and "0 of 0" not in words


def test_agreement_and_exports(run, tmp_path, capsys):
    notes = open_annotations(run)
    frame = queue(run, manifest=run / "m.parquet").to_frame()
    for n, row in enumerate(frame.head(12).to_dict("records")):
        for who in ("AB", "CD"):
            wrong = n % 3 == 0 and who == "AB"
            verdict = "model wrong" if wrong else "reference wrong"
            notes.add(row, verdict=verdict, reviewer=who)
    found = json.loads(said(capsys, "agreement", run, "--json"))
    assert (found["raters"], found["items"], found["torn_lines"]) == (["AB", "CD"], 12, 0)
    assert "Cohen's kappa" in said(capsys, "agreement", run)
    out = tmp_path / "v.csv"
    assert json.loads(said(capsys, "export", run, "--out", out, "--json"))["verdicts"] == 24
    given = ("export", run, "--manifest", run / "m.parquet", "--out")
    reference = tmp_path / "r.csv"
    found = json.loads(said(capsys, *given, reference, "--what", "reference", "--json"))
    assert found["changes"] == 12 and found["reviewed"] <= 12
    arguments = ["evaluate", "--predictions", str(run / "results.parquet"), "--references"]
    arguments += [str(reference), "--no-text-metrics", "--resamples", "10", "--json"]
    capsys.readouterr()
    assert main(arguments) == DONE
    assert json.loads(capsys.readouterr().out)["pairs"] == 300
    trained = tmp_path / "t.parquet"
    assert "24 verdicts, 12 changes" in said(capsys, *given, trained, "--what", "manifest")
    assert wb.data.load(trained).check().ok


def test_a_reader_study_from_plan_to_page(run, tmp_path, capsys):
    size = json.loads(said(capsys, "size", "--half-width", 0.1, "--json"))
    assert size["reached"] <= 0.1
    folder = tmp_path / "study"
    given = ("study", run, "--manifest", run / "m.parquet", "--readers", "AB,CD", "--cases", 12)
    found = json.loads(said(capsys, *given, "--out", folder, "--repeats", 0, "--json"))
    assert found["readings"] == {"AB": 24, "CD": 24}
    assert "left to grade" in _error(capsys, "analyse", folder)
    study = open_study(folder)
    for reader in study.readers:
        session = study.session(reader)
        for n, item in enumerate(session.items):
            session.grade(item.item, "ABCD"[n % 4], seconds=20)
    page = tmp_path / "page.html"
    found = json.loads(said(capsys, "analyse", folder, "--out", page, "--json"))
    assert found["readings"] == 48 and found["success"]["model"]["n"] == 24
    assert page.is_file()
    assert "model minus reference" in said(capsys, "analyse", folder)


def _error(capsys, *arguments: object, code: int = FAILED) -> str:
    capsys.readouterr()
    assert main(["review", *map(str, arguments)]) == code
    message = capsys.readouterr().err.strip()
    assert len(message.splitlines()) == 1
    return message


def test_failures_are_one_line(run, tmp_path, capsys):
    assert "no run in this folder" in _error(capsys, "queue", tmp_path / "nowhere")
    assert "agreement needs two or more" in _error(capsys, "agreement", run)
    assert "unknown kind 'poem'" in _error(capsys, "queue", run, "--kind", "poem", code=USAGE)
    export = ("export", run, "--what", "manifest", "--out", tmp_path / "x.csv")
    assert "needs --manifest" in _error(capsys, *export, code=USAGE)
    assert "no key.json" in _error(capsys, "analyse", run)


@pytest.mark.parametrize("arguments", [[], ["queue"], ["poem"], ["size"]])
def test_wrong_usage_exits_2(arguments):
    with pytest.raises(SystemExit) as caught:
        main(["review", *arguments])
    assert caught.value.code == USAGE
