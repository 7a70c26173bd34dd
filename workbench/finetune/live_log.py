"""`progress.jsonl`: what a run tells while it trains, one line for each logged step.

Only appended to, by the first process; one line is one write, so that a reader meanwhile sees
whole lines. The first line says which process writes, so that others can tell whether it
lives: its number, when it started, and when its machine did.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainerCallback

PROGRESS_FILE = "progress.jsonl"
#: What is shown of each logged step besides measures: the loss that was trained on, per token also
#: of labelled rows and of those that are only tied to the base; the rate that the recipe names.
LOGGED = ("loss", "loss_labelled", "loss_unlabelled", "learning_rate", "grad_norm", "epoch")


class LiveLog(TrainerCallback):
    """Write every logged step to a file of the run.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self._path = Path(folder) / PROGRESS_FILE

    def on_train_begin(self, args, state, control, **_):
        """Log that training begins, at which step, and in which process."""
        process = psutil.Process()
        who = {"pid": process.pid, "started": process.create_time(), "boot": psutil.boot_time()}
        self._add(state, what="begin", steps=state.max_steps, process=who)

    def on_log(self, args, state, control, logs=None, **_):
        """Add one logged step."""
        kept = {
            name: float(value)
            for name, value in (logs or {}).items()
            if (name in LOGGED or name.startswith("eval_")) and isinstance(value, (int, float))
        }
        if torch.cuda.is_available():
            memory = {"memory": torch.cuda.memory_allocated(), "memory_as": "allocated on GPU, now"}
        else:
            used = psutil.Process().memory_info().rss
            memory = {"memory": used, "memory_as": "of the process, now"}
        self._add(state, what="log", **kept, **memory)

    def on_train_end(self, args, state, control, **_):
        """Log that all steps are done."""
        self._add(state, what="end")

    def _add(self, state, **record: Any) -> None:
        if not state.is_world_process_zero:
            return
        line = json.dumps({"step": state.global_step, "time": time.time(), **record})
        with self._path.open("ab") as handle:
            # a line that a killed run left half done must not swallow this one
            start = b"\n" if record.get("what") == "begin" else b""
            handle.write(start + line.encode("ascii") + b"\n")
