"""Records are only added; torn lines, several writers and a full disk lose nothing else."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from workbench.errors import RunError
from workbench.review.lines import AppendedLines

WRITER = """
import sys
from workbench.review.lines import AppendedLines
lines = AppendedLines(sys.argv[1])
for n in range(40):
    lines.add({"who": sys.argv[2], "n": n, "text": "x" * 5000})
"""


def test_records_come_back_in_order_and_the_file_is_private(tmp_path):
    lines = AppendedLines(tmp_path / "a.jsonl")
    assert lines.read() == ([], 0)
    for n in range(3):
        lines.add({"n": n, "text": "é\n\u2028 end"})
    records, torn = lines.read()
    assert ([r["n"] for r in records], torn) == ([0, 1, 2], 0)
    assert records[0]["text"] == "é\n\u2028 end"
    assert lines.path.stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_never_changed(tmp_path):
    lines = AppendedLines(tmp_path / "a.jsonl")
    lines.add({"n": 1})
    before = lines.path.read_bytes()
    lines.add({"n": 2})
    assert lines.path.read_bytes().startswith(before)


@pytest.mark.parametrize("rest", [b'{"n": 2, "te', b'{"n": 2', b"\xff\xfe", b"7"])
def test_a_torn_last_line_is_passed_over_and_the_next_record_is_whole(tmp_path, rest):
    lines = AppendedLines(tmp_path / "a.jsonl")
    lines.add({"n": 1})
    with lines.path.open("ab") as handle:
        handle.write(rest)
    assert [r["n"] for r in lines.read()[0]] == [1]
    lines.add({"n": 3})
    records, torn = lines.read()
    assert ([r["n"] for r in records], torn) == ([1, 3], 1)


def test_a_record_torn_at_any_byte_harms_no_other(tmp_path):
    whole = json.dumps({"n": 2, "text": "abc"}).encode()
    for cut in range(len(whole)):
        lines = AppendedLines(tmp_path / f"{cut}.jsonl")
        lines.path.write_bytes(b'{"n": 1}\n' + whole[:cut])
        lines.add({"n": 3})
        assert [r["n"] for r in lines.read()[0]] == [1, 3]


def test_several_processes_write_at_once(tmp_path):
    path = tmp_path / "a.jsonl"
    command = [sys.executable, "-c", WRITER, str(path)]
    processes = [subprocess.Popen([*command, who]) for who in "ABC"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    records, torn = AppendedLines(path).read()
    assert (len(records), torn) == (120, 0)
    for who in "ABC":
        assert [r["n"] for r in records if r["who"] == who] == list(range(40))


def test_a_write_that_is_cut_short_is_said_and_healed(tmp_path, monkeypatch):
    lines = AppendedLines(tmp_path / "a.jsonl")
    lines.add({"n": 1})
    import workbench.review.lines as module

    real = module.os.write
    with monkeypatch.context() as patched:
        patched.setattr(module.os, "write", lambda file, line: real(file, line[:4]))
        with pytest.raises(RunError, match="no space left on device"):
            lines.add({"n": 2})
    lines.add({"n": 3})
    assert [r["n"] for r in lines.read()[0]] == [1, 3]


def test_a_folder_that_is_gone_is_said(tmp_path):
    with pytest.raises(RunError, match=r"a\.jsonl: the record cannot be written"):
        AppendedLines(tmp_path / "gone" / "a.jsonl").add({"n": 1})
