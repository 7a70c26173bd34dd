"""Does a run survive being killed, and does its memory stay where it was?

    python benchmarks/runs.py --phantoms 200 --kills 10 --json runs.json
    python benchmarks/runs.py --images ../shared/real_cxr --corrupt 5 --json real.json

The first draws phantoms, runs them once undisturbed and once killed with SIGKILL at random
instants, and compares the results (measured columns apart) byte for byte. The second runs a folder
of images with planted corrupt files and watches the resident memory of the process from outside:
after the first 50 rows, and at the end. Exit code 1 where a bar is missed.

Does not know: whether what is written is right.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GROWTH = 0.10
FIRST = 50


def main() -> int:
    """Measure, print, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--phantoms", type=int, default=0)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--images", type=Path, help="folder with a manifest.csv and images")
    parser.add_argument("--limit", type=int, help="of the images")
    parser.add_argument("--corrupt", type=int, default=5)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = {}
    with tempfile.TemporaryDirectory() as place:
        if options.phantoms:
            result["killed"] = _killed(Path(place), options)
        if options.images:
            result["memory"] = _memory(Path(place), options)
    result["ok"] = all(part["ok"] for part in result.values())
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if result["ok"] else 1


def _killed(place: Path, options: argparse.Namespace) -> dict:
    folder = place / "phantoms"
    _workbench("phantom", "--count", options.phantoms, "--out", folder)
    manifest = folder / "m.parquet"
    _workbench("manifest", "build", "phantom", "--source", folder, "--out", manifest, "--no-hash")
    whole, torn = place / "whole", place / "torn"
    command = ("--manifest", manifest, "--max-new-tokens", options.new_tokens)
    begun = time.perf_counter()
    _workbench("run", *command, "--out", whole)
    seconds = time.perf_counter() - begun
    rng, at = random.Random(options.seed), []
    for kill in range(options.kills):
        goal = options.phantoms * (kill + rng.random()) / options.kills
        process = _start("run", *command, "--out", torn)
        while _rows(torn) < goal and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.0))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        at.append(_rows(torn))
    _workbench("run", *command, "--out", torn)
    same = _steady(whole) == _steady(torn)
    rows = _rows(torn)
    return {
        "ok": same and rows == options.phantoms,
        "rows": rows,
        "rows_at_each_kill": at,
        "equal": same,
        "seconds_undisturbed": round(seconds, 1),
    }


def _memory(place: Path, options: argparse.Namespace) -> dict:
    import psutil

    folder = place / "images"
    shutil.copytree(options.images, folder)
    radiographs = sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in (".png", ".jpg", ".dcm")
    )
    for path in radiographs[options.limit :] if options.limit else ():
        path.unlink()
    radiographs = radiographs[: options.limit]
    rng = random.Random(options.seed)
    for n in range(options.corrupt):
        content = radiographs[n].read_bytes()
        half = (b"", b"no image", content[:200], content[: len(content) // 2], rng.randbytes(999))
        radiographs[n].with_name(f"corrupt_{n}{radiographs[n].suffix}").write_bytes(
            half[n % len(half)]
        )
    manifest = place / "m.parquet"
    build = ("folder", "--source", folder, "--out", manifest, "--no-hash")
    _workbench("manifest", "build", *build)
    out = place / "run"
    begun = time.perf_counter()
    tokens = ("--max-new-tokens", options.new_tokens)
    process = _start("run", "--manifest", manifest, "--root", folder, "--out", out, *tokens)
    early, last, rows = 0, 0, 0
    while process.poll() is None:
        rows = _rows(out)
        try:
            last = psutil.Process(process.pid).memory_info().rss or last
        except psutil.NoSuchProcess:
            break
        early = early or (last if rows >= FIRST else 0)
        time.sleep(0.05)
    process.wait()
    database = sqlite3.connect(out / "rows.sqlite")
    failed = database.execute("SELECT id, error FROM rows WHERE status = 'failed'").fetchall()
    growth = last / early - 1
    total = _rows(out)
    fine = total == len(radiographs) + options.corrupt and len(failed) == options.corrupt
    return {
        "ok": fine and abs(growth) <= GROWTH,
        "rows": total,
        "failed": {name: error for name, error in failed},
        "rss_after_50_mb": round(early / 1e6, 1),
        "rss_at_the_end_mb": round(last / 1e6, 1),
        "growth": round(growth, 4),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def _start(*arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-m", "workbench", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _workbench(*arguments: object) -> None:
    process = _start(*arguments)
    if process.wait():
        raise SystemExit(f"workbench {arguments[0]} ended with {process.returncode}")


def _rows(out: Path) -> int:
    """Return the rows that are written down."""
    if not (out / "rows.sqlite").is_file():
        return 0
    try:
        database = sqlite3.connect(f"{(out / 'rows.sqlite').resolve().as_uri()}?mode=ro", uri=True)
        (found,) = database.execute("SELECT COUNT(*) FROM rows").fetchone()
        database.close()
    except sqlite3.Error:
        return 0
    return found


def _steady(out: Path) -> str:
    """Return a hash of the results without the measured columns."""
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.parquet.read_table(out / "results.parquet")
    table = table.drop_columns(["seconds", "peak_rss_mb", "peak_gpu_mb"]).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return hashlib.sha256(sink.getvalue()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
