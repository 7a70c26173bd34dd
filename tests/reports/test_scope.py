"""How far negation and doubt reach, for every finding and in every frame a report has for it."""

from __future__ import annotations

import pytest

from workbench.reports import label

FINDINGS = {
    "atelectasis": "atelectasis", "consolidation": "consolidation", "pneumonia": "pneumonia",
    "pneumothorax": "pneumothorax", "pleural effusion": "effusion", "pulmonary edema": "edema",
    "lung opacity": "opacity", "nodule": "nodule", "fracture": "rib fracture",
    "cardiomegaly": "cardiomegaly", "support device": "chest tube",
}  # fmt: skip
DENIED = (
    "The chest is negative for {}.", "{} is negative.", "{}: no", "{}: No.", "{} - none", "{} [no]",
    "{} (-)", "{} -ve", "{} = absent", "{}: [ ] yes [x] no", "No signs of: {}.", "Absent: {}.",
    "There isn't {}.", "There isn\u2019t any {}.", "{} isn't seen.", "We didn\u2019t see {}.",
    "Nil {}.", "{} is no longer evident.", "The {} seen earlier is no longer present.",
    "{} has completely resolved.", "Complete resolution of {}.", "{} is absent bilaterally.",
    "There is no longer a {}.", "{} has been excluded.", "Signs of {} are lacking.",
    "Evaluation for {}: none seen.", "Without prior for comparison, no {} is seen.",
)  # fmt: skip
DOUBTED = (
    "{} is unlikely.", "{} is felt to be less likely.", "Doubtful {}.", "{} cannot be assessed.",
    "{} can't be excluded.", "I can\u2019t exclude {}.", "{}: possible", "{} (?)", "?{}",
    "Findings do not confirm or exclude {}.", "{} is in the differential.", "{} is suspected.",
    "{} was not well seen.", "It is doubtful whether there is {}.", "Low suspicion for {}.",
    "{}, though unlikely, is a consideration.", "{} is not likely.", "Query {}.",
)  # fmt: skip
STATED = (
    "{} unchanged.", "{}: yes", "{} (+)", "{} +ve", "Positive for {}.", "{}: [x] yes [ ] no",
    "Near-complete resolution of {}.", "{} has not completely resolved.", "{} persists.",
    "{} has partially cleared.", "No prior for comparison, {} is moderate.",
)  # fmt: skip
ASKED = (
    "CT is more sensitive in detecting {}.", "Radiographs for evaluation of {}.",
    "If {} is suspected, CT is advised.", "Radiograph to exclude {}.", "{}: n/a",
    "Follow-up to document resolution of {}.", "Studies for {} evaluation.",
)  # fmt: skip
FRAMES = [
    (frame, code)
    for frames, code in (
        (DENIED, "absent"), (DOUBTED, "uncertain"), (STATED, "present"), (ASKED, "not mentioned"),
    )
    for frame in frames
]  # fmt: skip


def sentence(frame: str, name: str) -> str:
    text = frame.format(name)
    return text[0].upper() + text[1:]


@pytest.mark.parametrize(("frame", "code"), FRAMES)
def test_every_frame_reads_every_finding_alike(frame, code):
    read = {name: label(sentence(frame, words)).code(name) for name, words in FINDINGS.items()}
    assert read == dict.fromkeys(FINDINGS, code)


@pytest.mark.parametrize(("frame", "code"), FRAMES)
def test_letters_and_signs_of_another_kind_change_nothing(frame, code):
    text = sentence(frame, "pneumothorax")
    others = [text.upper(), text.lower(), text.replace("'", "\u2019"), text.replace("-", "\u2212")]
    assert {label(other).code("pneumothorax") for other in others} == {code}


OWN = (
    "{} unchanged", "{} is moderate", "{} persists", "{} has increased", "{} is stable",
    "small {}", "a {}", "residual {}", "possible {}", "{} not excluded", "{}: yes",
)  # fmt: skip


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("first", ["No effusion", "No effusion is seen", "Without effusion"])
def test_a_negation_ends_where_a_statement_begins(own, first):
    for name, words in FINDINGS.items():
        if name == "pleural effusion":
            continue
        found = label(f"{first}, {own.format(words)}.")
        assert found.code("pleural effusion") == "absent"
        expected = "uncertain" if own.startswith("possible") or "excluded" in own else "present"
        assert found.code(name) == expected, name


@pytest.mark.parametrize(
    "text",
    [
        "No {}, {}, or {}.",
        "No {}, {} or {} is seen.",
        "{}, {} and {} are not seen.",
        "{}, {}, {}: no",
        "Negative for {}, {}, and {}.",
        "No evidence of: {}; {}; {}.",
        "No acute, focal {}, {} or {}.",
        "There is neither {} nor {} nor {}.",
        "{}/{}/{}: none.",
    ],
)
def test_a_list_is_denied_whole(text):
    names = ("consolidation", "effusion", "pneumothorax")
    found = label(text.format(*names))
    assert {found.code(name) for name in names} == {"absent"}


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("Left humeral lesion.", "lung lesion"), ("Lesion of the T8 vertebra.", "lung lesion"),
        ("Edema of the left ankle.", "pulmonary edema"), ("Bowel edema.", "pulmonary edema"),
        ("Fracture of the pacemaker lead.", "fracture"), ("Broken wire: catheter fracture.",
         "fracture"), ("Thyroid nodule.", "nodule"), ("Pericardial effusion.", "pleural effusion"),
        ("Collapse of the vertebral body.", "atelectasis"),
    ],
)  # fmt: skip
def test_findings_of_other_organs_are_not_these(text, finding):
    assert label(text).code(finding) == "not mentioned"


@pytest.mark.parametrize(
    ("text", "cardiomegaly", "mediastinum"),
    [
        ("Enlarged cardiac silhouette with unremarkable mediastinal contours.", "present",
         "absent"),
        ("Large heart with normal lungs.", "present", "not mentioned"),
        ("The heart is enlarged and the lungs are unremarkable.", "present", "not mentioned"),
        ("Heart: enlarged. Mediastinum: normal.", "present", "absent"),
        ("The heart and mediastinum are normal.", "absent", "absent"),
        ("Mediastinal and hilar contours are normal.", "not mentioned", "absent"),
        ("Heart size in the top-normal range.", "uncertain", "not mentioned"),
        ("The heart is at the upper limits of normal.", "uncertain", "not mentioned"),
        ("The heart again appears to be mildly enlarged.", "present", "not mentioned"),
    ],
)  # fmt: skip
def test_a_normal_word_belongs_to_its_own_organ(text, cardiomegaly, mediastinum):
    found = label(text)
    codes = (found.code("cardiomegaly"), found.code("enlarged cardiomediastinum"))
    assert codes == (cardiomegaly, mediastinum)


@pytest.mark.parametrize("size", ["large", "new", "sizable", "moderate"])
def test_a_limited_denial_leaves_an_explicit_normal_alone(size):
    found = label(f"No acute cardiopulmonary abnormality. No {size} pleural effusion.")
    assert found.code("no finding") == "present"
    assert found.code("pleural effusion") == "uncertain"
    assert found["pleural effusion"].severity is None
    assert label(f"No {size} pleural effusion.").code("no finding") == "present"
    assert label("Normal chest. Possible effusion.").code("no finding") == "absent"


@pytest.mark.parametrize(
    ("text", "finding", "attribute", "value"),
    [
        ("Left PICC, tip in the right atrium.", "support device", "side", "left"),
        ("Endotracheal tube in the right main bronchus.", "support device", "side", None),
        ("Right jugular line crossing to the left brachiocephalic vein.", "support device", "side",
         "right"),
        ("Right effusion with shift to the left.", "pleural effusion", "side", "right"),
        ("Effusions, larger on the left.", "pleural effusion", "temporality", None),
        ("The effusion is larger.", "pleural effusion", "temporality", "worse"),
        ("The effusion is not larger.", "pleural effusion", "temporality", "unchanged"),
        ("High-resolution CT shows an effusion.", "pleural effusion", "temporality", None),
        ("No interval increase in the effusion.", "pleural effusion", "temporality", "unchanged"),
        ("Interval increase in the effusion.", "pleural effusion", "temporality", "worse"),
        ("Effusion, not large.", "pleural effusion", "severity", None),
        ("The edema has nearly resolved.", "pulmonary edema", "temporality", "improved"),
    ],
)  # fmt: skip
def test_attributes_are_those_of_the_finding(text, finding, attribute, value):
    assert getattr(label(text)[finding], attribute) == value


@pytest.mark.parametrize(
    ("text", "pneumothorax"),
    [
        ("Pneumothorax? No. Effusion? Yes, small.", "absent"),
        ("Pneumothorax? Possibly.", "uncertain"),
        ("Is there a pneumothorax? No.", "absent"),
        ("Is there a pneumothorax?", "not mentioned"),
        ("Is there a pneumothorax? No fever.", "not mentioned"),
        ("? Pneumothorax on the left.", "uncertain"),
        ("Lucency ? pneumothorax.", "uncertain"),
        ("Pneumothorax?", "not mentioned"),
    ],
)
def test_a_question_mark_is_a_question_a_doubt_or_a_heading(text, pneumothorax):
    assert label(text).code("pneumothorax") == pneumothorax


@pytest.mark.parametrize(
    ("text", "effusion"),
    [
        ("Effusion, atelectasis and pneumothorax are not seen.", "absent"),
        ("Right effusion, hilar adenopathy is not seen.", "present"),
        ("There is an effusion and pneumothorax cannot be excluded.", "present"),
        ("Small effusion, pneumonia and edema not seen.", "present"),
        ("Effusion, probably edema, pneumonia unlikely.", "present"),
        ("The edema has resolved, as have the effusions.", "absent"),
        ("No significant change in the edema or the effusion.", "present"),
        ("Pleural effusion is absent on the right and small on the left.", "present"),
        ("Edema, atelectasis or effusion, now resolved.", "absent"),
    ],
)
def test_a_predicate_reaches_its_own_subjects(text, effusion):
    assert label(text).code("effusion") == effusion


@pytest.mark.parametrize(
    "text",
    [
        "The left pleural effusion is no longer seen.",
        "The right chest tube has been removed completely.",
        "Left lower lobe consolidation is thought to be less likely.",
        "The previously described pneumothorax cannot be entirely excluded.",
        "The heart is mildly enlarged with unremarkable mediastinal contours.",
    ],
)
def test_a_wrapped_line_reads_like_an_unbroken_one(text):
    codes = {row.finding: row.code for row in label(text).rows}
    words = text.split(" ")
    for at in range(1, len(words)):
        wrapped = " ".join(words[:at]) + "\n" + " ".join(words[at:])
        assert {row.finding: row.code for row in label(wrapped).rows} == codes, wrapped


@pytest.mark.parametrize(
    ("text", "present"),
    [
        ("Consolidation [ ] Effusion [x] Pneumothorax [ ]", {"pleural effusion"}),
        ("[ ] Consolidation [x] Effusion", {"pleural effusion"}),
        ("( ) Pneumothorax (X) Effusion", {"pleural effusion"}),
        ("Effusion: [x] Pneumothorax: [ ]", {"pleural effusion"}),
        ("\u2610 Pneumothorax \u2611 Effusion", {"pleural effusion"}),
    ],
)
def test_a_box_that_is_not_ticked_says_nothing(text, present):
    assert {row.finding for row in label(text).rows} == present
    assert set(label(text).present) == present


@pytest.mark.parametrize(
    ("text", "finding", "severity", "temporality"),
    [
        ("Large hiatal hernia and atelectasis.", "atelectasis", None, None),
        ("Severe scoliosis with a small effusion.", "effusion", "small", None),
        ("Pneumonia in a patient with severe emphysema.", "pneumonia", None, None),
        ("New sternotomy wires and effusion.", "effusion", None, None),
        ("Small right and large left effusions.", "effusion", "large", None),
        ("Edema as before.", "edema", None, "unchanged"),
    ],
)
def test_size_and_course_are_those_of_the_finding(text, finding, severity, temporality):
    row = label(text)[finding]
    assert (row.severity, row.temporality) == (severity, temporality)
