"""`workbench check-text`."""

from __future__ import annotations

import csv
import json

import pytest

from workbench.cli import DONE, FAILED, main


@pytest.fixture
def reports(tmp_path):
    path = tmp_path / "reports.csv"
    path.write_text(
        'id,report\na,"The heart is unchanged, 8 mm nodule."\nb,No effusion.\nc,"On CT, \u00e9."\n',
        encoding="utf-8",
    )
    return path


def test_rows_are_written(reports, tmp_path, capsys):
    out = tmp_path / "new" / "issues.csv"
    assert main(["check-text", str(reports), "--text-column", "report", "--out", str(out)]) == DONE
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert list(rows[0]) == ["id", "rule", "start", "end", "text"]
    found = [(row["id"], row["rule"], row["text"]) for row in rows]
    assert found == [
        ("a", "prior comparison", "unchanged"),
        ("a", "invented measurement", "8 mm"),
        ("c", "unseen view", "On CT"),
    ]
    assert "3 issues in 3 texts" in capsys.readouterr().out


def test_standard_output_is_the_table(reports, capsys):
    assert main(["check-text", str(reports), "--text-column", "report"]) == DONE
    assert capsys.readouterr().out.splitlines()[0] == "id,rule,start,end,text"


def test_json(reports, tmp_path, capsys):
    assert main(["check-text", str(reports), "--text-column", "report", "--json"]) == DONE
    result = json.loads(capsys.readouterr().out)
    assert (result["texts"], result["issues"]) == (3, 3)
    assert result["rules"] == {
        "prior comparison": 1, "invented measurement": 1, "unseen view": 1,
    }  # fmt: skip
    assert result["rows"][0] == {
        "id": "a", "rule": "prior comparison", "start": 13, "end": 22, "text": "unchanged",
    }  # fmt: skip


def test_missing_column_lists_those_there_are(reports, capsys):
    assert main(["check-text", str(reports)]) == FAILED
    assert "has no column 'text'; it has: id, report" in capsys.readouterr().err
