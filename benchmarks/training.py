"""What training must not change, and what a cache saves; results as JSON on stdout, and in --out.

    python benchmarks/training.py cache                    phantoms, which are kept in memory
    python benchmarks/training.py cache --dicom 3056 2544  the same chests as DICOM files
    python benchmarks/training.py processes                two processes against one
    python benchmarks/training.py resume                   killed and resumed against undisturbed

Seconds are wall time and, beside them, processor time, which other programs do not stretch.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import torch
from _folder import folder
from PIL import Image
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)
from safetensors.torch import load_file
from transformers import TrainerCallback

import workbench as wb
from workbench.finetune.cases import phantom_cases
from workbench.finetune.recipe import PhantomData, read_recipe


def cache(args: argparse.Namespace) -> dict:
    """Stage 2 with and without the feature cache: steps a second, and the loss curve."""
    found = {}
    with folder(args) as out:
        source: dict = {"phantoms": {"count": args.cases}}
        if args.dicom:
            radiographs = dicom_files(out / "radiographs", args.cases, args.dicom)
            source = {"manifest": radiographs, "root": str(out / "radiographs")}
        for name, cached in (("uncached", False), ("cached", True)):
            recipe = read_recipe("stage2_projector").replace(
                name=name,
                data={"phantoms": None, **source, "validation": 0.05, "tasks": [args.task]},
                training={"epochs": args.epochs, "feature_cache": cached, "batch_size": 16,
                          "micro_batch": 16, "batching": args.batching},
                evaluation={"times": 1, "cases": 1},
            )  # fmt: skip
            clock = StepClock()
            run = wb.finetune.run(recipe, out=out / name, callbacks=[clock])
            found[name] = {
                "steps": run.ledger.cost["steps"],
                "seconds_a_step": float(np.median(clock.wall)),
                "cpu_seconds_a_step": float(np.median(clock.cpu)),
                "losses": [row["loss"] for row in run.ledger.curves if "loss" in row],
                "cache": dict(run.ledger.cache),
            }
    one, two = found["uncached"], found["cached"]
    apart = np.abs(np.array(one["losses"]) - np.array(two["losses"])).max()
    return {
        **{k: {n: v for n, v in row.items() if n != "losses"} for k, row in found.items()},
        "times_faster": one["seconds_a_step"] / two["seconds_a_step"],
        "times_faster_cpu": one["cpu_seconds_a_step"] / two["cpu_seconds_a_step"],
        "largest_difference_of_loss": float(apart),
        "batching": args.batching,
        "task": args.task,
        "images": "DICOM, {} x {}".format(*args.dicom) if args.dicom else "drawn, kept in memory",
    }


def dicom_files(root: Path, count: int, size: Sequence[int]) -> str:
    """Write phantoms as 12-bit uncompressed DICOM, and their manifest; return its name."""
    root.mkdir(parents=True)
    rows = []
    for case in phantom_cases(PhantomData(first_seed=7_300_000, count=count)):
        drawn = Image.fromarray(case.load().pixels.astype(np.float32))
        pixels = np.asarray(drawn.resize(size[::-1], Image.Resampling.BICUBIC)).clip(0, 1)
        write_dicom(root / f"{case.id}.dcm", (pixels * 4095).round().astype(np.uint16))
        rows.append({"path": f"{case.id}.dcm", "patient_id": case.id, **case.codes})
    pd.DataFrame(rows).to_csv(root / "manifest.csv", index=False)
    terms = {"provenance": "radiologist", "licence": "drawn"}
    radiographs = wb.data.build("csv", source=root, hash_files=False, **terms)
    return str(radiographs.save(root.parent / "manifest.parquet"))


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    """Write a digital radiograph (H, W) uint16 of 12 bits."""
    made = pydicom.Dataset()
    made.SOPClassUID, made.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    made.Modality, made.ViewPosition, made.PhotometricInterpretation = "DX", "PA", "MONOCHROME2"
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PixelRepresentation = 1, 0
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.PixelData = pixels.tobytes()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.save_as(path, enforce_file_format=True)


class StepClock(TrainerCallback):
    """Time every step but the first, from the end of the one before: reading its batch included."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self.ended: tuple[float, float] | None = None

    def on_step_end(self, args, state, control, **_):
        now = time.perf_counter(), time.process_time()
        if self.ended is not None:
            self.wall.append(now[0] - self.ended[0])
            self.cpu.append(now[1] - self.ended[1])
        self.ended = now


SMALL = {
    "data": {"phantoms": {"first_seed": 7_200_000, "count": 20, "finding": "fracture"},
             "validation": 0.2},
    "training": {"epochs": 2, "batch_size": 8, "micro_batch": 4, "save_every": 1},
    "evaluation": {"times": 1, "cases": 1, "forgetting": 0, "explained": 0},
}  # fmt: skip


def small_recipe(out: Path, name: str, **training) -> Path:
    """Write the recipe that the two checks of sameness run."""
    changes = {**SMALL, "training": {**SMALL["training"], **training}}
    path = out / f"{name}.yaml"
    path.write_text(read_recipe("stage3_lora").replace(name="same", **changes).to_yaml())
    return path


def processes(args: argparse.Namespace) -> dict:
    """Two processes by torchrun against one with doubled accumulation."""
    with folder(args) as out:
        recipe = small_recipe(out, "two")
        train = ["-m", "workbench", "train", str(recipe), "--out"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        subprocess.run([sys.executable, *train, str(out / "one")], check=True, env=environment)
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
        subprocess.run([sys.executable, *launcher, *train, str(out / "two")], check=True,
                       env=environment)  # fmt: skip
        ledgers = [wb.finetune.open_run(out / name).ledger for name in ("one", "two")]
        return {
            "processes": [ledger.cost["processes"] for ledger in ledgers],
            "steps": [ledger.cost["steps"] for ledger in ledgers],
            "largest_difference": apart(out / "one", out / "two"),
        }


def resume(args: argparse.Namespace) -> dict:
    """A run killed in the middle and resumed against one that was never stopped."""
    with folder(args) as out:
        recipe = small_recipe(out, "resume")
        train = [sys.executable, "-m", "workbench", "train", str(recipe), "--out"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([*train, str(out / "whole")], check=True, env=environment)
        killed = subprocess.Popen([*train, str(out / "killed")], env=environment)
        folder_ = out / "killed" / "checkpoints"
        while not (folder_ / f"checkpoint-{args.at}" / "trainer_state.json").is_file():
            time.sleep(0.05)
            if killed.poll() is not None:
                raise SystemExit("the run ended before it could be killed; lower --at")
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        subprocess.run([*train, str(out / "killed"), "--resume"], check=True, env=environment)
        steps = wb.finetune.open_run(out / "whole").ledger.cost["steps"]
        return {"killed_after_step": args.at, "steps": steps,
                "largest_difference": apart(out / "whole", out / "killed")}  # fmt: skip


def apart(one: Path, two: Path) -> float:
    """Return the largest difference of what two runs learned."""
    first, second = (load_file(p / "adapter" / "adapter_model.safetensors") for p in (one, two))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def parser() -> argparse.ArgumentParser:
    """Return the parser."""
    top = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    top.add_argument("--out", type=Path, help="write the JSON here too")
    top.add_argument("--keep", help="folder for the runs; they are deleted without it")
    commands = top.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("cache")
    sub.add_argument("--cases", type=int, default=48)
    sub.add_argument("--epochs", type=float, default=4)
    sub.add_argument("--task", default="question")
    sub.add_argument("--batching", default="packed")
    sub.add_argument(
        "--dicom", type=int, nargs=2, metavar=("ROWS", "COLUMNS"), help="files of this size"
    )
    commands.add_parser("processes")
    sub = commands.add_parser("resume")
    sub.add_argument("--at", type=int, default=2)
    return top


def main() -> None:
    """Run one command."""
    args = parser().parse_args()
    torch.set_num_threads(1)
    made = {"cache": cache, "processes": processes, "resume": resume}
    text = json.dumps(made[args.command](args), indent=1, default=float)
    sys.stdout.write(text + "\n")
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
