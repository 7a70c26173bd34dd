"""A folder of drawn pictures with a manifest, and the table of a run without measurements."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from workbench.interface import load_model

MEASURED = ("seconds", "peak_rss_mb", "peak_gpu_mb")

QUESTION = "Is there a pneumothorax?"
TASKS = ["report", "differential", {"ask": QUESTION, "name": "ptx"}]


def draw(folder: Path, count: int) -> Path:
    """Write pictures and a manifest; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    rows = [["image_id", "path", "source"]]
    for n in range(count):
        small = Image.fromarray(rng.integers(0, 255, (7, 11), dtype=np.uint8))
        small.resize((110, 90), Image.Resampling.BICUBIC).save(folder / f"{n}.png")
        rows.append([f"film-{n}", f"{n}.png", "made"])
    with (folder / "films.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    return folder / "films.csv"


def steady(folder: Path) -> bytes:
    """The exported rows without measurements, as bytes."""
    table = pa.parquet.read_table(folder / "results.parquet").drop_columns(list(MEASURED))
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue()


@pytest.fixture(scope="session")
def films(tmp_path_factory) -> Path:
    """A manifest of eight pictures; with three tasks a run has 24 rows."""
    return draw(tmp_path_factory.mktemp("films"), 8)


@pytest.fixture(scope="session")
def model(tiny):
    """The tiny checkpoint, loaded once."""
    return load_model(tiny, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The helpers of this file."""
    return SimpleNamespace(draw=draw, steady=steady, TASKS=TASKS, QUESTION=QUESTION)
