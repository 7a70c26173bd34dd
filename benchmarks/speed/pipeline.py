"""Sections about everything around the model: labels, manifests, runs, training, notebooks.

Does not know: whether any of it is right.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from speed.clock import Times, compare, peak_bytes, ratio, timed
from speed.decoding import Plan
from speed.models import TINY, checkpoint

ROOT = Path(__file__).resolve().parents[2]


def labeler(plan: Plan) -> dict:
    """Label reports of drawn chests: reports a second on one core."""
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
    """Run `mini` over drawn chests: the store over the bare loop; and a long run, row by row."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return _overhead(Path(folder), plan) | {"long": _long(Path(folder), plan)}


def _films(folder: Path, count: int, side: int) -> None:
    """Write drawn chests as PNG files."""
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
    films = folder / "films"
    _films(films, count, model.image_size)
    table = pd.DataFrame({"path": [f"{seed}.png" for seed in range(count)]})
    table = _manifest(table, films, folder / "films.parquet")
    paths = [films / name for name in pd.read_parquet(table)["path"]]  # in the manifest's order
    number = iter(range(1_000))

    def bare() -> list[str]:
        texts = []
        for at in range(0, count, 8):
            model.responder.engine.prefixes.clear()
            films = [wb.load_radiograph(path) for path in paths[at : at + 8]]
            jobs = [job for film in films for job in model.jobs(film, [_asked(tokens)])]
            for job in jobs:
                model.responder.engine.prefix(job.request.pixel_values, job.request.ids)
            texts += [one.text for one in model.responder.answer_batch(jobs)]
        model.responder.engine.prefixes.clear()  # or the next way would find them
        return texts

    def stored() -> list[str]:
        out = folder / f"run{next(number)}"
        wb.run(table, root=films, model=model, out=out, max_new_tokens=tokens)
        return _texts(out)

    found = compare({"bare loop": bare, "run": stored}, plan.rounds)
    over = ratio(found["run"], found["bare loop"])
    return {
        "studies": count,
        "times": {name: times.to_dict() for name, times in found.items()},
        "overhead": {clock: value - 1 for clock, value in over.items()},
        "same_texts": bare() == stored(),
    }


def _asked(tokens: int):
    from workbench.generation.sampling import DecodingSettings
    from workbench.model.prompt import report_messages

    return "report", report_messages(), DecodingSettings(max_new_tokens=tokens)


def _texts(out: Path) -> list[str]:
    import pandas as pd

    return pd.read_parquet(out / "results.parquet")["text"].tolist()


def _long(folder: Path, plan: Plan) -> dict:
    """Run the smallest model over many rows, and look at the time of each hundred."""
    import pandas as pd

    import workbench as wb
    from workbench.runs.store import RunStore

    rows = 300 if plan.quick else plan.rows
    checkpoint(TINY, str(folder / "tiny"))
    model = wb.load_model(folder / "tiny", device="cpu")
    _films(folder / "small", 8, TINY.side)
    table = pd.DataFrame({"path": [f"{n % 8}.png" for n in range(rows)]})
    table["study_id"] = [f"study{n}" for n in range(rows)]
    many = _manifest(table, folder / "small", folder / "many.parquet")
    marks: list[tuple[float, int]] = []
    add, began = RunStore.add, time.process_time()

    def watched(self, block, found):
        add(self, block, found)
        marks.append((time.process_time(), peak_bytes()))

    RunStore.add = watched
    try:
        out = folder / "long"
        wb.run(many, root=folder / "small", model=model, out=out, max_new_tokens=4)
    finally:
        RunStore.add = add
    return _trend(marks, rows, began)


def _trend(marks: list[tuple[float, int]], rows: int, began: float) -> dict:
    """Fit a line through seconds a study, from row 100 on; blocks that were disturbed count less.

    Medians of ten equal parts are fitted: a slow spell of the machine is no trend.
    """
    import numpy as np

    per_block = rows / len(marks)
    at = np.arange(1, len(marks)) * per_block
    each = np.diff([mark for mark, _ in marks]) / per_block
    late = at >= min(100, rows // 3)
    parts = np.array_split(np.arange(len(at))[late], 10)
    middle = np.array([np.median(each[part]) for part in parts])
    where = np.array([at[part].mean() for part in parts])
    slope, level = np.polyfit(where, middle, 1)
    first, last = level + slope * where[0], level + slope * where[-1]
    early = marks[max(1, int(min(100, rows // 3) / per_block)) - 1][1]
    return {
        "rows": rows,
        "cpu_seconds": marks[-1][0] - began,
        "seconds_per_study": middle.tolist(),
        "at_row": where.tolist(),
        "drift": float(last / first - 1),
        "memory_growth": marks[-1][1] / early - 1,
        "peak_bytes": marks[-1][1],
    }


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
