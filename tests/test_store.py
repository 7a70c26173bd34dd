"""Records are only added; kills, torn lines, several writers and a full disk lose nothing else."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys

import pytest

from workbench._store import JsonLines, StoredResults
from workbench.errors import OptionError, RunError

WRITER = """
import sys
from workbench._store import JsonLines
lines = JsonLines(sys.argv[1])
for n in range(40):
    lines.add({"who": sys.argv[2], "n": n, "text": "x" * 5000})
"""


def test_records_come_back_in_order_and_the_file_is_private(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    assert lines.read() == ([], 0)
    for n in range(3):
        lines.add({"n": n, "text": "é\n\u2028 end"})
    records, torn = lines.read()
    assert ([r["n"] for r in records], torn) == ([0, 1, 2], 0)
    assert records[0]["text"] == "é\n\u2028 end"
    assert lines.path.stat().st_mode & 0o777 == 0o600


def test_what_was_written_is_never_changed(tmp_path):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.add({"n": 1})
    before = lines.path.read_bytes()
    lines.add({"n": 2})
    assert lines.path.read_bytes().startswith(before)


@pytest.mark.parametrize("rest", [b'{"n": 2, "te', b'{"n": 2', b"\xff\xfe", b"7"])
def test_a_torn_last_line_is_passed_over_and_the_next_record_is_whole(tmp_path, rest):
    lines = JsonLines(tmp_path / "a.jsonl")
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
        lines = JsonLines(tmp_path / f"{cut}.jsonl")
        lines.path.write_bytes(b'{"n": 1}\n' + whole[:cut])
        lines.add({"n": 3})
        assert [r["n"] for r in lines.read()[0]] == [1, 3]


def test_several_processes_write_at_once(tmp_path):
    path = tmp_path / "a.jsonl"
    command = [sys.executable, "-c", WRITER, str(path)]
    processes = [subprocess.Popen([*command, who]) for who in "ABC"]
    assert [process.wait() for process in processes] == [0, 0, 0]
    records, torn = JsonLines(path).read()
    assert (len(records), torn) == (120, 0)
    for who in "ABC":
        assert [r["n"] for r in records if r["who"] == who] == list(range(40))


def test_a_write_that_is_cut_short_is_said_and_healed(tmp_path, monkeypatch):
    lines = JsonLines(tmp_path / "a.jsonl")
    lines.add({"n": 1})
    import workbench._store as module

    real = module.os.write
    with monkeypatch.context() as patched:
        patched.setattr(module.os, "write", lambda file, line: real(file, line[:4]))
        with pytest.raises(RunError, match="no space left on device"):
            lines.add({"n": 2})
    lines.add({"n": 3})
    assert [r["n"] for r in lines.read()[0]] == [1, 3]


def test_a_folder_that_is_gone_is_said(tmp_path):
    with pytest.raises(RunError, match=r"a\.jsonl: the record cannot be written"):
        JsonLines(tmp_path / "gone" / "a.jsonl").add({"n": 1})


HEAD = {"weights": "ab" * 32, "options": {"samples": 2}}


def stored(path, head=HEAD) -> StoredResults:
    return StoredResults(
        path,
        head,
        encode=lambda key, value: {key: value},
        decode=lambda row: next(iter(row.items())),
    )


def test_results_are_found_again_and_the_file_is_begun_at_once(tmp_path):
    path = tmp_path / "a.jsonl"
    results = stored(path)
    assert json.loads(path.read_text()) == HEAD
    results["x"], results["y"] = 1.5, math.nan
    again = stored(path)
    assert list(again) == ["x", "y"]
    assert again["x"] == 1.5
    assert math.isnan(again["y"])
    assert "z" not in stored(None) and not stored(None)


def test_results_of_another_head_are_refused_and_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    stored(path)["x"] = 1
    before = path.read_bytes()
    with pytest.raises(OptionError, match=r"other weights or options \(options, new\)"):
        stored(path, HEAD | {"options": {"samples": 3}, "new": 1})
    assert path.read_bytes() == before


def test_a_head_or_a_result_torn_at_any_byte_is_written_again(tmp_path):
    whole = tmp_path / "whole.jsonl"
    stored(whole)["x"] = 1
    content = whole.read_bytes()
    for cut in range(len(content)):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(content[:cut])
        results = stored(path)
        if "x" not in results:
            results["x"] = 1
        assert dict(stored(path)) == {"x": 1}


def test_two_that_begin_one_file_find_the_results_of_both(tmp_path):
    path = tmp_path / "a.jsonl"
    one, two = stored(path), stored(path)
    one["x"], two["y"] = 1, 2
    assert dict(stored(path)) == {"x": 1, "y": 2}


ENDLESS = WRITER.replace("range(40)", "range(10**9)")


def test_a_writer_that_is_killed_leaves_whole_records(tmp_path):
    path = tmp_path / "a.jsonl"
    written = 0
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", ENDLESS, str(path), "A"])
        try:
            while len(JsonLines(path).read()[0]) < written + 5:
                assert process.poll() is None
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        records, _ = JsonLines(path).read()
        assert len(records) >= written + 5
        assert all(set(record) == {"who", "n", "text"} for record in records)
        written = len(records)


def test_a_place_that_cannot_be_written_is_said_before_any_work(tmp_path):
    with pytest.raises(RunError, match="cannot be written"):
        stored(tmp_path / "gone" / "a.jsonl")
    (tmp_path / "a.jsonl.lock").mkdir()
    with pytest.raises(RunError, match="cannot be written"):
        stored(tmp_path / "a.jsonl")
