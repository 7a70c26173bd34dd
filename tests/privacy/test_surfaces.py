"""Every surface that shows a model's words says that they are not for clinical use."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import workbench as wb
from workbench.cli import main
from workbench.model.licence import NOT_CLINICAL

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model():
    return wb.load_model("mini", device="cpu")


@pytest.fixture(scope="module")
def case():
    return wb.phantom(seed=7, findings=["pleural effusion"])


@pytest.fixture(scope="module")
def film(case, tmp_path_factory):
    """A drawn film as a file, with a manifest."""
    folder = tmp_path_factory.mktemp("film")
    case.image.show(size=64).savefig(folder / "film.png")
    (folder / "films.csv").write_text("image_id,path,report_findings\nfilm,film.png,No edema.\n")
    return folder / "film.png"


@pytest.fixture(scope="module")
def report(model, case):
    return model.report(case.image, max_new_tokens=24)


def words_of(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj() if hasattr(text, "get_text"))


def printed(*words: object) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(word) for word in words]) == 0
    return out.getvalue()


def test_cards_in_notebooks(model, case, report):
    trace = model.trace(case.image, report)
    table = pd.DataFrame({"id": ["a", "b"], "text": [report.text, "A nodule."]})
    queue = wb.review.queue(table)
    grounding = wb.hallucination.ground(trace, ablations=["blank"])
    shown = {
        "model": model,
        "report": report,
        "trace": trace,
        "queue": queue,
        "case of a queue": queue.case("a"),
        "grounding": grounding,
    }
    silent = [name for name, one in shown.items() if NOT_CLINICAL not in one._repr_html_().lower()]
    assert silent == []
    assert NOT_CLINICAL in words_of(grounding.plot().figure).lower()
    assert NOT_CLINICAL in json.dumps(report.to_dict()).lower()


def test_commands_and_their_files(film, tmp_path):
    given = ("--device", "cpu", "--max-new-tokens", 8)
    said = {
        "report": printed("report", film, "--out", tmp_path / "reports", *given),
        "report --json": printed("report", film, "--json", *given),
        "ask": printed("ask", film, "Is there a nodule?", *given),
        "run": printed("run", "--manifest", film.parent / "films.csv", "--out", tmp_path / "run",
                       *given),
        "models": printed("models"),
    }  # fmt: skip
    files = [*(tmp_path / "reports").iterdir(), tmp_path / "run" / "run.json"]
    said |= {path.name: path.read_text(encoding="utf-8") for path in files}
    assert len(said) >= 8
    assert [name for name, text in said.items() if NOT_CLINICAL not in text.lower()] == []


def test_the_program_itself_and_the_readme_say_so(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    for text in (capsys.readouterr().out, (ROOT / "README.md").read_text(encoding="utf-8")):
        assert NOT_CLINICAL in " ".join(text.lower().split())


def test_no_main_path_touches_the_network(film, tmp_path):
    """One fresh process, with the hub allowed, in which every use of the network is a failure."""
    code = f"""
import os, sys
asked = []
def watch(event, found):
    outward = event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")
    if event in ("socket.connect", "socket.sendto"):
        outward = isinstance(found[1], tuple)
    if event == "socket.bind":  # urllib3 binds ::1 to see whether there is IPv6
        outward = isinstance(found[1], tuple) and found[1][0] not in ("::1", "127.0.0.1")
    if outward:
        asked.append((event, str(found[1:])))
        raise PermissionError("the network was asked for: " + event)
sys.addaudithook(watch)
import socket
try:
    socket.create_connection(("127.0.0.1", 9), timeout=1)
except PermissionError:
    asked.clear()
else:
    sys.exit("the watch does not work")
from workbench.cli import main
film, out = {str(film)!r}, {str(tmp_path)!r}
given = ["--device", "cpu", "--max-new-tokens", "4"]
commands = [
    ["report", film, "--out", out + "/reports", *given],
    ["ask", film, "Is there a nodule?", *given],
    ["phantom", "--seed", "3", "--out", out + "/drawn"],
    ["run", "--manifest", os.path.dirname(film) + "/films.csv", "--out", out + "/run", *given],
    ["review", "queue", out + "/run"],
    ["models"],
    ["doctor"],
]
for words in commands:
    assert main(words) == 0, words
import workbench as wb
model = wb.load_model("mini", device="cpu")
image = wb.load_radiograph(film)
trace = model.trace(image, model.report(image, max_new_tokens=4))
trace.plot()
image.show()
assert asked == [], asked
"""
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    allowed = {name: value for name, value in os.environ.items() if name not in switches}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=allowed, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
