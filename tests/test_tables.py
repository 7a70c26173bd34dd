"""Tables are read alike by Arrow and row by row, and refused alike."""

from __future__ import annotations

import gzip
import itertools

import pytest

import workbench._tables as tables
from workbench._tables import brief, listed, read_frame, read_rows
from workbench.errors import InputError

#: What a cell may hold, as it stands in the file; the last ones are faults.
CELLS = [
    "", "a", '""', '"a"', '"a, b"', '"a ""b"" c"', '""""', '"one\ntwo"', '"one\r\ntwo"', " a ",
    'a "b" c', 'a"', "ä", '"a\rb"', "NaN", "007",
    '"a"b', '"a', 'a, "b, c"', '"a" ', "a\nb", "a\0",
]  # fmt: skip


def outcome(path, monkeypatch, *, fast: bool):
    with monkeypatch.context() as patch:
        if not fast:
            patch.setattr(tables, "_parsed", lambda *_: None)
        try:
            return read_frame(path).to_dict("list")
        except InputError as error:
            return str(error)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_both_ways_of_reading_agree(tmp_path, monkeypatch, end):
    path = tmp_path / "t.csv"
    for one, two in itertools.product(CELLS, CELLS):
        rows = ["p,q", f"{one},{two}", f"x,{two}", "", f"{two},{one}"]
        path.write_bytes(end.join(rows).encode() + end.encode() * (one != "a"))
        slow = outcome(path, monkeypatch, fast=False)
        assert outcome(path, monkeypatch, fast=True) == slow, (one, two)


@pytest.mark.parametrize("text", ["\n\np\na\n\n b \n", "\ufeffp\n\n", 'p\n""\n', "p,\na,\nb\n"])
def test_both_ways_agree_on_blank_lines_and_marks(tmp_path, monkeypatch, text):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8", newline="")
    slow = outcome(path, monkeypatch, fast=False)
    assert outcome(path, monkeypatch, fast=True) == slow


def test_a_sound_table_is_parsed_at_once(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('p,q\na,"b, ""c"""\n')
    assert [column.to_pylist() for column in tables._parsed(path, 2, ",")] == [["a"], ['b, "c"']]


@pytest.mark.parametrize("at", [12, 40, 200, -12, -4])
def test_a_damaged_archive_is_refused(tmp_path, at):
    packed = bytearray(
        gzip.compress("\n".join(["p,q"] + [f"{n},{n * n}" for n in range(999)]).encode())
    )
    packed[at] ^= 0xFF
    (tmp_path / "t.csv.gz").write_bytes(bytes(packed))
    for read in (read_frame, lambda path: list(read_rows(path))):
        with pytest.raises(InputError, match=r"t\.csv\.gz"):
            read(tmp_path / "t.csv.gz")


def test_names_that_read_like_texts_are_not_listed():
    assert listed(["Path", "Finding Labels", "Bbox [x"]) == "Path, Finding Labels, Bbox [x"
    assert listed([]) == "none"
    assert listed("abc", most=2) == "a, b, and 1 more"
    assert brief("No effusion. Clear.") == "(19 characters, not shown)"
    assert brief("there is no large effusion") == "(26 characters, not shown)"
