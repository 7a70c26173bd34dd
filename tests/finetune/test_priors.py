"""References to earlier studies go, findings stay as they were."""

import pytest

from workbench.finetune.priors import clean_priors
from workbench.hallucination import check_text
from workbench.reports import label

SENTENCES = [
    ("Small left pleural effusion, unchanged from prior.", "Small left pleural effusion."),
    ("Interval improvement in pulmonary edema.", "Pulmonary edema."),
    ("Compared with the prior study, the heart is enlarged.", "The heart is enlarged."),
    ("The effusion has resolved.", ""),
    ("Stable cardiomegaly.", "Cardiomegaly."),
    ("Again seen is a right nodule.", "There is a right nodule."),
    ("Lungs are clear.", "Lungs are clear."),
    ("Unchanged.", ""),
    ("", ""),
]


@pytest.mark.parametrize(("text", "wanted"), SENTENCES)
def test_a_sentence_is_cleaned(text, wanted):
    found = clean_priors(text)
    assert found.text == wanted
    assert found.original == text
    assert found.changed == (text != wanted)


def test_a_whole_report_keeps_every_other_sentence():
    text = "No pneumothorax. Effusion is larger than before. Heart size is normal."
    found = clean_priors(text)
    assert found.text.startswith("No pneumothorax.") and found.text.endswith("is normal.")
    assert not [i for i in check_text(found.text).issues if i.rule == "prior comparison"]
    assert found.removed


@pytest.mark.parametrize("text", [text for text, _ in SENTENCES])
def test_no_finding_changes_its_code(text):
    before, after = label(text).codes(), label(clean_priors(text).text)
    assert all(before[row.finding] == row.code for row in after.rows)
