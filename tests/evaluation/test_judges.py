"""Judges: scores by hand, answers that are none, one question for each pair, and intervals."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.backends.test_endpoint import Server, reply
from workbench.cli import DONE, main
from workbench.errors import InputError, OptionError
from workbench.evaluation.judges import METRICS, Verdict, crimson, judge, radmatch, read_verdict

PREDICTIONS = {str(at): f"Candidate {at % 6}." for at in range(8)}
REFERENCES = {str(at): f"Reference {at % 6}." for at in range(8)}


def finding(name, significance, **more):
    return {"id": name, "finding": "x", "significance": significance, **more}


def seen(name, significance, status="abnormal", comparison=None):
    return finding(name, significance, status=status, comparison=comparison)


def error(pair, kind, weight):
    return {"reference": pair[0], "predicted": pair[1], "kind": kind, "weight": weight}


def answer(reference, predicted, matched=(), errors=()) -> str:
    pairs = [{"reference": own, "predicted": other} for own, other in matched]
    parts = {"reference": reference, "predicted": predicted, "matched": pairs, "errors": errors}
    return json.dumps(parts | {"errors": list(errors)})


def scored(metric, *parts):
    return METRICS[metric](read_verdict(metric, answer(*parts)))


# ---------------------------------------------------------------- scores by hand

URGENT, ACTION, BENIGN = (
    finding("R1", "urgent"),
    finding("R2", "actionable"),
    finding("R3", "benign"),
)
P1 = finding("P1", "urgent")


@pytest.mark.parametrize(
    ("parts", "value"),
    [
        (([], []), 1.0),  # nothing to say and nothing said
        (([URGENT], [P1], ["R1P1"]), 1.0),
        (([URGENT], []), 0.0),
        (([URGENT, ACTION], [P1], ["R1P1"]), 1 / 1.5),
        (([], [P1]), -1 / 2),  # a false urgent finding: -1 / (1 + 1)
        (([ACTION], [P1]), -1 / 2),
        (([URGENT, ACTION], [P1, finding("P2", "actionable")], ["R1P1"]), (1 - 0.5) / 1.5),
        (([URGENT], [P1], ["R1P1"], [("R1P1", "location", "significant")]), 1 / 1.5),
        (([URGENT], [P1], ["R1P1"], [("R1P1", "location", "significant")] * 2), 1 / 2),
        (([URGENT], [P1], ["R1P1"], [("R1P1", "location", "negligible")]), 1.0),
        (([BENIGN], [P1], ["R3P1"]), 1.0),  # what has no weight costs nothing
        (([URGENT], [P1, finding("P2", "urgent")], ["R1P1", "R1P2"]), 1.0),  # one for several
    ],
)
def test_crimson_by_hand(parts, value):
    reference, predicted, matched, errors = (*parts, [], [])[:4] if len(parts) < 4 else parts
    pairs = [(one[:2], one[2:]) for one in matched]
    found = [error((pair[:2], pair[2:]), *rest) for pair, *rest in errors]
    told = scored("crimson", reference, predicted, pairs, found)
    assert told["CRIMSON"] == (pytest.approx(value), 1)
    assert told["missing findings"][0] == len(reference) - len({own for own, _ in pairs})


R, P = seen("R1", "urgent"), seen("P1", "urgent")
PAIR = [("R1", "P1")]


@pytest.mark.parametrize(
    ("parts", "missed", "unsupported"),
    [
        (([R], [P], PAIR), 0, 0),
        (([R], []), 1, 0),
        (([], [P]), 0, 1),
        (([seen("R1", "routine")], []), 0, 0),
        (([R], [P], PAIR, [error(("R1", "P1"), "severity", "minor")]), 0, 0),
        (([R], [P], PAIR, [error(("R1", "P1"), "location", "major")]), 1, 0),
        (([R], [seen("P1", "routine", "normal")], PAIR), 1, 0),  # denied
        (([seen("R1", "routine", "normal")], [P], PAIR), 0, 1),  # stated where it is denied
        (([seen("R1", "critical")], [P], PAIR, [error(PAIR[0], "certainty", "minor")]), 1, 0),
        (([R], [P], PAIR, [error(PAIR[0], "certainty", "minor")]), 0, 0),
        (([seen("R1", "urgent", comparison="new")], [seen("P1", "urgent", comparison="stable")],
          PAIR), 1, 0),
        (([seen("R1", "urgent", comparison="new")], [P], PAIR), 1, 0),
        (([seen("R1", "urgent", comparison="stable")], [P], PAIR), 0, 0),
        (([R], [seen("P1", "urgent", comparison="new")], PAIR), 0, 0),
        # one of two pairs is right: the reference is found
        (([R], [P, seen("P2", "urgent", "normal")], [*PAIR, ("R1", "P2")]), 0, 0),
    ],
)  # fmt: skip
def test_radmatch_by_hand(parts, missed, unsupported):
    told = scored("radmatch", *parts)
    assert told["missed or contradicted"] == (missed, 1)
    assert told["unsupported"] == (unsupported, 1)
    assert told["actionable errors"] == (missed + unsupported, 1)
    hits, total = told["recall"]
    assert total - hits == missed  # of the package: fn_total == gt_total - recall_hits


# ---------------------------------------------------------------- answers


GOOD = answer([URGENT], [P1], [("R1", "P1")])


@pytest.mark.parametrize("wrapped", ["{}", "```json\n{}\n```", "<think>a {{ b }}</think>\n{}"])
def test_marks_around_the_json_are_passed_over(wrapped):
    assert isinstance(read_verdict("crimson", wrapped.replace("{}", GOOD, 1)), Verdict)


@pytest.mark.parametrize(
    "broken",
    [
        "I cannot judge this.", "{", "[]", "{}", "null", GOOD[:-2],
        GOOD.replace('"urgent"', '"severe"'),
        GOOD.replace('"matched"', '"pairs"'),
        GOOD.replace('"finding": "x"', '"finding": 3'),
        answer([URGENT, URGENT], [P1]),
        answer([URGENT], [P1], [("R1", "P9")]),
        answer([URGENT], [P1], [], [error(("R1", "P1"), "location", "significant")]),
        answer([URGENT], [P1], [("R1", "P1")], [error(("R1", "P1"), "style", "significant")]),
        answer([URGENT | {"more": 1}], [P1]),
    ],
)  # fmt: skip
def test_any_other_form_is_refused(broken):
    with pytest.raises(ValueError, match=r"\w"):
        read_verdict("crimson", broken)


def served(*answers):
    server = Server(*map(reply, answers) if answers else [reply(GOOD)])
    return server, wb.load_model(server.url, name="judge")


def test_a_pair_of_texts_is_asked_about_once_and_silence_is_not_zero(tmp_path):
    server, model = served()
    replies = {"Reference 1.": "", "Reference 2.": "no JSON", "Reference 3.": answer([URGENT], [])}

    def say(asked):
        text = asked["messages"][1]["content"]
        return reply(next((said for name, said in replies.items() if name in text), GOOD))

    server.answers = [say]
    kept = tmp_path / "kept.jsonl"
    found = judge(PREDICTIONS, REFERENCES, model, kept=kept, resamples=50)
    assert len(server.asked) == 6  # two of eight pairs are others again
    assert found.statuses == {"judged": 5, "silent": 2, "malformed": 1}
    assert found.numbers["CRIMSON"].value == pytest.approx(4 / 5)
    assert found.numbers["CRIMSON"].n == 5
    assert found.rows["CRIMSON"].isna().sum() == 3
    again = judge(PREDICTIONS, REFERENCES, model, kept=kept, resamples=50)
    assert len(server.asked) == 6 and again.numbers == found.numbers
    with pytest.raises(OptionError, match="other weights or options"):
        judge(PREDICTIONS, REFERENCES, model, metric="radmatch", kept=kept)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["numbers"]["CRIMSON"]["n"] == 5 and "significance" in told["prompt"]
    assert "2 silent, 1 malformed" in str(found)
    sent = server.asked[0]["messages"]
    assert sent[0]["role"] == "system" and "Candidate" in sent[1]["content"]
    assert server.asked[0]["temperature"] == 0.0
    server.stop()


def test_no_answer_is_no_number():
    server, model = served("")
    found = judge(PREDICTIONS, REFERENCES, model, metric="radmatch", resamples=20)
    assert found.numbers == {} and found.statuses["silent"] == 8
    assert "nothing" in str(found)
    server.stop()


def test_reports_of_a_patient_are_resampled_together():
    server, model = served()
    server.answers = [
        lambda asked: reply(GOOD if "Candidate 0" in str(asked) else answer([URGENT], []))
    ]
    texts = {str(at): f"Candidate {at % 2}. {at}" for at in range(8)}
    one = dict.fromkeys(texts, "same")
    apart = judge(texts, texts, model, resamples=200).numbers["CRIMSON"]
    together = judge(texts, texts, model, patients=one, resamples=200).numbers["CRIMSON"]
    assert apart.value == together.value == 0.5
    assert together.low == together.high == 0.5 and apart.low < apart.high
    server.stop()


def test_errors_repair():
    server, model = served()
    with pytest.raises(OptionError, match="one of crimson, radmatch; got 'crimsn'"):
        judge(PREDICTIONS, REFERENCES, model, metric="crimsn")
    with pytest.raises(OptionError, match=r"behind an endpoint; load it with wb.load_model"):
        judge(PREDICTIONS, REFERENCES, object())
    labels = {"0": {"nodule": "present"}}
    with pytest.raises(InputError, match="give reports on both sides"):
        judge(PREDICTIONS, labels, model)
    assert server.asked == []
    server.stop()


def test_the_command_asks_a_judge(tmp_path, capsys):
    server, _ = served()
    for name, texts in (("a", PREDICTIONS), ("b", REFERENCES)):
        pd.DataFrame({"id": list(texts), "text": list(texts.values())}).to_csv(
            tmp_path / f"{name}.csv"
        )
    given = ["--predictions", f"{tmp_path}/a.csv", "--references", f"{tmp_path}/b.csv"]
    given += ["--judge", server.url, "--name", "judge", "--judge-by", "crimson", "--resamples", "9"]
    assert main(["evaluate", *given, "--keep", f"{tmp_path}/kept", "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)["judged"]
    assert [one["metric"] for one in found] == ["crimson"]
    assert found[0]["numbers"]["CRIMSON"]["value"] == 1
    assert (tmp_path / "kept.crimson.jsonl").is_file()
    assert np.isfinite(found[0]["numbers"]["CRIMSON"]["value_low"])
    server.stop()


def test_both_score_by_name():
    assert {"crimson": crimson, "radmatch": radmatch} == METRICS
