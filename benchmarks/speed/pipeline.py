"""Sections about everything around the model: labels, manifests, runs, training, notebooks.

Does not know: whether any of it is right.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from speed.clock import Times, compare, ratio, timed
from speed.decoding import Plan
from speed.models import TINY, checkpoint

ROOT = Path(__file__).resolve().parents[2]


def labeler(plan: Plan) -> dict:
    """Label reports of phantoms: reports a second on one core."""
    import workbench as wb

    count = 20 if plan.quick else 400
    texts = [wb.phantom(seed=seed, size=64).report for seed in range(min(count, 100))]
    texts = [texts[at % len(texts)] for at in range(count)]
    found = compare({"label": lambda: [wb.reports.label(text) for text in texts]}, plan.rounds)
    times = found["label"].to_dict()
    return {"reports": count, "per_second": count / times["cpu"], "times": {"label": times}}


def manifest(plan: Plan) -> dict:
    """Check a manifest: rows a second, and how seconds grow with rows."""
    import pandas as pd

    from workbench.data import check, load

    seconds = {}
    counts = (100, 200) if plan.quick else (2_000, 20_000)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for rows in counts:
            table = pd.DataFrame({"path": [f"{n}.png" for n in range(rows)]})
            table["patient_id"] = [f"p{n // 2}" for n in range(rows)]
            built = _built(table, Path(folder), rows)
            times = Times()
            for _ in range(plan.rounds):
                timed(lambda built=built: check(load(built, check=False)), times)
            seconds[str(rows)] = times.to_dict()
    return {"times": seconds, "rows_per_second": counts[1] / seconds[str(counts[1])]["cpu"]}


def _built(table, folder: Path, rows: int) -> str:
    """Make a manifest of a table of images that need not be there."""
    source = folder / f"source{rows}"
    source.mkdir()
    return str(_manifest(table, source, folder / f"{rows}.parquet"))


def _manifest(table, source: Path, to: Path) -> Path:
    import workbench as wb

    table.to_csv(source / "manifest.csv", index=False)
    terms = {"provenance": "radiologist", "licence": "drawn"}
    return wb.data.build("csv", source=source, hash_files=False, **terms).save(to)


def runs(plan: Plan) -> dict:
    """Run `mini` over phantoms: the store over the bare loop; and a long run, row by row.

    On one thread, which is the fastest for models this small, and by processor time: images are
    read in a thread beside it.
    """
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return _overhead(Path(folder), plan) | {"long": _long(Path(folder), plan)}


def _radiographs(folder: Path, count: int, side: int) -> None:
    """Write phantoms as PNG files."""
    import numpy as np
    from PIL import Image

    import workbench as wb

    folder.mkdir()
    for seed in range(count):
        pixels = wb.phantom(seed=seed, size=side).image.pixels
        Image.fromarray((np.asarray(pixels) * 255).astype(np.uint8)).save(folder / f"{seed}.png")


def _overhead(folder: Path, plan: Plan) -> dict:
    """Compare `wb.run` with a loop that reads, decodes in the same batches, and keeps nothing."""
    import pandas as pd

    import workbench as wb

    model = wb.load_model("mini", device="cpu", dtype="float32")
    count = 8 if plan.quick else 64
    tokens = 4 if plan.quick else 48
    radiographs = folder / "radiographs"
    _radiographs(radiographs, count, model.image_size)
    table = pd.DataFrame({"path": [f"{seed}.png" for seed in range(count)]})
    table = _manifest(table, radiographs, folder / "manifest.parquet")
    paths = [
        radiographs / name for name in pd.read_parquet(table)["path"]
    ]  # in the manifest's order
    number = iter(range(1_000))

    def bare() -> list[str]:
        texts = []
        for at in range(0, count, 8):
            model.engine.prefixes.clear()
            radiographs = [wb.load_radiograph(path) for path in paths[at : at + 8]]
            jobs = [
                job
                for radiograph in radiographs
                for job in model.jobs(radiograph, [_asked(tokens)])
            ]
            for job in jobs:
                model.engine.prefix(job.request.pixel_values, job.request.ids)
            texts += [one.text for one in model.answer_batch(jobs)]
        model.engine.prefixes.clear()  # or the next way would find them
        return texts

    def stored() -> list[str]:
        out = folder / f"run{next(number)}"
        wb.run(table, root=radiographs, model=model, out=out, max_new_tokens=tokens)
        return _texts(out)

    found = compare({"bare loop": bare, "run": stored}, plan.rounds)
    return {
        "studies": count,
        "times": {name: times.to_dict() for name, times in found.items()},
        "overhead": ratio(found["run"], found["bare loop"], less=1),
        "same_texts": bare() == stored(),
    }


def _asked(tokens: int):
    from workbench.generation.options import DecodingSettings
    from workbench.model.prompt import report_messages

    return "report", report_messages(), DecodingSettings(max_new_tokens=tokens)


def _texts(out: Path) -> list[str]:
    import pandas as pd

    return pd.read_parquet(out / "results.parquet")["text"].tolist()


class _Enough(Exception):
    """Ends a run where enough of it was seen."""


def _long(folder: Path, plan: Plan) -> dict:
    """Compare studies of a run that begins with those of one that has nearly ended, turn about.

    A machine in the cloud gets faster and slower by the second, by more than what is looked for.
    So two runs over the same manifest take their blocks in turn: one goes on from row 100, the
    other from 1,500 rows before its end; what is compared are neighbours.
    """
    import numpy as np
    import pandas as pd

    import workbench as wb

    rows = 600 if plan.quick else plan.rows
    share = min(1500, rows // 3)
    checkpoint(TINY, str(folder / "tiny"))
    model = wb.load_model(folder / "tiny", device="cpu")
    _radiographs(folder / "small", 8, TINY.side)
    table = pd.DataFrame({"path": [f"{n % 8}.png" for n in range(rows)]})
    table["study_id"] = [f"study{n}" for n in range(rows)]
    many = _manifest(table, folder / "small", folder / "many.parquet")

    def run(name: str) -> None:
        wb.run(many, root=folder / "small", model=model, out=folder / name, max_new_tokens=4)

    peaks = _until(lambda: run("late"), rows - share)
    _until(lambda: run("early"), 100)
    early, late = (np.array(each) for each in _in_turn(lambda: run("early"), lambda: run("late")))
    pairs = late / early - 1
    half = np.median(pairs)
    spread = 1.2533 * pairs.std(ddof=1) / len(pairs) ** 0.5  # standard error of a median
    first = peaks[max(0, 100 * len(peaks) // (rows - share) - 1)]
    return {
        "rows": rows,
        "early_block_seconds": early.tolist(),
        "late_block_seconds": late.tolist(),
        "drift": float(half),
        "drift_standard_error": float(spread),
        "memory_growth": peaks[-1] / first - 1,
        "peak_bytes": peaks[-1],
    }


def _until(run, rows: int) -> list[int]:
    """Let a run store so many rows and no more; return the peak of memory after each block."""
    from workbench._progress import peak_memory
    from workbench.runs.store import RunStore

    add, peaks, stored = RunStore.add, [], 0

    def watched(self, block, found):
        nonlocal stored
        add(self, block, found)
        peaks.append(peak_memory())
        stored += len(found)
        if stored >= rows:
            raise _Enough

    RunStore.add = watched
    try:
        run()
    except _Enough:
        pass
    finally:
        RunStore.add = add
    return peaks


def _in_turn(*works) -> list[list[float]]:
    """Let runs go on block by block, one after the other; return processor seconds of each block.

    It ends with the first that has no more rows.
    """
    import threading

    from workbench.runs.store import RunStore

    add, gate = RunStore.add, threading.Condition()
    seconds: list[list[float]] = [[] for _ in works]
    turn, ended, numbers = 0, False, {}

    def take_turn(number: int) -> None:
        nonlocal turn
        with gate:
            turn = (number + 1) % len(works)
            gate.notify_all()
            gate.wait_for(lambda: turn == number or ended)
            if ended:
                raise _Enough
        began[number] = time.process_time()

    began = [0.0] * len(works)

    def watched(self, block, found):
        add(self, block, found)
        number = numbers[threading.get_ident()]
        seconds[number].append(time.process_time() - began[number])
        take_turn(number)

    def go(number: int) -> None:
        nonlocal ended
        numbers[threading.get_ident()] = number
        try:
            works[number]()
        except _Enough:
            pass
        finally:
            with gate:
                ended = True
                gate.notify_all()

    RunStore.add = watched
    threads = [threading.Thread(target=go, args=(number,)) for number in range(len(works))]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        RunStore.add = add
    shortest = min(len(each) for each in seconds)
    # the first blocks were answered before anybody's turn
    return [each[2:shortest] for each in seconds]


def training(plan: Plan) -> dict:
    """Train the projector of `mini`: steps with images read anew, and from the feature cache."""
    import os
    import subprocess
    import sys

    command = [sys.executable, str(ROOT / "benchmarks" / "training.py")]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "training.json"
        size = ["--cases", "40", "--epochs", "1"] if plan.quick else ["--cases", "32", "--epochs"]
        size += [] if plan.quick else ["3"]
        subprocess.run(
            [*command, "--out", str(out), "cache", *size],
            check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        import json

        found = json.loads(out.read_text())
    return {"uncached_over_cached": found["times_faster_cpu"], **found}


def notebooks(plan: Plan) -> dict:
    """Return how long each notebook took the last time that the lessons were written."""
    import json

    seconds = {}
    for path in sorted((ROOT / "out" / "lessons").glob("*.json")):
        seconds[path.stem.rpartition("-")[0]] = json.loads(path.read_text()).get("seconds")
    return {
        "seconds": seconds,
        "total": sum(value for value in seconds.values() if value),
        "longest": max(seconds, key=lambda name: seconds[name] or 0) if seconds else None,
    }
