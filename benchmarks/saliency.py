"""What the quick saliency methods give up: adaptive occlusion and integrated gradients of `mini`.

    python benchmarks/saliency.py --n 20 --threads 1 --json saliency.json

On phantoms with one finding each, findings in turn, those left out whose report misses the finding:

    adaptive               the map of `adaptive_occlusion` beside that of `occlusion`, both at their
                           default, on one lattice of windows: forward passes of each, rank
                           correlation of the two maps over all cells, and seconds
    integrated_gradients   the gap that is left, |sum - difference| / |difference|, at the default
                           tolerance, and the gradients that it took

Both explain the sentence that states the finding against its opposite. Exhaustive occlusion takes a
minute or two a case on one core, which is the point of the comparison. Seconds are wall time: leave
the machine alone, or read the ratio as no more than a hint. The forward passes are exact.

Does not know: whether a map points at the truth; `workbench benchmark saliency` measures that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

ADAPTIVE, EXHAUSTIVE, GRADIENTS = "adaptive_occlusion", "occlusion", "integrated_gradients"


def main() -> int:
    """Measure, print, and write JSON; 1 where no case is left."""
    options = _parser().parse_args()
    import torch

    torch.set_num_threads(options.threads)
    rows = measure(options.n, options.seed)
    result = summary(rows) | {
        "drawn": options.n,
        "seed": options.seed,
        "threads": options.threads,
        "versions": _versions(),
        "rows": rows,
    }
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    print(table(result))
    return 0 if rows else 1


def measure(n: int, seed: int) -> list[dict]:
    """Return one row for every phantom whose finding is reported."""
    import workbench as wb
    from workbench.findings import PHANTOM_FINDINGS

    model = wb.load_model("mini", device="cpu", dtype="float32")
    rows = []
    for at in range(n):
        finding = PHANTOM_FINDINGS[at % len(PHANTOM_FINDINGS)]
        row = measure_case(model, seed + at, finding)
        note = "the report misses it" if row is None else f"rank correlation {row['spearman']:.3f}"
        print(f"{at + 1} of {n}: {finding}, seed {seed + at}: {note}", file=sys.stderr)
        rows += [row] if row else []
    return rows


def measure_case(model, seed: int, finding: str) -> dict | None:
    """Explain one phantom by all three methods; None where the report misses the finding."""
    import workbench as wb
    from workbench.findings import PRESENT
    from workbench.reports import label
    from workbench.saliency import checks, explain_target, finding_target

    case = wb.phantom(seed, findings=[finding], size=model.image_size)
    report = model.report(case)
    if label(report.text).code(finding) != PRESENT:
        return None
    trace = model.trace(case, report)
    target = finding_target(trace, finding)
    maps = {
        name: explain_target(trace, target, method=name)
        for name in (ADAPTIVE, EXHAUSTIVE, GRADIENTS)
    }
    quick, full, gradients = maps.values()
    return {
        "seed": seed,
        "finding": finding,
        "forwards": quick.scores["forwards"],
        "exhaustive_forwards": full.scores["forwards"],
        "spearman": checks.similarity(quick, full),
        "gap": checks.completeness(gradients),
        "gradients": gradients.scores["gradients"],
        "difference": gradients.scores["difference"],
        "seconds": {name: image_map.seconds for name, image_map in maps.items()},
    }


def summary(rows: list[dict]) -> dict:
    """Put the rows together; what no row defines is None."""

    def over(reduce, key: str) -> float | None:
        return reduce(row[key] for row in rows) if rows else None

    def seconds(name: str) -> float:
        return sum(row["seconds"][name] for row in rows)

    return {
        "adaptive": {
            "forwards": over(statistics.mean, "forwards"),
            "exhaustive_forwards": over(statistics.mean, "exhaustive_forwards"),
            "spearman_mean": over(statistics.mean, "spearman"),
            "spearman_min": over(min, "spearman"),
            "seconds_ratio": seconds(ADAPTIVE) / seconds(EXHAUSTIVE) if rows else None,
        },
        "integrated_gradients": {
            "gap_max": over(max, "gap"),
            "gradients_mean": over(statistics.mean, "gradients"),
        },
        "cases": len(rows),
    }


def table(result: dict) -> str:
    """Return the summary as text."""
    adaptive, gradients = result["adaptive"], result["integrated_gradients"]
    if not result["cases"]:
        return f"none of {result['drawn']} phantoms had its finding reported; draw more"
    lines = (
        ("cases", f"{result['cases']} of {result['drawn']} phantoms"),
        ("adaptive occlusion", ""),
        ("  forward passes", f"{adaptive['forwards']:.0f}"),
        ("  of every window", f"{adaptive['exhaustive_forwards']:.0f}"),
        ("  rank correlation, mean", f"{adaptive['spearman_mean']:.3f}"),
        ("  rank correlation, least", f"{adaptive['spearman_min']:.3f}"),
        ("  share of the seconds", f"{adaptive['seconds_ratio']:.2f}"),
        ("integrated gradients", ""),
        ("  largest relative gap", f"{gradients['gap_max']:.4f}"),
        ("  gradients, mean", f"{gradients['gradients_mean']:.0f}"),
    )
    return "\n".join(f"{name:27}{value}".rstrip() for name, value in lines)


def _versions() -> dict[str, str]:
    import captum
    import torch
    import transformers

    modules = (captum, torch, transformers)
    return {module.__name__: module.__version__ for module in modules}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=20, help="phantoms to draw (default 20)")
    parser.add_argument(
        "--seed", type=int, default=10_000_000, help="of the first phantom (default 10000000)"
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers here")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
