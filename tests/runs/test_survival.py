"""A run that is killed, locked out, out of disk or read-only loses nothing and ends the same."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest

import workbench as wb
from tests.helpers import finished, forked
from workbench.cli import main
from workbench.errors import RunError
from workbench.runs.store import RunStore, reading

KILLS = 10
TASKS = ["report", "differential", "ask:Is there a pneumothorax?"]
OPTIONS = {"tasks": TASKS, "max_new_tokens": 24, "batch_size": 3, "temperature": 0.7, "seed": 3}

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="needs copies of a process, and limits of it"
)


def command(manifest: Path, out: Path, tiny: str) -> list[str]:
    """The command line that is the run of OPTIONS."""
    tasks = [word for task in TASKS for word in ("--task", task)]
    return [
        *("run", "--manifest", str(manifest), "--out", str(out), "--model", tiny),
        *("--device", "cpu", "--max-new-tokens", "24", "--batch-size", "3"),
        *("--temperature", "0.7", "--seed", "3", "--json", *tasks),
    ]


@pytest.fixture(scope="module")
def whole(films, tiny, tmp_path_factory):
    """The run that nobody disturbs."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return wb.run(films, model=tiny, device="cpu", out=out, **OPTIONS)


def test_killed_at_ten_random_instants_it_ends_the_same(films, tiny, whole, tmp_path, lab):
    arguments = command(films, tmp_path / "run", tiny)
    out, rng, seen, midway = tmp_path / "run", random.Random(7), {}, 0
    for _ in range(KILLS):
        process = forked(main, arguments)
        goal = len(seen) + rng.choice((0, 1, 3))
        deadline = time.monotonic() + 60
        while len(finished(out)) < min(goal, 21) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        now = finished(out)
        assert now.items() >= seen.items(), "a finished row was lost or written again"
        assert len(now) % 3 == 0, "a block was written in part"
        midway += 0 < len(now) < 24
        seen = now
    assert midway >= 5
    ended = wb.run(films, model=tiny, device="cpu", out=out, **OPTIONS)
    assert finished(out).items() >= seen.items()
    assert ended.done == 24
    assert lab.steady(out) == lab.steady(whole.folder)


def test_a_second_process_is_refused_and_a_dead_one_is_not_in_the_way(films, tiny, tmp_path):
    out = tmp_path / "run"
    with RunStore(out), pytest.raises(RunError, match="another process is running"):
        wb.run(films, model=tiny, device="cpu", out=out, max_new_tokens=1)
    assert wb.run(films, model=tiny, device="cpu", out=out, max_new_tokens=1).done == 8


def test_a_second_process_exits_1(films, tiny, tmp_path, capsys):
    with RunStore(tmp_path / "run"):
        assert main(command(films, tmp_path / "run", tiny)) == 1
    assert "another process" in capsys.readouterr().err


def limited(kilobytes: int, arguments: list[str], said: Path) -> None:
    """Run a command where no file may grow beyond some size; what it says goes to a file."""
    import resource

    with said.open("w") as errors, contextlib.redirect_stderr(errors):
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024,) * 2)
        code = main(arguments)
    sys.exit(code)


@pytest.mark.parametrize("kilobytes", [5, 60])
def test_a_full_disk_ends_in_a_clear_error_and_keeps_what_was_finished(
    kilobytes, films, tiny, whole, tmp_path, lab
):
    out = tmp_path / "run"
    said = tmp_path / "said"
    process = forked(limited, kilobytes, command(films, out, tiny), said)
    process.join()
    assert process.exitcode == 1
    assert "what was finished is kept" in said.read_text()
    assert len([line for line in said.read_text().splitlines() if "workbench:" in line]) == 1
    kept = finished(out)
    assert len(kept) % 3 == 0
    ended = wb.run(films, model=tiny, device="cpu", out=out, **OPTIONS)
    assert finished(out).items() >= kept.items()
    assert ended.done == 24
    assert lab.steady(out) == lab.steady(whole.folder)


def test_a_failure_to_commit_is_said_and_nothing_of_the_block_stays(tmp_path):
    row = {"row": 0, "position": 0, "task": "report", "status": "done"}
    with RunStore(tmp_path / "run") as store:
        store.add(0, [row])
        with pytest.raises(RunError, match="cannot be written"):
            store.add(1, [row | {"row": 1}, row])
        assert store.counts() == {"done": 1, "failed": 0}
        assert not store.finished(1)


def test_a_full_disk_while_exporting_keeps_the_old_results(tmp_path, monkeypatch):
    row = {"row": 0, "position": 0, "task": "report", "status": "done"}
    with RunStore(tmp_path / "run") as store:
        store.add(0, [row])
        path = store.export()
        before = path.read_bytes()
        store.add(1, [row | {"row": 1}])

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="no space left on device"):
            store.export()
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert not list(store.folder.glob("*.partial"))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a place nobody can write to")
def test_a_place_nobody_can_write_to_is_said(films, tiny, capsys):
    assert main(command(films, Path("/proc/run"), tiny)) == 1
    shown = capsys.readouterr().err
    assert "run: the results cannot be written" in shown
    assert [line.split()[0] for line in shown.splitlines()] == ["loading", "workbench:"]


def test_a_folder_that_became_read_only_is_said():
    row = {"row": 0, "position": 0, "task": "report", "status": "done"}
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        out = Path(place) / "run"
        with RunStore(out) as store:
            store.add(0, [row])
        out.chmod(0o555)
        user = os.geteuid()
        # nothing is read-only for root
        os.seteuid(65534 if user == 0 else user)
        try:
            with pytest.raises(RunError, match=r"permission denied.*make the folder writable"):
                RunStore(out).__enter__()
        finally:
            os.seteuid(user)
            out.chmod(0o700)
        assert wb.runs.load(out).done == 1


def test_a_read_only_database_is_said(tmp_path):
    row = {"row": 0, "position": 0, "task": "report", "status": "done"}
    with RunStore(tmp_path / "run") as store:
        store.add(0, [row])
        store._database.execute("PRAGMA query_only = 1")
        with pytest.raises(RunError, match="cannot be written"):
            store.add(1, [row | {"row": 1}])
    with reading(tmp_path / "run") as database:
        assert database.execute("SELECT COUNT(*) FROM rows").fetchone() == (1,)


def test_a_folder_with_other_files_is_refused(films, model, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunError, match="holds other files"):
        wb.run(films, model=model, out=tmp_path)
    with pytest.raises(RunError, match="it is a file"):
        wb.run(films, model=model, out=tmp_path / "thesis.txt")


def test_a_damaged_record_is_refused(films, model, tmp_path):
    wb.run(films, model=model, out=tmp_path / "r", max_new_tokens=1)
    (tmp_path / "r" / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run.json is damaged"):
        wb.run(films, model=model, out=tmp_path / "r", max_new_tokens=1)
