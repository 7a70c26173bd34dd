"""The Ray engine: the rows of the local engine, a killed worker included, and loopback only."""

from __future__ import annotations

import importlib.util
import os
import sys

import pytest

import workbench as wb
from tests.backends.families import FAMILIES
from workbench.errors import MissingDependencyError, OptionError
from workbench.runs.store import RunStore

OPTIONS = {"max_new_tokens": 24, "batch_size": 3, "temperature": 0.7, "seed": 3, "device": "cpu"}

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or sys.platform != "linux",
    reason="needs the extra ray, and Linux",
)


@needs_ray
def test_two_workers_one_killed_give_the_rows_of_the_local_engine(
    films, tiny, tmp_path, lab, monkeypatch
):
    import psutil

    local = wb.run(films, model=tiny, tasks=lab.TASKS, out=tmp_path / "local", **OPTIONS)
    killed, listening, add = [], [], RunStore.add

    def add_and_kill(store, number, rows):
        add(store, number, rows)
        if killed:
            return
        mine = psutil.Process().children(recursive=True)
        pids = {process.pid for process in (psutil.Process(), *mine)}
        listening.extend(
            c.laddr.ip
            for c in psutil.net_connections("inet")
            if c.status == psutil.CONN_LISTEN and c.pid in pids
        )
        workers = [process for process in mine if "RayWorker" in " ".join(process.cmdline())]
        if len(workers) == 2:  # the second may start later than the first one stores
            workers[0].kill()
            killed.append(workers[0].pid)

    monkeypatch.setattr(RunStore, "add", add_and_kill)
    found = wb.run(
        films, model=tiny, tasks=lab.TASKS, out=tmp_path / "ray", engine="ray", workers=2, **OPTIONS
    )
    assert killed
    assert (found.rows, found.failed) == (24, 0)
    assert lab.steady(tmp_path / "ray") == lab.steady(local.folder)
    assert listening
    assert {ip.removeprefix("::ffff:").partition(".")[0] for ip in listening} == {"127"}
    session = found.record["sessions"][-1]
    assert (session["engine"], session["workers"]) == ("ray", 2)


@needs_ray
def test_a_model_of_another_family_gives_the_rows_of_the_local_engine(films, tmp_path, lab):
    directory = FAMILIES["gemma3"](tmp_path / "gemma3")
    options = {"max_new_tokens": 4, "batch_size": 4, "device": "cpu", "model": directory}
    wb.run(films, out=tmp_path / "local", **options)
    found = wb.run(films, out=tmp_path / "ray", engine="ray", workers=1, **options)
    assert (found.rows, found.failed) == (8, 0)
    assert lab.steady(tmp_path / "ray") == lab.steady(tmp_path / "local")


def test_without_ray_the_error_names_the_extra(films, tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(MissingDependencyError, match=r"cxr-llava-workbench\[ray\]"):
        wb.run(films, model=tiny, out=tmp_path / "r", engine="ray")


def test_a_loaded_model_is_refused(films, model, tmp_path):
    with pytest.raises(OptionError, match="every worker of engine 'ray' loads its own"):
        wb.run(films, model=model, out=tmp_path / "r", engine="ray")
