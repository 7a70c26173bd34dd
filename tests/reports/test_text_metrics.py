"""Text metrics: against hand-computed values, and what is said where one is not available."""

from __future__ import annotations

import json
import math
import sys
import types

import numpy as np
import pytest

from workbench.errors import InputError
from workbench.reports import text_metrics
from workbench.reports.text_metrics import NEURAL_METRICS, measure_texts

LEXICAL = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "METEOR")


@pytest.fixture
def no_radeval(monkeypatch):
    """As on a machine without the package."""
    monkeypatch.setattr(text_metrics, "find_spec", lambda name: None if name == "radeval" else name)


def fake_radeval(monkeypatch, scores: dict | Exception) -> list:
    """Put a package in place of radeval; return what it was asked for."""
    asked = []

    class RadEval:
        def __init__(self, metrics, **options):
            from huggingface_hub import constants

            asked.append((*metrics, constants.HF_HUB_OFFLINE))

        def __call__(self, refs, hyps):
            if isinstance(scores, Exception):
                raise scores
            return scores

    module = types.ModuleType("radeval")
    module.RadEval = RadEval
    monkeypatch.setitem(sys.modules, "radeval", module)
    there = text_metrics.find_spec
    monkeypatch.setattr(
        text_metrics, "find_spec", lambda name: name if name == "radeval" else there(name)
    )
    return asked


# ---------------------------------------------------------------- by hand


def test_identical_texts_are_one_and_disjoint_texts_are_near_zero(no_radeval):
    texts = {"a": "The heart is normal in size.", "b": "There is no pleural effusion today."}
    same = measure_texts(texts, texts)
    for name in ("BLEU-1", "BLEU-4", "ROUGE-L"):
        assert same[name].value == pytest.approx(1)
    other = measure_texts(texts, {"a": "xx yy zz qq ww vv", "b": "rr ss tt uu kk mm"})
    assert other["ROUGE-L"].value == 0
    assert other["BLEU-4"].value < 0.1


def test_bleu_by_hand(no_radeval):
    # the heart is in both: 3 of 5 tokens, 2 of 4 pairs, 1 of 3 triples
    found = measure_texts({"a": "The heart is large now"}, {"a": "the heart is normal today"})
    assert found["BLEU-1"].value == pytest.approx(3 / 5)
    assert found["BLEU-2"].value == pytest.approx(math.sqrt(3 / 5 * 2 / 4))
    assert found["BLEU-3"].value == pytest.approx((3 / 5 * 2 / 4 * 1 / 3) ** (1 / 3))
    # no common 4-gram of 2: exponential smoothing takes 1 / (2 * 2)
    assert found["BLEU-4"].value == pytest.approx((3 / 5 * 2 / 4 * 1 / 3 * 1 / 4) ** (1 / 4))


def test_bleu_is_of_the_corpus_and_punishes_brevity(no_radeval):
    found = measure_texts({1: "a b", 2: "c d e f"}, {1: "a b c d", 2: "c d e f"})
    # 6 of 6 tokens right, 6 tokens against 8
    assert found["BLEU-1"].value == pytest.approx(math.exp(1 - 8 / 6))


def test_rouge_by_hand(no_radeval):
    # longest common subsequence a c of a b c (3) and a c d e (4)
    found = measure_texts({"a": "a b c"}, {"a": "A c, d e"})["ROUGE-L"]
    precision, recall = 2 / 3, 2 / 4
    assert found.value == pytest.approx(2 * precision * recall / (precision + recall))


def test_settings_are_stated(no_radeval):
    found = measure_texts({"a": "a b"}, {"a": "a b"})
    for part in ("case:lc", "tok:13a", "smooth:exp", "version:"):
        assert part in found["BLEU-4"].settings
    assert "lower case" in found["ROUGE-L"].settings


# ---------------------------------------------------------------- every metric is in the result


def test_every_metric_is_there_and_missing_ones_say_what_they_need(no_radeval):
    found = measure_texts({"a": "x y z"}, {"a": "x y z"})
    assert [metric.name for metric in found.metrics] == [*LEXICAL, *NEURAL_METRICS]
    for name in NEURAL_METRICS:
        assert found[name].value is None
        assert found[name].status.startswith("not available: needs `pip install radeval`")
    frame = found.to_frame()
    assert frame.index.tolist() == [*LEXICAL, *NEURAL_METRICS]
    assert np.isnan(frame.loc["GREEN", "value"])
    result = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert result["RadGraph-F1"]["value"] is None
    assert "not available: needs" in found._repr_html_()


def test_without_the_extra_nothing_fails(monkeypatch):
    monkeypatch.setattr(text_metrics, "find_spec", lambda name: None)
    found = measure_texts({"a": "x"}, {"a": "x"})
    for name in LEXICAL:
        assert found[name].status == (
            "not available: needs `pip install cxr-llava-workbench[metrics]`"
        )
    assert all(metric.value is None for metric in found.metrics)


def test_meteor_needs_wordnet_and_is_measured_with_it(monkeypatch, no_radeval):
    nltk = pytest.importorskip("nltk")
    from nltk.translate import meteor_score

    def missing(place):
        raise LookupError(place)

    monkeypatch.setattr(nltk.data, "find", missing)
    found = measure_texts({"a": "x y"}, {"a": "x y"})["METEOR"]
    assert "nltk.downloader wordnet" in found.status
    monkeypatch.setattr(nltk.data, "find", lambda place: place)
    monkeypatch.setattr(meteor_score, "single_meteor_score", lambda truth, text: 0.25)
    found = measure_texts({"a": "x y", "b": "z"}, {"a": "x y", "b": "z"})["METEOR"]
    assert (found.value, found.n) == (0.25, 2)


def test_metrics_with_a_model_are_taken_from_radeval_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    scores = {metric.key: 0.5 for metric in NEURAL_METRICS.values()} | {"radgraph_simple": 0.75}
    asked = fake_radeval(monkeypatch, scores)
    found = measure_texts({"a": "x"}, {"a": "x"})
    assert found["BERTScore"].value == 0.5
    assert found["RadGraph-F1"].details["radgraph_simple"] == 0.75
    assert found["GREEN"].value is None
    assert "remote_code=True" in found["GREEN"].status, "code of others is not run unasked"
    assert asked == [(m, True) for m in ("radgraph", "f1chexbert", "bertscore", "ratescore")]
    assert constants.HF_HUB_OFFLINE is False, "put back"
    assert measure_texts({"a": "x"}, {"a": "x"}, remote_code=True)["GREEN"].value == 0.5


def test_whatever_fails_inside_is_one_metric_that_is_not_available(monkeypatch):
    fake_radeval(monkeypatch, OSError("no such weights on disk"))
    found = measure_texts({"a": "x"}, {"a": "x"})
    assert found["BERTScore"].status == (
        "not available: needs the weights distilbert-base-uncased on this machine "
        "(no such weights on disk)"
    )
    assert found["BLEU-1"].value is not None


def test_text_metrics_can_be_left_out():
    found = measure_texts({"a": "x"}, {"a": "x"}, neural=False)
    assert {found[name].status for name in NEURAL_METRICS} == {"not asked for"}


# ---------------------------------------------------------------- input


def test_empty_texts_are_left_out_and_listed(no_radeval):
    found = measure_texts({"a": "x y", "b": " ", "c": "x"}, {"a": "x y", "b": "z", "c": None})
    assert found.left_out == ("b", "c")
    assert found["BLEU-1"].n == 1
    empty = measure_texts({"a": ""}, {"a": "x"})
    assert {empty[name].value for name in LEXICAL} == {None}
    assert empty["BLEU-1"].status == "no pair of texts"


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ({"a": "x"}, {"b": "x"}, "2 ids have no text on the other side"),
        ({"a": "x"}, ["x"], "two mappings id -> text"),
        ("x", "x", "two mappings id -> text"),
        ({"a": 1}, {"a": "x"}, "id 'a': expected a text, got int"),
    ],
)
def test_bad_input_says_what_to_do(predictions, references, message):
    with pytest.raises(InputError, match=message):
        measure_texts(predictions, references)


def test_an_unknown_metric_names_those_there_are(no_radeval):
    with pytest.raises(KeyError, match="ROUGE-L"):
        measure_texts({"a": "x"}, {"a": "x"})["CIDEr"]
