"""Folders made by hand: of fine-tuning at every stage and any age, of a run to be judged."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from workbench.data import Manifest
from workbench.data.frames import conform
from workbench.evaluation.intervals import Estimate
from workbench.finetune.ledger import PROGRESS_FILE, Ledger, SkillChange
from workbench.finetune.recipe import read_recipe
from workbench.phantom.case import phantom
from workbench.widgets.monitor import RunState, run_state

STEPS = 200
EFFUSION = "pleural effusion"


def history(steps) -> list[dict]:
    """What a trainer logs: the loss every ten steps, a measure every hundred."""
    rows = []
    for step in steps:
        rows.append({"step": step, "loss": 1 / step, "learning_rate": 1e-4})
        if step % 100 == 0:
            rows.append({"step": step, "eval_macro_f1": step / 200})
    return rows


def curves(rows: list[dict]) -> list[dict]:
    """What a ledger makes of it: one row for each step, the measures under their own names."""
    found: dict[int, dict] = {}
    for row in rows:
        own = {name.removeprefix("eval_"): value for name, value in row.items()}
        found.setdefault(row["step"], {}).update(own)
    return list(found.values())


class Folder:
    """The folder of a run.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.progress = folder / PROGRESS_FILE
        self.now = float(round(time.time()))

    def look(self) -> RunState:
        """What is told of it, by a clock that stands still."""
        return run_state(self.folder, now=self.now)

    def begin(self, name: str = "made") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        recipe = read_recipe("stage3_lora").replace(name=name)
        (self.folder / "recipe.yaml").write_text(recipe.to_yaml())

    def checkpoint(self, step: int, *, ago: float = 0, whole: bool = True) -> None:
        """Log all steps to this one, two seconds each, and write a checkpoint `ago` seconds ago."""
        if not self.progress.exists():
            self.log("begin", step=0, steps=STEPS)
        done = [json.loads(line)["step"] for line in self.progress.read_text().splitlines()]
        then = self.now - ago
        for row in history(range(max(done) + 10, step + 1, 10)):
            self.log("log", time=then - 2 * (step - row["step"]), **row)
        path = self.folder / "checkpoints" / f"checkpoint-{step}"
        path.mkdir(parents=True)
        for name in ("trainer_state.json", "model.safetensors") if whole else ("optimizer.pt",):
            (path / name).write_bytes(b"made")
            os.utime(path / name, (then, then))

    def clear(self) -> None:
        shutil.rmtree(self.folder)

    def log(self, what: str, **record) -> None:
        with self.progress.open("a") as handle:
            handle.write(json.dumps({"what": what, **record}) + "\n")

    def quiet(self, seconds: float) -> None:
        """Let nothing have changed for so long; what is older stays as it is."""
        then = self.now - seconds
        for path in (*self.folder.rglob("*"), self.folder):
            if path.stat().st_mtime > then:
                os.utime(path, (then, then))

    def finish(self) -> None:
        """Write the ledger."""
        better = SkillChange("fracture F1", 24, 0.0, 0.95, Estimate(0.95, 0.8, 1.0, 24))
        worse = SkillChange("macro-F1", 24, 0.9, 0.7, Estimate(-0.2, -0.3, -0.1, 24))
        same = SkillChange("nodule <b>F1</b>", 24, 0.9, 0.89, Estimate(-0.01, -0.05, 0.03, 24))
        ledger = Ledger(
            name="made", stage="instruct", base={"name": "mini", "sha256": {}}, recipe={},
            trainable={"language": {"tensors": 2, "parameters": 1000}}, parameters=5000,
            data={}, frozen={"before": "a", "after": "a", "equal": True},
            curves=curves(history(range(10, STEPS + 1, 10))),
            best={"measure": "macro_f1", "step": 200, "value": 1.0},
            memory={"predicted": 1e9, "measured": 2e9, "as": "peak of the whole process"},
            cost={"seconds": 100.0, "cpu_seconds": 100.0, "steps": STEPS, "processes": 1,
                  "precision": "float32", "device": "cpu"},
            scores=(better,), forgetting=(worse, same), notes=("<b>a note</b>",),
        )  # fmt: skip
        (self.folder / "ledger.json").write_text(json.dumps(ledger.to_dict()))


def judged_run(folder: Path) -> Path:
    """Write a run that calls six radiographs ill, its manifest, and the radiographs."""
    names = [f"radiograph-{n}" for n in range(6)]
    for n, name in enumerate(names):
        grey = phantom(seed=n, size=256).image.pixels * 255
        Image.fromarray(grey.astype(np.uint8)).save(folder / f"{name}.png")
    rows = {"id": names, "text": "There is a pleural effusion. <b>The heart</b> is normal."}
    rows = pd.DataFrame(rows).assign(source="made", task="report", status="done", tokens=9)
    rows.assign(mean_logprob=[-0.1 * n for n in range(6)]).to_parquet(folder / "results.parquet")
    table = pd.DataFrame({"image_id": names, EFFUSION: "absent", "source": "made"})
    table["study_id"] = table["patient_id"] = table["image_id"]
    table["path"] = table["image_id"] + ".png"
    table = table.assign(licence="own", report_findings="No pleural effusion.")
    Manifest(conform(table, sort=False)).save(folder / "manifest.parquet")
    return folder
