"""What is explained: sentences against their opposite, and every way to name it wrongly."""

from __future__ import annotations

import pytest

from tests.helpers import written
from workbench.errors import InputError, OptionError
from workbench.saliency import finding_target, make_target
from workbench.saliency.scorer import checked_contrast, finding_sentence

PLAIN = "Heart size is normal. There is a small effusion on the left. No pneumothorax."


# ---------------------------------------------------------------- parts of the text


def test_tokens_of_a_phrase_and_all_before_it():
    trace = written(PLAIN)
    target = make_target(trace, trace.select("small effusion"), "large  mass")
    assert target.before == tuple(range(100, 108))
    assert target.tokens == (108, 109)
    assert target.contrast == (5, 4)
    assert target.contrast_text == "large mass"
    assert target.name == "\u201csmall effusion\u201d against \u201clarge mass\u201d"


def test_plain_target_has_no_contrast_and_needs_no_model():
    trace = written(PLAIN)
    trace.need_model = None
    target = make_target(trace, trace.select())
    assert (target.before, len(target.tokens)) == ((), 17)
    assert target.contrast == ()
    assert target.name.startswith("log-probability of \u201cHeart size is normal.")
    assert target.name.endswith("...\u201d")


# ---------------------------------------------------------------- findings


@pytest.mark.parametrize(
    ("finding", "sentence", "opposite"),
    [
        ("effusion", "There is a small effusion on the left.", "No pleural effusion."),
        ("pneumothorax", "No pneumothorax.", "There is pneumothorax."),
        ("cardiomegaly", "Heart size is normal.", "There is cardiomegaly."),
    ],
)
def test_finding_is_its_sentence_against_the_opposite(finding, sentence, opposite):
    target = finding_target(written(PLAIN), finding)
    assert target.selection.text == sentence
    assert target.contrast_text == opposite


def test_sentence_that_names_two_findings_is_taken_whole_for_each():
    trace = written("Moderate left pleural effusion and atelectasis. No nodule or pneumothorax.")
    effusion, other = (finding_target(trace, name) for name in ("effusion", "atelectasis"))
    assert effusion.tokens == other.tokens
    assert effusion.selection.text == "Moderate left pleural effusion and atelectasis."
    assert (effusion.contrast_text, other.contrast_text) == (
        "No pleural effusion.",
        "No atelectasis.",
    )
    assert finding_target(trace, "pneumothorax").contrast_text == "There is pneumothorax."


def test_second_mention_is_the_second_sentence():
    trace = written("Small right pneumothorax. No nodule. Impression: Right pneumothorax.")
    first, second = (finding_target(trace, "pneumothorax", occurrence=n) for n in (0, 1))
    assert first.selection.text == "Small right pneumothorax."
    assert second.selection.text.endswith("Right pneumothorax.")
    assert second.before[: len(first.tokens)] == first.tokens
    with pytest.raises(OptionError, match="mentions of pneumothorax: 2 in the text"):
        finding_target(trace, "pneumothorax", occurrence=2)


def test_stated_mention_comes_before_a_denied_one():
    trace = written("No pleural effusion. Later, there is a small right pleural effusion.")
    target = finding_target(trace, "pleural effusion")
    assert target.selection.start > 15
    assert target.contrast_text == "No pleural effusion."


def test_opposite_is_that_of_the_mention_and_not_of_the_whole_text():
    """Both sentences together read as uncertain; the first one denies all the same."""
    trace = written("No pneumothorax. A small pneumothorax is possible on the right.")
    first, second = (finding_target(trace, "pneumothorax", occurrence=n) for n in (0, 1))
    assert first.contrast_text == "There is pneumothorax."
    assert second.contrast_text == "No pneumothorax."


def test_sentence_of_a_finding_needs_no_model():
    trace = written(PLAIN)
    trace.need_model = None
    mention = trace.select(finding="effusion")
    assert finding_sentence(trace, mention).text == "There is a small effusion on the left."


# ---------------------------------------------------------------- errors


def test_finding_that_is_not_mentioned():
    with pytest.raises(InputError, match="does not speak of nodule; expected a finding it names"):
        finding_target(written(PLAIN), "nodule")
    with pytest.raises(OptionError, match="gremlin"):
        finding_target(written(PLAIN), "gremlin")


def test_no_finding_has_no_single_opposite():
    trace = written("No acute cardiopulmonary disease.")
    with pytest.raises(InputError, match="has no single opposite; explain it as a phrase"):
        finding_target(trace, "no finding")


@pytest.mark.parametrize("contrast", ["", "  ", "\n"])
def test_empty_contrast(contrast):
    trace = written(PLAIN)
    with pytest.raises(InputError, match="the contrast is empty"):
        make_target(trace, trace.select("effusion"), contrast)


@pytest.mark.parametrize("contrast", ["small effusion", "Small  EFFUSION", " small effusion "])
def test_contrast_that_is_the_phrase(contrast):
    trace = written(PLAIN)
    with pytest.raises(InputError, match="is the phrase itself; expected other words"):
        checked_contrast(trace.select("small effusion"), contrast)


def test_selection_without_a_token():
    trace = written("")
    with pytest.raises(InputError, match="written by no token of its own; choose a longer part"):
        make_target(trace, trace.select())
