"""Do files give the table that phantoms give, and what do boxes change?

    python benchmarks/exported.py --n 300 --jobs 2 --json exported.json

Phantoms with one finding each are written as PNG, with masks and a manifest. The table of fast
saliency methods is made three times: of the phantoms, of the manifest, and of the manifest with the
box around each mask in its place. The first two must be equal to the last digit, times apart; the
third is printed beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

METHODS = ("attention", "relevancy", "grad_cam")
MEASURES = ("pointing", "energy", "iou", "f1")


def main() -> int:
    """Measure, print, and write JSON; 1 where files change a digit."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--seed", type=int, default=9_000_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tables = measure(options, Path(folder))
    drawn, read, boxed = map(plain, tables)
    result = {"equal": drawn == read, "masks": read, "boxes": boxed}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{read['cases']} cases; masks from files give the table of phantoms: {result['equal']}")
    print("map             " + "".join(f"{name + ', mask -> box':>24}" for name in MEASURES))
    rows = [{row["method"]: row for row in table["methods"] + table["baselines"]} for table in
            (read, boxed)]  # fmt: skip
    for name, one in rows[0].items():
        pairs = (f"{one[key]:.3f} -> {rows[1][name][key]:.3f}" for key in MEASURES)
        print(f"{name:16}" + "".join(f"{pair:>24}" for pair in pairs))
    return 0 if result["equal"] else 1


def measure(options: argparse.Namespace, folder: Path) -> list:
    """Return the tables of phantoms, of their files, and of boxes around their masks."""
    import workbench as wb
    from workbench.bench import Radiographs, benchmark_saliency
    from workbench.commands.phantom import save
    from workbench.findings import PHANTOM_FINDINGS

    model = wb.load_model("mini", device="cpu", dtype="float32")
    boxes = {}
    for at in range(options.n):
        names = [PHANTOM_FINDINGS[at % len(PHANTOM_FINDINGS)]]
        case = wb.phantom(options.seed + at, findings=names, size=model.image_size)
        save(case, folder)
        boxes[at] = json.dumps([around(case.masks[name]) | {"finding": name} for name in names])
    frame = wb.data.build("phantom", source=folder).to_frame()
    frame.to_parquet(folder / "masks.parquet")
    frame = frame.assign(boxes=[boxes[at] for at in range(options.n)], masks=None)
    frame.to_parquet(folder / "boxes.parquet")
    sources = [{"n": options.n}]
    sources += [{"radiographs": Radiographs(folder / f"{name}.parquet")} for name in
                ("masks", "boxes")]  # fmt: skip
    same = {"methods": METHODS, "seed": options.seed, "jobs": options.jobs}
    same |= {"causal": options.causal, "randomised_cases": 0}
    return [benchmark_saliency(model, **same, **source) for source in sources]


def around(mask) -> dict[str, int]:
    """Return the smallest box that holds a mask."""
    down, across = mask.nonzero()
    left, top = int(across.min()), int(down.min())
    size = {"width": int(across.max()) + 1 - left, "height": int(down.max()) + 1 - top}
    return {"x": left, "y": top, **size}


def plain(table) -> dict:
    """Return a table as JSON has it, without times and its source."""
    found = json.loads(json.dumps(table.to_dict()))
    for row in found["methods"] + found["baselines"]:
        del row["seconds"]
    del found["source"]
    return found


if __name__ == "__main__":
    sys.exit(main())
