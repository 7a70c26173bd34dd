"""What goes wrong around the program, injected: nothing is lost, nothing is half written.

Kills, full disks, read-only folders and second processes of runs are in
`tests/runs/test_survival.py`; `docs/faults.md` lists all of them.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import workbench as wb
from tests.helpers import forked
from workbench.cli import main
from workbench.errors import RunError
from workbench.review import verdicts
from workbench.runs import record, running
from workbench.runs.plan import Block, Item, RunPlan, read_tasks
from workbench.runs.worker import BlockWorker

ROOT = Path(__file__).resolve().parents[2]
COUNT = 6

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs limits of a process")


@pytest.fixture(scope="module")
def model(tiny):
    return wb.load_model(tiny, device="cpu")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> Path:
    """A manifest of six pictures."""
    folder = tmp_path_factory.mktemp("films")
    rng = np.random.default_rng(3)
    for n in range(COUNT):
        Image.fromarray(rng.integers(0, 255, (60, 50), dtype=np.uint8)).save(folder / f"{n}.png")
    rows = "".join(f"film-{n},{n}.png\n" for n in range(COUNT))
    (folder / "films.csv").write_text(f"image_id,path\n{rows}")
    return folder / "films.csv"


def texts(result) -> list[str]:
    return result.to_frame()["text"].tolist()


@contextmanager
def full_disk(room: int):
    """Let no file grow beyond `room` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)


# --- memory and GPU ------------------------------------------------------------------------------


class Crowded:
    """Stands before `answer_batch` and fails for batches above a size."""

    def __init__(self, inner, most: int, error: Exception) -> None:
        self.inner, self.most, self.error, self.sizes = inner, most, error, []

    def __call__(self, jobs):
        self.sizes.append(len(jobs))
        if len(jobs) > self.most:
            raise self.error
        return self.inner(jobs)


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4 GiB"), MemoryError(),
     RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")],
    ids=["gpu", "python", "cpu"],
)  # fmt: skip
def test_out_of_memory_shrinks_the_batch_and_says_so(
    error, films, model, tmp_path, monkeypatch, caplog
):
    options = {"model": model, "max_new_tokens": 3, "batch_size": 6}
    undisturbed = wb.run(films, out=tmp_path / "a", **options)
    crowded = Crowded(model.answer_batch, 2, error)
    monkeypatch.setattr(model, "answer_batch", crowded)
    found = wb.run(films, out=tmp_path / "b", **options)
    assert found.done == COUNT
    assert texts(found) == texts(undisturbed)
    assert crowded.sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    said = [r.message for r in caplog.records if "out of memory" in r.message]
    assert len(said) == 2
    assert "out of memory with 6 answers in a batch; continuing with 3" in said[0]


def test_out_of_memory_with_one_answer_ends_the_run_and_keeps_what_is_done(
    films, model, tmp_path, monkeypatch
):
    options = {"model": model, "out": tmp_path / "r", "max_new_tokens": 3, "batch_size": 2}
    answer, calls = model.answer_batch, []

    def later_full(jobs):
        calls.append(len(jobs))
        if len(calls) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer(jobs)

    monkeypatch.setattr(model, "answer_batch", later_full)
    with pytest.raises(RunError, match=r"OutOfMemoryError; .*is kept.*smaller batch"):
        wb.run(films, **options)
    monkeypatch.undo()
    kept = wb.runs.load(tmp_path / "r").to_frame()
    assert len(kept) == 4
    ended = wb.run(films, **options)
    assert ended.done == COUNT
    assert ended.to_frame().head(4).equals(kept)


def test_a_lost_gpu_ends_the_run_in_words_and_the_same_command_goes_on(
    films, model, tmp_path, monkeypatch
):
    options = {"model": model, "out": tmp_path / "r", "max_new_tokens": 3, "batch_size": 2}
    answer, calls = model.answer_batch, []

    def lost(jobs):
        calls.append(len(jobs))
        if len(calls) > 1:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return answer(jobs)

    monkeypatch.setattr(model, "answer_batch", lost)
    with pytest.raises(RunError, match=r"the GPU was lost or failed.*resumes.*nvidia-smi"):
        wb.run(films, **options)
    monkeypatch.undo()
    assert wb.runs.load(tmp_path / "r").done == 2
    assert wb.run(films, **options).done == COUNT


# --- poison --------------------------------------------------------------------------------------


def test_a_poison_image_is_a_failed_row_counted_apart(films, model, tmp_path, capsys):
    folder = tmp_path / "films"
    folder.mkdir()
    for path in films.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:90])
    (folder / "4.png").unlink()
    options = {"tasks": ["report", "differential"], "max_new_tokens": 2}
    found = wb.run(folder / "films.csv", model=model, out=tmp_path / "r", **options)
    assert (found.done, found.failed, found.unreadable) == (8, 4, 2)
    assert found.summary()["unreadable_images"] == 2
    errors = found.to_frame().query("status == 'failed'")["error"]
    assert errors.str.contains("damaged or cut short|no such file").all()
    assert not errors.str.contains(r"\.png").any()


# --- disks ---------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_files_of_every_export(films, model, tmp_path):
    queue = wb.review.queue(_table(("A nodule.", "No nodule.")))
    case = wb.load_radiograph(films.parent / "0.png")
    trace = model.trace(case, model.report(case, max_new_tokens=2))
    manifest = wb.data.build("folder", source=films.parent, hash_files=False)
    writers = {
        "q.csv": queue.save,
        "q.parquet": queue.save,
        "m.csv": manifest.save,
        "m.parquet": manifest.save,
        "c.json": lambda path: wb.data.freeze(manifest, path),
        "trace": trace.save,
    }
    for name, write in writers.items():
        path = tmp_path / name
        write(path)
        before = _content(path)
        with full_disk(8), pytest.raises(OSError):
            write(path)
        assert _content(path) == before, name
    assert not [p for p in tmp_path.rglob("*") if p.suffix in (".partial", ".part")]


def test_a_full_disk_is_said_in_one_line_that_repairs(films, tiny, tmp_path, capsys):
    words = ["report", str(films.parent / "0.png"), "--model", tiny, "--device", "cpu",
             "--max-new-tokens", "1", "--out", str(tmp_path)]  # fmt: skip
    assert main(words) == 0
    before = _content(tmp_path)
    capsys.readouterr()
    with full_disk(8):
        code = main(words)
    assert code == 1
    assert "file too large" in capsys.readouterr().err.lower()
    assert _content(tmp_path) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_the_command_line_names_what_cannot_be_written(number, monkeypatch, capsys, tmp_path):
    from workbench.commands import phantom

    def full(*_):
        raise OSError(number, os.strerror(number), str(tmp_path / "a.png.partial"))

    monkeypatch.setattr(phantom, "run", full)
    assert main(["phantom", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("workbench: a.png: cannot be written (")
    assert "what was there before is kept. Make room" in said
    assert len(said.strip().splitlines()) == 1


def test_a_torn_line_of_verdicts_costs_one_verdict(tmp_path):
    notes = verdicts.Annotations(tmp_path / "annotations.jsonl")
    notes.add(id="a", finding="nodule", verdict="unclear", reviewer="AB")
    whole = notes.path.read_bytes()
    with full_disk(len(whole) + 9), pytest.raises(RunError, match="cannot be written"):
        notes.add(id="b", finding="nodule", verdict="unclear", reviewer="AB")
    assert [item.id for item in notes.current()] == ["a"]
    notes.add(id="c", finding="nodule", verdict="unclear", reviewer="AB")
    assert [item.id for item in notes.current()] == ["a", "c"]
    assert notes.torn <= 1


# --- processes -----------------------------------------------------------------------------------


def test_a_kernel_that_restarts_repeats_nothing(films, model, tmp_path, monkeypatch):
    options = {"model": model, "out": tmp_path / "r", "max_new_tokens": 2}
    first = wb.run(films, **options)

    def decoded_again(_):
        raise AssertionError("a finished row was decoded again")

    monkeypatch.setattr(model, "answer_batch", decoded_again)
    again = wb.run(films, **options)
    assert again.to_frame().equals(first.to_frame())
    assert len(again.record["sessions"]) == 2


def test_two_processes_write_verdicts_and_none_is_lost(tmp_path):
    """Processes of their own, since locks of one process may be shared."""
    path = tmp_path / "annotations.jsonl"

    def write(who: str) -> None:
        notes = verdicts.Annotations(path)
        for n in range(25):
            notes.add(id=f"f{n}", finding="nodule", verdict="unclear", reviewer=who)

    both = [forked(write, who) for who in ("AB", "CD")]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    found = verdicts.Annotations(path)
    assert len(found) == 50 and found.torn == 0


# --- clock, zone and language --------------------------------------------------------------------


def test_a_clock_that_goes_back_changes_no_order(films, model, tmp_path, monkeypatch):
    times = iter(f"20{year}-01-01T00:00:00+00:00" for year in range(40, 9, -1))
    for module in (verdicts, record, running):
        monkeypatch.setattr(module, "now", lambda: next(times))
    notes = verdicts.Annotations(tmp_path / "annotations.jsonl")
    for verdict in ("unclear", "model wrong"):
        notes.add(id="a", finding="nodule", verdict=verdict, reviewer="AB")
    assert [item.verdict for item in notes.current()] == ["model wrong"]
    assert notes.undo(reviewer="AB").verdict == "model wrong"
    assert [item.verdict for item in notes.current()] == ["unclear"]
    options = {"model": model, "out": tmp_path / "r", "max_new_tokens": 1}
    first = wb.run(films, **options)
    assert wb.run(films, **options).to_frame().equals(first.to_frame())
    started = [session["started"] for session in first.record["sessions"]]
    assert started == sorted(started, reverse=True)
    assert first.seconds > 0


def test_zone_and_language_change_no_byte(films, model, tmp_path, monkeypatch):
    options = {"model": model, "max_new_tokens": 3}
    here = wb.run(films, out=tmp_path / "a", **options)
    for name, value in (("TZ", "Asia/Kathmandu"), ("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR")):
        monkeypatch.setenv(name, value)
    time.tzset()
    try:
        there = wb.run(films, out=tmp_path / "b", **options)
        stamp = there.record["sessions"][0]["started"]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert stamp.endswith("+00:00")
    steady = [name for name in here.to_frame() if name not in ("seconds", "peak_rss_mb")]
    assert here.to_frame()[steady].equals(there.to_frame()[steady])


def test_a_terminal_that_knows_ascii_only_gets_every_answer(tmp_path):
    """A process whose streams are ASCII, in the C locale, without UTF-8 mode."""
    (tmp_path / "in.csv").write_text("id,text\nMüller-ß,There is a nodule \u2265 5 mm.\n", "utf-8")
    known = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Tokyo"}
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "label", str(tmp_path / "in.csv"), "--json"],
        env={**os.environ, **known, "PYTHONIOENCODING": "ascii"}, capture_output=True, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["labels"][0]["id"] == "Müller-ß"


def test_a_worker_notes_how_much_fits(films, model, monkeypatch):
    plan = RunPlan(read_tasks("report"), wb.DecodingSettings(max_new_tokens=1), 4)
    worker = BlockWorker(model, plan, films.parent)
    assert worker.largest is None
    block = Block(0, tuple(Item(n, f"film-{n}", "", f"{n}.png") for n in range(4)))
    crowded = Crowded(model.answer_batch, 1, MemoryError())
    monkeypatch.setattr(model, "answer_batch", crowded)
    rows = worker.answer(block)
    assert [row["status"] for row in rows] == ["done"] * 4
    assert worker.largest == 1


def _table(found: tuple[str, ...]):
    import pandas as pd

    return pd.DataFrame({"id": [str(n) for n in range(len(found))], "text": list(found)})


def _content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {file.name: file.read_bytes() for file in files}
