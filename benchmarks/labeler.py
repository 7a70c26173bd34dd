"""The reader of reports: agreement with Open-i's MeSH codes, reports a second, memory.

    pip install --no-deps torchxrayvision
    python benchmarks/labeler.py --json labeler.json --disagreements out/openi_disagreements.csv

    agreement   3,955 reports against the headings that were given by hand; reports without an index
                are left out. A heading says present or nothing, so precision, recall and F1 are of
                "present". Odd and even reports apart: the rules were first refined on the odd ones
                alone; since 2026-11-29 reports of both halves have been looked at whose reading
                changed, so that neither is unseen. With uncertain findings taken as present beside
                it. The mean is of the paper's six findings.
    speed       reports a second on one core, process time, texts as they are (many sentences of
                normal reports recur, as they do anywhere)
    memory      peak of `workbench label` on 4,000 and on 400,000 rows made of the same reports

The texts are read from the installed package and are shown nowhere; the file of disagreements has
identifiers, spans and codes, and stays with you.

Does not know: who is right where the two disagree; MeSH headings miss findings too.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FINDINGS = (
    "cardiomegaly", "pleural effusion", "atelectasis", "pneumothorax", "consolidation",
    "pulmonary edema",
)  # fmt: skip
#: Reported as well; MeSH has no heading for "enlarged cardiomediastinum" or "pleural other".
OTHERS = ("pneumonia", "lung opacity", "nodule", "lung lesion", "fracture", "support device")
HALVES = ("all", "odd", "even")


def main() -> int:
    """Measure, print, and write JSON; 1 where the reports are not installed."""
    options = _parser().parse_args()
    reports = read_reports()
    if reports is None:
        print("needs `pip install --no-deps torchxrayvision`", file=sys.stderr)
        return 1
    labels, seconds = timed(reports)
    result = {
        "agreement": {half: agreement(reports, labels, half) for half in HALVES},
        "uncertain_as_present": agreement(reports, labels, "all", ("present", "uncertain")),
        "reports_per_second": len(reports) / seconds,
        "memory_mb": {str(n): memory(reports, n) for n in options.rows},
    }
    if options.disagreements:
        write_disagreements(reports, labels, options.disagreements)
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    return 0


def read_reports() -> list[tuple[int, str, frozenset[str]]] | None:
    """Return (number, text, findings present by MeSH) of every indexed report."""
    import workbench as wb

    folder = wb.data.label_files()
    if folder is None:
        return None
    frame = wb.data.build("openi", source=folder).frame.drop_duplicates("study_id")
    rows = []
    for row in frame.to_dict("records"):
        if "No Indexing" in str(row["source_labels"]):
            continue
        sections = ((name, row[f"report_{name}"]) for name in ("findings", "impression"))
        text = "\n".join(f"{name.upper()}: {text}" for name, text in sections if _there(text))
        present = frozenset(name for name in (*FINDINGS, *OTHERS) if row[name] == "present")
        number = int("".join(filter(str.isdigit, row["study_id"])))
        rows.append((number, text, present))
    return rows


def _there(text) -> bool:
    return isinstance(text, str) and bool(text)


def timed(reports) -> tuple[list, float]:
    """Return the labels of every text and the seconds of this process that they took."""
    from workbench.reports import label

    label("warm up")
    began = time.process_time()
    labels = [label(text) for _, text, _ in reports]
    return labels, time.process_time() - began


def agreement(reports, labels, half: str, codes: tuple[str, ...] = ("present",)) -> dict:
    """Return finding -> precision, recall, F1 and counts of one half, and the mean F1."""
    rows = {}
    for finding in (*FINDINGS, *OTHERS):
        tp = fp = fn = 0
        for (number, _, truth), found in zip(reports, labels, strict=True):
            if half != "all" and (number % 2 == 1) != (half == "odd"):
                continue
            said = found.code(finding) in codes
            tp += said and finding in truth
            fp += said and finding not in truth
            fn += not said and finding in truth
        rows[finding] = {
            "tp": tp, "fp": fp, "fn": fn,
            "precision": _share(tp, tp + fp), "recall": _share(tp, tp + fn),
            "f1": _share(2 * tp, 2 * tp + fp + fn),
        }  # fmt: skip
    return rows | {"mean_f1": sum(rows[name]["f1"] for name in FINDINGS) / len(FINDINGS)}


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def write_disagreements(reports, labels, path: str) -> None:
    """Write one row for each finding that the two do not agree on, with the evidence's place."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    names = ("study", "finding", "mesh", "code", "start", "end", "rule", "evidence")
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(names)
        for (number, text, truth), found in zip(reports, labels, strict=True):
            for finding in FINDINGS:
                code, row = found.code(finding), found[finding]
                if (code == "present") == (finding in truth):
                    continue
                mesh = "present" if finding in truth else "no heading"
                place = (row.start, row.end, row.rule, text[row.start : row.end]) if row else ()
                writer.writerow((number, finding, mesh, code, *place))
    file.chmod(0o600)


def memory(reports, rows: int) -> float:
    """Return the peak resident set of `workbench label` on so many rows, MB (Linux).

    Not ru_maxrss, which a new process takes over from the one that started it.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "reports.csv"
        with source.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(("id", "text"))
            for number in range(rows):
                writer.writerow((number, reports[number % len(reports)][1]))
        code = (
            "from workbench.cli import main; "
            f"main(['label', {str(source)!r}, '--out', {str(source)!r} + '.out']); "
            "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return int(done.stdout.split()[-1]) / 1024


def table(result: dict) -> str:
    """Return the result as text."""
    lines = [f"{'present against MeSH':20}" + "".join(f"{half:>8}" for half in HALVES)]
    for finding in (*FINDINGS, "mean_f1", *OTHERS):
        values = [result["agreement"][half][finding] for half in HALVES]
        numbers = [value if finding == "mean_f1" else value["f1"] for value in values]
        cells = ("    none" if number is None else f"{number:8.3f}" for number in numbers)
        lines.append(f"{finding:20}" + "".join(cells))
    doubt = result["uncertain_as_present"]["mean_f1"]
    lines.append(f"mean F1 with uncertain as present {doubt:.3f}")
    lines.append(f"{result['reports_per_second']:,.0f} reports a second")
    lines += [f"{mb:.0f} MB for {int(n):,} rows" for n, mb in result["memory_mb"].items()]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write all numbers here")
    parser.add_argument("--disagreements", metavar="FILE", help="write what to review here (CSV)")
    parser.add_argument(
        "--rows", type=int, nargs="*", default=[4_000, 400_000], help="rows of the memory test"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
