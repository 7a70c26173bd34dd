"""A name planted in a film reaches nothing that is made of it; no way leads to the network."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import stat
import sys
import warnings

import numpy as np
import pytest

import workbench as wb
from tests.privacy.planting import (
    NAME,
    places,
    plain_dicom,
    planted_dicom,
    planted_picture,
    said,
)
from workbench.cli import main
from workbench.errors import InputError

SUFFIXES = (".dcm", ".png", ".jpg", ".tif")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A folder called after the name, with films called after it."""
    folder = tmp_path_factory.mktemp("films") / NAME
    folder.mkdir()
    for suffix in SUFFIXES:
        make = planted_dicom if suffix == ".dcm" else planted_picture
        make(folder / f"{NAME}{suffix}")
    (folder / f"{NAME}-broken.dcm").write_bytes((folder / f"{NAME}.dcm").read_bytes()[:-4000])
    return folder


@pytest.fixture(scope="module")
def model(tiny):
    return wb.load_model(tiny, device="cpu")


@pytest.fixture
def silent(caplog):
    """What was logged and warned of in the test must not hold the name."""
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    logged = " ".join(record.getMessage() for record in caplog.get_records("call"))
    assert not said(logged + " ".join(str(one.message) for one in seen))


def run_command(*words: object) -> tuple[int, str, str]:
    """Run a command; return its exit code, stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def test_the_name_is_where_it_is_looked_for(planted):
    found = places(planted.parent)
    assert len([where for where in found if where.startswith("name of")]) == len(SUFFIXES) + 2
    assert len([where for where in found if not where.startswith("name of")]) == len(SUFFIXES) + 1
    assert (planted / f"{NAME}.dcm").read_bytes().count(NAME.encode()) > 1000


def test_tags_overlay_and_preamble_change_nothing_that_is_read(planted, tmp_path, silent):
    image = wb.load_radiograph(planted / f"{NAME}.dcm")
    plain = wb.load_radiograph(plain_dicom(tmp_path / "film.dcm"))
    assert np.array_equal(image.pixels, plain.pixels)
    assert "burned-in" in [warning.code for warning in image.contract.warnings]
    assert not said(json.dumps(image.contract.to_dict()) + repr(image.meta) + repr(image))


def test_a_file_called_after_a_person_gets_another_name(planted, tmp_path):
    path = planted / f"{NAME}.dcm"
    source = wb.load_radiograph(path).contract.source
    assert source.startswith("image-") and source.endswith(".dcm")
    again = tmp_path / "Doe_Jane_19310203.dcm"
    again.write_bytes(path.read_bytes())
    assert wb.load_radiograph(again).contract.source == source
    for name in ("chest.dcm", "phantom_internal_7.png", "00000013_026.png", "case 3.jpg", "a.PNG"):
        assert wb.imaging.sources.shared_name(name, b"x") == name
    hashed = "0a1b2c3d-0a1b2c3d-0a1b2c3d-0a1b2c3d.jpg"
    assert wb.imaging.sources.shared_name(hashed, b"x") == hashed
    for name in ("Doe.dcm", "19310203.dcm", "1234567.png", "Müller.png", "x.Doe", "chest-Doe.tif"):
        assert wb.imaging.sources.shared_name(name, b"x").startswith("image-"), name


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_answers_traces_and_figures(planted, model, tmp_path, suffix, silent):
    image = wb.load_radiograph(planted / f"{NAME}{suffix}")
    report = model.report(image, max_new_tokens=6)
    trace = model.trace(image, report)
    trace.save(tmp_path / "trace")
    shown = [image, report, trace, model.chat(image), wb.load_trace(tmp_path / "trace")]
    texts = [getattr(one, "_repr_html_", one.__repr__)() + repr(one) for one in shown]
    assert not said(" ".join(texts) + json.dumps(report.to_dict()))
    image.show(size=32).savefig(tmp_path / "film.svg")
    image.show(size=32).savefig(tmp_path / "film.png")
    report.plot().figure.savefig(tmp_path / "report.svg")
    trace.plot().figure.savefig(tmp_path / "trace.svg")
    assert places(tmp_path) == []


def test_commands_runs_reviews_and_exports(planted, tiny, tmp_path, silent):
    out, films = tmp_path / "out", tmp_path / "films.csv"
    rows = [f"film-{n},{planted.name}/{NAME}{suffix}" for n, suffix in enumerate(SUFFIXES)]
    rows.append(f"film-9,{planted.name}/{NAME}-broken.dcm")
    rows.append(f"film-8,{planted.name}/{NAME}-nowhere.dcm")
    films.write_text("image_id,path,report_findings,source\n" +
                     "".join(f"{row},No effusion.,made\n" for row in rows))  # fmt: skip
    given = ("--model", tiny, "--device", "cpu", "--max-new-tokens", 6)
    paths = [planted / f"{NAME}{suffix}" for suffix in SUFFIXES]
    assert run_command("report", *paths, "--out", out / "reports", *given)[0] == 0
    code, printed, noted = run_command(
        "run", "--manifest", films, "--root", planted.parent, "--out", out / "run", *given
    )
    assert code == 0 and "2 failed" in printed
    assert not said(printed + noted)
    actions = (
        ("queue",),
        ("export",),
        ("export", "--what", "reference"),
        ("study", "--readers", "AB"),
    )
    for action in actions:
        name = "study" if action[0] == "study" else f"{len(list(out.iterdir()))}.csv"
        wb.review.open_annotations(out / "run").add(id="film-0", finding="nodule", source="made",
                                                    verdict="unclear", reviewer="AB")  # fmt: skip
        told = run_command("review", action[0], out / "run", "--manifest", films, *action[1:],
                           "--out", out / name)  # fmt: skip
        assert told[0] == 0, told
        assert not said(told[1] + told[2])
    assert (out / "study" / "key.json").is_file()
    queue = wb.review.queue(out / "run", manifest=films)
    assert not said(queue._repr_html_() + repr(queue) + queue.case("film-0")._repr_html_())
    assert places(out) == []


def test_errors_say_the_name_of_the_file_and_nothing_that_is_in_it(planted, tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes((planted / f"{NAME}-broken.dcm").read_bytes())
    with pytest.raises(InputError, match=r"^film\.dcm: ") as caught:
        wb.load_radiograph(path)
    assert not said(
        str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
    )
    code, printed, noted = run_command("report", path, "--device", "cpu")
    assert code == 1 and not said(printed + noted)


def test_runs_traces_and_verdicts_are_their_owners_only(planted, model, tmp_path):
    films = tmp_path / "films.csv"
    films.write_text(f"image_id,path\nfilm-0,{NAME}.png\n")
    old = os.umask(0)
    try:
        wb.run(films, root=planted, model=model, out=tmp_path / "run", max_new_tokens=1)
        notes = wb.review.open_annotations(tmp_path / "run")
        notes.add(id="film-0", finding="nodule", verdict="unclear", reviewer="AB")
        wb.review.queue(tmp_path / "run", manifest=films)
        image = wb.load_radiograph(planted / f"{NAME}.png")
        model.trace(image, model.report(image, max_new_tokens=1)).save(tmp_path / "trace")
    finally:
        os.umask(old)
    if sys.platform == "win32":
        pytest.skip("Windows has no such permissions")
    for folder in (tmp_path / "run", tmp_path / "trace"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = list(folder.iterdir())
        assert len(files) >= 2
        for path in files:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name
