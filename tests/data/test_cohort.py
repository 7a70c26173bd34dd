"""Splits are patient-disjoint, stratified and seeded; official ones are honoured; lists apply."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench as wb
from workbench.data.frames import conform
from workbench.data.manifest import Manifest
from workbench.errors import InputError, OptionError


def made(patients: int = 211, seed: int = 0, source: str = "nih") -> Manifest:
    """Patients with one to five images; a rare and a common finding that belong to patients."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
    rare, common = rng.random(patients) < 0.06, rng.random(patients) < 0.4
    n = len(patient)
    frame = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(n)],
            "path": [f"i{k}.png" for k in range(n)],
            "patient_id": [f"p{k}" for k in patient],
            "study_id": [f"s{k}" for k in range(n)],
            "source": source,
            "licence": "made",
            "pneumothorax": np.where(rare[patient], "present", "not mentioned"),
            "pleural effusion": np.where(common[patient], "present", "absent"),
        }
    )
    return Manifest(conform(frame))


def parts(manifest) -> dict[str, set]:
    frame = manifest.frame
    known = frame[frame["split"].notna()]
    return {str(k): set(v) for k, v in known.groupby("split", observed=True)["patient_id"]}


@given(st.integers(0, 10_000), st.integers(1, 60))
@settings(max_examples=30, deadline=None)
def test_no_patient_is_in_two_parts_and_all_are_in_one(seed, patients):
    manifest = wb.data.split(made(patients, seed), seed=seed)
    found = list(parts(manifest).values())
    patients_in_all = manifest.frame["patient_id"].nunique()
    assert sum(map(len, found)) == len(set().union(*found)) == patients_in_all
    assert manifest.frame["split"].notna().all()
    assert manifest.check(rules=["patient-in-two-splits"]).ok


def test_shares_and_rare_findings_come_out_right():
    manifest = wb.data.split(made(1511), fractions={"train": 0.7, "validate": 0.1, "test": 0.2})
    frame = manifest.frame
    share = frame["split"].value_counts(normalize=True)
    assert share["train"] == pytest.approx(0.7, abs=0.01)
    rare = frame[frame["pneumothorax"] == "present"]["split"].value_counts(normalize=True)
    assert rare["test"] == pytest.approx(0.2, abs=0.03)
    assert rare["validate"] == pytest.approx(0.1, abs=0.03)


def test_a_seed_decides_and_another_one_differs():
    manifest = made()
    one, two = wb.data.split(manifest, seed=3), wb.data.split(manifest, seed=3)
    assert one.digest() == two.digest()
    assert wb.data.split(manifest, seed=4).digest() != one.digest()
    assert manifest.frame["split"].isna().all(), "the original stays"


def test_an_official_split_is_honoured():
    manifest = made()
    frame = manifest.frame.copy()
    official = frame["patient_id"].isin([f"p{k}" for k in range(40)])
    first = official & ~frame["patient_id"].duplicated()
    frame["split"] = pd.Categorical(np.where(first, "test", None), ["train", "validate", "test"])
    divided = wb.data.split(manifest.with_frame(frame), fractions={"train": 1})
    assert (divided.frame.loc[official, "split"] == "test").all(), "other images follow the patient"
    assert (divided.frame.loc[~official, "split"] == "train").all()
    with pytest.raises(OptionError, match=r"every row has a split already, which is honoured"):
        wb.data.split(divided)
    inner = wb.data.split(divided, within="train", fractions={"train": 0.9, "validate": 0.1})
    assert (inner.frame.loc[official, "split"] == "test").all()
    assert set(parts(inner)) == {"train", "validate", "test"}
    again = wb.data.split(divided, replace=True)
    assert parts(again) == parts(wb.data.split(manifest))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fractions": {"training": 1.0}}, r"fractions must give train, validate, test"),
        ({"fractions": {"train": -1.0}}, r"shares of at least 0"),
        ({"within": "train"}, r"no row is in the split 'train'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        wb.data.split(made(), **options)


# --- subsets --------------------------------------------------------------------------------------


def test_subset_serves_every_finding_from_many_patients():
    picked = wb.data.subset(made(997), per_finding=20, seed=1)
    frame = picked.frame
    for finding in ("pneumothorax", "pleural effusion"):
        shown = frame[frame[finding] == "present"]
        assert len(shown) >= 20
    rare = frame[frame["pneumothorax"] == "present"]
    assert rare["patient_id"].nunique() == len(rare) == 20
    assert len(picked) <= 40
    assert wb.data.subset(made(997), per_finding=20, seed=1).digest() == picked.digest()


def test_subset_says_what_falls_short():
    picked = wb.data.subset(made(), per_finding=500, findings=["pneumothorax", "nodule"])
    assert any(note.startswith("nodule: only 0 of 500") for note in picked.notes)
    assert set(picked.frame["pneumothorax"]) == {"present"}
    with pytest.raises(OptionError, match="per_finding must be a whole number of 1 or more"):
        wb.data.subset(made(), per_finding=0)
    with pytest.raises(OptionError, match="unknown finding 'gremlin'"):
        wb.data.subset(made(), findings=["gremlin"])


# --- published lists ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        ["i3", "i8"],
        ["images/i3.png", "images/i8.png"],
        ["dicom_id,study_id", "i3,x", "i8,y"],
        ["s3", "s8"],
    ],
)
def test_a_published_list_becomes_the_test_set(tmp_path, lines):
    manifest = wb.data.split(made(), fractions={"train": 1})
    path = tmp_path / "list.csv"
    path.write_text("\n".join(lines) + "\n")
    applied = wb.data.apply_split(manifest, path)
    frame = applied.frame
    assert set(frame.loc[frame["split"] == "test", "image_id"]) == {"i3", "i8"}
    assert applied.check(rules=["patient-in-two-splits"]).ok
    others = frame["patient_id"].isin(frame.loc[frame["split"] == "test", "patient_id"])
    assert frame.loc[others & (frame["split"] != "test"), "split"].isna().all()


def test_studies_of_mimic_are_known_without_their_letter(tmp_path):
    manifest = made(source="mimic-cxr")
    (tmp_path / "list.txt").write_text("study_id\n3\n8\n")
    applied = wb.data.apply_split(manifest, tmp_path / "list.txt")
    assert set(applied.frame.loc[applied.frame["split"] == "test", "study_id"]) == {"s3", "s8"}


def test_a_list_of_another_data_set_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("zzz\n")
    with pytest.raises(InputError, match=r"none of its 1 names is in the manifest"):
        wb.data.apply_split(made(), tmp_path / "list.txt")
    with pytest.raises(InputError, match=r"nowhere\.txt: no such file"):
        wb.data.apply_split(made(), tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match=r"no column 'case'; it has: zzz"):
        wb.data.apply_split(made(), tmp_path / "list.txt", column="case")
    with pytest.raises(OptionError, match=r"name must be one of train"):
        wb.data.apply_split(made(), tmp_path / "list.txt", name="holdout")


# --- frozen cohorts -------------------------------------------------------------------------------


def test_a_frozen_cohort_is_verified_and_changes_are_named(tmp_path):
    manifest = wb.data.split(made())
    cohort = wb.data.freeze(manifest, tmp_path / "c.json", name="teaching")
    assert wb.data.verify(manifest, tmp_path / "c.json").ok
    assert wb.data.verify(wb.data.load(manifest.save(tmp_path / "m.csv")), cohort).require().ok

    frame = manifest.frame.copy()
    frame.loc[4, "pneumothorax"] = "uncertain"
    changed = wb.data.verify(manifest.with_frame(frame), cohort)
    assert not changed
    assert changed.problems == ("the content of pneumothorax differs",)
    with pytest.raises(InputError, match=r"not the frozen cohort: the content of pneumothorax"):
        changed.require()

    fewer = wb.data.verify(manifest.select(np.arange(len(manifest) - 2)), cohort)
    assert fewer.problems[0].startswith("2 images of the cohort are missing")
    moved = manifest.with_frame(
        manifest.frame.assign(split=manifest.frame["split"].iloc[::-1].array)
    )
    assert any("in another split" in problem for problem in wb.data.verify(moved, cohort).problems)


def test_a_cohort_file_is_small_stable_and_guarded(tmp_path):
    manifest = wb.data.split(made())
    one = wb.data.freeze(manifest, tmp_path / "a.json", name="x")
    two = wb.data.freeze(manifest, tmp_path / "b.json", name="x")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert one.digest == two.digest
    assert "report" not in " ".join(one.images["train"])
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace('"nih/i3"', '"nih/i3x"'))
    with pytest.raises(InputError, match=r"a\.json: its hash does not fit its content"):
        wb.data.verify(manifest, tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(InputError, match=r"a\.json: not a cohort file"):
        wb.data.verify(manifest, tmp_path / "a.json")


def test_verify_compares_the_files_too(films, tmp_path):
    folder = films("a.png", "b.png", folder=tmp_path / "films")
    manifest = wb.data.build("folder", source=folder)
    cohort = wb.data.freeze(manifest)
    assert wb.data.verify(manifest, cohort, root=folder).ok
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    found = wb.data.verify(manifest, cohort, root=folder)
    assert found.problems == ("1 files are missing or changed (first: b.png)",)


@pytest.mark.parametrize("line", ["IMAGES\\I3.PNG", " i3 ", "elsewhere/i3.dcm", "I3"])
def test_names_of_a_list_meet_in_any_form_and_are_counted(tmp_path, line):
    (tmp_path / "list.txt").write_text(f"{line}\nnobody\n")
    manifest = made()
    applied = wb.data.apply_split(manifest, tmp_path / "list.txt")
    listed = applied.frame.loc[applied.frame["split"] == "test", "image_id"]
    assert listed.tolist() == ["i3"]
    assert "1 of whose 2 names are in the manifest" in applied.notes[-1]


def test_names_that_folders_tell_apart_stay_apart(tmp_path):
    for name in ("a/1.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    manifest = wb.data.build("folder", source=tmp_path, hash_files=False)
    (tmp_path / "list.txt").write_text("a/1.png\n")
    applied = wb.data.apply_split(manifest, tmp_path / "list.txt")
    assert applied.frame["split"].notna().tolist() == [True, False, False]


def test_a_damaged_list_is_refused_by_row(tmp_path):
    (tmp_path / "list.csv").write_text("dicom_id,study_id\ni3,x\ni8\n")
    with pytest.raises(InputError, match=r"row 2 \(line 3\): 1 cells"):
        wb.data.apply_split(made(), tmp_path / "list.csv")
