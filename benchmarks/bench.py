"""How fast the workbench is: against what people would use instead, and against the machine.

    python benchmarks/bench.py                                the five that users wait for
    python benchmarks/bench.py --full                         every section
    python benchmarks/bench.py --only questions --only runs   some of them

Every section runs in a process of its own, so that its peak memory is its own, and the limits of
the machine are measured in the same process as what is held against them. Each number is from one
machine and one run; what carries over are ratios. With one thread (`--threads 1`) they are of
processor time, which other programs hardly touch; with more, of wall time: leave the machine
alone. `bench.json` in the folder has every single measurement, `bench.html` the figures. Exit code
1 where a bar is missed or a section fails.

Does not know: whether anything that was computed is right, except that texts are compared.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

#: Section -> module of `speed`. In this order they are run and shown.
SECTIONS = {
    "report": "decoding",
    "questions": "decoding",
    "batch": "decoding",
    "mini_step": "decoding",
    "many": "decoding",
    "int8": "tried",
    "guessing": "tried",
    "compiled": "tried",
    "published": "published",
    "capture": "analysis",
    "grounding": "analysis",
    "saliency": "analysis",
    "labeler": "pipeline",
    "manifest": "pipeline",
    "runs": "pipeline",
    "training": "pipeline",
    "notebooks": "pipeline",
    "scaling": "scaling",
}
#: What is run unless more is asked for: five minutes.
SHORT = ("report", "questions", "batch", "mini_step", "capture")
#: Run only when they are named: minutes of a compiler for an answer that does not change, and what
#: needs another version of transformers.
ON_REQUEST = ("compiled", "published")


def main() -> int:
    """Run sections, write JSON and page, print the bars."""
    options = _parser().parse_args()
    if options.section:
        print(json.dumps(_measure(options)))
        return 0
    every = [name for name in SECTIONS if name not in ON_REQUEST]
    names = options.only or (every if options.full else SHORT)
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "bench.json"
    # sections that are run again take the place of older ones
    result = json.loads(target.read_text()) if target.is_file() and options.only else {}
    result = {"machine": _machine(options.threads), "sections": result.get("sections", {})}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        result["sections"][name] = _child(name, options)
        target.write_text(json.dumps(result, indent=1) + "\n")
    return _show(result, options.out)


def _show(result: dict, folder: Path) -> int:
    from speed.bars import judged, table
    from speed.page import write_page

    bars = judged(result["sections"], result["machine"]["clock"])
    write_page(result, bars, folder / "bench.html")
    print(table(bars))
    print(f"\n{folder / 'bench.html'}")
    failed = [name for name, found in result["sections"].items() if "error" in found]
    for name in failed:
        print(f"{name} failed: {result['sections'][name]['error']}", file=sys.stderr)
    return 1 if failed or any(not bar["ok"] for bar in bars) else 0


def _child(name: str, options: argparse.Namespace) -> dict:
    """Run one section in a fresh process."""
    command = [sys.executable, __file__, "--section", name, "--threads", str(options.threads)]
    command += ["--rounds", str(options.rounds), "--rows", str(options.rows)]
    command += ["--quick"] if options.quick else []
    threads = {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=os.environ | threads, capture_output=True, text=True)
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def _measure(options: argparse.Namespace) -> dict:
    """Run one section in this process, its memory watched."""
    import time

    import torch

    torch.set_num_threads(options.threads)
    from speed.decoding import Plan

    from workbench._progress import peak_memory

    began, imported = (time.perf_counter(), time.process_time()), peak_memory()
    plan = Plan(quick=options.quick, rounds=options.rounds, rows=options.rows)
    work = getattr(importlib.import_module(f"speed.{SECTIONS[options.section]}"), options.section)
    found = work(plan)
    memory = {"imported_bytes": imported, "peak_bytes": peak_memory()}
    spent = {"wall": time.perf_counter() - began[0], "cpu": time.process_time() - began[1]}
    title = work.__doc__.splitlines()[0]
    return {"title": title, "quick": options.quick, **found, "memory": memory, "spent": spent}


def _machine(threads: int) -> dict:
    import importlib.metadata

    import torch

    packages = ("torch", "transformers", "captum")
    return {
        "processor": platform.processor() or platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": threads,
        # several threads wait for each other, which a processor's clock counts as work
        "clock": "cpu" if threads == 1 else "wall",
        "system": platform.system(),
        "python": platform.python_version(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        **{name: importlib.metadata.version(name) for name in packages},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("out/bench"), help="folder of JSON and page")
    add("--only", action="append", choices=SECTIONS, help="run this section; may be repeated")
    add("--full", action="store_true", help=f"every section, not only {', '.join(SHORT)}")
    add("--quick", action="store_true", help="tiny models: to see that it runs, not how fast")
    cores = os.cpu_count() or 1
    add("--threads", type=int, default=cores, help=f"threads of torch (default {cores}, all cores)")
    add("--rounds", type=int, default=3, help="repeats of every measurement (default 3)")
    add("--rows", type=int, default=5_000, help="rows of the long run (default 5000)")
    add("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
