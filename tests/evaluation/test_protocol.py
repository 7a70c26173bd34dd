"""The protocol card: what is known of a run is on it, what is not says so, and cards compare."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import workbench as wb
from workbench.cli import DONE, main
from workbench.evaluation import compare, save_card, score
from workbench.evaluation.protocol import UNKNOWN

LINES = {
    "model", "prompt", "decoding", "written by", "images", "split", "sections scored", "policy",
    "labeler", "workbench",
}  # fmt: skip
TEXTS = {"a": "FINDINGS: There is a nodule.\nIMPRESSION: A nodule.", "b": "FINDINGS: Clear lungs."}
REFERENCES = {"a": "There is a nodule.", "b": "No nodule."}


def run(folder, prompt: str = "Write a report.", **decoding):
    """The folder of a run, with what the protocol reads of it."""
    folder.mkdir()
    table = {"id": list(TEXTS), "text": list(TEXTS.values()), "task": "report"}
    pd.DataFrame(table).to_parquet(folder / "results.parquet")
    settings = {"temperature": 0.0, "top_p": 0.8, "top_k": 50, "max_new_tokens": 64, "seed": 0}
    fixed = {
        "model": {"id": "mini", "dtype": "float32", "sha256": "ab" * 32},
        "tasks": [{"name": "report", "kind": "report", "prompt": prompt}],
        "decoding": settings | decoding,
    }
    record = {"fixed": fixed, "sessions": [{"versions": {"workbench": "0.0.9"}}]}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_a_run_says_what_it_was(tmp_path):
    card = score(run(tmp_path / "x"), REFERENCES, resamples=0).protocol
    assert set(card) == LINES
    assert card["model"] == f"mini, float32, sha256 {'ab' * 32}"
    assert card["prompt"] == "Write a report."
    assert card["decoding"] == "greedy, at most 64 new tokens"
    assert card["images"] == "2, patients unknown"
    assert card["written by"] == "workbench 0.0.9"
    assert card["workbench"] == wb.__version__
    assert card["policy"].startswith("joint-definite: ")
    assert card["sections scored"].startswith("predictions: findings; references: whole texts")
    assert "rules of workbench, version " in card["labeler"]


def test_what_a_table_does_not_say_is_unknown():
    card = score(TEXTS, REFERENCES, resamples=0).protocol
    unknown = {name for name, line in card.items() if line == UNKNOWN}
    assert unknown == {"model", "prompt", "decoding", "written by", "split"}
    labels = {"a": {"nodule": "present"}, "b": {"nodule": "absent"}}
    assert score(labels, labels, resamples=0).protocol["labeler"] == "none, labels as given"


@pytest.mark.parametrize("damage", ["{", "[]", '{"fixed": 3}', '{"fixed": {"model": {"id": "x"}}}'])
def test_a_damaged_record_says_nothing(tmp_path, damage):
    folder = run(tmp_path / "x")
    (folder / "run.json").write_text(damage)
    card = score(folder, REFERENCES, resamples=0).protocol
    assert set(card) == LINES and card["model"] == card["decoding"] == UNKNOWN


def test_a_manifest_says_the_split_and_the_patients():
    frame = pd.DataFrame({
        "image_id": ["a", "b"], "source": "made", "patient_id": ["p", "p"],
        "split": ["test", None], "nodule": ["present", "absent"],
    })  # fmt: skip
    card = score(TEXTS, frame, resamples=0, findings=["nodule"]).protocol
    assert card["split"] == "test 1, unknown 1"
    assert card["images"] == "2, patients 1"
    assert card["sections scored"].endswith("references: labels as given")


def test_two_protocols_say_which_lines_differ(tmp_path):
    first, second = run(tmp_path / "a"), run(tmp_path / "b", prompt="Report.", temperature=0.2)
    found = compare(first, second, REFERENCES, resamples=0)
    assert set(found.protocol) == {"prompt", "decoding"}
    assert found.protocol["prompt"] == ("Write a report.", "Report.")
    assert (
        "sampled at temperature 0.2, top-p 0.8, top-k 50, seed 0" in found.protocol["decoding"][1]
    )
    assert found.unknown == ("split",)
    told = found.to_dict()["protocol"]
    assert set(told["differ"]) == {"prompt", "decoding"} and told["unknown"] == ["split"]
    assert "Protocols differ in: prompt, decoding; unknown in either: split." in found._repr_html_()
    same = compare(first, first, REFERENCES, resamples=0)
    assert same.protocols == "Protocols do not differ; unknown in either: split."


def test_card_page_json_and_terminal_print_it(tmp_path, capsys):
    first, second = run(tmp_path / "a"), run(tmp_path / "b", prompt="<b>Report</b>")
    pd.DataFrame({"id": list(REFERENCES), "text": list(REFERENCES.values())}).to_csv(
        tmp_path / "truth.csv"
    )
    given = ["--predictions", str(first), "--references", str(tmp_path / "truth.csv")]
    given += ["--compare", str(second), "--resamples", "0", "--no-text-metrics"]
    assert main(["evaluate", *given, "--out", str(tmp_path / "card")]) == DONE
    said = capsys.readouterr().out
    assert "prompt: Write a report." in said and "variety: 2 distinct reports of 2" in said
    assert "variance over reports (references): nodule 0.25 (0.25)" in said
    assert "Protocols differ in: prompt" in said
    stored = json.loads((tmp_path / "card" / "scorecard.json").read_text())
    assert set(stored["protocol"]) == LINES
    assert stored["variety"]["spread"]["nodule"] == {"reports": 0.25, "references": 0.25}
    page = (tmp_path / "card" / "scorecard.html").read_text()
    assert "Write a report." in page and "&lt;b&gt;Report" in page
    assert "How different the reports are" in page


def test_saved_without_a_run(tmp_path):
    page = save_card(score(TEXTS, REFERENCES, resamples=0), tmp_path)["scorecard.html"].read_text()
    assert UNKNOWN in page
