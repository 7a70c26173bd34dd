"""What the stages share before and after training: the folder, the device, the cost, the ledger.

Does not know: what is trained.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from workbench._memory import peak_memory
from workbench.errors import TrainingError
from workbench.finetune.recipe import Recipe
from workbench.finetune.run_result import RECIPE_FILE
from workbench.model.load import LoadedCheckpoint, load_checkpoint

#: Seconds that other processes wait for the first one.
_PATIENCE = 120

_LIBRARIES = ("torch", "transformers", "accelerate", "peft", "numpy")


def claim(out: Path, recipe: Recipe, *, resume: bool) -> None:
    """Take a folder for a run; the first process takes it, the others wait until it has.

    Raises:
        TrainingError: it holds a run already and resume was not asked for, another recipe's, or
            something else; or the first process has not taken it in time.
    """
    note = out / RECIPE_FILE
    if process_rank() != 0:
        wait_for(note)
        return
    if note.is_file():
        if not resume:
            raise TrainingError(
                f"{out} holds a run already; go on with it by resume=True (--resume), or name "
                "another folder"
            )
        if note.read_text(encoding="utf-8") != recipe.to_yaml():
            raise TrainingError(
                f"{out} holds a run of another recipe; name another folder, since a run that "
                "changes its recipe on the way cannot be repeated"
            )
    elif out.is_dir() and any(out.iterdir()):
        raise TrainingError(f"{out} is not empty and holds no run; name another folder")
    if not note.is_file():
        out.mkdir(parents=True, exist_ok=True)
        note.write_text(recipe.to_yaml(), encoding="utf-8")


def wait_for(note: Path, *, seconds: float | None = None) -> None:
    """Wait until the first process has written a file.

    Args:
        note: the file, written whole or not at all.
        seconds: to wait; None for a patience that suits small files.

    Raises:
        TrainingError: it was not there in time.
    """
    seconds = _PATIENCE if seconds is None else seconds
    deadline = time.monotonic() + seconds
    while not note.is_file():
        if time.monotonic() > deadline:
            raise TrainingError(
                f"the first process has not written {note.name} in {note.parent} within "
                f"{seconds:g} seconds; see what it says, and start all processes again"
            )
        time.sleep(0.05)


def world_size() -> int:
    """Return the number of processes that torchrun or accelerate started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return the number of this process; 0 for the first, and for the only one."""
    return int(os.environ.get("RANK", "0"))


def open_base(recipe: Recipe, *, device: str) -> LoadedCheckpoint:
    """Load the model that a run starts from; learning weights are float32."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto" and torch.cuda.is_available():
        device = f"cuda:{local}"
    elif device == "auto":
        device = "cpu"
    # what learns on a CPU is float32; a GPU takes what it computes in
    dtype = "float32" if device == "cpu" else "auto"
    return load_checkpoint(recipe.base, device=device, dtype=dtype, quantize=recipe.tuning.quantize)


def last_checkpoint(out: Path) -> Path | None:
    """Return the newest checkpoint that was written whole; None for none."""
    found = [
        path
        for path in (out / "checkpoints").glob("checkpoint-*")
        if (path / "trainer_state.json").is_file() and (path / "model.safetensors").is_file()
    ]
    return max(found, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


@dataclass
class Cost:
    """What a run takes: time, processor time and memory.

    Attributes:
        seconds: wall time.
        cpu_seconds: processor time of this process.
        memory: bytes at most.
        measured_as: what was measured.
    """

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: int = 0
    measured_as: str = ""
    _began: tuple[float, float] = field(default=(0.0, 0.0), repr=False)


@contextmanager
def costing(device: torch.device) -> Iterator[Cost]:
    """Measure what happens inside."""
    cost = Cost()
    began, cpu = time.perf_counter(), time.process_time()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield cost
    cost.seconds = time.perf_counter() - began
    cost.cpu_seconds = time.process_time() - cpu
    if device.type == "cuda":
        cost.memory, cost.measured_as = torch.cuda.max_memory_allocated(device), "allocated on GPU"
    else:
        cost.memory = peak_memory()
        cost.measured_as = "peak of the whole process"


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers say only what is wrong."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def versions() -> dict[str, str]:
    """Return the versions of the libraries that training depends on."""
    return {name: version(name) for name in _LIBRARIES}


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write plain values."""
    path.write_text(json.dumps(value, indent=1, default=str) + "\n", encoding="utf-8")
