"""`workbench label`: every row in is a row out, whatever it holds, in bounded memory."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path

import pytest

from workbench.cli import DONE, FAILED, main
from workbench.commands._shared import read_texts


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def labelled(content: str | bytes, *options: str) -> list[dict[str, str]]:
    raw = content if isinstance(content, bytes) else content.encode()
    Path("reports.csv").write_bytes(raw)
    assert main(["label", "reports.csv", *options, "--out", "l.csv"]) == DONE
    with open("l.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


TEXTS = "id,report\na,Small left pleural effusion. No pneumothorax.\nb,Thank you.\nc,\n"


def test_label_writes_one_row_per_finding_and_one_for_silence(capsys):
    Path("reports.csv").write_text(TEXTS, encoding="utf-8")
    assert main(["label", "reports.csv", "--text-column", "report", "--out", "o/l.csv"]) == DONE
    with open("o/l.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert list(rows[0])[:7] == ["id", "finding", "code", "side", "start", "end", "rule"]
    assert [(row["row"], row["status"]) for row in rows] == [
        ("1", "labelled"), ("1", "labelled"), ("2", "no mention"), ("3", "no text"),
    ]  # fmt: skip
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
    assert (summary["texts"], summary["no_mention"], summary["no_text"]) == (3, 2, 1)
    assert summary["findings"]["pneumothorax"] == {"present": 0, "absent": 1, "uncertain": 0}
    assert "pulmonary edema" not in summary["findings"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"id,text\na,b\n", ["--text-column", "report"], "no column 'report'; it has: id, text"),
        (b"id,text\na,b\n", ["--id-column", "study"], "no column 'study'"),
        (b"", [], "no column 'text'; it has: none"),
        (b"id,text,text\na,b,c\n", [], "more than one column 'text'"),
        (b"id,text\na,b\n", ["--backend", "gpt"], "unknown backend 'gpt'"),
        (b"id,text\na,\xff\xfe\n", [], "not a CSV file in UTF-8"),
    ],
)
def test_label_says_what_is_wrong_with_a_file(content, options, message, capsys):
    Path("reports.csv").write_bytes(content)
    assert main(["label", "reports.csv", *options, "--out", "l.csv"]) == FAILED
    assert message in capsys.readouterr().err
    assert not Path("l.csv").exists()
    assert not list(Path().glob("*.part*"))


def test_label_without_a_file(capsys):
    assert main(["label", "nowhere.csv"]) == FAILED
    assert "nowhere.csv is not a file" in capsys.readouterr().err


def test_cue_of_each_row_is_written(capsys):
    (row,) = labelled("id,text\na,Resolved left effusion.\n")
    assert (row["temporality"], row["compared"], row["cue_start"], row["cue_end"]) == (
        "resolved", "True", "0", "8",
    )  # fmt: skip


def test_rows_with_the_same_id_are_told_apart_by_their_number(capsys):
    rows = labelled("id,text\na,Nodule.\na,Edema.\n,Fracture.\n")
    assert [(row["id"], row["row"], row["finding"]) for row in rows] == [
        ("a", "1", "nodule"), ("a", "2", "pulmonary edema"), ("", "3", "fracture"),
    ]  # fmt: skip


def test_long_empty_and_odd_rows_come_out_again(capsys):
    long = "The lungs are clear. " * 5000 + "Left effusion."
    assert len(long) > 100_000
    rows = labelled(f'id,text\nlong,"{long}"\nshort,\n\nmore,Nodule.,,\nodd,"\u2603 \n \x07"\n')
    statuses = {row["id"]: row["status"] for row in rows}
    assert statuses == {
        "long": "labelled", "short": "no text", "more": "labelled", "odd": "no mention",
    }  # fmt: skip
    assert {row["finding"] for row in rows if row["id"] == "long"} == {
        "lung opacity", "pleural effusion",
    }  # fmt: skip


#: Files whose cells are not where they belong, and what is said of them.
DAMAGED = [
    (
        "id,text\n1,No pneumothorax, left effusion\n",
        r"row 1 (line 2): 3 cells, but the header has 2",
    ),
    ("id,text\n1,Nodule.\n2,No nodule\nleft effusion\n", "row 3 (line 4): 1 cells"),
    ("id,text,by\n1,Nodule.,me\n2,Nodule.\n", "row 2 (line 3): 2 cells, but the header has 3"),
    ('id,text\n1,"Two\nlines."\n2,Heart, lungs\n', "row 2 (line 4): 3 cells"),
    ('id,text\n1,Nodule.\n2,"No effusion\n3,Edema.\n', "row 2 (line 3): a quote is opened"),
    ('id,text\n1,"No effusion\n2,"Edema."\n', "row 1 (line 2): a quote is closed in the middle"),
    ('id,text\n1,"He said \\"x\\", ok."\n', "row 1 (line 2): a quote is closed in the middle"),
    ('id,text\n1,"Nodule."x\n', "row 1 (line 2): a quote is closed in the middle"),
    ('id,"text\n1,Nodule.\n', "the header: a quote is opened"),
    ("id,text\n1,Nodule\0.\n", "row 1 (line 2): a NUL character"),
    ("id,text\r1,Nodule.\r2,Heart, lungs\r", "row 2 (line 3): 3 cells"),
    ("id,id,text\n1,2,Nodule.\n", "more than one column 'id'"),
    ("id,text,text \n1,2,Nodule.\n", "more than one column 'text'"),
]


@pytest.mark.parametrize("command", ["label", "check-text"])
@pytest.mark.parametrize("options", [[], ["--json"], ["--out", "o.csv"]])
@pytest.mark.parametrize(("content", "message"), DAMAGED)
def test_a_row_that_does_not_fit_is_refused_before_anything_is_said(
    command, options, content, message, capsys
):
    Path("reports.csv").write_bytes(content.encode())
    assert main([command, "reports.csv", *options]) == FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert "reports.csv" in said.err
    assert message in said.err
    assert not Path("o.csv").exists()


def test_a_fault_behind_many_rows_is_found_first(capsys):
    Path("reports.tsv").write_text("id\ttext\n" + "1\tNodule.\n" * 3000 + "2\tHeart\tlungs\n")
    assert main(["label", "reports.tsv"]) == FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert "row 3001 (line 3002): 3 cells" in said.err


def test_byte_order_mark_and_tabs_are_read(capsys):
    assert labelled(b"\xef\xbb\xbfid,text\na,Nodule.\n")[0]["id"] == "a"
    Path("reports.tsv").write_text("id\ttext\na\tNodule, left.\n")
    assert list(read_texts(Path("reports.tsv"))) == [("a", "Nodule, left.")]


def test_identifiers_are_no_formulas(capsys):
    rows = labelled("id,text\n=1+1,Nodule.\n-7,Edema.\n@x,Fracture.\n")
    assert [row["id"] for row in rows] == ["'=1+1", "-7", "'@x"]


def test_labels_go_on_into_evaluate(capsys):
    labelled("id,text\na,Left effusion.\nb,No effusion.\nc,Thank you.\n")
    Path("truth.csv").write_text("id,text\na,Effusion.\nb,No effusion.\nc,No effusion.\n")
    capsys.readouterr()
    command = ["evaluate", "--predictions", "l.csv", "--references", "truth.csv", "--json"]
    assert main(command) == DONE
    found = json.loads(capsys.readouterr().out)["per_finding"]["pleural effusion"]
    assert (found["tp"], found["tn"], found["n"]) == (1, 1, 2)


def test_file_that_breaks_in_the_middle_leaves_the_old_result(capsys):
    labelled("id,text\na,Nodule.\n")
    before = Path("l.csv").read_text()
    Path("reports.csv").write_bytes(b"id,text\n" + b"a,Edema.\n" * 9000 + b"b,\xff\n")
    assert main(["label", "reports.csv", "--out", "l.csv"]) == FAILED
    assert "not a CSV file in UTF-8" in capsys.readouterr().err
    assert Path("l.csv").read_text() == before
    assert not list(Path().glob("*.part*"))


def test_memory_does_not_grow_with_the_file(capsys):
    """Peak of Python's own memory for 5 times the rows; benchmarks/labeler.py measures more.

    From 2,000 rows on the collector of cycles runs in both, so that its timing tells no difference.
    """
    peaks = []
    for rows in (2000, 10_000):
        lines = (f"{n},Nodule of {n % 97} mm. No effusion.\n" for n in range(rows))
        Path("reports.csv").write_text("id,text\n" + "".join(lines))
        tracemalloc.start()
        assert main(["label", "reports.csv", "--out", "l.csv"]) == DONE
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
