"""What `model.plan()` says against what is measured, task by task.

    python benchmarks/plan.py --json plan.json
    python benchmarks/plan.py --checkpoint DIR --dtype bfloat16 --only report --only relevancy

A random model of middling size (160 million parameters, 384 pixels) is planned; each task runs in a
process of its own, whose peak (VmHWM) is counted anew when it begins. Time is that of the processor
in one thread, and so is that of the probe, which is taken before and after the task, so that others
who use the machine change the ratio little. Methods that change the image
many times are asked for fewer changes, and their time is taken that many times. Exit code 1 where
memory is not within 15 % or time not within a factor of 2.

Does not know: what the texts mean. Random weights cost what trained ones do.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
from workbench._progress import peak_memory  # noqa: E402
from workbench.model.costs import TASKS  # noqa: E402

#: glibc keeps freed blocks by a rule that depends on earlier sizes; this holds it as it starts, so
#: that memory is what tensors take.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
MEMORY, TIME = 0.15, 2.0
BATCH, NEW_TOKENS = 4, 64
#: Map -> options that ask for less, and how many times as much the plan counts; of occlusion that
#: depends on the image tokens.
FEWER = {
    "smoothgrad": ({"samples": 8}, 3),
    "integrated_gradients": ({"most": 32}, 1),
    "integrated_gradients_patches": ({"most": 32}, 1),
    "occlusion": ({"stride": 96, "window": 96}, 0),
    "adaptive_occlusion": ({"budget": 20, "stride": 48, "window": 48}, 10),
    "kernel_shap": ({"regions": (4, 4), "samples": 14}, 258 / 16),
}


def main() -> int:
    """Plan, measure, print, and write JSON; 1 where a bar is missed."""
    options = _parser().parse_args()
    if options.measure:
        measure(options)
        return 0
    print("| task | GB planned | measured | ratio | s planned | measured | ratio | holds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-plan-") as folder:
        options.checkpoint = options.checkpoint or made(folder)
        for row in children(options, options.only or list(TASKS)):
            rows.append(row)
            print(line(row), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    return int(not all(map(holds, rows)))


def holds(row: dict) -> bool:
    """Tell whether a row is within both bars; maps that only read a trace take no time."""
    near = 1 / TIME <= row["time_ratio"] <= TIME or row["measured_seconds"] < 0.5
    return abs(row["memory_ratio"] - 1) <= MEMORY and near


def line(row: dict) -> str:
    """Return a row of the table: planned against measured."""
    return (
        f"| {row['task']} | {row['memory'] / 1e9:.2f} | {row['measured_memory'] / 1e9:.2f} | "
        f"{row['memory_ratio']:.2f} | {row['seconds']:.1f} | {row['measured_seconds']:.1f} | "
        f"{row['time_ratio']:.2f} | {'yes' if holds(row) else 'NO'} |"
    )


def made(folder: str) -> str:
    """Write a random checkpoint of middling size."""
    from speed.models import Sizes, checkpoint

    checkpoint(Sizes(384, 512, 8, 768, 12), folder)
    return folder


def children(options: argparse.Namespace, tasks: list[str]) -> Iterator[dict]:
    """Yield what was planned and measured of each task, in a process of its own."""
    for task in tasks:
        command = [sys.executable, __file__, "--checkpoint", options.checkpoint]
        command += ["--dtype", options.dtype, "--measure", task]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, env=os.environ | ALLOCATOR, check=True
        )
        yield json.loads(done.stdout.splitlines()[-1])


def measure(options: argparse.Namespace) -> None:
    """Run a task; print what was planned and measured of it."""
    import torch
    from speed.models import radiographs

    import workbench as wb
    from workbench.model import plan as planning

    torch.set_num_threads(1)
    planning.clock = time.process_time
    model, task = (
        wb.load_model(options.checkpoint, device="cpu", dtype=options.dtype),
        options.measure,
    )
    work, times = prepared(model, radiographs(BATCH, model.image_size), task)
    before = planned(model, task)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # counts VmHWM anew, see proc(5)
    began = time.process_time()
    work()
    seconds, peak = (time.process_time() - began) * times, peak_memory()
    planned_seconds = (before.seconds + planned(model, task).seconds) / 2
    found = {"task": task, "memory": before.total, "seconds": planned_seconds}
    found |= {"measured_memory": peak, "measured_seconds": seconds}
    found |= {"memory_ratio": before.total / peak, "time_ratio": planned_seconds / seconds}
    print(json.dumps(found), flush=True)


def planned(model, task: str):
    """Return the plan of a task; the machine is probed anew, as others slow its memory down."""
    from workbench.model import plan as planning

    planning.probe.cache_clear()
    return model.plan(task, batch_size=BATCH, new_tokens=NEW_TOKENS)[task]


def prepared(model, images: list, task: str) -> tuple[Callable[[], object], float]:
    """Return a task whose start is there already, and how many times its time counts."""
    import workbench as wb

    image, limit = images[0], {"max_new_tokens": NEW_TOKENS}
    if task.startswith("train "):
        return learning(model, task.split()[-1]), 1
    if task == "report":
        return lambda: model.report(image, **limit), 1
    if task == "batch":
        return lambda: model.report_many(images, batch_size=BATCH, **limit), 1
    text = model.report(image, **limit)
    if task == "trace":
        return lambda: model.trace(image, text), 1
    trace = model.trace(image, text)
    if task == "grounding":
        return lambda: wb.hallucination.ground(trace), 1
    options, times = FEWER.get(task, ({}, 1))
    windows = 4 * model.card.image_tokens / (model.image_size // 96) ** 2
    return lambda: wb.saliency.explain(trace, method=task, **options), times or windows


def learning(model, strategy: str) -> Callable[[], object]:
    """Return a step of training with AdamW; the moments are there."""
    import torch

    from workbench.finetune.encoding import Block, Student, pack
    from workbench.finetune.parts import prepare, trainable
    from workbench.finetune.planner import STRATEGIES

    network = prepare(model.network, STRATEGIES[strategy])
    pixels = torch.rand(1, 1, model.image_size, model.image_size)
    head, tail = model.split(model.prompt_ids(model.prompts.report_messages(), pixels))
    block = Block((*tail, *range(100, 100 + NEW_TOKENS)), len(tail), (0,) * NEW_TOKENS)
    batch = pack(list(head[:-1]), network.config.image_tokens, [[block]])
    student = Student(network).train()
    optimiser = torch.optim.AdamW([one for _, one in trainable(network)])

    def step() -> None:
        student(**batch, pixel_values=pixels)["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()

    step()
    return step


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", help="a directory; a random model of middling size")
    parser.add_argument("--only", action="append", help="a task; again for more")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
