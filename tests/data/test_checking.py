"""Every planted fault is named by row, column, rule and repair, and no report is ever quoted."""

from __future__ import annotations

import json
import logging
import traceback
import warnings

import pandas as pd
import pytest

import workbench as wb
from workbench.data.checking import REPAIRS
from workbench.data.columns import shown
from workbench.data.frames import conform
from workbench.errors import InputError, OptionError

REPORT = "Small left effusion. Mr Zwickelmann was told on the phone."


def make(rows: int = 8, **changes) -> pd.DataFrame:
    """A sound manifest of as many patients as rows, with changes: column -> {row: value}."""
    frame = pd.DataFrame(
        {
            "image_id": [f"i{n}" for n in range(rows)],
            "path": [f"images/i{n}.png" for n in range(rows)],
            "patient_id": [f"p{n}" for n in range(rows)],
            "study_id": [f"s{n}" for n in range(rows)],
            "view": "PA",
            "sex": "female",
            "age": [str(40 + n) for n in range(rows)],
            "split": ["train", "test"] * (rows // 2),
            "source": "padchest",
            "licence": "made",
            "source_labels": "cardiomegaly",
            "cardiomegaly": "present",
            "provenance": "report-mined",
            "report_findings": REPORT,
            "sha256": [f"{n:064x}" for n in range(1, rows + 1)],
        },
        dtype=object,
    )
    for column, cells in changes.items():
        if column not in frame:
            frame[column] = None
        for row, value in cells.items():
            frame.loc[row, column] = value
    return conform(frame)


def problems(frame: pd.DataFrame, **options):
    return [(p.row, p.column, p.rule, p.value) for p in wb.data.check(frame, **options).problems]


def test_a_sound_manifest_has_no_problem():
    result = wb.data.check(make())
    assert result.ok
    assert result.to_dict()["problems"] == []
    assert str(result) == "8 rows, no problem"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"patient_id": {3: "p2"}, "study_id": {3: "s2"}},
         (3, "split", "patient-in-two-splits", "p2")),
        ({"cardiomegaly": {5: "presnt"}}, (5, "cardiomegaly", "unknown-code", "presnt")),
        ({"cardiomegaly": {5: "0"}}, (5, "cardiomegaly", "unknown-code", "0")),
        ({"source_labels": {1: "derrame pleurall"}},
         (1, "source_labels", "unmapped-label", "derrame pleurall")),
        ({"source_labels": {1: "cardiomegaly|Cardiomegali"}},
         (1, "source_labels", "unmapped-label", "Cardiomegali")),
        ({"age": {6: "411"}}, (6, "age", "age-range", "411")),
        ({"age": {6: "-1"}}, (6, "age", "age-range", "-1")),
        ({"age": {6: "4x"}}, (6, "age", "age-range", "4x")),
        ({"age": {6: "61.5"}}, (6, "age", "age-range", "61.5")),
        ({"path": {2: "../other/i2.png"}}, (2, "path", "path-outside-root", "../other/i2.png")),
        ({"path": {2: "a/../../i2.png"}}, (2, "path", "path-outside-root", "a/../../i2.png")),
        ({"path": {2: "/etc/passwd"}}, (2, "path", "path-outside-root", "/etc/passwd")),
        ({"path": {2: "~/i2.png"}}, (2, "path", "path-outside-root", "~/i2.png")),
        ({"path": {2: "C:/i2.png"}}, (2, "path", "path-outside-root", "C:/i2.png")),
        ({"path": {2: "a\\..\\i2.png"}}, (2, "path", "path-outside-root", "a\\..\\i2.png")),
        ({"path": {2: "http://x/i2.png"}}, (2, "path", "path-outside-root", "http://x/i2.png")),
        ({"path": {2: "images/i1.png"}}, (2, "path", "duplicate-path", "images/i1.png")),
        ({"view": {0: "oblique"}}, (0, "view", "unknown-value", "oblique")),
        ({"split": {0: "trian"}}, (0, "split", "unknown-value", "trian")),
        ({"image_id": {4: None}}, (4, "image_id", "missing-value", None)),
        ({"licence": {4: None}}, (4, "licence", "missing-value", None)),
        ({"sha256": {7: "xyz"}}, (7, "sha256", "hash", "xyz")),
        ({"boxes": {7: "[{"}}, (7, "boxes", "json", "(2 characters, not shown)")),
        ({"sha256": {7: f"{1:064x}"}}, (7, "image_id", "duplicate-image", "i7")),
        ({"study_id": {7: "s6"}}, (7, "study_id", "study-of-two-patients", "s6")),
    ],
)  # fmt: skip
def test_planted_fault_is_named(changes, expected):
    found = problems(make(**changes))
    assert expected in found
    assert len(found) == 1
    (problem,) = wb.data.check(make(**changes)).problems
    assert problem.repair.startswith(REPAIRS[problem.rule])


def test_a_duplicate_id_is_named_once():
    frame = make()
    frame.loc[5, "image_id"] = "i4"
    assert problems(frame) == [(5, "image_id", "duplicate-id", "i4")]


def test_paths_with_dots_in_names_are_fine():
    assert wb.data.check(make(path={0: "a..b/x...png", 1: ".hidden/..x.png"})).ok


def test_a_typo_gets_a_suggestion_and_a_number_does_not():
    one, two = (
        wb.data.check(make(cardiomegaly={0: value})).problems[0].repair
        for value in ("presnt", "1.0")
    )
    assert "'present' was meant?" in one
    assert "does not say whether 0 is absent or unknown" in two


def test_a_near_duplicate_is_named_with_its_twin():
    frame = make()
    frame["dhash"] = pd.array([f"{n * 7919:064x}" * 1 for n in range(1, 9)], dtype="string")
    apart = "f" * 64
    frame.loc[2, "dhash"] = apart
    frame.loc[6, "dhash"] = "e" * 2 + "f" * 62
    (problem,) = [p for p in wb.data.check(frame).problems if p.row == 6]
    assert problem.rule == "duplicate-image"
    assert "2 of 256 bits from i2" in problem.repair


def test_a_column_that_is_missing_or_misspelled_is_named():
    frame = make().drop(columns="atelectasis")
    assert problems(frame) == [(None, "atelectasis", "missing-column", None)]
    frame["atelektasis"] = "present"
    assert (None, "atelectasis", "column-name", "atelektasis") in problems(frame)


def test_labels_of_a_table_of_ones_own_are_checked_too():
    frame = make(source={n: "csv" for n in range(8)}, source_labels={3: "Efusion"})
    assert (3, "source_labels", "unmapped-label", "Efusion") in problems(frame)


def test_another_manifest_is_searched_for_patients_and_images():
    frame = make()
    train = wb.data.check(frame, against=frame.iloc[2:4])
    assert {(p.row, p.rule) for p in train.problems} == {
        (2, "patient-in-both"), (3, "patient-in-both"), (2, "image-in-both"), (3, "image-in-both"),
    }  # fmt: skip
    elsewhere = frame.assign(source="brixia", sha256=pd.NA)
    assert wb.data.check(frame, against=elsewhere).ok, "patients of two sources are not compared"


def test_files_are_looked_for_when_a_root_is_given(films, no_links):
    folder = films(*[f"images/i{n}.png" for n in range(6)])
    outside = folder.parent / f"{folder.name}_outside.png"
    outside.write_bytes((folder / "images/i0.png").read_bytes())
    (folder / "images/i6.png").symlink_to(outside)
    (folder / "images/inside.png").symlink_to(folder / "images/i1.png")
    frame = make(path={5: "images/inside.png"})
    assert problems(frame, root=folder) == [
        (6, "path", "path-outside-root", "images/i6.png"),
        (7, "path", "missing-file", "images/i7.png"),
    ]


def test_a_link_that_leaves_the_root_is_never_read(films, no_links):
    folder = films("a.png")
    outside = films("secret.png", folder=folder.parent / f"{folder.name}_other", seed=9)
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "linked").symlink_to(outside)
    manifest = wb.data.build("folder", source=folder)
    frame = manifest.frame.set_index("image_id")
    assert pd.isna(frame.loc["link", "sha256"])
    row = list(manifest.frame["image_id"]).index("link")
    with pytest.raises(InputError, match=r"link\.png: its path leads out of the root"):
        manifest.path(row)
    assert [p.rule for p in manifest.check(root=folder).problems] == ["path-outside-root"]
    table = wb.data.quality(manifest, workers=1)
    assert table.frame.set_index("image_id").loc["link", "readable"] == False  # noqa: E712


# --- no text of a report gets out -----------------------------------------------------------------


@pytest.mark.parametrize(
    "column",
    ["cardiomegaly", "view", "age", "path", "source_labels", "sha256", "boxes", "split", "sex"],
)
def test_a_report_in_the_wrong_column_is_not_quoted(column, caplog):
    caplog.set_level(logging.DEBUG)
    frame = make(**{column: {2: ("../" if column == "path" else "") + REPORT}})
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = wb.data.check(frame)
    said = json.dumps(result.to_dict()) + str(result) + result._repr_html_() + caplog.text
    said += " ".join(str(w.message) for w in seen) + result.to_frame().to_csv()
    assert not result.ok
    assert any(problem.row == 2 for problem in result.problems)
    assert "Zwickelmann" not in said
    assert "effusion" not in said.lower()


def test_load_refuses_without_quoting_a_report(tmp_path):
    path = tmp_path / "m.csv"
    make(cardiomegaly={2: REPORT}).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"m\.csv: 1 problems, such as row 2, cardiomegaly") as got:
        wb.data.load(path)
    said = "".join(traceback.format_exception(got.value))
    assert "Zwickelmann" not in said
    assert len(wb.data.load(path, check=False)) == 8


@pytest.mark.parametrize(
    ("column", "value", "seen"),
    [
        ("age", "411", "411"),
        ("cardiomegaly", "presnt", "presnt"),
        ("cardiomegaly", "not mentionned", "not mentionned"),
        ("cardiomegaly", "large left effusion", None),
        ("source_labels", "derrame pleural masivo", "derrame pleural masivo"),
        ("source_labels", "a b c d e f g", None),
        ("source_labels", "Normal. No change", None),
        ("path", "../a b/c.png", "../a b/c.png"),
        ("report_findings", "clear", None),
        ("image_id", "x" * 81, None),
    ],
)
def test_only_short_values_that_are_no_sentence_are_shown(column, value, seen):
    expected = seen if seen is not None else f"({len(value)} characters, not shown)"
    assert shown(column, value) == expected


# --- limits and options ---------------------------------------------------------------------------


def test_all_are_counted_and_some_are_listed():
    frame = make(40, age={n: "200" for n in range(40)})
    result = wb.data.check(frame, limit=7)
    assert len(result.problems) == 7
    assert result.counts == {"age-range": 40}
    assert result.total == 40


def test_unknown_rules_and_limits_are_refused():
    with pytest.raises(OptionError, match=r"rules must be of missing-column, .* got moon"):
        wb.data.check(make(), rules=["moon"])
    with pytest.raises(OptionError, match=r"limit at least 1, got 0"):
        wb.data.check(make(), limit=0)
    with pytest.raises(InputError, match=r"no such folder"):
        wb.data.check(make(), root="/nowhere/at/all")


def test_rules_can_be_chosen():
    frame = make(age={0: "411"}, cardiomegaly={1: "presnt"})
    assert [p.rule for p in wb.data.check(frame, rules=["age-range"]).problems] == ["age-range"]
