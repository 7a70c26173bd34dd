"""Reading reports: invariants over any text, then sentences as radiologists write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.errors import InputError, OptionError
from workbench.findings import ALL_FINDINGS, NOT_MENTIONED, SEVERITIES, SIDES, SYNONYMS, ZONES
from workbench.reports import label, labeler

WORDS = st.lists(
    st.sampled_from(
        ["no", "without", "effusion", "pneumothorax", "left", "right", "both", "heart", "is",
         "normal", "enlarged", "possible", "or", "and", ",", ".", ";", "?", "lower", "small",
         "not seen", "cannot be excluded", "Impression:", "Indication:", "nodule", "but", "\n"]
    ),
    max_size=25,
).map(" ".join)  # fmt: skip
CODES = {"present", "absent", "uncertain"}


@settings(max_examples=300, deadline=None)
@given(st.one_of(WORDS, st.text(max_size=200)))
def test_any_text_is_read_and_every_row_is_well_formed(text):
    labels = label(text)
    names = [row.finding for row in labels.rows]
    assert len(names) == len(set(names))
    for row in (*labels.rows, *labels.mentions):
        assert row.finding in ALL_FINDINGS
        assert row.code in CODES
        assert row.side in (*SIDES, None)
        assert row.severity in (*SEVERITIES, None)
        assert row.zone is None or set(row.zone.split(", ")) <= set(ZONES)
        assert 0 <= row.start < row.end <= len(text)
    assert list(labels.to_frame()["finding"]) == names


@settings(max_examples=100, deadline=None)
@given(WORDS, WORDS)
def test_a_second_paragraph_never_takes_a_present_finding_away(first, second):
    alone = set(label(first).present) - {"no finding"}
    assert alone <= set(label(f"{first}.\n\nFindings: {second}").present) or "Indication" in first


@pytest.mark.parametrize(
    "text",
    ["no effusion and " * 3000, "heart " * 10000, "effusion," * 5000, "(" * 20000, "no " * 10000],
)
def test_text_without_end_is_read_in_seconds(text):
    assert len(label(text).rows) <= 1


@pytest.mark.parametrize("finding", [f for f in ALL_FINDINGS if f != "no finding"])
def test_every_finding_is_named_denied_and_doubted(finding):
    assert label(f"There is a {finding}.").code(finding) == "present"
    assert label(f"No {finding}.").code(finding) == "absent"
    assert label(f"Possible {finding}.").code(finding) == "uncertain"
    assert label(f"{finding.capitalize()} is not seen.").code(finding) == "absent"
    assert label(f"Is there a {finding}?").rows == ()


@pytest.mark.parametrize(("synonym", "finding"), SYNONYMS.items())
def test_every_synonym_is_read(synonym, finding):
    text = "Normal chest." if synonym == "normal" else f"There is {synonym}."
    assert label(text).code(finding) == "present"


EXAMPLES = {
    "No effusion, pneumothorax or consolidation.": {
        "pleural effusion": "absent", "pneumothorax": "absent", "consolidation": "absent"},
    "The lungs are clear of consolidation, effusion or\npneumothorax.": {
        "pleural effusion": "absent", "pneumothorax": "absent", "consolidation": "absent"},
    "No focal consolidation, large pleural effusion, or pneumothorax is present.": {
        "pleural effusion": "uncertain", "pneumothorax": "absent", "consolidation": "absent"},
    "Neither pneumothorax nor effusion.": {
        "pneumothorax": "absent", "pleural effusion": "absent"},
    "No pneumothorax, small right effusion.": {
        "pneumothorax": "absent", "pleural effusion": "present"},
    "No pneumothorax and a left effusion.": {
        "pneumothorax": "absent", "pleural effusion": "present"},
    "No pneumothorax, the heart is enlarged.": {
        "pneumothorax": "absent", "cardiomegaly": "present"},
    "There is no pneumothorax, but there is an effusion.": {
        "pneumothorax": "absent", "pleural effusion": "present"},
    "Effusion without pneumothorax.": {
        "pleural effusion": "present", "pneumothorax": "absent"},
    "Consolidation is seen; pneumothorax is not seen.": {
        "consolidation": "present", "pneumothorax": "absent"},
    "Effusion and pneumothorax are not identified.": {
        "pleural effusion": "absent", "pneumothorax": "absent"},
    "Free of edema.": {"pulmonary edema": "absent"},
    "No change in the pleural effusion.": {"pleural effusion": "present"},
    "The effusion has not significantly changed.": {"pleural effusion": "present"},
    "The effusion has resolved.": {"pleural effusion": "absent"},
    "The pneumothorax is no longer seen.": {"pneumothorax": "absent"},
    "The endotracheal tube has been removed.": {"support device": "absent"},
    "No definite pneumothorax.": {"pneumothorax": "absent"},
    "Heart size is normal.": {"cardiomegaly": "absent"},
    "The heart is normal in size.": {"cardiomegaly": "absent"},
    "Heart size is within normal limits.": {"cardiomegaly": "absent"},
    "The heart is not enlarged.": {"cardiomegaly": "absent"},
    "Normal heart size.": {"cardiomegaly": "absent"},
    "The heart is enlarged.": {"cardiomegaly": "present"},
    "The heart is enlarged and the lungs are normal.": {"cardiomegaly": "present"},
    "The cardiac silhouette is moderately enlarged.": {"cardiomegaly": "present"},
    "No enlargement of the heart.": {"cardiomegaly": "absent"},
    "Heart size is borderline enlarged.": {"cardiomegaly": "uncertain"},
    "The cardiomediastinal silhouette is unremarkable.": {
        "cardiomegaly": "absent", "enlarged cardiomediastinum": "absent"},
    "The mediastinum is widened.": {"enlarged cardiomediastinum": "present"},
    "The lungs are clear.": {"lung opacity": "absent"},
    "The costophrenic angles are sharp.": {"pleural effusion": "absent"},
    "Pneumothorax cannot be excluded.": {"pneumothorax": "uncertain"},
    "Cannot exclude a small effusion.": {"pleural effusion": "uncertain"},
    "Opacity may represent atelectasis or pneumonia.": {
        "lung opacity": "present", "atelectasis": "uncertain", "pneumonia": "uncertain"},
    "Atelectasis versus consolidation.": {
        "atelectasis": "uncertain", "consolidation": "uncertain"},
    "Atelectasis or consolidation at the base.": {
        "atelectasis": "uncertain", "consolidation": "uncertain"},
    "Likely pneumonia, and a left effusion.": {
        "pneumonia": "uncertain", "pleural effusion": "present"},
    "Evaluate for pneumonia. Clear lungs.": {"lung opacity": "absent"},
    "INDICATION: Pneumonia?\nFINDINGS: Edema.": {"pulmonary edema": "present"},
    "History: heart failure. Effusion. FINDINGS: Nodule.": {"nodule": "present"},
    "Indication: cough. No effusion.": {"pleural effusion": "absent"},
    "Is there an effusion? No, there is edema.": {
        "pleural effusion": "absent", "pulmonary edema": "present"},
    "Yes, there is a nodule.": {"nodule": "present"},
    "No acute cardiopulmonary process.": {"no finding": "present"},
    "Normal chest.": {"no finding": "present"},
    "Pacemaker in place. No acute disease.": {
        "support device": "present", "no finding": "present"},
    "No acute disease. Left effusion.": {
        "no finding": "absent", "pleural effusion": "present"},
    "Pericardial effusion. Soft tissue edema. Mass effect.": {},
    "Vertebral collapse.": {},
    "": {},
}  # fmt: skip


@pytest.mark.parametrize(("text", "codes"), EXAMPLES.items())
def test_examples(text, codes):
    assert {row.finding: row.code for row in label(text).rows} == codes


@pytest.mark.parametrize(
    ("text", "finding", "side", "zone", "severity", "temporality"),
    [
        ("Small left pleural effusion.", "effusion", "left", None, "small", None),
        ("Pleural effusion on the left, which is large.", "effusion", "left", None, "large", None),
        ("Bilateral pleural effusions.", "effusion", "bilateral", None, None, None),
        ("Right and left effusions.", "effusion", "bilateral", None, None, None),
        ("Left effusion. Right effusion.", "effusion", "bilateral", None, None, None),
        ("Bibasilar atelectasis.", "atelectasis", "bilateral", "lower", None, None),
        ("RUL nodule.", "nodule", "right", "upper", None, None),
        ("Consolidation in both lower lung zones.", "consolidation", "bilateral", "lower", None,
         None),
        ("Left effusion and a right apical pneumothorax.", "pneumothorax", "right", "upper", None,
         None),
        ("Left effusion and a right apical pneumothorax.", "effusion", "left", None, None, None),
        ("Left effusion and atelectasis.", "atelectasis", "left", None, None, None),
        ("Left effusion and pulmonary edema.", "edema", None, None, None, None),
        ("Mildly enlarged heart, left effusion.", "cardiomegaly", None, None, "small", None),
        ("Severe pulmonary edema.", "edema", None, None, "large", None),
        ("Mild to moderate edema.", "edema", None, None, "moderate", None),
        ("Upper zone nodule. Lower zone nodule.", "nodule", None, "upper, lower", None, None),
        ("Unchanged effusion.", "effusion", None, None, None, "unchanged"),
        ("New consolidation.", "consolidation", None, None, None, "new"),
        ("No left pneumothorax. Right pneumothorax.", "pneumothorax", "right", None, None, None),
    ],
)  # fmt: skip
def test_attributes(text, finding, side, zone, severity, temporality):
    row = label(text)[finding]
    assert (row.side, row.zone, row.severity, row.temporality) == (
        side, zone, severity, temporality
    )  # fmt: skip


def test_present_beats_uncertain_beats_absent_over_body_and_impression():
    assert label("No effusion. Impression: Left effusion.").code("effusion") == "present"
    assert label("Possible effusion. No effusion.").code("effusion") == "uncertain"
    assert label("Left effusion. Impression: No effusion.").code("effusion") == "present"


def test_row_points_at_the_words_that_decided():
    text = "No effusion in June. Impression: Small left pleural effusion."
    row = label(text)["pleural effusion"]
    assert text[row.start : row.end] == "pleural effusion"
    assert row.start > text.index("Impression")
    assert [m.code for m in label(text).mentions] == ["absent", "present"]


def test_not_mentioned_is_not_absent():
    labels = label("Heart size is normal.")
    assert labels.code("pneumothorax") == NOT_MENTIONED
    assert labels["pneumothorax"] is None
    with pytest.raises(OptionError, match="unknown finding 'fluff'"):
        labels.code("fluff")


def test_frame_has_the_stated_columns_also_when_empty():
    columns = ["finding", "code", "side", "zone", "severity", "temporality", "start", "end"]
    for text in ("Left effusion.", ""):
        frame = label(text).to_frame()
        assert list(frame.columns)[:8] == columns
        assert frame["start"].dtype == frame["end"].dtype == "int64"
    row = label("Left effusion.").to_frame().iloc[0]
    assert (row["finding"], row["side"], row["zone"]) == ("pleural effusion", "left", None)


@pytest.mark.parametrize(
    ("text", "finding", "cue", "rule"),
    [
        ("There is no left effusion.", "effusion", "no", "negation"),
        ("Pneumothorax is not seen.", "pneumothorax", "is not seen", "negation"),
        ("Effusion cannot be excluded.", "effusion", "cannot be excluded", "uncertainty"),
        ("Possible nodule.", "nodule", "Possible", "uncertainty"),
        ("Atelectasis versus scar.", "atelectasis", "versus", "alternative"),
        ("No effusion. No large effusion.", "effusion", "No", "limited denial"),
        ("Heart size is normal.", "cardiomegaly", None, "statement"),
        ("Vascular congestion.", "edema", None, "sign"),
        ("Left effusion.", "effusion", None, "named"),
    ],
)
def test_row_points_at_the_cue_that_decided(text, finding, cue, rule):
    row = label(f"FINDINGS: Clear; {text}")[finding]
    whole = f"FINDINGS: Clear; {text}"
    assert row.rule == rule
    assert (whole[row.cue_start : row.cue_end] if row.cue_start is not None else None) == cue


@pytest.mark.parametrize(
    ("text", "temporality", "compared"),
    [
        ("Resolved left effusion.", "resolved", True),
        ("The effusion has resolved.", "resolved", True),
        ("The effusion is no longer seen.", "resolved", True),
        ("New effusion.", "new", True),
        ("Unchanged effusion.", "unchanged", True),
        ("The effusion has not resolved.", None, False),
        ("Improved effusion.", "improved", True),
        ("The effusion is larger than before.", "worse", True),
        ("Chronic effusion.", "old", False),
        ("Again seen is a left effusion.", None, True),
        ("Left effusion.", None, False),
    ],
)
def test_comparison_with_an_earlier_study(text, temporality, compared):
    row = label(text)["effusion"]
    assert (row.temporality, row.compared) == (temporality, compared)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ET tube in place.", "endotracheal tube"),
        ("Nasogastric tube in the stomach.", "enteric tube"),
        ("Right PICC line.", "central venous catheter"),
        ("Dialysis catheter.", "central venous catheter"),
        ("Pacemaker and left chest tube.", "pacemaker, chest tube"),
        ("Swan-Ganz catheter.", "pulmonary artery catheter"),
        ("Tracheostomy.", "tracheostomy"),
        ("Monitoring devices.", None),
    ],
)
def test_kinds_of_devices(text, kind):
    assert label(text)["support device"].kind == kind
    assert label("Left effusion.")["effusion"].kind is None


def test_hierarchy_and_no_finding_are_derived():
    plain = label("Right pneumonia. No edema.").codes()
    assert list(plain) == list(ALL_FINDINGS)
    assert plain["consolidation"] == plain["lung opacity"] == NOT_MENTIONED
    wide = label("Right pneumonia. No edema.").codes(hierarchy=True)
    assert wide["consolidation"] == wide["lung opacity"] == "present"
    assert wide["lung lesion"] == NOT_MENTIONED
    assert label("Possible nodule.").codes(hierarchy=True)["lung opacity"] == "uncertain"
    assert label("No nodule.").codes(hierarchy=True)["lung lesion"] == NOT_MENTIONED
    assert label("Cardiomegaly.").codes(hierarchy=True)["enlarged cardiomediastinum"] == "present"
    assert label("No nodule.").code("no finding") == "present"
    assert label("Pacemaker. No nodule.").code("no finding") == "present"
    assert label("Possible nodule.").code("no finding") == "absent"
    assert label("Pacemaker.").code("no finding") == label("").code("no finding") == NOT_MENTIONED


def test_stems_only_save_time(monkeypatch):
    """Without the quick look at stems nothing else is read."""
    from dataclasses import replace

    from tests.reports.test_label_sentences import SENTENCES
    from workbench.reports.lexicon import lexicon

    words = lexicon()
    slow = replace(words, findings=tuple(replace(f, stems=("",)) for f in words.findings))
    quick = [label(text).rows for _, text, _ in SENTENCES]
    monkeypatch.setattr(labeler, "lexicon", lambda: slow)
    assert [label(text).rows for _, text, _ in SENTENCES] == quick


def test_html_marks_the_words_and_escapes_the_rest():
    html = label("<b>Left effusion</b>")._repr_html_()
    assert "<b>" not in html
    assert 'title="pleural effusion, present, left">effusion</mark>' in html


@pytest.mark.parametrize("value", [None, float("nan"), b"text"])
def test_other_than_text_is_refused(value):
    with pytest.raises(InputError, match="expected the text of a report"):
        label(value)
