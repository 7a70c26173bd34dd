"""Blinding: nothing in the file of a reader goes with the origin of a text; plans hold."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import workbench as wb
from workbench.errors import InputError, OptionError
from workbench.review import ReaderSession, open_study
from workbench.review.study_files import arrange, assign, plain_text


def pairs(count: int, *, seed: int = 0) -> pd.DataFrame:
    """Cases whose two texts come from one distribution, so that nothing but the files can tell."""
    rng = np.random.default_rng(seed)
    words = np.array(["lung", "clear", "small", "left", "effusion", "heart", "normal", "edema"])
    texts = [" ".join(rng.choice(words, rng.integers(5, 12))) + "." for _ in range(2 * count)]
    keys = [f"secret-case-{n}" for n in range(count)]
    return pd.DataFrame({"id": keys, "model": texts[:count], "reference": texts[count:]})


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "s"
    return wb.reader_study(pairs(150), readers=["AB", "CD", "EF"], out=out, repeats=0.2)


def content(study, reader: str) -> dict:
    return json.loads(study.reader_file(reader).read_text())


# --- what the file of a reader holds ----------------------------------------------------------


def test_a_readers_file_holds_random_names_and_texts_and_nothing_else(study):
    for reader in study.readers:
        found = content(study, reader)
        head = {"format", "study", "title", "notice", "reader", "instructions", "grades", "items"}
        assert set(found) == head
        assert all(list(item) == ["item", "text"] for item in found["items"])
        names = [item["item"] for item in found["items"]]
        assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in names)


def test_no_name_occurs_twice_anywhere(study):
    names = [i["item"] for reader in study.readers for i in content(study, reader)["items"]]
    assert len(set(names)) == len(names) == len(study.key["items"])


def test_a_readers_file_does_not_name_cases_arms_seed_or_times(study):
    for reader in study.readers:
        raw = study.reader_file(reader).read_text()
        for word in ("secret-case", "arm", '"model"', "reference", "repeat", "seed", "washout"):
            assert word not in raw, word
        assert study.key["seed"] not in raw and study.key["made"] not in raw


def test_files_are_private_and_the_key_lies_apart(study):
    assert study.folder.stat().st_mode & 0o777 == 0o700
    for path in (study.folder / "key.json", *(study.reader_file(r) for r in study.readers)):
        assert path.stat().st_mode & 0o777 == 0o600
    assert study.reader_file("AB").parent != study.folder


def test_nothing_in_the_file_goes_with_the_origin(study):
    arms, features = [], []
    for reader in study.readers:
        items = content(study, reader)["items"]
        order = np.argsort([item["item"] for item in items]).argsort()
        previous = 0
        for at, item in enumerate(items):
            number = int(item["item"], 16)
            arms.append(study.key["items"][item["item"]]["arm"] == "model")
            features.append(
                {
                    "position": at,
                    "parity": at % 2,
                    "half": at < len(items) / 2,
                    "name": number / 2**64,
                    "first digit": number >> 60,
                    "last digit": number & 15,
                    "ones": number.bit_count(),
                    "letters": sum(c.isalpha() for c in item["item"]),
                    "place by name": order[at],
                    "larger than the one before": number > previous,
                    "bytes": len(json.dumps(item)) - len(json.dumps(item["text"])),
                }
            )
            previous = number
    table = pd.DataFrame(features).astype(float)
    aurocs = {name: roc_auc_score(arms, table[name]) for name in table}
    # 1,080 readings: the standard error is .018, and .09 is five of them
    assert {name: a for name, a in aurocs.items() if abs(a - 0.5) > 0.09} == {}
    assert aurocs["bytes"] == 0.5


def test_the_origin_of_one_reading_does_not_tell_that_of_the_next(study):
    same = []
    for reader in study.readers:
        arms = [study.key["items"][item["item"]]["arm"] for item in content(study, reader)["items"]]
        same += [a == b for a, b in pairwise(arms)]
    assert abs(np.mean(same) - 0.5) < 0.09


def test_origins_are_balanced_in_each_half_and_among_repeats(study):
    frame = study.to_frame()
    for _, own in frame.groupby("reader"):
        first = own[~own["repeat"]]
        for part in (first.head(150), first.tail(150)):
            assert sorted(part["arm"].value_counts()) == [75, 75]
            assert part["case"].is_unique
        assert sorted(own[own["repeat"]]["arm"].value_counts()) == [30, 30]


def test_two_studies_of_one_run_share_neither_order_nor_names(tmp_path):
    one, two = (
        wb.reader_study(pairs(40), readers=["AB"], out=tmp_path / name) for name in ("1", "2")
    )
    assert one.key["seed"] != two.key["seed"]
    assert one.to_frame()["case"].tolist() != two.to_frame()["case"].tolist()
    assert not set(one.key["items"]) & set(two.key["items"])


def test_a_seed_repeats_the_order_and_never_the_names(tmp_path):
    made = [
        wb.reader_study(pairs(40), readers=["AB"], out=tmp_path / name, seed=7)
        for name in ("1", "2")
    ]
    columns = ["position", "case", "arm", "repeat"]
    pd.testing.assert_frame_equal(*(study.to_frame()[columns] for study in made))
    assert not set(made[0].key["items"]) & set(made[1].key["items"])


def test_the_session_of_a_reader_needs_no_key_and_knows_none(study, tmp_path):
    path = tmp_path / "AB.json"
    path.write_bytes(study.reader_file("AB").read_bytes())
    session = ReaderSession(path)
    item = session.next()
    assert (item.position, item.total) == (1, 360)
    assert set(vars(item)) == {"item", "text", "position", "total"}
    session.grade(item.item, "B")
    record = json.loads((tmp_path / "AB.grades.jsonl").read_text())
    assert set(record) == {"what", "item", "grade", "seconds", "comment", "boxes", "time"}


@pytest.mark.parametrize(
    "text",
    ["  No effusion.\n", "No  effusion.", "No\teffusion.", "No\u00a0effusion.",
     "No\u200b effusion.\r\n\r\n", "\ufeffNo effusion.", "No\n\n\neffusion."],
)  # fmt: skip
def test_white_space_tells_nothing(text):
    assert plain_text(text) == "No effusion."


def test_composed_characters_have_one_form_and_words_stay():
    assert plain_text("cafe\u0301 ___ XXXX. Heart: normal") == "caf\u00e9 ___ XXXX. Heart: normal"


@pytest.mark.parametrize(
    "text",
    ["FINDINGS: Edema. IMPRESSION: Edema.", "Edema. Impression: Edema.",
     "Edema.\n\nOpinion: Edema.", "findings:\nEdema.\nCONCLUSION:\nEdema.",
     "Findings and impression: Edema. Edema.", "FINDINGS\nEdema.\n\nIMPRESSION\nEdema.",
     "**Findings:** Edema.\n**Impression:** Edema.", "Results: Edema.\nFinal impression: Edema."],
)  # fmt: skip
def test_headings_of_sections_are_no_content(text):
    assert plain_text(text) == "Edema. Edema."


def test_other_sections_keep_their_headings():
    text = "Indication: fall.\nFindings: Edema.\nRecommendation: CT."
    assert plain_text(text) == "Indication: fall. Edema. Recommendation: CT."


def test_both_arms_are_cleaned(tmp_path):
    frame = pd.DataFrame({"id": ["a"], "model": [" x\n y "], "reference": ["x  y\u200b"]})
    study = wb.reader_study(frame, readers=["AB"], out=tmp_path / "s", washout=0)
    assert {item.text for item in study.session("AB").items} == {"x y"}


def test_features_of_the_surface_that_tell_the_arms_apart_are_found(tmp_path):
    frame = pairs(40).assign(reference=lambda f: "FINDINGS: Lungs: ___ " + f["model"])
    found = wb.reader_study(frame, readers=["AB"], out=tmp_path / "s").surface_features()
    assert found.loc["placeholders", "auroc"] == found.loc["headings", "auroc"] == 0
    assert found.loc["digits", "auroc"] == 0.5


# --- plans ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cases", [5, 13, 40])
@pytest.mark.parametrize("seed", range(8))
def test_a_film_comes_back_after_the_washout_at_the_earliest(cases, seed):
    washout = cases // 2
    repeats = cases - washout - 1
    rng = np.random.default_rng(seed)
    plan = arrange(np.arange(cases) * 10, repeats=repeats, washout=washout, rng=rng)
    assert len(plan) == 2 * cases + repeats
    seen: dict[int, int] = {}
    for at, reading in enumerate(plan):
        if reading.case in seen:
            assert at - seen[reading.case] - 1 >= washout
        seen[reading.case] = at
    first = [(r.case, r.arm) for r in plan if not r.repeat]
    assert len(set(first)) == 2 * cases
    again = Counter((r.case, r.arm) for r in plan if r.repeat)
    assert not again or max(again.values()) == 1


@pytest.mark.parametrize(
    ("cases", "readers", "each"), [(10, 3, 2), (7, 4, 1), (11, 2, 2), (9, 5, 3)]
)
def test_cases_are_shared_out_evenly(cases, readers, each):
    names = [f"R{n}" for n in range(readers)]
    given = assign(cases, names, each, np.random.default_rng(1))
    loads = [len(found) for found in given.values()]
    assert max(loads) - min(loads) <= 1
    counts = Counter(case for found in given.values() for case in found.tolist())
    assert set(counts.values()) == {each} and len(counts) == cases


def test_each_reader_gets_both_reports_of_his_cases(tmp_path):
    study = wb.reader_study(
        pairs(30), readers=["AB", "CD", "EF"], out=tmp_path / "s", readers_per_case=2, cases=21
    )
    first = study.to_frame().query("not repeat")
    assert first.groupby(["reader", "case"])["arm"].nunique().eq(2).all()
    assert first.groupby("case")["reader"].nunique().eq(2).all()


def test_a_study_of_a_run_takes_reports_of_the_manifest(lab, tmp_path):
    texts = {key: f"No effusion {key}." for key in "abc"}
    known = lab.manifest({key: {} for key in "abc"}, {"a": "Reference a.", "b": "Reference b."})
    study = wb.reader_study(
        lab.rows(texts), manifest=known, readers=["AB"], out=tmp_path / "s", washout=0, repeats=0
    )
    seen = {item.text for item in study.session("AB").items}
    assert seen == {"No effusion a.", "No effusion b.", "Reference a.", "Reference b."}
    assert open_study(tmp_path / "s").key == study.key
    shown = {item.text: study.case_of(item.item) for item in study.session("AB").items}
    assert shown["Reference a."] == shown["No effusion a."] == ("made", "a")
    with pytest.raises(InputError, match="no item 'x'"):
        study.case_of("x")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"readers": []}, OptionError, "readers must be initials"),
        ({"readers": ["A/B"]}, OptionError, "got 'A/B'"),
        ({"readers": ["AB", "ab"]}, OptionError, "two readers have one name"),
        ({"repeats": 0.9}, OptionError, "repeats must be from 0 to 0.5"),
        ({"cases": 11}, OptionError, "cases must be from 1 to 10"),
        ({"washout": 10}, OptionError, "too few for 10 other reports"),
        ({"readers_per_case": 2}, OptionError, "readers_per_case must be from 1 to 1"),
    ],
)
def test_wrong_plans_are_refused(tmp_path, changed, error, message):
    options = {"readers": ["AB"], "out": tmp_path / "s"} | changed
    with pytest.raises(error, match=message):
        wb.reader_study(pairs(10), **options)
    assert not (tmp_path / "s").exists()


def test_other_refusals(lab, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(InputError, match="a new or an empty folder"):
        wb.reader_study(pairs(10), readers=["AB"], out=tmp_path / "full")
    with pytest.raises(InputError, match="needs reference reports"):
        wb.reader_study(lab.rows({"a": "x"}), readers=["AB"], out=tmp_path / "s")
    with pytest.raises(InputError, match="no case has both"):
        wb.reader_study(pairs(3).assign(model=" \n"), readers=["AB"], out=tmp_path / "s")
    with pytest.raises(InputError, match=r"no key\.json"):
        open_study(tmp_path / "full")
    with pytest.raises(InputError, match="expected the file of a reader"):
        ReaderSession(tmp_path / "full" / "x")


# --- grading ----------------------------------------------------------------------------------


def test_grades_are_appended_replaced_and_taken_back(tmp_path):
    study = wb.reader_study(pairs(6), readers=["AB"], out=tmp_path / "s", repeats=0, washout=1)
    session = study.session("AB")
    first, second = session.items[:2]
    assert session.undo() is None
    session.grade(first.item, "A", seconds=12.5)
    session.grade(first.item, "C", comment="=late")
    session.grade(second.item, "B")
    assert {k: v["grade"] for k, v in session.grades.items()} == {first.item: "C", second.item: "B"}
    assert session.next() == session.items[2]
    assert session.undo() == second.item
    assert session.undo() == first.item
    assert session.grades[first.item]["grade"] == "A"
    assert study.progress().values.tolist() == [["AB", 1, 12]]
    for changed, error, message in (
        (("nobody", "A"), InputError, "no report 'nobody'"),
        ((first.item, "E"), OptionError, "grade must be one of A, B, C, D"),
    ):
        with pytest.raises(error, match=message):
            session.grade(*changed)
    with pytest.raises(OptionError, match="seconds must be 0 or more"):
        session.grade(first.item, "A", seconds=-1)


def test_seconds_are_measured_from_showing_to_grading(tmp_path, monkeypatch):
    import workbench.review.study_session as module

    clock = iter([100.0, 107.25])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    study = wb.reader_study(pairs(6), readers=["AB"], out=tmp_path / "s", repeats=0, washout=1)
    session = study.session("AB")
    item = session.next()
    assert session.next() == item
    session.grade(item.item, "A")
    assert session.grades[item.item]["seconds"] == 7.25
    session.grade(session.items[4].item, "A")
    assert session.grades[session.items[4].item]["seconds"] is None


def test_nobody_sees_results_while_reports_are_left(tmp_path):
    study = wb.reader_study(pairs(6), readers=["AB"], out=tmp_path / "s", repeats=0, washout=1)
    with pytest.raises(InputError, match=r"left to grade \(AB 12\)"):
        study.analyse()
    with pytest.raises(InputError, match="nothing is graded yet"):
        study.analyse(partial=True)
    session = study.session("AB")
    session.grade(session.next().item, "A")
    assert study.analyse(partial=True).missing == 11
