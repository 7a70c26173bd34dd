"""The greatest memory of a process is its own, whoever started it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from workbench import _progress

LINUX = sys.platform == "linux"


def test_it_grows_with_what_is_held_and_stays_when_that_is_let_go():
    before = _progress.peak_memory()
    held = np.ones(max(before, 50_000_000) // 8 + 5_000_000)
    with_it = _progress.peak_memory()
    assert with_it > 0.95 * held.nbytes  # Linux adds up its counters now and then
    del held
    assert _progress.peak_memory() >= 0.95 * with_it


@pytest.mark.skipif(not LINUX, reason="only Linux tells a program's own peak")
def test_a_small_program_started_by_a_large_one_is_small():
    held = np.ones(300_000_000 // 8)
    code = "from workbench._progress import peak_memory; print(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert held.nbytes == 300_000_000
    assert 5_000_000 < int(done.stdout) < 150_000_000


def test_without_proc_the_system_is_asked_in_its_own_way(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource", reason="Unix only")
    monkeypatch.setattr(_progress, "_STATUS", tmp_path / "none")
    unit = 1 if sys.platform == "darwin" else 1024
    least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert least <= _progress.peak_memory() < 2 * least


def test_where_nothing_tells_it_is_not_known(monkeypatch, tmp_path):
    monkeypatch.setattr(_progress, "_STATUS", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert _progress.peak_memory() == 0
