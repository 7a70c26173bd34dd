"""The queue lists what contradicts what is known, and nothing else; unknown is never negative."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from workbench.errors import InputError, OptionError
from workbench.review import KINDS, queue

EFFUSION = "pleural effusion"


def one(lab, said: str, known: dict[str, str], report: str | None = None, **columns):
    """The queue of a single case."""
    return queue(
        lab.rows({"a": said}, **columns), manifest=lab.manifest({"a": known}, {"a": report})
    )


def listed(found) -> list[tuple[str, str]]:
    return list(found.entries[["kind", "finding"]].itertuples(index=False, name=None))


# --- what is an error, and what is not --------------------------------------------------------


@pytest.mark.parametrize("known", ["not mentioned", "uncertain"])
@pytest.mark.parametrize("said", ["present", "absent", "uncertain", ""])
def test_what_is_not_known_is_never_an_error(lab, said, known):
    found = one(lab, lab.text_of({EFFUSION: said}), {EFFUSION: known})
    assert listed(found) == []
    assert found.joined.known.sum() == 0


@pytest.mark.parametrize(
    ("said", "known", "kind"),
    [
        ("present", "absent", "confident false finding"),
        ("uncertain", "absent", None),
        ("absent", "absent", None),
        ("", "absent", None),
        ("absent", "present", "missed finding"),
        ("", "present", "missed finding"),
        ("uncertain", "present", None),
        ("present", "present", None),
    ],
)
def test_known_findings_are_false_or_missed(lab, said, known, kind):
    found = one(lab, lab.text_of({EFFUSION: said}), {EFFUSION: known})
    assert listed(found) == ([] if kind is None else [(kind, EFFUSION)])


def test_without_log_probability_nothing_is_confident(lab):
    found = one(lab, "There is pneumothorax.", {"pneumothorax": "absent"}, mean_logprob=None)
    assert listed(found) == [("false finding", "pneumothorax")]
    assert "no log-probabilities" in " ".join(found.notes)


def test_confident_ones_come_first_and_the_surest_first(lab):
    texts = {str(n): "There is pneumothorax." for n in range(5)}
    known = lab.manifest({key: {"pneumothorax": "absent"} for key in texts})
    found = queue(lab.rows(texts, mean_logprob=[-5.0, -1, -3, -2, -4]), manifest=known)
    assert found.to_frame()["id"].tolist() == ["1", "3", "2", "4", "0"]
    assert found.entries["confidence"].tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert found.entries["kind"].tolist() == ["confident false finding"] * 3 + ["false finding"] * 2


@pytest.mark.parametrize(
    ("said", "known", "flipped"),
    [("left", "right", True), ("right", "left", True), ("left", "left", False),
     ("left", "bilateral", False), ("", "right", False), ("left", "", False)],
)  # fmt: skip
def test_a_flip_is_left_for_right_and_both_sides_known(lab, said, known, flipped):
    report = f"There is a {known} pleural effusion."
    found = one(lab, f"There is a {said} pleural effusion.", {EFFUSION: "present"}, report)
    assert listed(found) == ([("laterality flip", EFFUSION)] if flipped else [])


def test_places_of_the_manifest_come_before_the_report(lab):
    known = lab.manifest(
        {"a": {EFFUSION: "present"}}, {"a": "Left pleural effusion."},
        locations=json.dumps({EFFUSION: ["right", "lower"]}),
    )  # fmt: skip
    found = queue(lab.rows({"a": "Left pleural effusion."}), manifest=known)
    assert listed(found) == [("laterality flip", EFFUSION)]
    assert found.to_frame()["reference side"].tolist() == ["right"]


def test_a_disputed_finding_is_reviewed_before_the_model_is_called_wrong(lab):
    found = one(lab, "There is pleural effusion.", {EFFUSION: "absent"}, "Pleural effusion.")
    assert listed(found) == [("label against report", EFFUSION)]
    assert found.entries["evidence"].tolist() == ["label absent, report read as present"]
    assert found.joined.known.sum() == 0
    assert "1 pairs of report and finding are disputed" in " ".join(found.notes)


def test_a_report_speaks_where_the_label_is_silent(lab):
    found = one(lab, "No pleural effusion.", {EFFUSION: "not mentioned"}, "Pleural effusion.")
    assert listed(found) == [("missed finding", EFFUSION)]


def test_domain_length_and_log_probability(lab):
    texts = {str(n): "No effusion." for n in range(40)}
    tokens = [40 + n % 5 for n in range(40)]
    tokens[3] = 400
    logprobs = [-0.5 - 0.01 * (n % 7) for n in range(40)]
    logprobs[5], logprobs[6] = -9.0, -0.001
    warnings = ["crop-loss|out-of-domain" if n == 7 else "crop-loss" for n in range(40)]
    found = queue(lab.rows(texts, tokens=tokens, mean_logprob=logprobs, warnings=warnings))
    frame = found.to_frame()
    assert frame.set_index("kind")["id"].to_dict() == {
        "out of domain": "7", "unusual length": "3", "unusual log-prob": "5",
    }  # fmt: skip
    assert "no references" in found.notes[0]


def test_grounding_adds_what_the_image_did_not_speak_for(lab):
    table = pd.DataFrame(
        [("a", EFFUSION, "present", -0.4), ("a", "nodule", "present", 2.0),
         ("a", "pneumothorax", "absent", -3.0), ("b", EFFUSION, "present", -1.0)],
        columns=["id", "finding", "code", "contribution"],
    )  # fmt: skip
    found = queue(lab.rows({"a": "Pleural effusion."}), grounding=table)
    assert listed(found) == [("not grounded", EFFUSION)]
    assert found.entries["evidence"].tolist() == ["-0.40 nats"]
    with pytest.raises(InputError, match="no column 'contribution'"):
        queue(lab.rows({"a": ""}), grounding=table.drop(columns="contribution"))


# --- joining ----------------------------------------------------------------------------------


def test_rows_without_a_reference_stay_and_are_counted(lab):
    run = lab.rows({"a": "There is pneumothorax.", "b": "There is pneumothorax."})
    found = queue(run, manifest=lab.manifest({"b": {"pneumothorax": "absent"}}))
    assert (len(found.joined.cases), found.joined.unmatched) == (2, 1)
    assert found.to_frame()["id"].tolist() == ["b"]
    assert "1 reports have no row in the manifest" in found.notes


def test_references_and_grounding_of_other_images_are_refused(lab):
    run = lab.rows({"a": "There is pneumothorax."})
    with pytest.raises(InputError, match=r"references for 0 of 1 reports: .*expected the manifest"):
        queue(run, manifest=lab.manifest({"b": {"pneumothorax": "absent"}}))
    columns = {"finding": ["edema"], "code": ["present"], "contribution": [0.1]}
    with pytest.raises(InputError, match="grounding for 0 of 1 reports"):
        queue(run, grounding=pd.DataFrame({"id": ["b"]} | columns))


def test_sources_keep_equal_ids_apart(lab):
    run = pd.concat([lab.rows({"1": "There is pneumothorax."}, source=s) for s in ("x", "y")])
    known = lab.manifest({"1": {"pneumothorax": "absent"}}).frame
    other = known.assign(source="y", pneumothorax="present")
    both = pd.concat([known.assign(source="x"), other], ignore_index=True)
    found = queue(run, manifest=both)
    assert found.to_frame()["source"].tolist() == ["x"]
    with pytest.raises(InputError, match="several sources have a case '1'"):
        found.case("1")
    assert found.case("1", source="y").findings.loc["pneumothorax", "true"] == "present"


def test_a_folder_finds_its_own_manifest(lab, tmp_path):
    lab.rows({"a": "There is pneumothorax."}).to_parquet(tmp_path / "results.parquet")
    path = lab.manifest({"a": {"pneumothorax": "absent"}}).save(tmp_path / "films.parquet")
    identity = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": 1}
    fixed = {"manifest": identity, "model": {"notice": "for teaching only"}}
    record = {"format": 1, "fixed": fixed, "sessions": [{"manifest": "films.parquet"}]}
    (tmp_path / "run.json").write_text(json.dumps(record))
    found = queue(tmp_path)
    assert found.counts["confident false finding"] == 1
    assert found.notes == ("for teaching only",)
    assert queue(tmp_path).joined.read == 0
    other = lab.manifest({"a": {"pneumothorax": "present"}}).save(tmp_path / "films.parquet")
    assert "no references" in " ".join(queue(tmp_path).notes)
    assert "is not the one of the run" in " ".join(queue(tmp_path, manifest=other).notes)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda lab: queue("nowhere"), InputError, "no run in this folder"),
        (lambda lab: queue(7), InputError, "got int"),
        (lambda lab: queue(pd.DataFrame({"id": ["a"]})), InputError, "no column 'text'"),
        (lambda lab: queue(lab.rows({"a": "x"}), task="poem"), OptionError, "it has: report"),
        (lambda lab: queue(lab.rows({"a": "x"}), confident=2), OptionError, "between 0 and 1"),
        (lambda lab: queue(lab.rows({"a": "x"}), manifest=3), InputError, "got int"),
        (
            lambda lab: queue(pd.concat([lab.rows({"a": "x"})] * 2)),
            InputError,
            "stands twice in the run",
        ),
    ],
)
def test_errors_say_what_to_do(lab, make, error, message):
    with pytest.raises(error, match=message):
        make(lab)


# --- working with it --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(lab):
    run, known = lab.planted(600, rate=0.1)
    return queue(run, manifest=known)


def test_counts_and_frame_agree(many):
    frame = many.to_frame()
    assert sum(many.counts.values()) == len(many) == len(frame)
    assert list(many.counts) == list(KINDS)
    per = many.per_finding()
    kinds = frame["kind"].astype(str)
    assert per["missed"].sum() == (kinds == "missed finding").sum()
    assert per["false"].sum() == kinds.isin(["false finding", "confident false finding"]).sum()
    pairs = per[["known", "disputed", "unknown"]].sum(axis=1)
    assert (pairs == len(many.joined.cases)).all()
    assert per.loc["nodule", "unknown"] == 600 and np.isnan(per.loc["nodule", "rate"])


def test_the_whole_run_is_every_report_once_more(lab, many):
    run, known = lab.planted(600, rate=0.1)
    whole = queue(run, manifest=known, whole=True)
    suspect = whole.entries["kind"] != "nothing suspect"
    pd.testing.assert_frame_equal(whole.entries[suspect], many.entries)
    assert suspect.sum() + len(set(range(600)) - set(many.entries["case"])) == len(whole)
    assert set(whole.entries["case"]) == set(range(600))
    silent = queue(lab.rows({"a": "No effusion.", "b": "No edema."}), whole=True)
    assert listed(silent) == [("nothing suspect", "")] * 2
    assert silent.plot().get_legend_handles_labels()[1] == ["nothing suspect"]


def test_select(many):
    part = many.select(kind="missed finding", finding="effusion", device="portable C", view="AP")
    frame = part.to_frame()
    assert 0 < len(frame) < len(many)
    assert set(frame["finding"]) == {EFFUSION} and set(frame["device"]) == {"portable C"}
    assert len(many.select(age_group="20-39")) == 0
    with pytest.raises(OptionError, match="unknown kind 'poem'"):
        many.select(kind="poem")
    with pytest.raises(OptionError, match="cannot be divided by 'colour'"):
        many.select(colour="red")


def test_a_sample_is_seeded_stratified_and_weighted(many):
    drawn, again = many.sample(30, seed=5), many.sample(30, seed=5)
    pd.testing.assert_frame_equal(drawn.entries, again.entries)
    assert not drawn.entries.equals(many.sample(30, seed=6).entries)
    strata = many.entries.groupby(["kind", "finding"], observed=True).size()
    taken = drawn.entries.groupby(["kind", "finding"], observed=True)["weight"].agg(["size", "sum"])
    assert len(taken) == len(strata)
    np.testing.assert_allclose(taken["sum"], strata)
    assert taken["size"].max() - taken["size"].min() <= 1
    assert len(many.sample(10**6)) == len(many)
    with pytest.raises(OptionError, match="n must be a whole number of 1 or more"):
        many.sample(0)


def test_one_case_shows_both_texts_and_escapes_them(lab):
    found = one(lab, "<b>There</b> is pneumothorax.", {"pneumothorax": "absent"}, "No <i>edema.")
    case = found.case("a")
    html = case._repr_html_()
    assert "&lt;b&gt;" in html and "<i>" not in html
    assert case.findings.loc["pneumothorax", ["said", "label"]].tolist() == ["present", "absent"]
    with pytest.raises(InputError, match="no case 'z'; the first are: 'a'"):
        found.case("z")
    with pytest.raises(InputError, match="where the images are"):
        case.radiograph()


def test_the_summary_holds_no_text(many):
    said = json.dumps(many.summary(), allow_nan=False)
    assert "There is" not in said
    assert "There is" not in many._repr_html_()


def test_csv_cells_are_no_formulas(lab, tmp_path):
    run = lab.rows({"=cmd()": "There is pneumothorax."})
    found = queue(run, manifest=lab.manifest({"=cmd()": {"pneumothorax": "absent"}}))
    text = found.save(tmp_path / "q.csv").read_text()
    assert "'=cmd()" in text and "\n=cmd" not in text
    with pytest.raises(InputError, match=r"as \.parquet or \.csv"):
        found.save(tmp_path / "q.xlsx")


def test_figures_and_empty_queues(many, lab):
    assert many.plot().get_xlabel() == "entries"
    assert len(many.slices.plot().get_yticklabels()) > 3
    empty = queue(lab.rows({"a": "No effusion."}))
    assert len(empty) == 0
    empty.plot()
    empty.slices.plot()
    assert "Nothing is suspect" in empty._repr_html_()


def test_columns_of_a_manifest_take_no_name_of_the_queue(lab, tmp_path):
    """A manifest of a user's own may hold a report, and a column that is called as ours are."""
    table = lab.manifest({"a": {}, "b": {}}, text=["x", "y"], status=["old", "new"]).frame
    table["report"] = ["No pleural effusion.", None]
    table.to_csv(tmp_path / "manifest.csv", index=False)
    said = {"a": "There is a pleural effusion.", "b": "No pneumothorax."}
    found = queue(lab.rows(said), manifest=tmp_path / "manifest.csv")
    assert listed(found) == [("confident false finding", EFFUSION)]
    assert found.joined.cases["text"].tolist() == list(said.values())
    assert found.joined.extra == ("manifest status", "manifest text")
    assert found.to_frame()["manifest text"].tolist() == ["x"]
