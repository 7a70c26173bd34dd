"""`workbench evaluate`: a made run with planted errors, exit codes, files and bad input."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from workbench.cli import DONE, FAILED, USAGE, main
from workbench.commands.evaluate import POLICIES
from workbench.evaluation import POLICIES as KNOWN_POLICIES
from workbench.findings import ABSENT, NOT_MENTIONED, PHANTOM_FINDINGS, PRESENT, UNCERTAIN
from workbench.phantom.case import sample_scene
from workbench.phantom.wording import write_report

CASES = 500
FIRST_SEED = 6_000_000

#: finding -> how many of its references are answered in another way:
#: present: denied, hedged, left out; absent: claimed, hedged, left out; not mentioned: claimed.
PLANTED = {
    "atelectasis": (7, 3, 5, 11, 13, 2, 4),
    "cardiomegaly": (5, 11, 2, 3, 7, 17, 0),
    "consolidation": (2, 11, 13, 7, 3, 5, 0),
    "pulmonary edema": (11, 2, 7, 5, 19, 3, 3),
    "pleural effusion": (3, 13, 11, 2, 5, 7, 0),
    "pneumothorax": (13, 7, 3, 17, 2, 5, 0),
    "nodule": (3, 5, 7, 5, 11, 13, 6),
    "support device": (2, 5, 3, 0, 0, 0, 8),
}

#: How each finding is stated, denied and hedged in the made run.
SENTENCES = {
    "cardiomegaly": ("Heart size is enlarged.", "Heart size is normal.", "Possible cardiomegaly."),
    "support device": ("There is a pacemaker.", "No pacemaker.", "Possible pacemaker."),
}
WORDS = {"support device": ("tube", "catheter", "pacemaker"), "cardiomegaly": ("heart",)}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Commands write below the working directory."""
    monkeypatch.chdir(tmp_path)


def sentence(finding: str, code: str) -> str:
    if code == NOT_MENTIONED:
        return ""
    plain = (f"There is {finding}.", f"No {finding}.", f"Possible {finding}.")
    return SENTENCES.get(finding, plain)[(PRESENT, ABSENT, UNCERTAIN).index(code)]


def write(path: str | Path, rows, header=("id", "text")) -> str:
    with Path(path).open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])
    return str(path)


def reference_code(finding: str, drawn: set[str], text: str) -> str:
    """What a reference says, from what was drawn and the words of the report: no labeler."""
    if finding in drawn:
        return PRESENT
    words = WORDS.get(finding, (finding.split()[-1][:10],))
    return ABSENT if any(word in text.lower() for word in words) else NOT_MENTIONED


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two CSV files of 500 reports, and how often each finding has which code in references."""
    folder = tmp_path_factory.mktemp("made")
    references, codes = {}, {}
    for seed in range(FIRST_SEED, FIRST_SEED + CASES):
        scene = sample_scene(seed)
        text = write_report(scene.lesions, np.random.default_rng([seed, 5]), "internal")
        drawn = {lesion.finding for lesion in scene.lesions}
        references[str(seed)] = text
        codes[str(seed)] = {f: reference_code(f, drawn, text) for f in PHANTOM_FINDINGS}
    counts = {f: Counter(row[f] for row in codes.values()) for f in PHANTOM_FINDINGS}
    stated = {key: dict(row) for key, row in codes.items()}
    for finding, numbers in PLANTED.items():
        plant(stated, codes, finding, numbers)
    predictions = {
        key: " ".join(filter(None, (sentence(f, row[f]) for f in PHANTOM_FINDINGS)))
        for key, row in stated.items()
    }
    predictions = {key: text or "Thank you." for key, text in predictions.items()}
    return (
        write(folder / "run.csv", predictions.items()),
        write(folder / "truth.csv", references.items()),
        counts,
    )


def plant(stated: dict, codes: dict, finding: str, numbers: tuple[int, ...]) -> None:
    """Change the first cases of each kind, as many as asked for."""
    answers = ((ABSENT, UNCERTAIN, NOT_MENTIONED), (PRESENT, UNCERTAIN, NOT_MENTIONED), (PRESENT,))
    groups = (numbers[:3], numbers[3:6], numbers[6:])
    for code, wishes, group in zip((PRESENT, ABSENT, NOT_MENTIONED), answers, groups, strict=True):
        keys = iter([key for key, row in codes.items() if row[finding] == code])
        for answer, count in zip(wishes, group, strict=True):
            for _ in range(count):
                stated[next(keys)][finding] = answer


def expected(policy: str, counts: Counter, numbers: tuple[int, ...]) -> tuple[int, int, int, int]:
    """TP, FP, TN, FN of a finding, added up by hand."""
    p, n, silent = counts[PRESENT], counts[ABSENT], counts[NOT_MENTIONED]
    denied, hedged, dropped, claimed, hedged_0, dropped_0, invented = numbers
    right, right_0 = p - denied - hedged - dropped, n - claimed - hedged_0 - dropped_0
    return {
        "joint-definite": (right, claimed, right_0, denied),
        "uncertain-as-positive": (right + hedged, claimed + hedged_0, right_0, denied),
        "uncertain-as-negative": (right, claimed, right_0 + hedged_0, denied + hedged),
        "blank-as-negative": (
            right,
            claimed + invented,
            right_0 + dropped_0 + silent - invented,
            denied + dropped,
        ),
    }[policy]


# ---------------------------------------------------------------- planted errors


@pytest.mark.parametrize("policy", POLICIES)
def test_planted_errors_are_recovered_exactly(made, policy, capsys):
    run, truth, counts = made
    options = ["--policy", policy, "--resamples", "50", "--no-text-metrics", "--json"]
    assert main(["evaluate", "--predictions", run, "--references", truth, *options]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["pairs"] == CASES
    for finding, numbers in PLANTED.items():
        row = found["per_finding"][finding]
        outcome = tuple(row[key] for key in ("tp", "fp", "tn", "fn"))
        assert outcome == expected(policy, counts[finding], numbers), finding
        tp, fp, _, fn = outcome
        assert row["n"] == sum(outcome)
        assert row["coverage"] == pytest.approx(sum(outcome) / CASES)
        assert row["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
        assert row["low"] <= row["f1"] <= row["high"]
        assert (row["omitted"], row["omission_of"]) == (numbers[2], counts[finding][PRESENT])
    known = [row["f1"] for row in found["per_finding"].values() if row["f1"] is not None]
    assert len(known) == len(PLANTED)
    assert found["macro_f1"] == pytest.approx(sum(known) / len(known))
    assert found["per_finding"]["fracture"]["f1"] is None


def test_planted_numbers_tell_the_columns_apart(made):
    """No two of TP, FP, TN, FN are equal, so that swapped columns cannot pass."""
    _, _, counts = made
    for finding in (name for name in PLANTED if name != "support device"):
        for policy in POLICIES:
            outcome = expected(policy, counts[finding], PLANTED[finding])
            assert len(set(outcome)) == 4, (finding, policy)


def test_policies_of_the_command_are_those_that_exist():
    assert tuple(KNOWN_POLICIES) == POLICIES


# ---------------------------------------------------------------- output

TEXTS = {"a": "There is a nodule.", "b": "No nodule.", "c": "No pneumothorax.", "d": "Thank you."}


@pytest.fixture
def files(elsewhere):
    """Two small files in the working directory."""
    wrong = TEXTS | {"b": "There is a nodule.", "d": "x"}
    return write("run.csv", wrong.items()), write("truth.csv", TEXTS.items())


def evaluate(files, *options: str) -> list[str]:
    arguments = ["evaluate", "--predictions", files[0], "--references", files[1]]
    return [*arguments, "--resamples", "20", *options]


def test_files_and_text_for_people(files, capsys):
    assert main(evaluate(files, "--out", "o/card")) == DONE
    shown = capsys.readouterr()
    assert "run: 4 pairs, joint-definite" in shown.out
    assert "macro F1" in shown.out
    assert "rows in: 3 scored, 1 nothing to score" in shown.out
    assert "not available: METEOR" in shown.out or "RadGraph-F1" in shown.out
    assert "wrote o/card/scorecard.html" in shown.out
    assert "note: Under joint-definite" in shown.err
    made_files = {path.name for path in Path("o/card").iterdir()}
    assert {"scorecard.html", "scorecard.csv", "scorecard.json", "rows.csv"} <= made_files
    assert {f"{name}.png" for name in ("forest", "coverage", "confusion")} <= made_files


def test_json_holds_the_contract_and_nothing_else_on_stdout(files, capsys):
    assert main(evaluate(files, "--json", "--out", "card")) == DONE
    found = json.loads(capsys.readouterr().out)
    keys = {"n", "coverage", "tp", "fp", "tn", "fn", "precision", "recall", "f1", "low", "high"}
    assert all(keys <= set(row) for row in found["per_finding"].values())
    assert {"macro_f1", "micro_f1", "weighted_f1"} <= set(found)
    assert found["per_finding"]["nodule"]["fp"] == 1
    assert found["rows"]["scored"] == 3
    assert "BLEU-4" in found["text_metrics"]
    assert "card/scorecard.html" in found["files"]


def test_other_systems_are_compared_and_stand_in_one_page(files, capsys):
    other = write("gpt.csv", TEXTS.items())
    third = write("gemini.csv", [("a", "No nodule."), ("b", "No nodule.")])
    assert main(evaluate(files, "--compare", other, third, "--out", "o", "--json")) == DONE
    found = json.loads(capsys.readouterr().out)
    assert [item["b"] for item in found["comparisons"]] == ["gpt", "gemini"]
    assert found["comparisons"][0]["per_finding"]["nodule"]["b_only"] == 1
    page = Path("o/scorecard.html").read_text(encoding="utf-8")
    assert "run against gpt" in page
    assert page.count(">gemini<") >= 2, "a column of both published tables"
    assert main(evaluate(files, "--compare", other)) == DONE
    shown = capsys.readouterr().out
    assert "run - gpt: macro F1" in shown
    assert "F1 gpt [95 %]" in shown


def test_runs_are_predictions(files, capsys):
    for name in ("first", "second"):
        Path(name).mkdir()
        frame = pd.DataFrame({"id": list(TEXTS), "task": "report", "text": list(TEXTS.values())})
        frame.to_parquet(Path(name) / "results.parquet")
    assert main(evaluate(("first", files[1]), "--compare", "second", "--json")) == DONE
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (found["a"], found["b"]) == ("first", "second")
    assert found["averages"]["macro"]["f1_a"] == found["averages"]["macro"]["f1_a_high"] == 1


def test_labels_and_other_columns(files, capsys):
    rows = [("a", "p1", "1.0", ""), ("b", "p1", "0.0", ""), ("c", "p2", "", "0.0")]
    header = ("study", "patient", "Lung Nodule", "Pneumothorax")
    labels = write("labels.csv", [*rows, ("d", "p3", "", "")], header=header)
    reports = write("reports.csv", TEXTS.items(), header=("study", "report"))
    options = ["--id-column", "study", "--text-column", "report", "--patient-column", "patient"]
    assert main(evaluate((reports, labels), *options, "--json")) == DONE
    found = json.loads(capsys.readouterr().out)
    assert list(found["per_finding"]) == ["pneumothorax", "nodule"]
    assert found["patients"] == 3
    assert found["text_metrics"] is None
    assert found["macro_f1"] == 1
    assert main(evaluate((reports, labels), *options, "--findings", "nodule")) == DONE
    assert "pneumothorax" not in capsys.readouterr().out.split("rows in")[0].split("macro")[0]


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate"],
        ["evaluate", "--predictions", "x.csv"],
        ["evaluate", "--predictions", "x.csv", "--references", "y.csv", "--policy", "strict"],
        ["evaluate", "--predictions", "x.csv", "--references", "y.csv", "--resamples", "many"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == USAGE
    assert "usage: workbench evaluate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,report\na,x\n", "neither a column 'text' nor label columns"),
        (b"key,text\na,x\n", "has no column 'id'; it has: key, text"),
        (b"id,text\na,x\na,y\n", "1 ids more than once"),
        (b"id,text\nz,x\n", "no id of the predictions ('z') occurs in the references"),
        (b"id,text\na,na\xefve\n", "cannot be read as a CSV file in UTF-8"),
        (b"id,text\na,x,y\n", "cannot be read as a CSV file"),
        (b"id,text\n", "no id of the predictions"),
    ],
)
def test_bad_files_fail_in_one_line(files, content, message, capsys):
    Path("bad.csv").write_bytes(content)
    assert main(evaluate(("bad.csv", files[1]), "--json")) == FAILED
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("workbench: ")
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1


def test_more_that_fails_with_what_to_do(files, capsys):
    assert main(evaluate(("nowhere.csv", files[1]))) == FAILED
    assert "nowhere.csv: no such file" in capsys.readouterr().err
    assert main(evaluate(files, "--compare", files[0])) == FAILED
    assert "given twice" in capsys.readouterr().err
    assert main(evaluate(files, "--patient-column", "who")) == FAILED
    assert "neither side has a column 'who'" in capsys.readouterr().err
    assert main(evaluate(files, "--findings", "dragon")) == FAILED
    assert "unknown finding 'dragon'" in capsys.readouterr().err
