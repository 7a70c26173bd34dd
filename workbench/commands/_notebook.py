"""Execute a notebook and write it as one HTML page that needs nothing else.

The page carries its style and images inside and loads no script, so it reads the same on a laptop
without a network. Formulas therefore stay as they are written, and a widget is shown by the picture
that it brings along.
"""

from __future__ import annotations

from pathlib import Path

from workbench.errors import WorkbenchError

WIDGET = "application/vnd.jupyter.widget-view+json"
#: nbconvert's lab page without its four remote scripts, set like a printed lesson.
PAGE = Path(__file__).with_name("notebook.html.j2")


def execute_to_html(notebook: Path, page: Path, *, title: str, timeout: int = 600) -> None:
    """Run every cell of a notebook in a fresh kernel and write the result as an HTML page.

    Args:
        notebook: an .ipynb file; it is not changed.
        timeout: seconds that one cell may take.

    Raises:
        WorkbenchError: a cell failed; the message carries its error.
    """
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    book = nbformat.read(notebook, as_version=4)
    client = NotebookClient(
        book,
        timeout=timeout,
        resources={"metadata": {"path": str(notebook.parent)}},
        extra_arguments=["--log-level=ERROR"],
    )
    # without folders of kernels "python3" is this interpreter, whatever the user has installed
    kernels = KernelSpecManager(kernel_dirs=[])
    client.km = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=kernels)
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        reason = str(error).strip().splitlines()[0]
        if isinstance(error, CellExecutionError):
            reason = f"{error.ename}: {error.evalue}"
        raise WorkbenchError(
            f"a cell of {notebook.name} failed: {reason}; open it with `make lab` and run it by "
            "hand"
        ) from error
    page.write_text(to_html(book, title=title), encoding="utf-8")


def to_html(book, *, title: str) -> str:
    """Return an executed notebook as one self-contained HTML page."""
    from nbconvert import HTMLExporter

    _still_widgets(book)
    _describe_images(book)
    _set_tables(book)
    # Not `embed_images`: it repairs each piece of HTML between two paragraphs by itself, and so
    # closes a <details> before what it is to fold. Pictures of outputs are in the page anyhow.
    exporter = HTMLExporter(
        raw_template=PAGE.read_text(encoding="utf-8"),
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        exclude_anchor_links=True,
    )
    html, _ = exporter.from_notebook_node(book, resources={"metadata": {"name": title}})
    return html


def _still_widgets(book) -> None:
    """Show widgets by the HTML that stands in for them, and those without any not at all."""
    book.metadata.pop("widgets", None)
    for cell in book.cells:
        for output in list(cell.get("outputs", [])):
            data = output.get("data", {})
            if data.pop(WIDGET, None) and "text/html" not in data:
                cell.outputs.remove(output)


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
