"""Manifests as Parquet and CSV: nothing is lost, nothing runs, nothing of the machine is inside."""

from __future__ import annotations

import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.data.columns import COLUMN_NAMES, FINDING_COLUMNS
from workbench.data.frames import conform, neutralise, restore, write_table
from workbench.data.manifest import Manifest
from workbench.errors import InputError


def manifest(**cells) -> Manifest:
    frame = pd.DataFrame(
        {
            "image_id": ["b", "a"],
            "path": ["x/b.png", "x/a.png"],
            "patient_id": ["2", "1"],
            "study_id": ["2", "1"],
            "age": ["61", ""],
            "source": "csv",
            "licence": "mine",
            "pneumonia": ["present", ""],
        }
        | cells
    )
    return Manifest(conform(frame))


@given(st.lists(st.text(max_size=6), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_neutralising_is_reversible_and_leaves_no_formula(texts):
    column = pd.Series(texts, dtype="string")
    safe = neutralise(column)
    assert not safe.str.startswith(("=", "+", "-", "@", "\t", "\r")).any()
    assert restore(safe).tolist() == texts


def test_a_formula_survives_the_round_trip_and_not_the_csv(tmp_path):
    texts = ['=HYPERLINK("http://x")', "'quoted' -1"]
    made = manifest(report_findings=texts, image_id=["+b", "@a"], split=["train", "=trian"])
    path = made.save(tmp_path / "m.csv")
    cells = [cell.strip('"') for line in path.read_text().splitlines() for cell in line.split(",")]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    back = wb.data.load(path, check=False)
    pd.testing.assert_frame_equal(
        back.frame, made.frame, check_dtype=False, check_categorical=False
    )


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_content_types_and_digest_survive(tmp_path, suffix):
    text = 'Two\nlines, a "quote", an umlaut \u00fc and a comma.'
    made = manifest(report_findings=[text, ""], boxes=['[{"finding":"pneumonia"}]', ""])
    back = wb.data.load(made.save(tmp_path / f"m.{suffix}"))
    assert back.digest() == made.digest()
    assert back.frame["age"].dtype == "Int16"
    assert back.frame["report_findings"].tolist()[1] == text
    assert back.frame["pneumonia"].tolist() == ["not mentioned", "present"]
    assert tuple(back.frame.columns) == COLUMN_NAMES


def test_parquet_holds_no_index_no_time_and_no_machine(tmp_path):
    made = manifest()
    one = made.save(tmp_path / "one.parquet").read_bytes()
    assert made.save(tmp_path / "elsewhere" / "two.parquet").read_bytes() == one
    assert str(tmp_path).encode() not in one
    schema = pyarrow.parquet.read_schema(tmp_path / "one.parquet")
    assert schema.metadata == {b"manifest_format": b"1"}
    assert "__index_level_0__" not in schema.names


def test_duckdb_reads_it(tmp_path):
    import duckdb

    path = manifest().save(tmp_path / "m.parquet")
    query = f"select patient_id, pneumonia from '{path}' where age > 60"
    assert duckdb.sql(query).fetchall() == [("2", "present")]


def test_row_numbers_are_those_of_the_file(tmp_path):
    path = tmp_path / "m.csv"
    frame = manifest().frame.iloc[::-1].assign(age=["200", None])
    write_table(frame, path)
    back = wb.data.load(path, check=False)
    assert back.frame["image_id"].tolist() == ["b", "a"]
    assert back.check().problems[0].row == 0
    assert back.digest() == Manifest(conform(frame)).digest(), "the order of rows is no content"


def test_reports_can_be_left_out(tmp_path):
    made = manifest(report_findings=["text", "text"])
    for suffix in ("parquet", "csv"):
        path = made.save(tmp_path / f"m.{suffix}")
        assert wb.data.load(path, reports=False).frame["report_findings"].isna().all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.parquet", b"not parquet", r"m\.parquet: cannot be read as PARQUET; it is damaged"),
        ("m.csv", b"\xff\xfe\x00\x01", r"m\.csv: cannot be read as CSV"),
        ("m.txt", b"x", r"m\.txt: expected a manifest ending in \.parquet or \.csv"),
        ("m.csv", b"path,path\na,b\n", r"m\.csv: the column 'path' stands twice"),
        ("m.csv", b"", r"m\.csv: cannot be read as CSV"),
        (None, b"", r"m\.parquet: no such file"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        wb.data.load(tmp_path / (name or "m.parquet"))


def test_nothing_half_written_is_left(tmp_path, monkeypatch):
    made = manifest()
    monkeypatch.setattr("pyarrow.parquet.write_table", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.save(tmp_path / "m.parquet")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match=r"m\.xlsx: a table is written as"):
        made.save(tmp_path / "m.xlsx")


def test_summary_counts_and_silence(tmp_path):
    summary = manifest().summary()
    assert summary["findings"]["pneumonia"] == {
        "present": 1, "absent": 0, "uncertain": 0, "not mentioned": 1,
    }  # fmt: skip
    assert set(summary["findings"]) == set(FINDING_COLUMNS)
    assert (summary["rows"], summary["patients"]) == (2, 2)


def test_what_a_notebook_shows_holds_no_report():
    made = manifest(report_findings=["Zwickelmann", "x"])
    assert "Zwickelmann" not in made._repr_html_() + repr(made)
    assert made.plot().get_title(loc="left") == "What is known of each finding"


def test_to_frame_is_a_copy():
    made = manifest()
    copy = made.to_frame()
    copy.loc[0, "patient_id"] = "changed"
    assert made.frame["patient_id"].tolist() == ["1", "2"]
