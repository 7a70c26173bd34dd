"""A reader's desk: the order of the study, one step back, resuming, and nothing that unblinds."""

from __future__ import annotations

import base64
import json
import re
import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import workbench as wb
from tests.widgets.asking import Kept
from workbench.errors import InputError, OptionError
from workbench.radiograph import Radiograph
from workbench.review import ReaderSession, open_study
from workbench.review.study_files import ARMS
from workbench.widgets.radiographs import image_source, pixels_of
from workbench.widgets.reader import StudyApp

CASES = 8
#: Two texts of each case, from one list, so that no word can tell the arms apart.
WORDS = ("The lungs are clear.", "Small left effusion.", "The heart is large.", "No change.")


def radiograph(number: int) -> Radiograph:
    """A radiograph whose one bright row tells its number."""
    pixels = np.zeros((16, 12), np.uint8)
    pixels[number] = 200
    return Radiograph.from_array(pixels, source=f"SECRET-FILE-{number}.dcm", view="PA")


RADIOGRAPHS = {f"secret-case-{n}": radiograph(n) for n in range(CASES)}


@pytest.fixture
def study(tmp_path):
    rows = [
        (key, f"{WORDS[n % 4]} One {n}.", f"{WORDS[(n + 1) % 4]} Two {n}.")
        for n, key in enumerate(RADIOGRAPHS)
    ]
    pairs = pd.DataFrame(rows, columns=["id", "model", "reference"]).assign(source="secret-source")
    return wb.reader_study(
        pairs, readers=["AB", "CD"], out=tmp_path / "s", repeats=0.2, seed=987654321
    )


class Bench(Kept, StudyApp):
    """A reader study whose messages are kept."""

    def show(self):
        """The report that is shown now; None at the end."""
        return self.ask("show")["report"]

    def grade_as(self, item, grade, comment=""):
        return self.ask("grade", item=item, grade=grade, comment=comment)


@pytest.fixture
def desk(study):
    return Bench(study, reader="AB", images=RADIOGRAPHS)


def finish(desk) -> list[str]:
    """Grade all that is left; return the items in the order they came."""
    order = []
    while (shown := desk.show()) is not None:
        order.append(shown["item"])
        desk.grade_as(shown["item"], "ABCD"[len(order) % 4])
    return order


# --- the study ------------------------------------------------------------------------------------


def test_the_order_is_the_reader_s_and_every_report_comes_once(study, desk):
    order = finish(desk)
    assert order == [item.item for item in study.session("AB").items]
    counts = desk.ask("state")
    assert counts["done"] == counts["total"] == len(order)
    assert study.session("CD").done == 0


def test_the_washout_stands_between_two_readings_of_one_radiograph(study, desk):
    cases = [study.case_of(item) for item in finish(desk)]
    for case in set(cases):
        places = [at for at, one in enumerate(cases) if one == case]
        assert all(b - a > study.key["washout"] for a, b in pairwise(places))


def test_the_radiograph_is_that_of_the_case(study, desk):
    for _ in range(CASES):
        shown = desk.show()
        number = int(study.case_of(shown["item"])[1].rsplit("-", 1)[1])
        assert shown["radiograph"] == pixels_of(radiograph(number))
        desk.grade_as(shown["item"], "A")


def test_another_day_goes_on_at_the_same_report(study, desk):
    for _ in range(3):
        desk.grade_as(desk.show()["item"], "B", "fine")
    due = desk.show()
    desk.ask("draft", item=due["item"], comment="half a rem")
    again = Bench(study, reader="AB", images=RADIOGRAPHS)
    assert again.ask("state")["done"] == 3
    assert again.show() == due | {"comment": "half a rem"}
    again.grade_as(due["item"], "C", "half a remark")
    assert again._drafts.of("AB") == {}
    assert again.session.grades[due["item"]]["comment"] == "half a remark"


def test_the_clock_starts_when_a_report_is_shown_and_not_before(study, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("workbench.review.study_session.time.monotonic", lambda: now[0])

    def slow(source, case):
        now[0] += 50  # reading the image takes long
        return RADIOGRAPHS[case]

    desk = Bench(study, reader="AB", images=slow)
    first = desk.show()
    now[0] += 7
    assert desk.show() == first  # drawn again: the clock runs on (and the image was read again)
    now[0] += 3
    desk.grade_as(first["item"], "A")
    assert desk.session.grades[first["item"]]["seconds"] == pytest.approx(7 + 50 + 3)


def test_only_the_last_grade_can_be_taken_back_and_only_once(desk):
    first = desk.show()["item"]
    assert "only the last grade can be changed" in desk.ask("undo", seen="")["failure"]
    desk.grade_as(first, "A")
    second = desk.show()["item"]
    assert desk.grade_as(second, "D", "why")["undoable"] == second
    assert desk.ask("undo", seen=second)["undoable"] == ""
    again = desk.show()
    assert again["item"] == second and again["comment"] == "why"
    assert "only the last grade can be changed" in desk.ask("undo", seen=second)["failure"]
    desk.grade_as(second, "B")
    assert {desk.session.grades[i]["grade"] for i in (first, second)} == {"A", "B"}


def test_two_tabs_do_not_grade_one_report_twice(study, desk):
    other = Bench(study, reader="AB", images=RADIOGRAPHS)
    item = desk.show()["item"]
    assert other.show()["item"] == item
    desk.grade_as(item, "A")
    failure = other.grade_as(item, "D")
    assert failure["kind"] == "RunError"
    assert "graded in another tab or process; nothing was written" in failure["failure"]
    assert desk.session.grades[item]["grade"] == "A"
    second = other.show()["item"]
    other.grade_as(second, "B")
    assert "last grade was given in another tab" in desk.ask("undo", seen=item)["failure"]
    assert desk.ask("undo", seen=second)["said"] == "grade taken back"


def test_no_report_can_be_reached_out_of_turn(study, desk):
    later = study.session("AB").items[3].item
    desk.show()
    assert "nothing was written" in desk.grade_as(later, "A")["failure"]
    assert "no report 'nowhere'" in desk.ask("draft", item="nowhere", comment="x")["failure"]
    assert desk.session.done == 0


def test_who_reads_must_be_said(study):
    with pytest.raises(InputError, match="must be one of: AB, CD"):
        StudyApp(study)
    with pytest.raises(OptionError, match="no reader 'XY'"):
        StudyApp(study, reader="XY")
    with pytest.raises(InputError, match=re.escape("AB.json is the file of AB, not of CD")):
        StudyApp(study.reader_file("AB"), reader="CD")
    with pytest.raises(InputError, match="expected a reader study"):
        StudyApp(3, reader="AB")
    assert Bench(study.reader_file("AB")).show()["radiograph"] is None


# --- blinding -------------------------------------------------------------------------------------


def read_all(bench) -> list[dict]:
    """Grade everything as a page does, with undo and a wrong turn; return all messages."""
    bench.ask("state")
    report = bench.ask("show")["report"]
    turn = 0
    while report is not None:
        turn += 1
        bench.ask("draft", item=report["item"], comment=f"note {turn}")
        bench.ask("grade", item="0" * 16, grade="A", comment="")
        counts = bench.ask("grade", item=report["item"], grade="ABCD"[turn % 4], comment="")
        if turn == 2:
            bench.ask("undo", seen=counts["undoable"])
        report = bench.ask("show")["report"]
    bench.sent.append({"still": bench.still(), "html": bench._repr_html_()})
    bench.sent.append({name: bench.trait_values()[name] for name in ("title", "notice")})
    return bench.sent


def test_no_message_names_case_file_arm_seed_or_key(study):
    bench = Bench(study, reader="AB", images=RADIOGRAPHS)
    raw = json.dumps(read_all(bench))
    pictures = set(re.findall(r'"png": "([^"]+)"', raw))
    for own in (*pictures, *(item.text for item in study.session("AB").items)):
        raw = raw.replace(json.dumps(own)[1:-1], "")  # what a report says is the reader's to read
    text = raw.lower()
    key = study.key
    words = ["secret", "987654321", "reference", '"model', "arm", "repeat", "washout", "dcm"]
    for word in (*words, "key.json", str(study.folder), key["study"], key["made"]):
        assert word.lower() not in text, word
    for picture in pictures:
        assert b"SECRET" not in base64.b64decode(picture)


def test_messages_are_the_same_whoever_wrote_the_texts(study, tmp_path):
    """With the arms of every item exchanged in the key, not one byte of any message differs."""
    other = tmp_path / "other"
    shutil.copytree(study.folder, other)
    key = json.loads((other / "key.json").read_text())
    for item in key["items"].values():
        item["arm"] = ARMS[1 - ARMS.index(item["arm"])]
        item["repeat"] = not item["repeat"]
    (other / "key.json").write_text(json.dumps(key))
    same = [
        json.dumps(read_all(Bench(one, reader="AB", images=RADIOGRAPHS)))
        for one in (study, open_study(other))
    ]
    assert same[0] == same[1]


def test_the_shape_of_a_message_is_one_for_all_reports(study):
    bench = Bench(study, reader="AB", images=RADIOGRAPHS)
    read_all(bench)
    shown = [m["answer"]["report"] for m in bench.sent if (m.get("answer") or {}).get("report")]
    names = {"item", "text", "position", "radiograph", "comment", "boxes"}
    assert all(set(report) == names for report in shown)
    assert all(set(report["radiograph"]) == {"png", "bits", "width", "height"} for report in shown)


def test_one_radiograph_gives_one_picture_with_either_report(study):
    bench = Bench(study, reader="AB", images=RADIOGRAPHS)
    read_all(bench)
    pictures: dict[str, set[str]] = {}
    for message in bench.sent:
        report = (message.get("answer") or {}).get("report")
        if report:
            case = study.case_of(report["item"])[1]
            pictures.setdefault(case, set()).add(report["radiograph"]["png"])
    assert len(pictures) == CASES and all(len(found) == 1 for found in pictures.values())


def test_a_radiograph_that_cannot_be_read_names_nothing(study):
    def lost(source, case):
        raise FileNotFoundError(f"/hospital/{case}.dcm")

    bench = Bench(study, reader="AB", images=lost)
    answer = bench.ask("show")
    assert "the radiograph of report 1 cannot be read" in answer["failure"]
    assert "secret" not in json.dumps(bench.sent) and "hospital" not in json.dumps(bench.sent)
    assert bench.session._shown is None


def test_nothing_but_grades_and_drafts_is_written(study):
    before = {path.name for path in study.folder.rglob("*")}
    read_all(Bench(study, reader="AB", images=RADIOGRAPHS))
    new = {path.name for path in study.folder.rglob("*")} - before
    assert {name for name in new if not name.endswith(".lock")} == {
        "AB.grades.jsonl",
        "AB.drafts.jsonl",
    }
    assert ReaderSession(study.reader_file("AB")).done == len(study.session("AB").items)
    assert open_study(study.folder).to_frame().query("reader == 'AB'")["grade"].notna().all()


# --- the widget -----------------------------------------------------------------------------------


def test_all_views_are_told_of_a_grade_and_the_notice_is_always_there(study):
    bench = Bench(study, reader="AB", images=RADIOGRAPHS)
    assert bench.notice == bench.session.notice and bench.notice in bench.still()
    item = bench.ask("show")["report"]["item"]
    assert bench.ask("grade", item=item, grade="A", comment="")["done"] == 1
    assert {"tell": "changed", "turn": 1} in bench.sent


@pytest.mark.parametrize(
    "message",
    [{}, {"item": 3, "grade": "A", "comment": ""}, {"item": "x", "grade": None, "comment": ""}],
)
def test_odd_messages_are_refused(study, message):
    bench = Bench(study, reader="AB")
    assert "must be a text" in bench.ask("grade", **message)["failure"]
    assert bench.session.done == 0


# --- radiographs --------------------------------------------------------------------------------


def test_radiographs_come_from_a_manifest_file_a_mapping_or_a_function(tmp_path):
    Image.fromarray(np.full((10, 8), 90, np.uint8)).save(tmp_path / "a.png")
    rows = {"path": ["a.png"], "patient_id": ["p"], "labels": ["nodule"]}
    pd.DataFrame(rows).to_csv(tmp_path / "radiographs.csv", index=False)
    made = wb.data.build("csv", source=tmp_path / "radiographs.csv", provenance="report-mined",
                         licence="own", hash_files=False)  # fmt: skip
    made.save(tmp_path / "radiographs.parquet")
    case = made.frame["image_id"].iloc[0]
    for images in (made, tmp_path / "radiographs.parquet"):
        assert image_source(images)("", case).size == (10, 8)
        with pytest.raises(InputError, match="no file for this case"):
            image_source(images)("", "nowhere")
    assert image_source({"7": tmp_path / "a.png"})("s", "7").size == (10, 8)
    assert image_source({7: wb.phantom(seed=1)})("s", "7").size == wb.phantom(seed=1).image.size
    assert image_source(None) is None
    with pytest.raises(InputError, match="images is a folder"):
        image_source(tmp_path)
    with pytest.raises(InputError, match="no entry for this case"):
        image_source({})("s", "7")


def test_pixels_carry_no_name_and_no_facts():
    found = pixels_of(radiograph(1))
    assert set(found) == {"png", "bits", "width", "height"} and "SECRET" not in json.dumps(found)


def test_boxes_are_kept_as_a_draft_written_with_the_grade_and_back_after_undo(study):
    box = '[{"finding":"","height":4,"width":3,"x":1,"y":2}]'
    bench = Bench(study, reader="AB", images=RADIOGRAPHS)
    item = bench.show()["item"]
    bench.ask("draft", item=item, comment="", boxes=box)
    assert Bench(study, reader="AB", images=RADIOGRAPHS).show()["boxes"] == box
    bench.ask("grade", item=item, grade="A", comment="", boxes=box)
    assert bench.show()["boxes"] == ""
    assert study.to_frame().set_index("item").loc[item, "boxes"] == box
    bench.ask("undo", seen=item)
    assert bench.show()["boxes"] == box
    wrong = bench.ask("draft", item=item, comment="", boxes='[{"x":1}]')
    assert "boxes must be a list of x, y, width, height" in wrong["failure"]
