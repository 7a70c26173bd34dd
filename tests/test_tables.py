"""Tables are read as they stand, or refused."""

from __future__ import annotations

import gzip

import pytest

from workbench._tables import brief, listed, read_frame, read_rows
from workbench.errors import InputError


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("cell", "read"),
    [("", ""), ("a", "a"), ('""', ""), ('"a, b"', "a, b"), ('"a ""b"" c"', 'a "b" c'),
     ('"one\ntwo"', "one\ntwo"), (" a ", " a "), ('a "b" c', 'a "b" c'), ("ä", "ä"),
     ("NaN", "NaN"), ("007", "007"), ('"a"b', None), ('"a', None), ('a, "b, c"', None),
     ("a\0", None)],
)  # fmt: skip
def test_a_cell_is_read_as_it_stands_or_the_table_is_refused(tmp_path, cell, read, end):
    path = tmp_path / "t.csv"
    path.write_bytes(end.join(["p,q", f"{cell},x", "", f"y,{cell}", ""]).encode())
    if read is None:
        with pytest.raises(InputError, match=r"t\.csv, row 1 \(line 2\)"):
            read_frame(path)
    else:
        assert read_frame(path).to_dict("list") == {"p": [read, "y"], "q": ["x", read]}


@pytest.mark.parametrize(
    ("text", "columns"),
    [("\n\np\na\n\n b \n", {"p": ["a", " b "]}), ("\ufeffp\n\n", {"p": []}),
     ('p\n""\n', {"p": [""]}), ("p,\na,\nb\n", {"p": ["a", "b"], "Unnamed: 1": ["", ""]})],
)  # fmt: skip
def test_blank_lines_and_marks(tmp_path, text, columns):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert read_frame(path).to_dict("list") == columns


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
