"""`workbench demo`: a phantom and a real chest through the whole workbench, and the first lesson.

For each: the report as text and JSON and a figure. Then the start notebook, executed, as one HTML
page. What cannot be made here is said, never left out silently.
"""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._answers as answers
import workbench.commands._shared as shared
from workbench._version import __version__
from workbench.errors import MissingDependencyError
from workbench.findings import ALL_FINDINGS, NO_FINDING, PRESENT

if TYPE_CHECKING:
    from workbench.generation.result import Generation
    from workbench.interface import ChestXrayModel
    from workbench.phantom.case import Phantom

NOTEBOOK, PAGE = "00_start_here.ipynb", "00_start_here.html"
#: The phantom of the demonstration.
SEED, FINDINGS = 7, ("pleural effusion", "nodule")
#: The method of its map: under a second, and it passes the randomisation check on `mini`.
METHOD = "relevancy"


@dataclass
class _Made:
    """What the demonstration made, what it could not make and why, and lines about it."""

    files: list[Path] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench demo`."""
    slow = "leave out the notebook, the slowest part"
    shared.option(parser, "--out DIR", "folder (out/demo)", default=Path("out/demo"))
    shared.option(parser, "--no-notebook", slow, action="store_true")
    shared.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Make everything, then say in ten lines what was made and what to do next."""
    shared.loading(args)
    import matplotlib

    matplotlib.use("Agg")
    made = _Made()
    args.out.mkdir(parents=True, exist_ok=True)
    model = shared.open_model(args)
    steps = [("a phantom", _phantom), ("a real chest", _dicom)]
    if args.no_notebook:
        made.skipped[NOTEBOOK] = "left out, as asked"
    else:
        steps.append(("the start notebook", _notebook))
    for label, step in shared.progress(steps, label="demo"):
        shared.note(f"{label} ...")
        step(model, args.out, made)
    lines = [
        f"CXR-LLaVA Workbench {__version__}: this is now in {args.out}",
        *made.lines,
        "  *.txt *.json  the reports; with findings, contract, prompt, settings and hashes",
        f"  {PAGE}  " + made.skipped.get(NOTEBOOK, "the first lesson, executed: open it"),
        "Next: `make lab` opens the lessons; `workbench report FILE` reads your own image;",
        "      `workbench phantom --help` draws more phantoms; `workbench doctor` checks all.",
        f"Remember: {model.notice}",
    ]
    return shared.answer(args, {"files": made.files, "skipped": made.skipped}, lines)


def _phantom(model: ChestXrayModel, out: Path, made: _Made) -> None:
    """A phantom: report, and figure with the truth outlined."""
    from workbench.phantom.case import phantom

    case = phantom(SEED, findings=list(FINDINGS))
    generation = model.report(case.image)
    made.files += [*answers.save(case.image, generation, out / "phantom"), out / "phantom.png"]
    _case_figure(model, case, generation, out / "phantom.png")
    drawn = ", ".join(name for name, code in case.labels.items() if code == PRESENT)
    made.lines += [
        "  phantom.png   a phantom, outlined; a map of a finding; what the model says",
        f"                drawn: {drawn}; stated: {_stated(generation)}",
    ]


def _case_figure(model: ChestXrayModel, case: Phantom, generation: Generation, path: Path) -> None:
    from workbench.figures.maps import plot_case
    from workbench.reports import label
    from workbench.saliency import explain

    stated = label(generation.text)
    verdicts = [(name, code, stated.code(name)) for name, code in case.labels.items()]
    identity, shown = generation.model, {}
    named = next((name for name in FINDINGS if name in stated.present), None)
    if named is not None:
        found = explain(model.trace(case.image, generation), finding=named, method=METHOD)
        shown = {
            "values": found.normalised_original(),
            "signed": found.signed,
            "values_title": f"{found.method}: what \u201c{named}\u201d rests on",
            "values_details": found.details,
        }
    notice = generation.warnings[0].message if generation.warnings else ""
    figure = plot_case(
        case.image.pixels,
        case.masks,
        text=generation.text,
        verdicts=verdicts,
        title=f"What {Path(identity.id).name} says of {generation.source}",
        footer=f"sha256 {identity.sha256[:12]}, {generation.seconds:.2f} s; {notice}",
        **shown,
    )
    figure.savefig(path, dpi=120)


def _dicom(model: ChestXrayModel, out: Path, made: _Made) -> None:
    """A real chest: report with its warnings, and figure of what the model got to see."""
    from workbench.imaging import load_radiograph, sample_dicom
    from workbench.radiograph import Radiograph

    try:
        image = load_radiograph(sample_dicom())
    except MissingDependencyError as error:
        made.skipped["dicom"] = str(error)
        made.lines += ["  dicom.png     skipped:", f"                {error}"]
        return
    generation = model.report(image)
    made.files += [*answers.save(image, generation, out / "dicom"), out / "dicom.png"]
    warned = replace(image.contract, warnings=generation.warnings)
    figure = Radiograph(image.pixels, warned, image.meta).show(size=model.card.image_size)
    figure.savefig(out / "dicom.png", dpi=120)
    made.lines += [
        "  dicom.png     a real chest (DICOM): as stored, as the model sees it, warnings",
        f"                stated: {_stated(generation)}: not to be believed",
    ]


def _notebook(model: ChestXrayModel, out: Path, made: _Made) -> None:
    """The start notebook, executed."""
    from workbench.commands._notebook import execute_to_html

    source = find_notebook()
    if source is None:
        made.skipped[NOTEBOOK] = "the notebooks are in the source repository, not in the package"
        return
    execute_to_html(source, out / PAGE, title="Start here")
    made.files.append(out / PAGE)


def find_notebook() -> Path | None:
    """Return the start notebook of the repository this package lies in, or of this folder."""
    roots = (Path(__file__).resolve().parents[2], Path.cwd())
    candidates = [root / "notebooks" / NOTEBOOK for root in roots]
    return next((path for path in candidates if path.is_file()), None)


def _stated(generation: Generation) -> str:
    from workbench.reports import label

    stated = sorted(label(generation.text).present, key=ALL_FINDINGS.index)
    return textwrap.shorten(", ".join(stated) or NO_FINDING, 54, placeholder=" ...")
