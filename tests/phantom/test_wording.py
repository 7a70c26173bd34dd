"""What is said about phantoms: form, vocabulary, balance and determinism of every text."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from workbench.findings import PHANTOM_FINDINGS
from workbench.phantom.scene import Lesion, draw_findings, sample_lesions
from workbench.phantom.wording import by_finding, questions, write_differential, write_report
from workbench.phantom.wording.report import REPORT_ORDER, article

N = 1500
HEAD = {name: f"(?i){name}" for name in REPORT_ORDER} | {
    "support device": "(?i)pacemaker|catheter|endotracheal tube",
    "cardiomegaly": "(?i)heart",
    "pulmonary edema": "(?i)edema",
    "pneumothorax": "(?i)pneumothora",
}


def scenes(count: int, seed: int = 3):
    """Lesions as the sampler draws them, with the domain and a generator for the words."""
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        domain = ("internal", "external")[index % 2]
        yield sample_lesions(rng, draw_findings(rng, domain)), domain, rng


def body(report: str) -> str:
    return report.split(" Impression: ")[0]


def test_same_generator_state_gives_the_same_words():
    for lesions, domain, _ in scenes(50):
        texts = [
            (
                write_report(lesions, np.random.default_rng(1), domain),
                write_differential(lesions, np.random.default_rng(2)),
                questions(lesions, np.random.default_rng(3), n=6),
            )
            for _ in range(2)
        ]
        assert texts[0] == texts[1]


def test_order_of_lesions_does_not_matter():
    for lesions, domain, _ in scenes(50):
        first = write_report(lesions, np.random.default_rng(1), domain)
        assert write_report(lesions[::-1], np.random.default_rng(1), domain) == first


def test_body_keeps_the_order_of_organ_systems_and_names_each_finding_in_one_sentence():
    for lesions, domain, rng in scenes(N):
        pieces = re.split(r"(?<=\.) ", body(write_report(lesions, rng, domain)))
        found = {}
        for name in REPORT_ORDER:
            found[name] = [at for at, piece in enumerate(pieces) if re.search(HEAD[name], piece)]
        assert all(len(places) <= 1 for places in found.values()), pieces
        order = [places[0] for places in found.values() if places]
        assert order == sorted(order)
        assert {lesion.finding for lesion in lesions} <= {n for n, p in found.items() if p}


def test_first_word_commits_within_each_voice():
    shares = Counter()
    for lesions, _, rng in scenes(N):
        report = body(write_report(lesions, rng, "internal"))
        plain = "Heart size" in report
        shares[plain] += 1
        drawn = {lesion.finding for lesion in lesions}
        for piece in re.split(r"(?<=\.) ", report):
            name = next(name for name in REPORT_ORDER if re.search(HEAD[name], piece))
            if name == "cardiomegaly":
                assert piece.startswith("Heart size is" if plain else "The heart is")
                verdict = piece.split(" is ")[1]
                assert verdict.startswith("enlarged") == (name in drawn)
            elif plain:
                assert piece.split()[0] == ("There" if name in drawn else "No")
            else:
                assert piece.startswith("There is no ") == (name not in drawn)
    assert 0.65 < shares[True] / N < 0.75


def test_pertinent_negatives_are_always_there_where_promised():
    for lesions, domain, rng in scenes(300):
        report = body(write_report(lesions, rng, domain))
        for name in ("consolidation", "pleural effusion", "pneumothorax", "cardiomegaly"):
            assert re.search(HEAD[name], report)


def test_reports_are_short_and_the_vocabulary_small():
    words, lengths = Counter(), []
    for lesions, domain, rng in scenes(N):
        report = write_report(lesions, rng, domain)
        lengths.append(len(report.split()))
        turns = [f"{q.text} {q.answer}" for q in questions(lesions, rng, n=5)]
        for text in (report, write_differential(lesions, rng), *turns):
            words.update(re.findall(r"[a-z]+|\d+", text.lower()))
    assert len(words) < 200
    assert 35 <= np.median(lengths) <= 60
    assert max(lengths) < 150


def test_texts_are_clean_english():
    for lesions, domain, rng in scenes(N):
        turns = [text for q in questions(lesions, rng, n=5) for text in (q.text, q.answer)]
        for text in (write_report(lesions, rng, domain), write_differential(lesions, rng), *turns):
            assert text == text.strip()
            assert text[0].isupper()
            assert text[-1] in ".?"
            assert not re.search(r"  | [,.;?]|\.\.|,,|None|\{|\}", text), text
            assert not re.search(r"(?<=[.?] )[a-z]", text), text
            for used, following in re.findall(r"\b(an?) (\w+)", text, re.IGNORECASE):
                assert used.lower() == article(following), text


@pytest.mark.parametrize(
    ("lesions", "phrases"),
    [
        (
            [Lesion("pleural effusion", side="left", severity="small")],
            ["a pleural effusion on the left", "small", "eft pleural effusion."],
        ),
        (
            [Lesion("pleural effusion", side="bilateral", severity="large")],
            ["pleural effusions on both sides", "ilateral pleural effusions."],
        ),
        (
            [Lesion("nodule", side="right", zone="upper", size_mm=17.4)],
            ["a nodule in the right upper lung zone", "15 mm", "ight upper lung zone nodule"],
        ),
        (
            [Lesion("consolidation", side="bilateral", zone="lower", severity="small")],
            ["onsolidation in both lower lung zones", "ilateral lower lung zone consolidation."],
        ),
        ([Lesion("pulmonary edema", side="bilateral", severity="large")], ["severe", "both lungs"]),
        ([Lesion("cardiomegaly", severity="small")], ["enlarged", "mild"]),
        (
            [Lesion("support device", kind="endotracheal tube")],
            ["an endotracheal tube", "Endotracheal tube in place."],
        ),
    ],
)
def test_findings_read_as_a_radiologist_writes_them(lesions, phrases):
    for seed in range(40):
        report = write_report(lesions, np.random.default_rng(seed), "internal")
        if "Heart size" in report:
            assert not [phrase for phrase in phrases if phrase not in report], report


def test_lesions_are_spoken_of_in_report_order():
    pair = [Lesion("nodule", side="left"), Lesion("atelectasis", side="right")]
    assert list(by_finding(pair)) == ["atelectasis", "nodule"]


def test_article_follows_the_sound():
    assert [article(word) for word in ("nodule", "endotracheal tube", "15 mm")] == ["a", "an", "a"]


def test_differential_names_causes_of_what_is_drawn():
    rng = np.random.default_rng(0)
    failure = [
        Lesion("cardiomegaly", severity="large"),
        Lesion("pulmonary edema", side="bilateral", severity="large"),
    ]
    assert write_differential(failure, rng) == (
        "Most likely: congestive heart failure, given cardiomegaly and pulmonary edema."
    )
    nodule = [Lesion("nodule", side="left", zone="upper", size_mm=20)]
    assert write_differential(nodule, rng).startswith("Most likely: granuloma")
    assert write_differential((), rng).startswith("No acute cardiopulmonary disease; ")
    device = [Lesion("support device", kind="pacemaker")]
    assert "pacemaker in place" in write_differential(device, rng)


def test_questions_are_distinct_well_formed_and_of_known_kinds():
    kinds = Counter()
    for lesions, _, rng in scenes(N):
        drawn = {lesion.finding for lesion in lesions}
        asked = questions(lesions, rng, n=5)
        assert len(asked) == 5
        assert len({(q.kind, q.finding, q.answer) for q in asked}) == 5
        for q in asked:
            kinds[q.kind] += 1
            assert q.finding in (*PHANTOM_FINDINGS, None)
            assert (q.premise is False) == (q.kind == "false premise")
            if q.kind == "false premise":
                assert q.finding not in drawn
                assert q.answer == f"There is no {q.finding}."
            if q.premise is True:
                assert q.finding in drawn
    assert set(kinds) == {
        "existence", "normal", "heart size", "side", "zone", "severity", "count", "device type",
        "describe", "false premise",
    }  # fmt: skip


def test_yes_and_no_are_balanced():
    answers = Counter()
    for lesions, _, rng in scenes(N):
        for q in questions(lesions, rng, n=4):
            answers[q.answer.split(",")[0]] += 1
    share = answers["Yes"] / (answers["Yes"] + answers["No"])
    assert 0.45 < share < 0.55


def test_false_premises_can_be_left_out():
    for lesions, _, rng in scenes(100):
        asked = questions(lesions, rng, n=8, false_premise=False)
        assert all(q.premise is not False for q in asked)


def test_more_questions_than_there_are_gives_all_there_are():
    asked = questions((), np.random.default_rng(0), n=1000)
    assert 0 < len(asked) < 40
    assert questions((), np.random.default_rng(0), n=0) == ()


def test_nodules_are_counted():
    rng = np.random.default_rng(0)
    one = [Lesion("nodule", side="left", zone="mid", severity="large", size_mm=20)]
    asked = {q.kind: q for q in questions(one, rng, n=1000) if q.finding == "nodule"}
    assert asked["count"].answer == "There is one nodule."
    assert asked["side"].answer == "The nodule is on the left."
    none = {q.kind: q for q in questions((), rng, n=1000) if q.finding == "nodule"}
    assert none["count"].answer == "There are no nodules."
