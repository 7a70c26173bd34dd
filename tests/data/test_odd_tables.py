"""What a source does not understand is kept for the check, or refused with row and column."""

from __future__ import annotations

import gzip
import json

import pandas as pd
import pytest

import workbench as wb
from workbench.data.frames import conform
from workbench.data.manifest import column_digests
from workbench.errors import InputError

RSNA = "stage_2_train_labels.csv"
RSNA_HEAD = "patientId,x,y,width,height,Target\n"
COVID = "train_study_level.csv"
COVID_IMAGES = "train_image_level.csv"
COVID_HEAD = (
    "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance\n"
)
SIIM = "train-rle.csv"
BRIXIA = "metadata_global_v2.csv"
BRIXIA_HEAD = "Filename;BrixiaScore;ConsensusTestset;Subject;Sex;AgeAtStudyDateFiveYear\n"
MODES = "Filename,ModeA,ModeB,ModeC,ModeD,ModeE,ModeF\n"
NIH = "Data_Entry_2017_v2020.csv"
NIH_HEAD = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
)
NIH_ROWS = NIH_HEAD + "1_0.png,mass|NODULE,0,1,57,m,pa\n2_0.png,Pleural Thickening,0,2,58,F,AP\n"
BOXES = "BBox_List_2017.csv"
BOXES_HEAD = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
CHEXPERT_HEAD = "Path,Sex,Age,Frontal/Lateral,AP/PA,"
META = "mimic-cxr-2.0.0-metadata.csv"
LABELS = "mimic-cxr-2.0.0-chexpert.csv"
SPLIT = "mimic-cxr-2.0.0-split.csv"
META_ROWS = (
    "dicom_id,subject_id,study_id,ViewPosition\nd1,10000032,50414267,PA\nd2,10000033,50414268,AP\n"
)
PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
PADCHEST_HEAD = (
    "ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,"
    "MethodLabel,Report,Labels,LabelsLocalizationsBySentence\n"
)
VINDR = "train.csv"
VINDR_HEAD = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
WIDE = "image_labels_train.csv"
MARKS = "annotations_train.csv"
MARKS_HEAD = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n"


@pytest.fixture
def build(tmp_path):
    """Build a source from texts: `build("nih", {"a.csv": "..."})`."""

    def made(source: str, files: dict[str, str], **options):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        return wb.data.build(source, source=tmp_path, hash_files=False, **options)

    return made


def column(manifest, name: str) -> list:
    cells = manifest.frame.set_index("image_id")[name].astype(object)
    return [None if pd.isna(cell) else cell for cell in cells.sort_index()]


def named(manifest) -> set[tuple]:
    """Row, column and rule of every problem."""
    return {(found.row, found.column, found.rule) for found in manifest.check().problems}


# --- cells ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("1", "present"), ("1.0", "present"), ("True", "present"), (" TRUE ", "present"),
        ("0", "absent"), ("0.0", "absent"), ("-0", "absent"), ("false", "absent"),
        ("", "not mentioned"), ("NaN", "not mentioned"), ("None", "not mentioned"),
        ("yes", "yes"), ("2", "2"), ("-1", "-1"), ("l", "l"), ("1;0", "1;0"),
    ],
)  # fmt: skip
def test_one_cell_is_read_alike_by_every_source_of_ticks(build, tmp_path, cell, code):
    codes = {
        "rsna-pneumonia": ("pneumonia", {RSNA: f"{RSNA_HEAD}a,,,,,{cell}\n"}),
        "rsna-covid": (
            "pneumonia",
            {
                COVID: f"{COVID_HEAD}s_study,0,{cell},0,0\n",
                COVID_IMAGES: "id,boxes,label,StudyInstanceUID\na_image,,x,s\n",
            },
        ),
        "vindr-cxr": (
            "pulmonary edema",
            {
                WIDE: f"image_id,rad_id,Edema\na,R1,{cell}\n",
                MARKS: f"{MARKS_HEAD}a,R1,Edema,1,2,3,4\n",
            },
        ),
    }
    if code == "-1":
        codes["chexpert"] = ("pneumonia", {})
    for source, (finding, files) in codes.items():
        if not files:
            continue
        manifest = build(source, files)
        found = column(manifest, finding)[0]
        if source == "rsna-covid" and code == "absent":
            assert found == "not mentioned", "no appearance was ticked"
            continue
        assert found == code, source
        bad = code not in ("present", "absent", "not mentioned")
        assert any(rule == "unknown-code" for _, _, rule in named(manifest)) == bad, source


def test_chexpert_cells_views_and_sexes_that_are_not_understood_are_named(build):
    manifest = build(
        "chexpert",
        {
            "train.csv": CHEXPERT_HEAD + "edema,No Finding \n"
            "train/patient1/study1/view1_frontal.jpg,female,68,Sagittal,AP,TRUE,0\n"
            "train/patient2/study1/view1_lateral.jpg,Q,x,,,?,-1.0\n"
            "train/patient3/study1/view1_frontal.jpg,nan,NaN,,nan,,\n"
        },
    )
    assert column(manifest, "pulmonary edema") == ["present", "?", "not mentioned"]
    assert column(manifest, "no finding") == ["absent", "uncertain", "not mentioned"]
    assert column(manifest, "view") == ["Sagittal", "lateral", "frontal"]
    assert named(manifest) == {
        (0, "view", "unknown-value"), (1, "sex", "unknown-value"), (1, "age", "age-range"),
        (1, "pulmonary edema", "unknown-code"),
    }  # fmt: skip


def test_an_empty_score_is_not_a_score_of_0(build):
    manifest = build(
        "brixia",
        {
            BRIXIA: BRIXIA_HEAD
            + "1.dcm;;0;a;M;13\n2.dcm;112233.0;1.0;b;X;old\n3.dcm;nan;maybe;c;F;\n4.dcm;0;;d;F;2\n"
        },
    )
    assert column(manifest, "lung opacity") == [
        "not mentioned", "present", "not mentioned", "absent",
    ]  # fmt: skip
    assert column(manifest, "split") == ["train", "test", "maybe", None]
    assert named(manifest) == {
        (1, "sex", "unknown-value"), (1, "age", "age-range"), (2, "split", "unknown-value"),
    }  # fmt: skip


def test_an_empty_outline_is_not_an_absent_one(build):
    manifest = build(
        "siim-pneumothorax",
        {SIIM: "ImageId, EncodedPixels\na,-1\nb,\nc,1 2 3 4\nd, -1.0\ne,-1\ne,1 2\n"},
    )
    assert column(manifest, "pneumothorax") == [
        "absent", "not mentioned", "present", "absent", "absent|present",
    ]  # fmt: skip
    assert named(manifest) == {(4, "pneumothorax", "unknown-code")}


@pytest.mark.parametrize("cell", ["1 2 3", "seen", "1,2", "1 -2"])
def test_an_outline_that_is_none_is_refused(build, cell):
    with pytest.raises(InputError, match=r"train-rle\.csv, row 2, column 'EncodedPixels'"):
        build("siim-pneumothorax", {SIIM: f'ImageId,EncodedPixels\na,-1\nb,"{cell}"\n'})


def test_two_appearances_of_one_study_are_not_settled_in_silence(build):
    manifest = build(
        "rsna-covid",
        {
            COVID: COVID_HEAD + "s_study,1,1,0,0\nT_study,True,False,False,False\n",
            COVID_IMAGES: "id,boxes,label,StudyInstanceUID\na_image,,x,s\nb_image,,x,t\n",
        },
    )
    assert column(manifest, "pneumonia")[1] == "absent"
    assert (0, "pneumonia", "unknown-code") in named(manifest)


def test_rows_of_one_image_that_contradict_each_other_are_named(build):
    manifest = build("rsna-pneumonia", {RSNA: RSNA_HEAD + "a,,,,,0\na,1,2,3,4,1\n"})
    assert column(manifest, "pneumonia") == ["absent|present"]
    assert not manifest.check().ok


def test_lists_that_are_none_are_kept(build):
    manifest = build(
        "padchest",
        {
            PADCHEST: PADCHEST_HEAD
            + 'a.png,0,20140915,S1,P1,19x0,f,pa,physician,x,"[pleural effusion]","[[\'a\'"\n'
            "b.png,0,2014,S2,P2,1950,?,XX,Robot,x,pleural effusion,\n"
            "c.png,0,abc,S3,P3,1950,F,PA,Physician,x,\"['Pleural_Effusion', nan]\",[nan]\n"
            "d.png,0,2014,S4,P4,1950,F,PA,Physician,x,,\n"
        },
    )
    assert column(manifest, "pleural effusion") == [
        "not mentioned", "present", "present", "not mentioned",
    ]  # fmt: skip
    assert column(manifest, "source_labels")[0] == "[pleural effusion]"
    assert named(manifest) == {
        (0, "source_labels", "unmapped-label"), (0, "locations", "json"), (0, "age", "age-range"),
        (1, "sex", "unknown-value"), (1, "view", "unknown-value"),
        (1, "provenance", "unknown-value"), (2, "age", "age-range"),
    }  # fmt: skip


def test_a_reader_who_left_a_cell_empty_did_not_say_no(build):
    manifest = build(
        "vindr-cxr",
        {
            WIDE: "image_id,rad_id,edema,Cardiomegaly\n"
            "a,R1,True,1.0\na,R2,,0\na,R3,maybe,0.0\nb,R1,,\n",
            MARKS: MARKS_HEAD + "A.dicom,R1,Zzz,1,2,3,4\nq,R1,Edema,1,2,3,4\n",
        },
    )
    assert column(manifest, "pulmonary edema") == ["maybe", "not mentioned"]
    assert column(manifest, "cardiomegaly") == ["uncertain", "not mentioned"]
    assert named(manifest) == {
        (0, "pulmonary edema", "unknown-code"), (0, "source_labels", "unmapped-label"),
    }  # fmt: skip
    assert "1 of 2 boxes of train are on these images" in manifest.notes


@pytest.mark.parametrize(
    "names",
    [
        ("Pulmonary Fibrosis", "Pulmonary fibrosis"),
        (" pulmonary  FIBROSIS", "Pulmonary_fibrosis "),
    ],
)
def test_one_class_in_two_spellings_has_two_votes(build, names):
    rows = "".join(f"b,{name},13,R{at},1,2,3,4\n" for at, name in enumerate(names))
    manifest = build("vindr-cxr", {VINDR: VINDR_HEAD + rows + "b,No Finding,14,R3,,,,\n"})
    assert column(manifest, "pulmonary fibrosis") == ["present"]
    assert column(manifest, "no finding") == ["uncertain"]
    assert column(manifest, "source_labels") == ["No finding|Pulmonary fibrosis"]
    assert manifest.check().ok


def test_labels_of_phantoms_have_standard_names(build):
    record = {"image": "a.png", "seed": 1, "domain": "internal", "labels": {}}
    labels = {"Effusion": "Present", "nodule": "perhaps"}
    manifest = build("phantom", {"phantom_1.json": json.dumps(record | {"labels": labels})})
    assert column(manifest, "pleural effusion") == ["present"]
    assert named(manifest) == {(0, "nodule", "unknown-code")}
    for labels, message in (
        ({"nodul": "present"}, "unknown finding 'nodul'"),
        ({"effusion": "present", "Pleural effusion": "absent"}, "two labels stand for pleural eff"),
        (["nodule"], "labels: unknown finding"),
    ):
        with pytest.raises(InputError, match=message):
            build("phantom", {"phantom_1.json": json.dumps(record | {"labels": labels})})


def test_silent_labels_make_no_normal_phantom(build):
    record = {"image": "a.png", "seed": 1, "domain": "internal"}
    labels = {"nodule": "not mentioned", "cardiomegaly": "absent"}
    manifest = build("phantom", {"phantom_1.json": json.dumps(record | {"labels": labels})})
    assert column(manifest, "no finding") == ["not mentioned"]


# --- boxes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "files", "message"),
    [
        ("rsna-pneumonia", {RSNA: RSNA_HEAD + 'a,"1,5",2,3,4,1\n'}, "row 1, column 'x': 1,5 is"),
        ("rsna-pneumonia", {RSNA: RSNA_HEAD + "a,1,2,,4,1\n"}, "column 'width': an empty cell"),
        ("rsna-pneumonia", {RSNA: RSNA_HEAD + "a,1,2,3,inf,1\n"}, "column 'height': inf is"),
        ("nih", {NIH: NIH_ROWS, BOXES: BOXES_HEAD + "1_0.png,Mass,1,b,3,4\n"}, "column 'y': b"),
        ("vindr-cxr", {VINDR: VINDR_HEAD + "a,Edema,1,R1,1,2,x,4\n"}, "row 1, column 'x_max'"),
        ("vindr-cxr", {VINDR: VINDR_HEAD + "a,,1,R1,1,2,3,4\n"}, "column 'class_name': empty"),
        *(
            (
                "rsna-covid",
                {
                    COVID: COVID_HEAD + "s_study,0,1,0,0\n",
                    COVID_IMAGES: f'id,boxes,label,StudyInstanceUID\na_image,"{cell}",x,s\n',
                },
                "row 1, column 'boxes': no list of boxes",
            )
            for cell in ("x: 1", "[{'x': 1}]", "[1, 2]", "[{'x': 'a', 'y': 1}]", "[{'x': 1,")
        ),
    ],
)
def test_a_box_that_is_none_is_refused_with_row_and_column(build, source, files, message):
    with pytest.raises(InputError, match=message):
        build(source, files)


def test_a_box_of_an_unknown_label_is_kept_and_named(build):
    boxes = BOXES_HEAD + "1_0,MASS,1,2,3,4\n2_0.png,Granuloma,1,2,3,4,,,\n"
    manifest = build("nih", {NIH: NIH_ROWS, BOXES: boxes})
    assert manifest.summary()["boxes"] == 2
    assert named(manifest) == {(1, "source_labels", "unmapped-label")}


# --- joins ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "study", ["50414267", "50414267.0", "s50414267", " S50414267 ", "050414267"]
)
def test_studies_meet_whatever_a_spreadsheet_made_of_them(build, study):
    rows = f"subject_id,study_id,Atelectasis\n1,{study},1.0\n1,7,0\n"
    manifest = build("mimic-cxr", {META: META_ROWS, LABELS: rows})
    assert column(manifest, "atelectasis") == ["present", "not mentioned"]
    assert (
        f"labels for 1 of 2 studies; 1 of 2 rows of {LABELS} belong to none of them"
        in manifest.notes
    )
    assert build("mimic-cxr", {META: META_ROWS.replace("50414267", study)}).frame["path"].tolist()[
        0
    ] == ("files/p10/p10000032/s50414267/d1.jpg")


def test_rows_without_a_key_meet_nothing(build):
    meta = "dicom_id,subject_id,study_id\nd1,,\nd2,1,2\n"
    manifest = build("mimic-cxr", {META: meta, LABELS: "study_id,Edema\n2,0\n,1\n"})
    assert column(manifest, "pulmonary edema") == ["not mentioned", "absent"]
    assert (0, "study_id", "missing-value") in named(manifest)


def test_image_names_meet_with_folders_endings_and_in_any_case(build):
    lists = {"train_val_list.txt": "images\\1_0.PNG\n", "test_list.txt": "2_0\nzz.png\n"}
    manifest = build("nih", {NIH: NIH_ROWS} | lists)
    assert column(manifest, "split") == ["train", "test"]
    said = "train_val_list.txt and test_list.txt"
    assert (
        f"split for 2 of 2 images; 1 of 3 rows of {said} belong to none of them" in manifest.notes
    )


COVID_FILES = {COVID_IMAGES: "id,boxes,label,StudyInstanceUID\na_image,,x,s\n"}
OPENI = {
    "ecgen-radiology/1.xml": '<eCitation><uId id="CXR1"/><parentImage id="CXR1_1_IM-1"/>'
    "</eCitation>"
}
KAGGLE = "uid,filename,projection\n"


@pytest.mark.parametrize(
    ("source", "files", "message"),
    [
        ("mimic-cxr", {META: META_ROWS, LABELS: "study_id,Edema\n5,1\n"}, "labels for 0 of 2 stu"),
        ("mimic-cxr", {META: META_ROWS, LABELS: "study_id,Edema\n"}, "labels for 0 of 2 studies"),
        (
            "mimic-cxr",
            {
                META: META_ROWS,
                LABELS: "study_id,Edema\n50414267,1\n",
                SPLIT: "dicom_id,split\nq,\n",
            },
            "split for 0 of 2 images",
        ),
        (
            "mimic-cxr",
            {META: META_ROWS, LABELS: "study_id,Edema\n50414267,1\n", "files/p1/s5.txt": "Clear."},
            "reports for 0 of 2 studies",
        ),
        ("rsna-covid", COVID_FILES | {COVID: COVID_HEAD + "q,0,1,0,0\n"}, "labels for 0 of 1 stud"),
        (
            "rsna-pneumonia",
            {
                RSNA: RSNA_HEAD + "a,,,,,0\n",
                "stage_2_detailed_class_info.csv": "patientId,class\nq,\n",
            },
            "classes for 0 of 1 images",
        ),
        ("nih", {NIH: NIH_ROWS, "test_list.txt": "q.png\n"}, "split for 0 of 2 images"),
        ("nih", {NIH: NIH_ROWS, BOXES: BOXES_HEAD + "q.png,Mass,1,2,3,4\n"}, "boxes for 0 of 2"),
        (
            "vindr-cxr",
            {WIDE: "image_id,rad_id,Edema\na,R1,1\n", MARKS: MARKS_HEAD + "q,R1,Edema,1,2,3,4\n"},
            "annotations for 0 of 1 images",
        ),
        ("openi", OPENI | {"indiana_projections.csv": KAGGLE + "1,q.png,Frontal\n"}, "views for 0"),
    ],
)
def test_a_join_in_which_nothing_meets_is_refused(build, source, files, message):
    with pytest.raises(InputError, match=f"{message}.*expected"):
        build(source, files)


def test_a_consensus_of_other_images_is_refused(build):
    files = {BRIXIA: BRIXIA_HEAD + "1.dcm;112233;1;a;M;13\n"}
    name = "metadata_consensus_v1.csv"
    with pytest.raises(InputError, match="consensus for 0 of 1 images"):
        build("brixia", files | {name: MODES + "9,3,3,3,3,3,3\n"}, labels="consensus")
    manifest = build("brixia", files | {name: MODES + "1,3,3.0,3, 3,3,3\n"}, labels="consensus")
    assert column(manifest, "lung opacity") == ["present"]


@pytest.mark.parametrize(
    ("source", "files", "message"),
    [
        (
            "mimic-cxr",
            {META: META_ROWS, LABELS: "study_id,Edema\n50414267,1\ns50414267,0\n"},
            "rows 1 and 2 are both of 50414267 and differ in 'Edema'",
        ),
        (
            "nih",
            {NIH: NIH_ROWS, "train_val_list.txt": "1_0.png\n", "test_list.txt": "1_0.png\n"},
            "are both of 1_0.png and differ in 'split'",
        ),
        (
            "openi",
            OPENI
            | {"indiana_projections.csv": KAGGLE + "1,1_1_IM-1.png,PA\n1,CXR1_1_IM-1,Lateral\n"},
            "differ in 'projection'",
        ),
        (
            "vindr-cxr",
            {
                WIDE: "image_id,rad_id,Edema\na,R1,1\na,R1,0\n",
                MARKS: MARKS_HEAD + "a,R1,Edema,1,2,3,4\n",
            },
            "two different rows of one reader",
        ),
    ],
)
def test_two_rows_of_one_key_that_differ_are_refused(build, source, files, message):
    with pytest.raises(InputError, match=message):
        build(source, files)


def test_two_rows_of_one_key_that_agree_are_one(build):
    rows = "study_id,Edema\n50414267,1\n50414267,1.0\n"
    manifest = build("mimic-cxr", {META: META_ROWS, LABELS: rows})
    assert column(manifest, "pulmonary edema") == ["present", "not mentioned"]


# --- columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path,Effusion,Pleural Effusion", "two columns stand for .*'Effusion' and 'Pleural Eff"),
        ("path,pulmonary oedema,Edema", "'pulmonary oedema' and 'Edema'"),
        ("path,Edema,edema", "'Edema' and 'edema'"),
        ("path,Edema,Edema ", "two columns, 2 and 3, are called 'Edema'"),
        ("path,pleural_effusion,Pleural effusion", "'pleural_effusion' and 'Pleural effusion'"),
        ("path,Path,Edema", "'path' and 'Path'"),
        ("path,sex,Gender", "stand for sex: 'sex' and 'Gender', and differ in row 1"),
    ],
)
def test_two_columns_for_one_thing_are_refused_by_name(build, header, message):
    with pytest.raises(InputError, match=message):
        build("csv", {"t.csv": header + "\na.png,present,\n"})


def test_official_columns_in_another_case_are_read_and_two_are_refused(build):
    rows = "train/patient1/study1/view1_frontal.jpg,Male,68,Frontal,AP,1,0\n"
    with pytest.raises(InputError, match="two columns stand for 'Edema': 'Edema' and 'edema'"):
        build("chexpert", {"train.csv": CHEXPERT_HEAD + "Edema,edema\n" + rows})
    mimic = "study_id,Lung Opacity,Airspace Opacity\n50414267,1,0\n"
    with pytest.raises(InputError, match="'Lung Opacity' and 'Airspace Opacity'"):
        build("mimic-cxr", {META: META_ROWS, LABELS: mimic})
    manifest = build("rsna-pneumonia", {RSNA: RSNA_HEAD.upper() + "a,1,2,3,4,1\n"})
    assert column(manifest, "pneumonia") == ["present"]
    assert manifest.summary()["boxes"] == 1


def test_a_list_and_a_column_add_up_or_are_refused(build):
    manifest = build("csv", {"t.csv": "path,label,Edema\na.png,Edema,\nb.png,nan,present\n"})
    assert column(manifest, "pulmonary edema") == ["present", "present"]
    with pytest.raises(InputError, match="row 1: column 'label' names pulmonary edema, and column"):
        build("csv", {"t.csv": "path,label,Edema\na.png,Edema,absent\n"})


def test_columns_that_were_not_read_are_said(build):
    manifest = build("csv", {"t.csv": "path,Edma,notes,CARDIOMEGALY\na.png,present,x, Present \n"})
    assert "columns not read: Edma, notes" in manifest.notes
    assert column(manifest, "cardiomegaly") == ["present"]


# --- paths and rows -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "patient"),
    [
        ("train\\patient00001\\study1\\view1_frontal.jpg", "patient00001"),
        (".\\train\\Patient00001\\study1\\view1_frontal.jpg", "Patient00001"),
        ("elsewhere.jpg", "elsewhere.jpg"),
    ],
)
def test_chexpert_paths_of_any_kind_are_read(build, path, patient):
    row = f"{path},Female,68,Frontal,AP,1.0\n"
    manifest = build("chexpert", {"train.csv": CHEXPERT_HEAD + "No Finding\n" + row})
    assert column(manifest, "patient_id") == [patient]
    assert column(manifest, "no finding") == ["present"]
    assert ("each counts as a patient" in " ".join(manifest.notes)) == (path == patient)
    assert "\\" not in manifest.frame["path"].iloc[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,Edema\na.png,present,extra\n", r"row 1 \(line 2\): 3 cells"),
        ("path,Edema,Nodule\na.png,present,\nb.png,present\n", r"row 2 \(line 3\): 2 cells"),
        ('path,report\na.png,"never closed\n', "a quote is opened and never closed"),
        ('path,report\na.png,"one"two\n', "a quote is closed in the middle"),
        ("path,Edema\na.png,pre\0sent\n", "a NUL character"),
        ("", "is empty"),
    ],
)
def test_a_damaged_table_is_refused_by_row(build, text, message):
    with pytest.raises(InputError, match=message):
        build("csv", {"t.csv": text})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,a.png,present,more", "row 1 .*4 cells"),
        ("a,a.png", "row 1 .*2 cells"),
        ('a,a.png,"pres', "never closed"),
    ],
)
def test_a_damaged_manifest_is_refused_by_row(tmp_path, row, message):
    (tmp_path / "m.csv").write_text(f"image_id,path,pneumonia\n{row}\n")
    with pytest.raises(InputError, match=message):
        wb.data.load(tmp_path / "m.csv", check=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path;Edema\na.png;present\n", "one column, but semicolons in it"),
        ("path\tEdema\na.png\tpresent\n", "one column, but tabs in it"),
        ("path|Edema\na.png|present\n", "one column, but bars in it"),
        ("sep=,\npath,Edema\na.png,present\n", "the first line names a separator"),
        ("SEP=;\npath;Edema\na.png;present\n", "the first line names a separator"),
    ],
)
def test_a_file_that_is_no_table_of_images_is_refused(build, text, message):
    with pytest.raises(InputError, match=message):
        build("csv", {"t.csv": text})


@pytest.mark.parametrize(
    ("source", "files"),
    [
        ("chexpert", {"train.csv": CHEXPERT_HEAD + "Edema\n"}),
        ("siim-pneumothorax", {SIIM: "ImageId,EncodedPixels\n"}),
        ("rsna-pneumonia", {RSNA: RSNA_HEAD}),
        ("nih", {NIH: NIH_HEAD}),
        ("brixia", {BRIXIA: BRIXIA_HEAD}),
    ],
)
def test_a_file_with_only_a_header_is_said_to_be_one(build, source, files):
    assert "no rows here" in build(source, files).notes[-1]


@pytest.mark.parametrize(("source", "name"), [("csv", "t.csv"), ("chexpert", "train.csv")])
def test_a_file_without_a_header_is_refused_without_quoting_its_first_row(build, source, name):
    text = "Jane Doe has a large effusion on the left.,a.png\nNothing else,b.png\n"
    with pytest.raises(InputError, match=r"\(42 characters, not shown\)") as caught:
        build(source, {name: text})
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "files", "message"),
    [
        ("nih", {NIH: NIH_ROWS, BOXES: BOXES_HEAD + "1_0,Mass,1,2,-3,4\n"}, r"row 1, column 'w'"),
        ("rsna-pneumonia", {RSNA: RSNA_HEAD + "a,1,2,3,-4,1\n"}, "row 1, column 'height'"),
        ("vindr-cxr", {VINDR: VINDR_HEAD + "a,Edema,1,R1,3,2,1,4\n"}, "row 1, column 'x_max'"),
        (
            "rsna-covid",
            {
                COVID: COVID_HEAD + "s_study,0,1,0,0\n",
                COVID_IMAGES: "id,boxes,label,StudyInstanceUID\n"
                "a_image,\"[{'x': 1, 'y': 1, 'width': -1, 'height': 2}]\",x,s\n",
            },
            "row 1, column 'boxes'",
        ),
    ],
)
def test_a_box_whose_edges_are_turned_round_is_refused(build, source, files, message):
    with pytest.raises(InputError, match=message):
        build(source, files)


def test_a_box_around_what_is_said_to_be_absent_is_named(build):
    manifest = build("rsna-pneumonia", {RSNA: RSNA_HEAD + "a,1,2,3,4,0\nb,1,2,3,4,1\n"})
    assert column(manifest, "pneumonia") == ["absent, with a box", "present"]
    assert (0, "pneumonia", "unknown-code") in named(manifest)


def test_labels_without_a_label_column_are_refused(build):
    with pytest.raises(InputError, match=r"chexpert\.csv has none of the label columns"):
        build("mimic-cxr", {META: META_ROWS, LABELS: "subject_id,study_id\n1,50414267\n"})


@pytest.mark.parametrize("text", [BRIXIA_HEAD.encode("utf-16"), b"Filename;\xe4\n"])
def test_a_table_of_scores_in_another_encoding_is_refused(tmp_path, text):
    (tmp_path / BRIXIA).write_bytes(text)
    with pytest.raises(InputError, match="not a CSV file in UTF-8"):
        wb.data.build("brixia", source=tmp_path, hash_files=False)


def test_a_packed_table_of_scores_is_read(tmp_path):
    text = BRIXIA_HEAD + "1.dcm;112233;1;a;M;13\n"
    (tmp_path / f"{BRIXIA}.gz").write_bytes(gzip.compress(text.encode()))
    manifest = wb.data.build("brixia", source=tmp_path, hash_files=False)
    assert column(manifest, "lung opacity") == ["present"]


MANIFEST = "image_id,path,pneumonia,edema_note\n"


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        (f"\n\n{MANIFEST}a,a.png,present,\n", ["a"]),
        (f"{MANIFEST}a,a.png,present,\n\n  \nb,b.png,,x\n\n", ["a", "b"]),
        (f"{MANIFEST}a,a.png,present,,,\n", ["a"]),
        (MANIFEST, []),
    ],
)
def test_blank_lines_of_a_manifest_are_no_rows(tmp_path, text, ids):
    (tmp_path / "m.csv").write_text(text)
    manifest = wb.data.load(tmp_path / "m.csv", check=False)
    assert manifest.frame["image_id"].tolist() == ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MANIFEST.replace(",", ";"), "one column, but semicolons"),
        (f"sep=,\n{MANIFEST}", "names a separator"),
        ("\n\n", "is empty"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        wb.data.load(tmp_path / "m.csv", check=False)


def test_half_a_character_in_a_manifest_is_named_by_its_column():
    frame = conform(pd.DataFrame({"image_id": ["1"], "path": ["film.png"]}))
    frame["path"] = frame["path"].astype(object)
    frame.loc[0, "path"] = "ph\udce9.png"
    with pytest.raises(InputError, match=r"column 'path' holds half a character.*build the man"):
        column_digests(frame)
