"""Explorers without Python: a dozen phantoms to click through, each one page that needs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import workbench as wb
from workbench._progress import progress
from workbench.interface import ChestXrayModel

#: Folder of these pages within the site.
EXPLORE = "explore"
#: Beside attention, which every page has.
METHODS = ("relevancy", "grad_cam")
#: Finding -> seeds and domain of what shows it.
CASES = {
    f"{domain}-{finding.replace(' ', '-')}": {"seed": seed, "domain": domain, "findings": [finding]}
    for domain, findings in {
        "internal": ("atelectasis", "cardiomegaly", "consolidation", "pulmonary edema",
                     "pleural effusion", "pneumothorax", "nodule"),
        "external": ("pleural effusion",),
        "ct": ("cardiomegaly", "pleural effusion", "pneumothorax", "nodule"),
    }.items()
    for seed, finding in enumerate(findings, start=20)
}  # fmt: skip


def explorers(
    out: Path,
    model: ChestXrayModel,
    *,
    only: Sequence[str] = tuple(CASES),
    methods: Sequence[str] = METHODS,
) -> None:
    """Write an explorer of each case into a folder, opened with its truth outlined."""
    for name in progress(only, label="explorers"):
        case = wb.phantom(**CASES[name])
        explorer = wb.explore(model, case, lateral=case.domain == "ct")
        explorer.settings["truth"] = True
        explorer.save(out / f"{name}.html", methods=methods)


def list_of_explorers() -> str:
    """Return the page of the documentation that leads to them."""
    rows = []
    for name, case in CASES.items():
        link = f'<a href="../{EXPLORE}/{name}.html">open</a>'
        rows.append(f"| {case['findings'][0]} | {case['domain']} | {link} |")
    return (
        "# Explore without installing\n\n"
        "Phantoms with one finding each, read by `mini`. Click a word, sentence or finding and see "
        "its map by attention, relevancy or Grad-CAM; *Truth* outlines what is there. `ct` is "
        "projected from a CT, in front and from the side: point at a lesion and it lights up in "
        "both views. The others are drawn. Where a report is wrong, the outline shows it. "
        "Not for clinical use.\n\n"
        "| drawn | domain | |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )
