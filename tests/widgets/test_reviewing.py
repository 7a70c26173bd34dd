"""A reviewer's desk: what comes next, what is kept, two desks on one run; the widget's answers."""

from __future__ import annotations

import base64
import json
import multiprocessing
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import workbench as wb
from tests.widgets.asking import Kept
from workbench.data import Manifest
from workbench.data.frames import conform
from workbench.errors import InputError, OptionError, RunError
from workbench.review import Annotations, corrected_reference, queue
from workbench.review.verdicts import VERDICTS
from workbench.widgets.reviewer import Reviewer, _rank, case_view, listing, pieces, standing
from workbench.widgets.reviewing import FORM, Reviewing

EFFUSION, NODULE = "pleural effusion", "nodule"
TEXTS = {
    "radiograph-1": "There is a left pleural effusion. No nodule.",
    "radiograph-2": "No pleural effusion. The heart is normal.",
    "radiograph-3": "There is a nodule. No pleural effusion.",
    "radiograph-4": "There is a pleural effusion.",
}
LABELS = {
    "radiograph-1": {EFFUSION: "absent", NODULE: "present"},
    "radiograph-2": {EFFUSION: "present"},
    "radiograph-3": {NODULE: "absent", EFFUSION: "absent"},
    "radiograph-4": {EFFUSION: "present"},
}
REPORTS = {
    "radiograph-1": "No pleural effusion. A nodule is seen.",
    "radiograph-2": "A pleural effusion.",
}


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    rows = {"id": list(TEXTS), "text": list(TEXTS.values()), "source": "made", "task": "report"}
    rows |= {"status": "done", "mean_logprob": -0.5, "tokens": 9}
    pd.DataFrame(rows).to_parquet(folder / "results.parquet")
    table = pd.DataFrame([{"image_id": key, **codes} for key, codes in LABELS.items()])
    table["study_id"] = table["patient_id"] = table["image_id"]
    table = table.assign(
        source="made", licence="own", report_findings=[REPORTS.get(key) for key in LABELS]
    )
    return queue(folder, manifest=Manifest(conform(table, sort=False)))


@pytest.fixture
def desk(run):
    return Reviewing(run, reviewer="AB")


def left(desk) -> list[int]:
    return [entry.n for entry in desk.entries if desk.mine(entry.n) is None]


def test_the_order_is_that_of_the_queue_and_a_verdict_moves_on(desk, run):
    frame = run.to_frame()
    assert [(e.id, e.kind, e.finding) for e in desk.entries] == list(
        frame[["id", "kind", "finding"]].astype(str).itertuples(index=False, name=None)
    )
    assert desk.at == 0 and len(desk.entries) == 4
    seen = []
    while left(desk):
        seen.append(desk.at)
        desk.judge(desk.at, "model wrong")
        desk.advance()
    assert seen == [0, 1, 2, 3]
    assert desk.advance() == 3
    assert desk.progress() == {"judged": 4, "listed": 4, "all_judged": 4, "all": 4}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_of_the_package_is_written_as_it_is(desk, run, verdict):
    desk.judge(0, verdict, comment="=1+1", severity="minor", errors=["missed"], side="left")
    (found,) = Annotations(run.folder / "annotations.jsonl").current()
    entry = desk.entry(0)
    assert found.key == entry.key and found.reviewer == "AB"
    assert (found.verdict, found.comment, found.severity) == (verdict, "=1+1", "minor")
    assert (found.errors, found.side, found.said) == (("missed",), "left", entry.facts["said"])


def test_a_desk_opened_again_goes_on_where_the_first_was(desk, run):
    desk.judge(0, "unclear")
    desk.draft(1, {"comment": "half a sent", "report": "No efusion."})
    again = Reviewing(run, reviewer="AB")
    assert again.at == 1
    assert again.mine(0).verdict == "unclear"
    assert again.form(1)["comment"] == "half a sent" and again.form(1)["report"] == "No efusion."
    assert Reviewing(run, reviewer="CD").at == 0
    assert Reviewing(run, reviewer="CD").form(1)["comment"] == ""


def test_undo_goes_back_to_the_entry_and_keeps_what_was_typed(desk):
    desk.judge(0, "model wrong", comment="old", report="Corrected.")
    desk.advance()
    assert desk.undo().verdict == "model wrong"
    assert desk.at == 0 and desk.mine(0) is None
    assert desk.form(0)["comment"] == "old" and desk.form(0)["report"] == "Corrected."
    with pytest.raises(InputError, match="AB has no verdict to take back"):
        desk.undo()


def test_undo_of_a_second_verdict_brings_the_first_back(desk):
    desk.judge(0, "model wrong", comment="first")
    desk.judge(0, "unclear", comment="second")
    desk.undo()
    assert desk.mine(0).verdict == "model wrong" and desk.form(0)["comment"] == "first"


def test_a_second_tab_sees_the_first_and_writes_over_nothing_unseen(desk, run):
    other = Reviewing(run, reviewer="AB")
    first = desk.judge(0, "model wrong", seen="")
    with pytest.raises(RunError, match="in another tab or process you have said 'model wrong'"):
        other.judge(0, "unclear", seen="")
    assert other.mine(0).n == first.n
    other.judge(0, "unclear", seen=first.n)
    assert desk.refresh() and desk.mine(0).verdict == "unclear"
    assert not desk.refresh()
    with pytest.raises(RunError, match="given in another tab or process; nothing was taken back"):
        desk.undo(seen=first.n)
    assert desk.mine(0).verdict == "unclear"
    other.undo()
    with pytest.raises(RunError, match="'model wrong' meanwhile"):
        desk.judge(0, "both right", seen="another")


def test_nobody_undoes_the_verdict_of_another(desk, run):
    Reviewing(run, reviewer="CD").judge(0, "unclear")
    desk.refresh()
    with pytest.raises(InputError, match="AB has no verdict"):
        desk.undo()
    assert [item.reviewer for item in desk.others(0)] == ["CD"]


def test_what_others_say_is_told_after_ones_own_verdict_only(desk, run):
    Reviewing(run, reviewer="CD").judge(0, "label extraction wrong", comment="unmistakable")
    desk.refresh()
    before = case_view(desk, 0)
    assert before["others"] == 1 and before["others_said"] == []
    assert "label extraction wrong" not in json.dumps(before) and "unmistakable" not in json.dumps(
        before
    )
    desk.judge(0, "model wrong")
    assert case_view(desk, 0)["others_said"][0]["verdict"] == "label extraction wrong"


def test_filters_list_a_part_and_progress_counts_it(desk):
    desk.judge(0, "unclear")
    kinds = {entry.kind for entry in desk.entries}
    for kind in kinds:
        desk.filter(kind=kind)
        assert {desk.entry(n).kind for n in desk.listed} == {kind}
    desk.filter(finding=NODULE)
    assert {desk.entry(n).finding for n in desk.listed} == {NODULE}
    desk.filter(state="judged")
    assert desk.listed == [0] and desk.progress()["judged"] == 1
    desk.filter(state="to judge")
    assert desk.listed == [1, 2, 3] and desk.at == 1
    assert desk.progress() == {"judged": 0, "listed": 3, "all_judged": 1, "all": 4}
    desk.filter(kind="out of domain")
    assert desk.listed == [] and desk.at is None and desk.advance() is None
    assert desk.step(1) is None and desk.skip() is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"kind": "odd"}, "no kind 'odd'"), ({"finding": "gout"}, "no finding 'gout'"),
     ({"state": "half"}, "no state 'half'")],
)  # fmt: skip
def test_a_wrong_filter_is_refused_and_changes_nothing(desk, wrong, message):
    with pytest.raises(OptionError, match=message):
        desk.filter(**wrong)
    assert len(desk.listed) == 4


def test_skipped_entries_come_last(desk):
    assert desk.skip() == 1
    order = []
    while left(desk):
        order.append(desk.at)
        desk.judge(desk.at, "both right")
        desk.advance()
    assert order == [1, 2, 3, 0]


def test_steps_stop_at_the_ends(desk):
    assert [desk.step(-1), desk.step(1), desk.step(99), desk.step(1)] == [0, 1, 3, 3]
    with pytest.raises(InputError, match="4 entries, from 0; got 4"):
        desk.go(4)


def test_a_corrected_report_belongs_to_the_case(desk, run):
    first, second = (e.n for e in desk.entries if e.id == "radiograph-1")
    desk.judge(first, "reference wrong", report="No effusion. No nodule.")
    assert desk.corrected(second) == "No effusion. No nodule."
    assert case_view(desk, second)["form"]["report"] == ""
    found = corrected_reference(run, desk.notes)
    assert found.reports == {("made", "radiograph-1"): "No effusion. No nodule."}


def test_a_refused_word_writes_nothing(desk):
    with pytest.raises(OptionError, match="verdict must be one of"):
        desk.judge(0, "wrong")
    with pytest.raises(InputError, match="at most 20,000"):
        desk.draft(0, {"comment": "x" * 20_001})
    assert not desk.notes.path.exists() and not desk.drafts.path.exists()


def test_drafts_that_repeat_what_stands_are_not_kept(desk):
    desk.draft(0, {})
    assert not desk.drafts.path.exists()
    desk.judge(0, "unclear", comment="a")
    desk.draft(0, {"comment": "a"})
    assert not desk.drafts.path.exists()
    desk.draft(0, {"comment": "ab"})
    desk.draft(0, {"comment": "ab"})
    assert len(desk.drafts.path.read_text().splitlines()) == 1
    assert desk.drafts.path.stat().st_mode & 0o777 == 0o600


def _judge_many(run, who, start):
    desk = Reviewing(run, reviewer=who)
    for turn in range(25):
        desk.judge((start + turn) % 4, list(VERDICTS)[turn % 5], comment=f"{who} {turn}")


def test_two_processes_at_once_lose_nothing(run, desk):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_judge_many, args=(run, "AB", at)) for at in (0, 2)]
    [one.start() for one in both]
    [one.join(60) for one in both]
    assert [one.exitcode for one in both] == [0, 0]
    lines = desk.notes.path.read_text().splitlines()
    assert len(lines) == 50 and desk.notes.torn == 0
    assert len({json.loads(line)["n"] for line in lines}) == 50


# --- how a case is shown --------------------------------------------------------------------------


def test_pieces_are_the_whole_text_and_mark_what_is_in_question():
    text = "There is no pleural effusion \U0001f600. A left nodule <b>is</b> seen."
    found = pieces(text, EFFUSION, {NODULE})
    assert "".join(piece["text"] for piece in found) == text
    marked = {piece["text"]: (piece["mark"], piece["says"]) for piece in found if piece["mark"]}
    assert marked["pleural effusion"] == ("asked", "pleural effusion: absent")
    assert marked["nodule"] == ("also", "nodule: present, left")
    assert marked["no"] == ("cue", "reads it as absent")
    assert pieces("", EFFUSION, set()) == []


def test_pieces_of_any_report_are_the_whole_text():
    more = ("No effusion, nodule or effusion.", "Effusion", "  ", "...")
    for text in (*TEXTS.values(), *REPORTS.values(), *more):
        for finding in (EFFUSION, NODULE, ""):
            found = pieces(text, finding, {EFFUSION, NODULE} - {finding})
            assert "".join(piece["text"] for piece in found) == text


def test_a_case_says_why_it_is_in_the_queue(desk):
    n = next(e.n for e in desk.entries if e.id == "radiograph-2")
    shown = case_view(desk, n)
    assert shown["why"][:2] == ["the model says absent", "known: present"]
    assert shown["reference_text"] == "A pleural effusion."
    assert {row["finding"]: row["label"] for row in shown["findings"]}[EFFUSION] == "present"
    n = next(e.n for e in desk.entries if e.id == "radiograph-3")
    assert case_view(desk, n)["reference"] is None
    json.dumps(shown)


def test_the_listing_is_a_window_around_the_entry(desk):
    desk.go(2)
    whole = listing(desk)
    assert (whole["start"], whole["total"], whole["place"]) == (0, 4, 2)
    part = listing(desk, rows=2)
    assert [row["n"] for row in part["rows"]] == [1, 2]
    assert [row["n"] for row in listing(desk, start=3, rows=2)["rows"]] == [3]
    desk.judge(2, "unclear")
    assert [row["verdict"] for row in listing(desk)["rows"]] == ["", "", "unclear", ""]
    assert standing(desk)["last"]["verdict"] == "unclear"


# --- the widget -----------------------------------------------------------------------------------

EMPTY = dict.fromkeys(FORM, "")


class Bench(Kept, Reviewer):
    """A reviewer whose messages are kept."""


@pytest.fixture
def bench(desk):
    return Bench(desk)


def test_views_are_saved_for_one_person_and_forgotten(bench, run):
    bench.ask("filter", kind="", finding=EFFUSION, state="to judge")
    chosen = dict(bench.desk.filters)
    assert "view saved" in bench.ask("keep_view", keep=1)["said"]
    (view,) = Reviewing(run, reviewer="AB").views()
    assert view == {"name": f"{EFFUSION}, without a verdict of mine", **chosen}
    assert Reviewing(run, reviewer="CD").views() == []
    bench.ask("filter", kind="", finding="", state="all")
    bench.ask("filter", **chosen)
    assert bench.desk.filters == chosen
    assert bench.ask("keep_view", keep=0)["views"] == []


def test_a_thumbnail_is_small_and_says_where_there_is_none(desk, bench):
    image = wb.Radiograph.from_array(np.eye(600)[:, :300])
    found = Bench(desk, radiographs=lambda source, case: image).ask("thumbnail", n=0)
    png = Image.open(BytesIO(base64.b64decode(found["radiograph"]["png"])))
    assert png.size == (120, 240)
    assert bench.ask("thumbnail", n=0)["none"]


def test_the_state_is_all_that_a_page_needs(bench):
    state = bench.ask("state")
    assert [one["name"] for one in state["words"]["verdicts"]] == list(VERDICTS)
    assert [one["key"] for one in state["words"]["verdicts"]] == ["1", "2", "3", "4", "5"]
    assert state["case"]["n"] == 0 and state["progress"]["listed"] == 4 and state["last"] is None
    assert sum(one["count"] for one in state["choices"]["kinds"]) == 4
    assert bench.notice and bench.notice in bench.still()
    json.dumps(bench.sent)


def test_a_verdict_is_on_disk_before_the_answer_and_other_views_are_told(bench, desk):
    form = EMPTY | {"errors": "missed"}
    said = bench.ask("judge", n=0, verdict="model wrong", seen="", form=form)
    assert len(desk.notes.path.read_text().splitlines()) == 1
    assert said["case"]["n"] == 1 and said["progress"]["judged"] == 1
    assert said["last"]["verdict"] == "model wrong" and "written" in said["said"]
    assert {"tell": "changed", "turn": 1} in bench.sent
    back = bench.ask("undo", seen=said["last"]["n"])
    assert back["case"]["n"] == 0 and back["case"]["form"]["errors"] == "missed"


def test_a_conflict_is_said_shows_the_truth_and_loses_no_word(bench, desk, run):
    Reviewing(run, reviewer="AB").judge(0, "unclear")
    form = EMPTY | {"comment": "three sentences"}
    answer = bench.ask("judge", n=0, verdict="model wrong", seen="", form=form)
    assert answer["kind"] == "RunError" and "in another tab or process" in answer["failure"]
    assert any(one.get("tell") == "changed" for one in bench.sent)
    state = bench.ask("state")
    assert state["case"]["mine"]["verdict"] == "unclear"
    assert state["case"]["form"]["comment"] == "three sentences"


def test_a_reference_that_was_not_changed_is_no_correction(bench, desk):
    n = next(e.n for e in desk.entries if e.id == "radiograph-2")
    bench.ask("judge", n=n, verdict="model wrong", seen="",
              form=EMPTY | {"report": "A pleural effusion."})  # fmt: skip
    assert desk.mine(n).report == ""
    stands = desk.mine(n).n
    bench.ask("judge", n=n, verdict="model wrong", seen=stands, form=EMPTY | {"report": "Clear."})
    assert desk.mine(n).report == "Clear."


def test_steps_filters_and_the_end_are_said(bench):
    assert bench.ask("step", by=-1)["said"] == "this is the first entry"
    assert bench.ask("filter", kind="", finding=NODULE, state="all")["said"] == "2 entries listed"
    assert bench.ask("filter", kind="out of domain", finding="", state="all")["case"] is None
    assert "choose another filter" in bench.ask("advance")["said"]
    bench.ask("filter", kind="", finding="", state="all")
    for n in range(4):
        said = bench.ask("judge", n=n, verdict="unclear", seen="", form=EMPTY)["said"]
    assert said.endswith("All listed entries are judged")


def test_what_others_wrote_comes_by_refresh(bench, run):
    bench.ask("state")
    Reviewing(run, reviewer="CD").judge(0, "unclear")
    assert bench.ask("refresh")["case"]["others"] == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("judge", {}, "n must be a whole number"),
        ("judge", {"n": True}, "n must be a whole number, got bool"),
        ("judge", {"n": 0, "verdict": "model wrong"}, "form must hold"),
        ("judge", {"n": 0, "verdict": "model wrong", "form": {"x": ""}}, "form must hold"),
        ("judge", {"n": 0, "verdict": "odd", "seen": "", "form": EMPTY}, "verdict must be one of"),
        ("judge", {"n": 9, "verdict": "unclear", "seen": "", "form": EMPTY}, "got 9"),
        ("draft", {"n": -1, "form": EMPTY}, "got -1"),
        ("filter", {"kind": "", "finding": ""}, "state must be a text"),
        ("go", {"n": "0"}, "n must be a whole number, got str"),
        ("step", {}, "by must be a whole number"),
        ("radiograph", {"n": 99}, "got 99"),
        ("undo", {"seen": ""}, "AB has no verdict to take back"),
    ],
)
def test_odd_messages_are_refused_and_write_nothing(bench, desk, name, content, message):
    assert message in bench.ask(name, **content)["failure"]
    assert not desk.notes.path.exists() and not desk.drafts.path.exists()


def test_radiographs_come_from_images_or_the_reason_is_said(run, desk):
    image = wb.phantom(seed=3).image
    answer = Bench(desk, radiographs=lambda source, case: image).ask("radiograph", n=0)
    assert set(answer["radiograph"]) == {"png", "bits", "width", "height"}
    assert "where the images are" in Bench(desk).ask("radiograph", n=0)["none"]


def test_the_app_is_reached_as_the_package_names_it(run):
    found = wb.review.app(run.folder, reviewer="AB", kind="", confident=0.9)
    assert isinstance(found, Reviewer) and found.desk.notes.path.parent == run.folder
    phantoms = {"radiograph-1": wb.phantom(seed=3)}
    seen = wb.review.app(run, reviewer="AB", images=phantoms)
    assert seen._radiographs("made", "radiograph-1") is phantoms["radiograph-1"].image
    with pytest.raises(InputError, match="reviewer must be initials"):
        wb.review.app(run, reviewer=" ")
    with pytest.raises(InputError, match="stored in the folder of a run"):
        wb.review.app(pd.DataFrame({"id": ["a"], "text": ["No nodule."]}), reviewer="AB")


@pytest.mark.parametrize(
    ("share", "says"),
    [(1.0, "highest token confidence of this run"), (0.0, "lowest token confidence of this run"),
     (0.754, "token confidence above that of 75 % of this run's reports"),
     (0.001, "token confidence above that of 1 % of this run's reports")],
)  # fmt: skip
def test_token_confidence_is_said_against_the_other_reports(share, says):
    assert _rank(share) == says
