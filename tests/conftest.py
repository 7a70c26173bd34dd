"""What every test shares: no network, no display, one thread, and where reference data lives."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest

from tests.shapes import check_shapes

ROOT = Path(__file__).resolve().parents[1]

#: What the tests are called that run a whole lesson.
LESSON = "test_runs_and_becomes_one_page"
#: What is begun with, by parts of the names of tests.
FIRST = (LESSON, "test_other_model.py", "test_jupyterlab.py")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# for its check of addresses, which is not used here, jsonschema builds 38 grammars
sys.modules.setdefault("rfc3987_syntax", None)  # pyright: ignore[reportArgumentType]

check_shapes(ROOT)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Say before the first test what this machine lacks: its tests are left out."""
    wanted = {
        "Chromium (pages in a browser; sudo apt-get install chromium)": which("chromium"),
        "Ray (runs on several workers)": find_spec("ray"),
        "torchxrayvision (official label files)": find_spec("torchxrayvision"),
        "../shared (reference vectors, radiographs)": (ROOT.parent / "shared").is_dir(),
    }
    lacking = [name for name, there in wanted.items() if not there]
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if lacking and reporter and not hasattr(session.config, "workerinput"):
        reporter.write_line(f"tests are left out, since this machine lacks: {', '.join(lacking)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, the last lesson first: nobody waits for it at the end."""
    early = {item: n for n, at in enumerate(FIRST) for item in items if at in item.nodeid}
    items[:] = [*sorted(reversed(early), key=early.__getitem__),
                *(item for item in items if item not in early)]  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among modules and tests, now or later: they stay to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Let go of modules as ever: duckdb complains of what it finds alive at the end."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Reference data beside the repository; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared (reference vectors and radiographs)")
    return folder


@pytest.fixture(scope="session")
def chest_dicom() -> Path:
    """The chest CR of pydicom-data: MONOCHROME1, 15 bit, explicit VR, uncompressed."""
    data_store = pytest.importorskip("data_store", reason="needs pydicom-data (the demo extra)")
    return Path(data_store.DataStore().get_path("RG1_UNCR.dcm"))


@pytest.fixture(scope="session")
def tiny() -> str:
    """A checkpoint in the published layout with random weights: fast, and full of nonsense."""
    return str(ROOT / "tests" / "golden" / "checkpoints" / "A_tiny")
