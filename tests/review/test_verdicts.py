"""Verdicts: kept, taken back, replaced, exported; and what they make of the references."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import workbench as wb
from workbench.errors import InputError, OptionError
from workbench.review import (
    VERDICTS,
    Annotations,
    corrected_reference,
    open_annotations,
    queue,
)

EFFUSION = "pleural effusion"


@pytest.fixture
def notes(tmp_path):
    return Annotations(tmp_path / "annotations.jsonl")


def entry(**changed) -> dict:
    row = {"id": "a", "source": "made", "kind": "missed finding", "finding": EFFUSION}
    return row | {"said": "absent", "reference": "present"} | changed


def test_a_row_of_the_queue_can_be_judged_as_it_is(lab, tmp_path):
    lab.rows({"a": "No pleural effusion."}).to_parquet(tmp_path / "results.parquet")
    found = queue(tmp_path, manifest=lab.manifest({"a": {EFFUSION: "present"}}))
    notes = open_annotations(found)
    frame = found.to_frame()
    notes.add(frame.iloc[0], verdict="model wrong", reviewer="AB", errors="missed")
    notes.add(frame.to_dict("records")[0], verdict="unclear", reviewer="CD", severity="minor")
    table = notes.to_frame()
    assert table["verdict"].tolist() == ["model wrong", "unclear"]
    assert table[["id", "finding", "said", "reference"]].drop_duplicates().values.tolist() == [
        ["a", EFFUSION, "absent", "present"]
    ]
    assert notes.path.parent == tmp_path
    assert notes.path.stat().st_mode & 0o777 == 0o600
    assert [r["errors"] for r in map(json.loads, notes.path.open())] == [["missed"], []]


def test_the_last_verdict_of_a_reviewer_stands_and_undo_brings_the_one_before_back(notes):
    notes.add(entry(), verdict="model wrong", reviewer="AB")
    notes.add(entry(), verdict="unclear", reviewer="AB")
    notes.add(entry(), verdict="both right", reviewer="CD")
    before = notes.path.read_bytes()
    assert {a.reviewer: a.verdict for a in notes.current()} == {"AB": "unclear", "CD": "both right"}
    assert notes.undo(reviewer="AB").verdict == "unclear"
    assert {a.reviewer: a.verdict for a in notes.current()}["AB"] == "model wrong"
    notes.undo(reviewer="AB")
    assert [a.reviewer for a in notes.current()] == ["CD"]
    assert notes.path.read_bytes().startswith(before)
    with pytest.raises(InputError, match="AB has no verdict to take back"):
        notes.undo(reviewer="AB")


def test_nobody_takes_back_the_verdict_of_another(notes):
    theirs = notes.add(entry(), verdict="unclear", reviewer="CD")
    with pytest.raises(InputError, match="AB has no verdict"):
        notes.undo(reviewer="AB", n=theirs.n)
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"verdict": "wrong"}, OptionError, "verdict must be one of model wrong"),
        ({"severity": "huge"}, OptionError, "severity must be one of minor"),
        ({"errors": ["lies"]}, OptionError, "errors must be one of fabricated"),
        ({"true": "maybe"}, OptionError, "true must be one of"),
        ({"side": "up"}, OptionError, "side must be one of"),
        ({"reviewer": " "}, InputError, "reviewer must be initials"),
        ({"reviewer": "x" * 21}, InputError, "1 to 20 characters"),
        ({"comment": 7}, InputError, "comment must be a text"),
        ({"colour": "red"}, OptionError, "unknown argument 'colour'"),
        ({"finding": "gout"}, OptionError, "unknown finding 'gout'"),
    ],
)
def test_wrong_words_are_refused_and_nothing_is_written(notes, changed, error, message):
    given = {"id": "a", "verdict": "unclear", "reviewer": "AB"} | changed
    with pytest.raises(error, match=message):
        notes.add(**given)
    assert not notes.path.exists()


def test_an_entry_needs_an_id(notes, tmp_path):
    with pytest.raises(InputError, match="needs an entry of the queue, or id="):
        notes.add(verdict="unclear", reviewer="AB")
    with pytest.raises(InputError, match="the folder of a run"):
        open_annotations(tmp_path / "nowhere")


def test_agreement_is_over_entries_that_two_have_judged(notes):
    with pytest.raises(InputError, match="0 reviewers have given verdicts"):
        notes.agreement()
    # four entries in common: three equal; one judged by AB alone
    verdicts = list(VERDICTS)
    given = {"AB": [0, 0, 1, 1, 2], "CD": [0, 0, 1, 0]}
    for who, numbers in given.items():
        for n, number in enumerate(numbers):
            notes.add(entry(id=str(n)), verdict=verdicts[number], reviewer=who)
    found = notes.agreement()
    # observed 3/4; chance (2/4 * 3/4) + (2/4 * 1/4) = 1/2
    assert found.items == 4
    assert found.kappa.value == pytest.approx(0.5)


def test_csv_cells_are_no_formulas(notes, tmp_path):
    notes.add(entry(), verdict="unclear", reviewer="AB", comment="=HYPERLINK(1)")
    text = notes.save(tmp_path / "v.csv").read_text()
    assert "'=HYPERLINK(1)" in text and ",=HYPERLINK" not in text


# --- corrected references ---------------------------------------------------------------------


def corrected(lab, notes, said, label, report=None, **verdict):
    """The code of the reference after verdicts about the only entry."""
    found = queue(
        lab.rows({"a": said}), manifest=lab.manifest({"a": {EFFUSION: label}}, {"a": report})
    )
    for who, words in verdict.items():
        words = {"verdict": words} if isinstance(words, str) else words
        notes.add(found.to_frame().iloc[0], reviewer=who, **words)
    return corrected_reference(found, notes)


def code(found) -> str:
    return found.to_frame()[EFFUSION].tolist()[0]


@pytest.mark.parametrize(
    ("verdict", "after"),
    [("model wrong", "present"), ("both right", "present"), ("reference wrong", "absent"),
     ("label extraction wrong", "present"), ("unclear", "uncertain")],
)  # fmt: skip
def test_what_a_verdict_makes_of_a_label(lab, notes, verdict, after):
    found = corrected(lab, notes, "No pleural effusion.", "present", AB=verdict)
    assert code(found) == after
    assert len(found.changes) == (after != "present")


def test_a_reviewer_has_one_vote_for_a_finding_the_last(lab, notes):
    said = {"said": "present", "reference": "absent"}
    for kind in ("false finding", "not grounded"):
        notes.add(entry(kind=kind, **said), verdict="model wrong", reviewer="AB")
    notes.add(entry(kind="false finding", **said), verdict="reference wrong", reviewer="CD")
    text = "There is pleural effusion."
    assert code(corrected(lab, notes, text, "absent")) == "uncertain"
    notes.add(entry(kind="false finding", **said), verdict="reference wrong", reviewer="AB")
    assert code(corrected(lab, notes, text, "absent")) == "present"


def test_a_verdict_under_its_earlier_name_still_counts(notes):
    notes.add(entry(), verdict="label extraction wrong", reviewer="AB")
    text = notes.path.read_text()
    notes.path.write_text(text.replace("label extraction wrong", "labeler wrong"))
    assert [item.verdict for item in notes.standing()] == ["label extraction wrong"]
    assert notes.torn == 0


def test_silence_of_the_model_never_becomes_absent(lab, notes):
    found = corrected(lab, notes, "No edema.", "present", AB="reference wrong")
    assert code(found) == "not mentioned"


def test_a_report_that_was_misread_leaves_nothing_known(lab, notes):
    text = "Pleural effusion."
    found = corrected(
        lab, notes, "No pleural effusion.", "not mentioned", text, AB="label extraction wrong"
    )
    assert code(found) == "not mentioned"


@pytest.mark.parametrize(
    ("verdict", "after"),
    [({}, "uncertain"), ({"AB": "reference wrong"}, "present"),
     ({"AB": "label extraction wrong"}, "absent"),
     ({"AB": "unclear"}, "uncertain"),
     ({"AB": {"verdict": "unclear", "true": "present"}}, "present")],
)  # fmt: skip
def test_a_dispute_is_uncertain_until_it_is_settled(lab, notes, verdict, after):
    found = corrected(lab, notes, "No edema.", "absent", "Pleural effusion.", **verdict)
    assert code(found) == after


def test_reviewers_decide_by_majority_and_without_one_it_is_uncertain(lab, notes):
    found = corrected(
        lab, notes, "No pleural effusion.", "present",
        AB="reference wrong", CD="reference wrong", EF="model wrong",
    )  # fmt: skip
    assert code(found) == "absent"
    notes.undo(reviewer="AB")
    found = corrected(lab, notes, "No pleural effusion.", "present")
    assert code(found) == "uncertain"


def test_a_corrected_reference_is_scored_by_evaluate(lab, notes, tmp_path):
    texts = {"a": "There is pleural effusion.", "b": "No pleural effusion."}
    known = lab.manifest({"a": {EFFUSION: "absent"}, "b": {EFFUSION: "absent"}})
    found = queue(lab.rows(texts), manifest=known)
    before = wb.evaluation.score(texts, corrected_reference(found, notes).to_frame(), resamples=0)
    notes.add(found.to_frame().iloc[0], verdict="reference wrong", reviewer="AB")
    path = corrected_reference(found, notes).save(tmp_path / "corrected.csv")
    after = wb.evaluation.score(texts, path, resamples=0)
    rows = [card.per_finding[EFFUSION] for card in (before, after)]
    assert [(row.tp, row.fp, row.tn) for row in rows] == [(0, 1, 1), (1, 0, 1)]


def test_rows_of_other_queues_are_counted_and_left_out(lab, notes):
    notes.add(entry(id="elsewhere"), verdict="model wrong", reviewer="AB")
    found = corrected(lab, notes, "No pleural effusion.", "present")
    assert "1 verdicts are about cases that are not in this queue" in found.notes
    assert not found.reviewed.any()


def test_a_manifest_to_train_on(lab, notes, tmp_path):
    states = {key: {EFFUSION: "present", "no finding": "absent"} for key in "abc"}
    known = lab.manifest(states, dict.fromkeys("abc", "Left pleural effusion."))
    found = queue(lab.rows(dict.fromkeys("abc", "No pleural effusion.")), manifest=known)
    frame = found.to_frame().set_index("id", drop=False)
    wrong = {"verdict": "reference wrong", "reviewer": "AB"}
    notes.add(frame.loc["a"], **wrong)
    notes.add(frame.loc["b"], **wrong, report="FINDINGS: No pleural effusion.")
    result = corrected_reference(found, notes)
    made = result.to_manifest(known, provenance="radiologist")
    rows = made.frame.set_index("image_id")
    assert list(rows.index) == ["a", "b"]
    assert set(rows[EFFUSION].astype(str)) == {"absent"}
    assert set(rows["no finding"].astype(str)) == {"not mentioned"}
    assert set(rows["provenance"].astype(str)) == {"radiologist"}
    assert pd.isna(rows.loc["a", "report_findings"])
    assert rows.loc["b", "report_findings"] == "No pleural effusion."
    assert made.check().ok
    assert known.frame["report_findings"].notna().all()
    assert wb.data.load(made.save(tmp_path / "train.parquet")).digest() == made.digest()
    with pytest.raises(OptionError, match="unknown provenance 'me'; expected one of: radiologist"):
        result.to_manifest(known, provenance="me")


def test_a_flipped_side_is_corrected_in_the_manifest(lab, notes):
    known = lab.manifest({"a": {EFFUSION: "present"}}, {"a": "Right pleural effusion."})
    found = queue(lab.rows({"a": "Left pleural effusion."}), manifest=known)
    notes.add(found.to_frame().iloc[0], verdict="reference wrong", reviewer="AB")
    made = corrected_reference(found, notes).to_manifest(known)
    assert json.loads(made.frame["locations"].iloc[0]) == {EFFUSION: ["left"]}
    assert made.frame[EFFUSION].astype(str).tolist() == ["present"]


def test_boxes_are_kept_as_cells_of_a_manifest_and_reach_one(lab, tmp_path):
    found = queue(
        lab.rows({"a": "No pleural effusion."}), manifest=lab.manifest({"a": {EFFUSION: "present"}})
    )
    notes = Annotations(tmp_path / "notes.jsonl")
    box = {"x": 12, "y": 8.00049, "width": 3.5, "height": 4, "finding": EFFUSION}
    row = found.to_frame().iloc[0]
    notes.add(row, verdict="model wrong", reviewer="AB", boxes=[box])
    notes.add(row, verdict="unclear", reviewer="CD", boxes='[{"x":0,"y":0,"width":1,"height":1}]')
    cells = Annotations(notes.path).to_frame()["boxes"].tolist()
    assert cells[0] == json.dumps([box | {"y": 8}], sort_keys=True, separators=(",", ":"))
    manifest = corrected_reference(found, notes).to_manifest(lab.manifest({"a": {}}))
    rows = json.loads(manifest.frame["boxes"].iloc[0])
    assert [(one["finding"], one["reader"]) for one in rows] == [(EFFUSION, "AB"), ("", "CD")]


@pytest.mark.parametrize(
    "boxes",
    [
        '[{"x":1}]', '[{"x":1,"y":1,"width":0,"height":2}]', '{"x":1}', "[[1,2,3,4]]",
        '[{"x":NaN,"y":1,"width":1,"height":2}]', '[{"x":"1","y":1,"width":1,"height":2}]',
        '[{"x":-1,"y":1,"width":1,"height":2}]', '[{"x":1,"y":1,"width":1,"height":2,"a":1}]',
    ],
)  # fmt: skip
def test_what_is_no_box_is_refused(notes, boxes):
    with pytest.raises(InputError, match="boxes must be a list of x, y, width, height"):
        notes.add(entry(), verdict="unclear", reviewer="AB", boxes=boxes)
    assert len(notes) == 0


def test_boxes_of_unknown_findings_and_too_many_are_refused(notes):
    box = {"x": 1, "y": 1, "width": 1, "height": 1}
    with pytest.raises(OptionError, match="unknown finding 'noodle'; did you mean 'nodule'"):
        notes.add(entry(), verdict="unclear", reviewer="AB", boxes=[box | {"finding": "noodle"}])
    with pytest.raises(InputError, match="at most 200 boxes can be drawn; got 201"):
        notes.add(entry(), verdict="unclear", reviewer="AB", boxes=[box] * 201)
    with pytest.raises(InputError, match="not JSON"):
        notes.add(entry(), verdict="unclear", reviewer="AB", boxes="[")
