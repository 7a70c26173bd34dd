"""What signatures say of types holds; here, so that it is checked beside the other tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_types_agree():
    pytest.importorskip("pyright", reason="needs pyright (the test extra)")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable]
    done = subprocess.run(
        command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
