"""`--upright`: offered where an image is warned of, kept in a run, and the same for reviewers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import workbench as wb
from workbench.cli import DONE, FAILED, USAGE, build_parser, main
from workbench.commands._app_site import Cards, Site
from workbench.review import queue
from workbench.review.study_session import ReaderSession
from workbench.runs.record import read_record, turned_upright
from workbench.widgets.radiographs import image_source

FEW = ["--max-new-tokens", "2"]


@pytest.fixture(autouse=True)
def picture(tmp_path, monkeypatch) -> Path:
    """A picture, 70 wide, that asks to be turned by 90 degrees; and a manifest of it."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(7).integers(0, 255, (90, 70), dtype=np.uint8)
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save("turned.png", exif=exif)
    Path("films.csv").write_text("image_id,path,source,report_findings\n1,turned.png,own,Edema.\n")
    return tmp_path / "turned.png"


@pytest.fixture
def run(tiny) -> list[str]:
    """The words of a run that turns its image."""
    return ["run", "--manifest", "films.csv", "--model", tiny, "--out", "r", *FEW, "--upright"]


@pytest.mark.parametrize("command", [["report", "turned.png"], ["ask", "turned.png", "Edema?"]])
def test_the_warning_names_the_option_that_turns(command, tiny, capsys):
    assert main([*command, "--model", tiny, *FEW]) == DONE
    said = " ".join(capsys.readouterr().out.split())
    assert "load it with --upright or --fit pad" in said and "in Python" not in said
    if command[0] == "report":
        assert main([*command, "--model", tiny, *FEW, "--out", "o"]) == DONE
        capsys.readouterr()
        (written,) = Path("o").glob("*.txt")
        assert "load it with --upright" in written.read_text()
    assert main([*command, "--model", tiny, *FEW, "--upright", "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    contract = found.get("contract") or found["reports"][0]["contract"]
    assert "exif-ignored" not in str(contract["warnings"])


def test_the_turn_is_said_in_words_of_each_command():
    said = "the image is mirrored; where the tag is right load it with upright=True"
    for command in ("report", "ask", "run", "app"):
        commands = next(a for a in build_parser(command)._actions if isinstance(a.choices, dict))
        parser = commands.choices[command]
        assert parser.spoken(said).endswith("load it with --upright"), command


def test_a_run_keeps_that_it_turned_and_reviewers_see_the_same(run, capsys):
    assert main(run) == DONE
    assert main(run) == DONE
    assert turned_upright(read_record(Path("r")))
    assert main(run[:-1]) == FAILED
    assert "upright was true, is false" in capsys.readouterr().err
    assert queue("r", manifest="films.csv").case("1").radiograph().size == (70, 90)
    bench = wb.review.app("r", reviewer="AB", images={"1": "turned.png"})
    assert bench._radiographs("own", "1").size == (70, 90)


def test_a_run_from_before_there_was_a_choice_goes_on(run):
    assert main(run[:-1]) == DONE
    record = json.loads(Path("r/run.json").read_text())
    assert record["fixed"].pop("upright") is False
    Path("r/run.json").write_text(json.dumps(record))
    assert main(run[:-1]) == DONE
    assert queue("r", manifest="films.csv").case("1").radiograph().size == (90, 70)


@pytest.mark.parametrize("turned", [False, True])
def test_a_reader_study_shows_what_the_model_got(turned):
    Path("run").mkdir()
    pd.DataFrame(
        {"row": [0], "id": ["1"], "source": ["own"], "task": ["report"], "position": [0],
         "status": ["done"], "text": ["No edema."], "error": [""]}
    ).to_parquet("run/results.parquet")  # fmt: skip
    record = {"format": 1, "fixed": {"upright": turned}, "sessions": []}
    Path("run/run.json").write_text(json.dumps(record))
    study = wb.reader_study("run", manifest="films.csv", readers=["AB"], out="study", washout=0)
    assert study.key["upright"] is ReaderSession(study.reader_file("AB")).upright is turned
    app = wb.review.StudyApp(study, reader="AB", images="films.csv")
    shown = app.show({}, None)["report"]["radiograph"]
    assert (shown["width"], shown["height"]) == ((90, 70) if turned else (70, 90))


def test_images_are_turned_as_asked():
    for upright, size in ((True, (70, 90)), (False, (90, 70))):
        for images in ({"1": "turned.png"}, "films.csv"):
            assert image_source(images, upright=upright)("own", "1").size == size


def test_the_app_turns_its_images(monkeypatch, tiny, capsys):
    from workbench.commands import _app_site

    opened = []
    explore = "workbench.widgets.explorer.explore"
    monkeypatch.setattr(explore, lambda model, image: opened.append(image))
    site = Site(model=tiny, images=("turned.png",), upright=True)
    _app_site._explorer(site, site.page("explorer"))
    assert opened[0].size == (70, 90)
    cards = [Cards(site.images, upright=turned).ready(60)[0].picture for turned in (True, False)]
    assert "" not in cards and cards[0] != cards[1]
    with pytest.raises(SystemExit) as ended:
        main(["app", "--upright"])
    assert ended.value.code == USAGE
    assert "--upright needs --image" in capsys.readouterr().err
