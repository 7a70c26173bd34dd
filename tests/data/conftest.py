"""Small files in exactly the format that each source publishes, made here; nothing is real."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.data.download import label_files

CHEXPERT_LABELS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,"
    "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,"
    "Support Devices"
)
MIMIC_LABELS = (
    "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,Fracture,"
    "Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,Pleural Other,Pneumonia,Pneumothorax,"
    "Support Devices"
)
MIMIC_METADATA = (
    "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows,Columns,"
    "StudyDate,StudyTime,ProcedureCodeSequence_CodeMeaning,ViewCodeSequence_CodeMeaning,"
    "PatientOrientationCodeSequence_CodeMeaning"
)
PADCHEST = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,"
    "ViewPosition_DICOM,Projection,MethodProjection,Pediatric,Modality_DICOM,ReportID,Report,"
    "MethodLabel,Labels,Localizations,LabelsLocalizationsBySentence,labelCUIS,LocalizationsCUIS"
)
#: Stands in reports only; must never be printed.
SECRET = "Zwickelmann"


@pytest.fixture(scope="session")
def published() -> Path:
    """The official label files inside torchxrayvision, found without importing it."""
    folder = label_files()
    if folder is None:
        pytest.skip("needs torchxrayvision: pip install --no-deps torchxrayvision")
    return folder


@pytest.fixture
def films(tmp_path):
    """Write pictures that look different: `films("a.png", "b/c.png")`."""

    def write(*names: str, folder: Path = tmp_path, seed: int = 0, size: int = 96) -> Path:
        rng = np.random.default_rng(seed)
        for name in names:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 255, (12, 12), dtype=np.uint8))
            coarse.resize((size, size), Image.Resampling.BICUBIC).save(path)
        return folder

    return write


def text_file(path: Path, *lines: str) -> None:
    """Write lines; a name ending in .gz is packed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def nih(tmp_path) -> Path:
    """NIH ChestX-ray14: five images of three patients, a box, lists, adjudicated labels."""
    entry = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    text_file(
        tmp_path / "Data_Entry_2017_v2020.csv",
        entry,
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,57,M,PA,2682,2749,0.143,0.143",
        "00000001_001.png,No Finding,1,1,58,M,AP,2682,2749,0.143,0.143",
        "00000002_000.png,Infiltration,0,2,80,F,PA,2500,2048,0.171,0.171",
        "00000013_008.png,Mass|Nodule,8,13,60,M,AP,3056,2544,0.139,0.139",
        "00000013_026.png,Pleural_Thickening,26,13,57,M,AP,2500,2048,0.168,0.168",
    )
    text_file(
        tmp_path / "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,",
        "00000002_000.png,Infiltrate,225.08,547.02,86.78,79.19",
    )
    text_file(tmp_path / "train_val_list.txt", "00000001_000.png", "00000001_001.png")
    text_file(
        tmp_path / "test_list.txt", "00000002_000.png", "00000013_008.png", "00000013_026.png"
    )
    extra = ",Fracture,Pneumothorax,Airspace opacity,Nodule or mass"
    folder = tmp_path / "four_findings_expert_labels"
    text_file(
        folder / "test_labels.csv",
        entry + extra,
        "00000013_008.png,Mass|Nodule,8,13,60,M,AP,3056,2544,0.139,0.139,NO,NO,YES,NO",
        "00000013_026.png,Pleural_Thickening,26,13,57,M,AP,2500,2048,0.168,0.168,NO,HEDGE,NO,YES",
    )
    text_file(
        folder / "validation_labels.csv",
        entry + extra,
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,57,M,PA,2682,2749,0.143,0.143,YES,NO,NO,NO",
    )
    return tmp_path


@pytest.fixture
def chexpert(tmp_path) -> Path:
    """CheXpert-v1.0-small: three training images, one validation image."""
    head = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{CHEXPERT_LABELS}"
    root = "CheXpert-v1.0-small"
    train = f"{root}/train/patient0000"
    text_file(
        tmp_path / root / "train.csv",
        head,
        f"{train}1/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0",
        f"{train}2/study2/view1_frontal.jpg,Male,87,Frontal,PA,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
        f"{train}2/study2/view2_lateral.jpg,Male,87,Lateral,,,,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,",
    )
    text_file(
        tmp_path / root / "valid.csv",
        head,
        f"{root}/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,1.0,1.0,"
        "0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0",
    )
    return tmp_path / root


@pytest.fixture
def mimic(tmp_path) -> Path:
    """MIMIC-CXR-JPG 2: three images of two studies of two patients, with reports."""
    a, b, c = (
        "02aa804e-bde0afdd-112c0b34-7bc16630-4e384014",
        "174413ec-4ec4c1f7-34ea26b7-c5f994f8-79ef1962",
        "2a2277a9-b0ded155-c0de8eb9-c124d10e-82c5caab",
    )
    text_file(
        tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz",
        MIMIC_METADATA,
        f"{a},10000032,50414267,CHEST (PA AND LAT),PA,3056,2544,21800506,213014.531,"
        "CHEST (PA AND LAT),postero-anterior,Erect",
        f"{b},10000032,50414267,CHEST (PA AND LAT),LATERAL,3056,2544,21800506,213014.531,"
        "CHEST (PA AND LAT),lateral,Erect",
        f"{c},10000764,57375967,CHEST (PORTABLE AP),AP,2544,3056,21321015,80556.875,"
        "CHEST (PORTABLE AP),antero-posterior,",
    )
    text_file(
        tmp_path / "mimic-cxr-2.0.0-split.csv.gz",
        "dicom_id,study_id,subject_id,split",
        f"{a},50414267,10000032,train",
        f"{b},50414267,10000032,train",
        f"{c},57375967,10000764,test",
    )
    for labeler, cell in (("chexpert", "-1.0"), ("negbio", "1.0")):
        text_file(
            tmp_path / f"mimic-cxr-2.0.0-{labeler}.csv.gz",
            f"subject_id,study_id,{MIMIC_LABELS}",
            "10000032,50414267,,,,,,,,,1.0,,,,,",
            f"10000764,57375967,{cell},,1.0,,,,,,,0.0,,,,",
        )
    text_file(
        tmp_path / "mimic-cxr-2.1.0-test-set-labeled.csv",
        f"study_id,{MIMIC_LABELS.replace('Lung Opacity', 'Airspace Opacity')}",
        "57375967,0.0,,1.0,,,,,,,0.0,,,,",
    )
    text_file(
        tmp_path / "files/p10/p10000032/s50414267.txt",
        "                                 FINAL REPORT",
        " EXAMINATION:  CHEST (PA AND LAT)",
        "",
        " INDICATION:  Made for a test.",
        "",
        f" FINDINGS: The lungs are clear. {SECRET} was here.",
        "",
        " IMPRESSION: ",
        " ",
        " No acute process.",
    )
    return tmp_path


@pytest.fixture
def brixia(tmp_path) -> Path:
    """BrixIA: four scored images, one of the consensus set."""
    text_file(
        tmp_path / "metadata_global_v2.csv",
        "Filename;StudyDate;StudyId;Modality;Manufacturer;Rows;Columns;BrixiaScore;"
        "BrixiaScoreGlobal;ConsensusTestset;Subject;Sex;AgeAtStudyDateFiveYear",
        "5673.dcm;20200310;11;CR;Maker;2544;3056;112233;12;0;101;M;13",
        "5674.dcm;20200311;12;DX;Maker;2544;3056;120;3;0;101;M;13",
        "5675.dcm;20200312;13;DX;Maker;2544;3056;0;0;0;102;F;9",
        "5676.dcm;20200313;14;DX;Maker;2544;3056;333333;18;1;103;F;16",
    )
    text_file(
        tmp_path / "metadata_consensus_v1.csv",
        "Filename,MeanA,MeanB,MeanC,MeanD,MeanE,MeanF,S-Global,ModeA,ModeB,ModeC,ModeD,ModeE,"
        "ModeF,J-Global",
        "5676.dcm,2.8,3,3,3,3,2.6,17.4,3,3,3,3,3,2,17",
    )
    return tmp_path


@pytest.fixture
def rsna_covid(tmp_path) -> Path:
    """SIIM-FISABIO-RSNA COVID-19: four studies, five images."""
    text_file(
        tmp_path / "train_study_level.csv",
        "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance",
        "00086460a852_study,0,1,0,0",
        "000c9c05fd14_study,0,0,0,1",
        "00292f8c37bd_study,1,0,0,0",
        "005057b3f880_study,0,0,1,0",
    )
    text_file(
        tmp_path / "train_image_level.csv",
        "id,boxes,label,StudyInstanceUID",
        "\"000a312787f2_image\",\"[{'x': 789.28836, 'y': 582.43035, 'width': 1026.65662, "
        "'height': 1917.30292}, {'x': 2245.91208, 'y': 591.20528, 'width': 1094.66162, "
        "'height': 1761.54944}]\",opacity 1 789.28836 582.43035 1815.94498 2499.73327 opacity 1 "
        "2245.91208 591.20528 3340.5737 2352.75472,00086460a852",
        "000c3a3f293f_image,,none 1 0 0 1 1,000c9c05fd14",
        "0012ff7358bc_image,,none 1 0 0 1 1,00292f8c37bd",
        "001398f4ff4f_image,,none 1 0 0 1 1,00292f8c37bd",
        "001bd15d1891_image,,none 1 0 0 1 1,005057b3f880",
    )
    return tmp_path


@pytest.fixture
def padchest(tmp_path) -> Path:
    """PadChest: labels in published English and in Spanish, one of them unknown."""

    def row(n: int, labels: str, places: str, sentences: str, method: str = "Physician") -> str:
        return (
            f"{n},11{n}_ab{n}.png,{n % 3},20140915,21{n},3{n},1930.0,F,POSTEROANTERIOR,PA,"
            f"Manual review of DICOM fields,No,CR,47{n},texto de {SECRET} sin ley,{method},"
            f'"{labels}","{places}","{sentences}",[],[]'
        )

    text_file(
        tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
        PADCHEST,
        row(1, "['normal']", "[]", "[['normal']]"),
        row(
            2,
            "['pleural effusion', ' pneumonia']",
            "['loc right', 'loc basal']",
            "[['pleural effusion', 'loc right', 'loc basal'], ['pneumonia']]",
        ),
        row(
            3,
            "['derrame pleural', 'Neumon\u00eda', 'cardiomegalia']",
            "['loc derecho']",
            "[['derrame pleural', 'loc derecho'], ['cardiomegalia']]",
        ),
        row(4, "['sombra rarisima']", "[]", "[['sombra rarisima']]", "RNN_model"),
        row(5, "['']", "[]", "[['']]", "RNN_model"),
    )
    return tmp_path


@pytest.fixture
def vindr(tmp_path) -> Path:
    """VinDr-CXR as PhysioNet publishes it: two training images of three readers, one test image."""
    labels = "Aortic enlargement,Cardiomegaly,Consolidation,Lung Opacity,Nodule/Mass,No finding"
    folder = tmp_path / "annotations"
    text_file(
        folder / "image_labels_train.csv",
        f"image_id,rad_id,{labels}",
        *(f"aaa,R{n},0,1,{int(n == 1)},0,0,0" for n in (1, 2, 3)),
        *(f"bbb,R{n},0,0,0,0,{int(n == 2)},{int(n != 2)}" for n in (1, 2, 3)),
    )
    text_file(
        folder / "annotations_train.csv",
        "image_id,rad_id,class_name,x_min,y_min,x_max,y_max",
        *(f"aaa,R{n},Cardiomegaly,{100 + n},200,{300 + n},400" for n in (1, 2, 3)),
        "aaa,R1,Consolidation,10,20,30,50",
        "bbb,R2,Nodule/Mass,5,6,15,26",
        "bbb,R1,No finding,,,,",
        "bbb,R3,No finding,,,,",
    )
    text_file(folder / "image_labels_test.csv", f"image_id,{labels}", "ccc,1,0,0,0,0,0")
    text_file(
        folder / "annotations_test.csv",
        "image_id,class_name,x_min,y_min,x_max,y_max",
        "ccc,Aortic enlargement,1,2,11,22",
    )
    return tmp_path


@pytest.fixture
def openi(tmp_path) -> Path:
    """Open-i: one report with two images, one without, projections of the Kaggle copy."""

    def report(uid: str, major: str, images: tuple[str, ...]) -> str:
        pictures = "".join(f'<parentImage id="{name}"><figureId>F</figureId></parentImage>'
                           for name in images)  # fmt: skip
        texts = "".join(
            f'<AbstractText Label="{name}">{text}</AbstractText>'
            for name, text in (("FINDINGS", f"Clear. {SECRET}."), ("IMPRESSION", "Made up."))
        )
        return (
            f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="{uid}"/><MedlineCitation>'
            f"<Article><Abstract>{texts}</Abstract></Article></MedlineCitation>"
            f"<MeSH>{major}</MeSH>{pictures}</eCitation>"
        )

    folder = tmp_path / "ecgen-radiology"
    text_file(
        folder / "1.xml",
        report(
            "CXR1",
            "<major>Pleural Effusion/left/small</major><major>Opacity/lung/base/left</major>",
            ("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"),
        ),
    )
    text_file(folder / "2.xml", report("CXR2", "<major>normal</major>", ()))
    text_file(
        tmp_path / "indiana_projections.csv",
        "uid,filename,projection",
        "1,1_1_IM-0001-3001.dcm.png,Frontal",
        "1,1_1_IM-0001-4001.dcm.png,Lateral",
    )
    return tmp_path


@pytest.fixture
def no_links():
    """Skip where a process cannot make symbolic links."""
    if not hasattr(os, "symlink") or os.name == "nt":
        pytest.skip("needs symbolic links")
