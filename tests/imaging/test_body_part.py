"""Which part of the body a file says it shows: every tag that describes it, and no false alarm."""

import numpy as np
import pytest
from pydicom.dataset import Dataset

import workbench as wb
from workbench.imaging.header import part_in

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def item(**values):
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return [ds]


def alarm(dicom_bytes, **tags):
    contract = wb.load_radiograph(dicom_bytes(RAMP, bits=8, **tags)).contract
    return next((w.message for w in contract.warnings if w.code == "not-a-chest"), "")


@pytest.mark.parametrize(
    ("tags", "part", "tag"),
    [
        ({"SeriesDescription": "KNEE AP"}, "KNEE", "SeriesDescription"),
        ({"StudyDescription": "XR HAND 3 VIEWS LEFT"}, "HAND", "StudyDescription"),
        ({"ProtocolName": "Abdomen_supine"}, "ABDOMEN", "ProtocolName"),
        ({"RequestedProcedureDescription": "Both knees"}, "KNEE", "RequestedProcedureDescription"),
        ({"PerformedProcedureStepDescription": "ANKLE 2V"}, "ANKLE", "PerformedProcedureStep"),
        ({"AcquisitionDeviceProcessingDescription": "SKULL LAT"}, "SKULL", "AcquisitionDevice"),
        ({"BodyPartExamined": "FEET"}, "FOOT", "BodyPartExamined"),
        ({"SeriesDescription": "Knie a.p."}, "KNEE", "SeriesDescription"),
        ({"SeriesDescription": "GENOU F+P"}, "KNEE", "SeriesDescription"),
        ({"SeriesDescription": "Rodilla derecha"}, "KNEE", "SeriesDescription"),
        ({"SeriesDescription": "Schädel seitlich"}, "SKULL", "SeriesDescription"),
        ({"SeriesDescription": "THORACIC SPINE AP"}, "SPINE", "SeriesDescription"),
        ({"SeriesDescription": "L-SPINE"}, "SPINE", "SeriesDescription"),
        ({"SeriesDescription": "Füße bds."}, "FOOT", "SeriesDescription"),
        ({"SeriesDescription": "Oberarm li."}, "HUMERUS", "SeriesDescription"),
        ({"SeriesDescription": "tib/fib ap"}, "TIBIA", "SeriesDescription"),
        ({"SeriesDescription": "Scaphoid"}, "WRIST", "SeriesDescription"),
        ({"SeriesDescription": "SACROILIAC JOINTS"}, "SACRUM", "SeriesDescription"),
        ({"SeriesDescription": "Scoliosis, standing"}, "SPINE", "SeriesDescription"),
        ({"AnatomicRegionSequence": item(CodeValue="1", CodeMeaning="Wrist joint")}, "WRIST", "An"),
        ({"ViewCodeSequence": item(CodeValue="1", CodeMeaning="Pelvis AP")}, "PELVIS", "ViewCode"),
        ({"ProcedureCodeSequence": item(CodeMeaning="X-ray of elbow")}, "ELBOW", "ProcedureCode"),
        (
            {"RequestAttributesSequence": item(ScheduledProcedureStepDescription="Foot, left")},
            "FOOT",
            "RequestAttributesSequence",
        ),
        ({"PerformedProtocolCodeSequence": item(CodeMeaning="Hip AP")}, "HIP", "PerformedProt"),
        ({"BodyPartExamined": "CHEST", "SeriesDescription": "KNEE AP"}, "KNEE", "SeriesDesc"),
        ({"BodyPartExamined": "CHEST", "StudyDescription": "KNEE AP"}, "KNEE", "StudyDescription"),
        ({"BodyPartExamined": "CHEST", "ProtocolName": "Abdomen AP"}, "ABDOMEN", "ProtocolName"),
    ],
)
def test_another_part_is_named_with_its_tag(tags, part, tag, dicom_bytes):
    message = alarm(dicom_bytes, **tags)
    assert f"the body part is {part} ({tag}" in message


@pytest.mark.parametrize(
    "tags",
    [
        {"SeriesDescription": "CHEST AND ABDOMEN"},
        {"SeriesDescription": "Abdomen 3 views w PA chest"},
        {"StudyDescription": "chest wo knee"},
        {"StudyDescription": "XR CHEST 2 VIEWS"},
        {"StudyDescription": "Röntgen-Thorax in 2 Ebenen"},
        {"StudyDescription": "RX TÓRAX PA Y LATERAL"},
        {"StudyDescription": "RADIOGRAFIA DEL TORACE"},
        {"StudyDescription": "Thorax de face, main courante"},
        {"StudyDescription": "POUMONS FACE"},
        {"StudyDescription": "Pulmones"},
        {"StudyDescription": "CHESTPA"},
        {"StudyDescription": "PCXR"},
        {"SeriesDescription": "W033 Thorax p.a."},
        {"SeriesDescription": "BETTTHORAX"},
        {"SeriesDescription": "AP PORTABLE HEAD OF BED 45"},
        {"SeriesDescription": "PA ARMS UP"},
        {"SeriesDescription": "C-ARM"},
        {"SeriesDescription": "PA de pie"},
        {"SeriesDescription": "RIBS AND SHOULDER"},
        {"SeriesDescription": "CHANDLER HANDBOOK LEGACY"},
        {"BodyPartExamined": "CHEST", "StudyDescription": "TRAUMA PELVIS"},
        {"BodyPartExamined": "CHEST", "StudyDescription": "ABDOMEN ACUTE SERIES"},
        {"SeriesDescription": "Chest PA", "RequestedProcedureDescription": "C-SPINE"},
        {"AnatomicRegionSequence": item(CodeValue="51185008", CodeMeaning="Brustkasten")},
        {"AnatomicRegionSequence": item(CodeValue="T-D3000", CodeMeaning="Thorax")},
        {"BodyPartExamined": "ABDOMEN", "AnatomicRegionSequence": item(CodeMeaning="Chest")},
        {"SeriesDescription": ""},
        {"StudyDescription": "Anna Mueller"},
    ],
)
def test_no_chest_is_called_another_part(tags, dicom_bytes):
    assert alarm(dicom_bytes, **tags) == ""


def test_only_words_of_the_list_come_out(dicom_bytes):
    message = alarm(dicom_bytes, StudyDescription="MUELLER^ANNA knee of 1931-02-03")
    assert "(StudyDescription)" in message
    for private in ("MUELLER", "ANNA", "1931"):
        assert private not in message.upper()


def test_the_sample_and_its_like_are_chests(chest_dicom):
    assert "not-a-chest" not in wb.load_radiograph(chest_dicom).contract.codes


def test_parts_in_texts():
    assert part_in("Kniegelenk") == part_in("KNEES") == "KNEE"
    assert part_in("calcaneus") == "CALCANEUS" and part_in("") is None
