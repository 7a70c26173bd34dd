"""Small files in the official format of each source become the manifest that they should."""

from __future__ import annotations

import json

import pytest

import workbench as wb
from workbench.data.frames import conform
from workbench.errors import InputError, OptionError

#: Stands in the reports of the fixtures.
SECRET = "Zwickelmann"


def rows(manifest) -> dict[str, dict]:
    return {row["image_id"]: row for row in manifest.frame.to_dict("records")}


def test_nih_labels_boxes_and_official_lists(nih):
    manifest = wb.data.build("nih", source=nih)
    found = rows(manifest)
    one, two, three, four, five = (found[name] for name in sorted(found))
    assert (one["cardiomegaly"], one["emphysema"]) == ("present", "present")
    assert one["atelectasis"] == "not mentioned"
    assert two["no finding"] == "present"
    assert two["cardiomegaly"] == "not mentioned", "unmentioned is not absent"
    assert (four["infiltration"], four["lung opacity"]) == ("not mentioned", "not mentioned")
    assert (four["mass"], four["nodule"], four["lung lesion"]) == ("present",) * 3
    assert five["pleural thickening"] == "present"
    assert [row["split"] for row in (one, two, three, four, five)] == ["train"] * 2 + ["test"] * 3
    (box,) = wb.data.from_cell(three["boxes"])
    assert (box["finding"], box["label"], box["width"]) == ("infiltration", "Infiltrate", 86.78)
    assert (one["age"], one["sex"], one["view"], one["path"]) == (
        57, "male", "PA", "images/00000001_000.png",
    )  # fmt: skip
    assert manifest.check().ok


def test_nih_finds_images_in_the_numbered_folders(nih, films):
    films("images_001/images/00000001_000.png", "images_002/images/00000002_000.png", folder=nih)
    manifest = wb.data.build("nih", source=nih)
    found = rows(manifest)
    assert found["00000002_000"]["path"] == "images_002/images/00000002_000.png"
    assert len(found["00000002_000"]["sha256"]) == len(found["00000001_000"]["dhash"]) == 64
    assert found["00000001_001"]["path"] == "images/00000001_001.png"


def test_nih_adjudicated_says_absent_too(nih):
    manifest = wb.data.build("nih", source=nih, labels="adjudicated")
    found = rows(manifest)
    assert len(found) == 3
    assert found["00000013_008"]["lung opacity"] == "present"
    assert found["00000013_008"]["lung lesion"] == "absent"
    assert found["00000013_026"]["pneumothorax"] == "uncertain"
    assert found["00000001_000"]["split"] == "validate"
    assert set(manifest.frame["provenance"]) == {"adjudicated"}
    assert found["00000001_000"]["cardiomegaly"] == "not mentioned"


def test_nih_first_release_ages(tmp_path):
    (tmp_path / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position\n"
        "00000001_000.png,No Finding,0,1,058Y,M,PA\n"
        "00000002_000.png,No Finding,0,2,003M,M,PA\n"
        "00000003_000.png,No Finding,0,3,411Y,M,PA\n"
    )
    manifest = wb.data.build("nih", source=tmp_path)
    assert manifest.frame["age"].tolist() == [58, 0, 411]
    (problem,) = manifest.check().problems
    assert (problem.row, problem.column, problem.rule, problem.value) == (
        2,
        "age",
        "age-range",
        "411",
    )
    fixed = wb.data.build("nih", source=tmp_path, repair=True)
    assert fixed.check().ok
    assert fixed.frame["age"].isna().tolist() == [False, False, True]


def test_chexpert_codes_and_sets(chexpert):
    manifest = wb.data.build("chexpert", source=chexpert)
    found = rows(manifest)
    train = found["train/patient00002/study2/view1_frontal"]
    assert train["cardiomegaly"] == "uncertain"
    assert train["lung opacity"] == "present"
    assert train["pneumonia"] == "not mentioned"
    assert found["train/patient00001/study1/view1_frontal"]["pneumothorax"] == "absent"
    assert found["train/patient00002/study2/view2_lateral"]["view"] == "lateral"
    valid = found["valid/patient64541/study1/view1_frontal"]
    assert (valid["split"], valid["provenance"]) == ("validate", "radiologist")
    assert valid["pneumonia"] == "absent"
    assert train["provenance"] == "report-mined"
    assert manifest.summary()["patients"] == 3


@pytest.mark.parametrize("inside", [True, False])
def test_chexpert_paths_fit_the_folder_that_was_given(chexpert, films, inside):
    films("train/patient00001/study1/view1_frontal.jpg", folder=chexpert)
    manifest = wb.data.build("chexpert", source=chexpert if inside else chexpert.parent)
    row = list(manifest.frame["image_id"]).index("train/patient00001/study1/view1_frontal")
    assert manifest.path(row).is_file()


def test_mimic_labels_split_and_report_sections(mimic):
    manifest = wb.data.build("mimic-cxr", source=mimic)
    frontal, lateral, other = manifest.frame.to_dict("records")
    assert frontal["path"].startswith("files/p10/p10000032/s50414267/02aa804e")
    assert (frontal["view"], lateral["view"], other["view"]) == ("PA", "lateral", "AP")
    assert (frontal["split"], other["split"]) == ("train", "test")
    assert frontal["no finding"] == lateral["no finding"] == "present"
    assert other["atelectasis"] == "uncertain"
    assert other["consolidation"] == "present"
    assert other["pleural effusion"] == "absent"
    assert other["cardiomegaly"] == "not mentioned"
    assert frontal["report_impression"] == "No acute process."
    assert frontal["report_indication"] == "Made for a test."
    assert frontal["report_findings"].startswith("The lungs are clear.")
    assert other["report_findings"] is None or other["report_findings"] != other["report_findings"]
    assert manifest.check().ok


@pytest.mark.parametrize(("labels", "code"), [("chexpert", "uncertain"), ("negbio", "present")])
def test_mimic_labelers_are_told_apart(mimic, labels, code):
    manifest = wb.data.build("mimic-cxr", source=mimic, labels=labels)
    assert "present" if code == "present" else code in set(manifest.frame["atelectasis"])
    assert (manifest.frame["atelectasis"] == code).sum() == 1


def test_mimic_radiologist_labels_hold_the_test_studies_only(mimic):
    manifest = wb.data.build("mimic-cxr", source=mimic, labels="radiologist")
    assert len(manifest) == 1
    assert manifest.frame["provenance"].tolist() == ["report-read"]
    assert manifest.frame["atelectasis"].tolist() == ["absent"]


def test_mimic_without_reports(mimic):
    manifest = wb.data.build("mimic-cxr", source=mimic, reports=False)
    assert manifest.frame["report_findings"].isna().all()


def test_brixia_scores_by_zone(brixia):
    manifest = wb.data.build("brixia", source=brixia)
    found = rows(manifest)
    severity = wb.data.from_cell(found["5674"]["severity"])
    assert severity == {"A": 0, "B": 0, "C": 0, "D": 1, "E": 2, "F": 0, "global": 3}
    assert wb.data.from_cell(found["5674"]["locations"]) == {
        "lung opacity": ["left", "mid", "upper"]
    }
    assert [found[i]["lung opacity"] for i in ("5673", "5674", "5675")] == [
        "present", "present", "absent",
    ]  # fmt: skip
    assert (found["5675"]["sex"], found["5675"]["age"]) == ("female", 45)
    assert manifest.summary()["patients"] == 3
    assert found["5676"]["split"] == "test"
    consensus = wb.data.build("brixia", source=brixia, labels="consensus")
    assert wb.data.from_cell(consensus.frame["severity"].iloc[0])["F"] == 2


def test_brixia_names_an_unreadable_score(brixia):
    path = brixia / "metadata_global_v2.csv"
    path.write_text(path.read_text().replace("112233", "912233"))
    found = rows(wb.data.build("brixia", source=brixia))["5673"]
    assert found["lung opacity"] == "not mentioned"
    assert "unreadable" in found["severity"]


def test_rsna_covid_appearances_and_boxes(rsna_covid):
    manifest = wb.data.build("rsna-covid", source=rsna_covid)
    found = rows(manifest)
    assert manifest.summary()["boxes"] == 2
    assert manifest.summary()["studies"] == 4
    pneumonia = [found[i]["pneumonia"] for i in ("000a312787f2", "000c3a3f293f", "0012ff7358bc")]
    assert pneumonia == ["present", "uncertain", "absent"]
    assert found["001bd15d1891"]["covid-19 pneumonia"] == "uncertain"
    assert found["001bd15d1891"]["lung opacity"] == "present"
    assert found["001398f4ff4f"]["lung opacity"] == "absent"
    assert found["0012ff7358bc"]["atelectasis"] == "not mentioned"


def test_padchest_spanish_labels_and_places(padchest):
    manifest = wb.data.build("padchest", source=padchest)
    frame = manifest.frame.set_index("image_id")
    effusion = frame["pleural effusion"].tolist()
    assert effusion == ["not mentioned", "present", "present", "not mentioned", "not mentioned"]
    assert frame["pneumonia"].tolist()[1:3] == ["present", "present"]
    assert frame["cardiomegaly"].tolist()[2] == "present"
    places = [json.loads(cell) for cell in frame["locations"].dropna()]
    assert places == [
        {"pleural effusion": ["lower", "right"]},
        {"pleural effusion": ["right"]},
    ]
    assert frame["provenance"].tolist() == ["report-read"] * 3 + ["report-mined"] * 2
    assert frame["age"].tolist() == [84] * 5
    (problem,) = manifest.check().problems
    assert (problem.rule, problem.value, problem.row) == ("unmapped-label", "sombra rarisima", 3)
    physician = wb.data.build("padchest", source=padchest, labels="physician")
    assert len(physician) == 3


def test_vindr_consensus_of_three_readers(vindr):
    manifest = wb.data.build("vindr-cxr", source=vindr)
    found = rows(manifest)
    assert found["aaa"]["cardiomegaly"] == "present"
    assert found["aaa"]["consolidation"] == "uncertain"
    assert found["aaa"]["lung opacity"] == "not mentioned", "a consolidation is an opacity"
    assert found["bbb"]["lung lesion"] == "uncertain"
    assert found["bbb"]["no finding"] == "present"
    assert found["bbb"]["cardiomegaly"] == "absent"
    assert found["bbb"]["fracture"] == "not mentioned", "this release does not label it"
    assert (found["ccc"]["split"], found["ccc"]["provenance"]) == ("test", "adjudicated")
    assert found["ccc"]["aortic enlargement"] == "present"
    assert manifest.summary()["boxes"] == 6
    boxes = wb.data.from_cell(found["aaa"]["boxes"])
    assert {box["reader"] for box in boxes} == {"R1", "R2", "R3"}
    assert [box["x"] for box in boxes if box["finding"] == "cardiomegaly"] == [101, 102, 103]


@pytest.mark.parametrize(
    ("labels", "code"),
    [("any", "present"), ("unanimous", "uncertain"), ("majority", "uncertain")],
)
def test_vindr_rule_is_a_choice(vindr, labels, code):
    found = rows(wb.data.build("vindr-cxr", source=vindr, labels=labels))
    assert found["aaa"]["consolidation"] == code


def test_openi_reports_headings_and_projections(openi):
    manifest = wb.data.build("openi", source=openi)
    frontal, lateral, without = manifest.frame.to_dict("records")
    assert (frontal["view"], lateral["view"], without["view"]) == ("frontal", "lateral", "unknown")
    assert frontal["pleural effusion"] == lateral["lung opacity"] == "present"
    assert json.loads(frontal["locations"]) == {
        "lung opacity": ["left", "lower"],
        "pleural effusion": ["left"],
    }
    assert without["no finding"] == "present"
    assert manifest.frame["path"].isna().tolist() == [False, False, True]
    assert SECRET in frontal["report_findings"]
    assert manifest.check().ok
    counts = manifest.summary()
    assert (counts["rows"], counts["images"], counts["studies"]) == (3, 2, 2)


def test_openi_refuses_entities(openi):
    (openi / "ecgen-radiology" / "3.xml").write_text(
        '<!DOCTYPE x [<!ENTITY a "aaaa">]><eCitation>&a;</eCitation>'
    )
    with pytest.raises(InputError, match="declares XML entities"):
        wb.data.build("openi", source=openi)


def test_phantoms_are_known_entirely(tmp_path):
    from workbench.commands.phantom import save

    for seed in (3, 4):
        save(wb.phantom(seed, findings=["nodule"] if seed == 3 else [], size=64), tmp_path)
    manifest = wb.data.build("phantom", source=tmp_path)
    with_nodule, normal = manifest.frame.to_dict("records")
    assert (with_nodule["nodule"], with_nodule["no finding"]) == ("present", "absent")
    assert (normal["nodule"], normal["no finding"]) == ("absent", "present")
    assert normal["fracture"] == "not mentioned", "no seed draws one"
    assert set(manifest.frame["provenance"]) == {"drawn"}
    assert manifest.path(0).is_file()
    assert manifest.check(root=tmp_path).ok


def test_views_of_a_ct_phantom_are_images_of_one_patient_and_name_their_source(tmp_path):
    from workbench.commands.phantom import save
    from workbench.phantom.ct.volume import CREDIT

    for view in ("PA", "AP", "LATERAL"):
        save(wb.phantom(3, domain="ct", findings=["nodule"], view=view, size=64), tmp_path)
    manifest = wb.data.build("phantom", source=tmp_path)
    frame = manifest.frame.set_index("image_id")
    assert frame["view"].to_dict() == {
        "phantom-ct-3": "PA", "phantom-ct-3-ap": "AP", "phantom-ct-3-lateral": "lateral",
    }  # fmt: skip
    assert set(frame["patient_id"]) == {"phantom-ct-3"}
    assert set(frame["licence"]) == {CREDIT}
    assert frame["locations"].str.contains("lobe").all()
    assert manifest.check(root=tmp_path).ok


# --- data of one's own ----------------------------------------------------------------------------


def test_folder_takes_patients_from_sub_folders(films):
    folder = films("anna/1.png", "anna/2.png", "bert/1.png")
    manifest = wb.data.build("folder", source=folder)
    assert manifest.frame["patient_id"].tolist() == ["anna", "anna", "bert"]
    assert manifest.frame["image_id"].tolist() == ["anna/1", "anna/2", "bert/1"]
    assert set(manifest.frame["atelectasis"]) == {"not mentioned"}
    assert manifest.check(root=folder).ok


def test_csv_understands_common_spellings(films):
    folder = films("a.png", "b.png")
    (folder / "table.csv").write_text(
        "File,Subject_ID,Gender,Age,Projection,Labels,Pneumonia,Set\n"
        "a.png,7,F,61,PA,Effusion|Nodule,absent,val\n"
        "b.png,8,M,,LL,No Finding,,train\n"
    )
    manifest = wb.data.build("csv", source=folder, provenance="radiologist", licence="mine")
    one, two = manifest.frame.to_dict("records")
    assert (one["patient_id"], one["sex"], one["age"], one["view"]) == ("7", "female", 61, "PA")
    assert (one["pleural effusion"], one["nodule"], one["pneumonia"]) == (
        "present", "present", "absent",
    )  # fmt: skip
    assert (two["pneumonia"], two["view"], two["split"]) == ("not mentioned", "lateral", "train")
    assert (one["split"], one["licence"], one["provenance"]) == ("validate", "mine", "radiologist")
    assert manifest.check(root=folder).ok


def test_csv_does_not_guess_what_0_means(films):
    folder = films("a.png")
    (folder / "table.csv").write_text("path,edema\na.png,0\n")
    result = wb.data.build("csv", source=folder).check()
    (problem,) = result.problems
    assert (problem.column, problem.rule, problem.value) == ("pulmonary edema", "unknown-code", "0")
    assert "absent or unknown" in problem.repair


def test_csv_absolute_paths_below_the_root_become_relative(films):
    folder = films("deep/a.png")
    (folder / "t.csv").write_text(f"path\n{folder}/deep/a.png\n/etc/hostname\n")
    manifest = wb.data.build("csv", source=folder)
    assert sorted(manifest.frame["path"]) == ["/etc/hostname", "deep/a.png"]
    assert manifest.frame["sha256"].notna().sum() == 1
    assert [problem.rule for problem in manifest.check().problems] == ["path-outside-root"]


# --- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nih", r"no Data_Entry_2017_v2020\.csv or .* published at https://nihcc"),
        ("chexpert", r"no train\.csv"),
        ("mimic-cxr", r"no mimic-cxr-2\.\*-metadata\.csv .*workbench manifest card mimic-cxr"),
        ("padchest", r"no PADCHEST"),
        ("vindr-cxr", r"no annotations"),
        ("brixia", r"no metadata_global"),
        ("rsna-covid", r"no train_study_level"),
        ("openi", r"NLMCXR_reports\.tgz"),
        ("rsna-pneumonia", r"no stage_2_train_labels"),
        ("siim-pneumothorax", r"no train-rle"),
        ("phantom", r"draw some first"),
        ("folder", r"no images"),
        ("csv", r"0 CSV files"),
    ],
)
def test_an_empty_folder_says_what_to_fetch(name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        wb.data.build(name, source=tmp_path)


def test_a_missing_folder_and_an_unknown_source_say_so(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        wb.data.build("nih", source=tmp_path / "nowhere")
    with pytest.raises(OptionError, match=r"unknown source 'mnist'; expected one of: nih"):
        wb.data.build("mnist", source=tmp_path)


def test_a_table_of_another_kind_lists_its_columns(tmp_path):
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"no column 'Image Index'.*it has: a, b"):
        wb.data.build("nih", source=tmp_path)


def test_unknown_labels_option_lists_the_sets(nih):
    with pytest.raises(OptionError, match=r"labels of nih must be one of mined, adjudicated"):
        wb.data.build("nih", source=nih, labels="gold")


def test_conform_keeps_what_it_does_not_understand():
    import pandas as pd

    frame = conform(pd.DataFrame({"image_id": ["b", "a"], "age": ["old", "3"], "colour": [1, 2]}))
    assert frame["age"].tolist() == ["3", "old"]
    assert frame["colour"].tolist() == [2, 1]


# --- faults in the official files are kept, and named by the check --------------------------------


def spoiled(path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def only_problem(manifest) -> tuple:
    (problem,) = manifest.check().problems
    return problem.column, problem.rule, problem.value


def test_a_label_typo_in_a_list_is_named(nih):
    spoiled(nih / "Data_Entry_2017_v2020.csv", "Infiltration", "Infiltratoin")
    found = only_problem(wb.data.build("nih", source=nih))
    assert found == ("source_labels", "unmapped-label", "Infiltratoin")


def test_an_age_that_is_none_is_named(nih):
    spoiled(nih / "Data_Entry_2017_v2020.csv", ",80,F", ",8O,F")
    assert only_problem(wb.data.build("nih", source=nih)) == ("age", "age-range", "8O")


def test_a_patient_in_both_official_lists_is_named(nih):
    spoiled(nih / "test_list.txt", "00000013_026.png", "00000001_001.png")
    spoiled(nih / "train_val_list.txt", "00000001_001.png", "00000013_026.png")
    result = wb.data.build("nih", source=nih).check()
    assert result.counts == {"patient-in-two-splits": 2}
    assert {problem.value for problem in result.problems} == {"1", "13"}


def test_a_cell_that_is_no_code_is_named(chexpert):
    spoiled(chexpert / "train.csv", ",AP,1.0,", ",AP,l.0,")
    found = only_problem(wb.data.build("chexpert", source=chexpert))
    assert found == ("no finding", "unknown-code", "l.0")


def test_a_column_that_is_not_there_is_said(chexpert):
    for name in ("train.csv", "valid.csv"):
        spoiled(chexpert / name, ",Edema,", ",Oedema,")
    manifest = wb.data.build("chexpert", source=chexpert)
    assert "no column Edema: not mentioned" in manifest.notes
    assert set(manifest.frame["pulmonary edema"]) == {"not mentioned"}


def test_a_split_that_does_not_exist_is_named(mimic):
    import gzip

    path = mimic / "mimic-cxr-2.0.0-split.csv.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b",test", b",tets")))
    found = only_problem(wb.data.build("mimic-cxr", source=mimic))
    assert found == ("split", "unknown-value", "tets")


def test_a_class_that_does_not_exist_is_named(vindr):
    for name in ("image_labels_train.csv", "annotations_train.csv"):
        path = vindr / "annotations" / name
        path.write_text(path.read_text().replace("Cardiomegaly", "Cardiomegally"))
    (problem,) = wb.data.build("vindr-cxr", source=vindr).check().problems
    assert (problem.rule, problem.value) == ("unmapped-label", "Cardiomegally")


def test_an_unreadable_score_is_named(brixia):
    spoiled(brixia / "metadata_global_v2.csv", "112233", "912233")
    found = only_problem(wb.data.build("brixia", source=brixia))
    assert found == ("source_labels", "unmapped-label", "score 912233")


@pytest.mark.parametrize("name", ["nih", "chexpert", "brixia", "rsna_covid"])
def test_a_file_without_rows_is_an_empty_manifest(name, request):
    folder = request.getfixturevalue(name)
    for path in folder.glob("*.csv"):
        path.write_text(path.read_text().splitlines()[0] + "\n")
    manifest = wb.data.build(name.replace("_", "-"), source=folder)
    assert len(manifest) == 0
    assert manifest.check().ok
    assert manifest.summary()["patients"] == 0
