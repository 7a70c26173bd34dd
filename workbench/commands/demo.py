"""`workbench demo`: a phantom and a real chest through the whole workbench, and the first lesson.

What cannot be made here is said, never left out silently. A notebook becomes one HTML page that
carries its style and images inside and loads no script, so it reads the same without a network.
Formulas stay as they are written, and a widget is shown by the picture that it brings along.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from dataclasses import replace
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
import workbench.commands.report as answers
from workbench._version import DISTRIBUTION, __version__
from workbench.errors import MissingDependencyError, WorkbenchError
from workbench.findings import ALL_FINDINGS, NO_FINDING, PRESENT

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager
    from matplotlib.figure import Figure

    from workbench.generation.result import Generation
    from workbench.interface import ChestXrayModel
    from workbench.phantom.case import Phantom

NOTEBOOK, PAGE = "00_start_here.ipynb", "00_start_here.html"
#: The phantom of the demonstration.
SEED, FINDINGS = 12, ("pleural effusion", "nodule")
#: The method of its map: under a second, and it passes the randomisation check on `mini`.
METHOD = "relevancy"

#: nbconvert's lab page without its four remote scripts, set like a printed lesson.
TEMPLATE = Path(__file__).with_name("notebook.html.j2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    slow = "leave out the notebook, the slowest part"
    shared.option(parser, "--out DIR", "folder (out/demo)", default=Path("out/demo"))
    shared.option(parser, "--no-notebook", slow, action="store_true")
    shared.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    shared.loading(args)
    import matplotlib

    matplotlib.use("Agg")
    args.out.mkdir(parents=True, exist_ok=True)
    model = shared.open_model(args)
    steps = {"a phantom": _phantom, "a real chest": _dicom, "the start notebook": _notebook}
    made: dict = {"files": [], "skipped": {}}
    lines = [f"CXR-LLaVA Workbench {__version__}: this is now in {args.out}"]
    if args.no_notebook:
        del steps["the start notebook"]
        made["skipped"][NOTEBOOK] = "left out, as asked"
    for label, step in shared.progress(steps.items(), label="demo"):
        shared.note(f"{label} ...")
        lines += step(model, args.out, made)
    lines += [
        "  *.txt *.json  the reports; with findings, contract, prompt, settings and hashes",
        f"  {PAGE}  " + made["skipped"].get(NOTEBOOK, "the first lesson, executed: open it"),
        *_next_steps(args.out),
        f"Remember: {model.notice}",
    ]
    return shared.answer(args, made, lines)


def _next_steps(out: Path) -> list[str]:
    """Say what to type next in this terminal, where the environment may not be active."""
    lessons = ""
    if _in_repository():
        lessons = "; `make lab` opens the lessons"
    elif (out / NOTEBOOK).is_file():
        lessons = f"; `jupyter lab {out / NOTEBOOK}` opens the lesson"
    lines = [f"`workbench report FILE` reads your own image{lessons};"]
    lines += ["`workbench app` opens the explorer; `workbench doctor` checks all."]
    own, here = Path(sys.executable).absolute().with_name("activate"), Path.cwd()
    found = shutil.which("workbench")
    if own.is_file() and (found is None or Path(found).absolute().parent != own.parent):
        place = own.relative_to(here) if own.is_relative_to(here) else own
        lines.insert(0, f"`{'' if sys.platform == 'win32' else '. '}{place}`, once, and then")
    return [f"{'' if at else 'Next:':6}{line}" for at, line in enumerate(lines)]


def _phantom(model: ChestXrayModel, out: Path, made: dict) -> list[str]:
    from workbench.phantom.case import CT, phantom

    case = phantom(SEED, domain=CT, findings=list(FINDINGS))
    generation = model.report(case.image)
    made["files"] += [
        *answers.save(case.image.contract, generation, out / "phantom"),
        out / "phantom.png",
    ]
    _case_figure(model, case, generation).savefig(out / "phantom.png", dpi=120)
    drawn = ", ".join(name for name, code in case.labels.items() if code == PRESENT)
    return [
        "  phantom.png   a chest projected from a CT: truth outlined; a map; what the model says",
        f"                drawn: {drawn}; stated: {_stated(generation)}",
    ]


def _case_figure(model: ChestXrayModel, case: Phantom, generation: Generation) -> Figure:
    from workbench.figures.maps import plot_case
    from workbench.reports import label
    from workbench.saliency import explain

    stated = label(generation.text)
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
    source, _, credit = generation.source.partition("; ")
    return plot_case(
        case.image.pixels,
        case.masks,
        text=generation.text,
        verdicts=[(name, code, stated.code(name)) for name, code in case.labels.items()],
        title=f"What {Path(identity.id).name} says of {source}",
        footer=f"sha256 {identity.sha256[:12]}, {generation.seconds:.2f} s; {notice}\n{credit}",
        **shown,
    )


def _dicom(model: ChestXrayModel, out: Path, made: dict) -> list[str]:
    """A real chest: report with its warnings, and figure of what the model got to see."""
    from workbench.imaging import load_radiograph, sample_dicom
    from workbench.radiograph import Radiograph

    try:
        image = load_radiograph(sample_dicom())
    except MissingDependencyError as error:
        made["skipped"]["dicom"] = str(error)
        return ["  dicom.png     skipped:", f"                {error}"]
    generation = model.report(image)
    made["files"] += [*answers.save(image.contract, generation, out / "dicom"), out / "dicom.png"]
    warned = replace(image.contract, warnings=generation.warnings)
    figure = Radiograph(image.pixels, warned, image.meta).show(size=model.card.image_size)
    figure.savefig(out / "dicom.png", dpi=120)
    return [
        "  dicom.png     a real chest (DICOM): as stored, as the model sees it, warnings",
        f"                stated: {_stated(generation)}: not to be believed",
    ]


def _notebook(model: ChestXrayModel, out: Path, made: dict) -> list[str]:
    """The first lesson as a page and, where `make lab` does not open it, a copy to work in."""
    if (source := find_notebook()) is None:
        missing = "the notebooks are in the source repository, not in the package"
        made["skipped"][NOTEBOOK] = missing
    elif "dicom" in made["skipped"]:
        made["skipped"][NOTEBOOK] = "skipped: the first lesson opens the real chest too"
    else:
        if not _in_repository():
            source = Path(shutil.copyfile(source, out / NOTEBOOK))
            made["files"].append(source)
        execute_to_html(source, out / PAGE, title="Start here")
        made["files"].append(out / PAGE)
    return []


def find_notebook() -> Path | None:
    """Return the start notebook: of this repository, of this folder or of the installed wheel."""
    roots = (Path(__file__).resolve().parents[2], Path.cwd())
    found = [root / "notebooks" / NOTEBOOK for root in roots]
    wheels = distributions(name=DISTRIBUTION)
    found += [Path(str(one.locate())) for wheel in wheels for one in wheel.files or ()
              if one.name == NOTEBOOK]  # fmt: skip
    return next(filter(Path.is_file, found), None)


def _in_repository() -> bool:
    """Tell whether `make` has something to do in this folder."""
    return Path("Makefile").is_file() and find_notebook() == Path.cwd() / "notebooks" / NOTEBOOK


def _stated(generation: Generation) -> str:
    from workbench.reports import label

    stated = sorted(label(generation.text).present, key=ALL_FINDINGS.index)
    return textwrap.shorten(", ".join(stated) or NO_FINDING, 54, placeholder=" ...")


# --- a notebook as a page -------------------------------------------------------------------------


def execute_to_html(
    notebook: Path, page: Path, *, title: str, kernel: AsyncKernelManager | None = None
) -> None:
    """Run every cell of a notebook in a fresh kernel and write the result as an HTML page.

    Args:
        notebook: its file.
        page: where the page is written.
        title: of the page.
        kernel: starts the kernel; by default this Python with nothing imported.

    Raises:
        WorkbenchError: a cell failed, or took more than half an hour; the message says why.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    book = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        book,
        timeout=1800,  # training takes long on a crowded machine
        resources={"metadata": {"path": str(notebook.parent)}},
        extra_arguments=["--log-level=ERROR"],
        store_widget_state=False,
    )
    # without folders of kernels "python3" is this interpreter, whatever the user has installed
    kernels = KernelSpecManager(kernel_dirs=[])
    client.km = kernel or AsyncKernelManager(kernel_spec_manager=kernels)
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        reason = str(error).strip().splitlines()[0]
        if isinstance(error, CellExecutionError):
            reason = f"{error.ename}: {error.evalue}"
        said = f"a cell of {notebook} failed: {reason}; open it and run it by hand"
        raise WorkbenchError(said) from error
    page.write_text(to_html(book, title=title), encoding="utf-8")


def to_html(book, *, title: str) -> str:
    """Return an executed notebook as one self-contained HTML page."""
    from nbconvert import HTMLExporter

    _describe_images(book)
    _set_tables(book)
    # Not `embed_images`: it repairs each piece of HTML between two paragraphs by itself, and so
    # closes a <details> before what it is to fold. Pictures of outputs are in the page anyhow.
    exporter = HTMLExporter(
        raw_template=TEMPLATE.read_text(encoding="utf-8"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    html, _ = exporter.from_notebook_node(book, resources={"metadata": {"name": title}})
    return html


def _set_tables(book) -> None:
    """Set words left and numbers right in the tables of pandas, which sets everything right."""
    from bs4 import BeautifulSoup

    from workbench.figures.tables import side

    for data in (out.get("data", {}) for cell in book.cells for out in cell.get("outputs", [])):
        html = "".join(data.get("text/html", ""))
        if "<table" not in html:
            continue
        soup = BeautifulSoup(html, "html.parser")
        for table in soup.select("table.dataframe, table[id^=T_]"):
            rows = [row.find_all(["td", "th"]) for row in table.find_all("tr")]
            if len({len(row) for row in rows}) != 1 or table.select("[colspan], [rowspan]"):
                continue
            heads = len(table.select("thead tr"))
            for column in zip(*rows, strict=True):
                own = side([cell.get_text() for cell in column[heads:]])
                for cell in column:
                    cell["style"] = own
        data["text/html"] = str(soup)


def _describe_images(book) -> None:
    """Give every image a text for those who cannot see it: the heading that it stands under."""
    heading = ""
    for cell in book.cells:
        if cell.cell_type == "markdown":
            found = [line for line in cell.source.splitlines() if line.startswith("#")]
            heading = found[-1].lstrip("# ") if found else heading
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                described = output.setdefault("metadata", {}).setdefault("image/png", {})
                described.setdefault("alt", f"Figure: {heading}")
