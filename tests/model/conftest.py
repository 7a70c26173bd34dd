"""Reference vectors for the tests of the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers import CHECKPOINTS, GOLDEN, IMAGES


@pytest.fixture(params=CHECKPOINTS)
def checkpoint(request) -> Path:
    """Directory of each reference checkpoint in turn."""
    return GOLDEN / "checkpoints" / request.param


@pytest.fixture(params=IMAGES)
def case_folder(request, checkpoint) -> Path:
    """Folder of reference outputs for each checkpoint and image in turn."""
    return GOLDEN / "golden" / checkpoint.name / request.param


@pytest.fixture
def cases(case_folder) -> dict:
    """The cases of one checkpoint and image by name."""
    return json.loads((case_folder / "cases.json").read_text())


@pytest.fixture
def golden() -> Path:
    """Folder that holds checkpoints, golden and images."""
    return GOLDEN
