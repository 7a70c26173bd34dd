"""Mitigation: nothing asked for changes nothing, and what is rejected is no longer stated."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from tests.helpers import GOLDEN, load
from workbench.bench.mitigation import PLAIN, MitigatedCase, benchmark_mitigation, tabulate
from workbench.errors import InputError, OptionError
from workbench.findings import ABSENT, PRESENT
from workbench.hallucination import (
    Abstain,
    Calibration,
    ContrastiveDecoding,
    PollAndRewrite,
    Revise,
    ground,
    shipped_calibration,
)
from workbench.hallucination.calibration import WITH_PROBE, JudgedCase, reliability
from workbench.hallucination.detectors import AUGMENTED_POLLING, DETECTORS
from workbench.hallucination.linear_probe import shipped_probe
from workbench.reports import label


def one_detector(bias: float, weight: float = 0.0) -> Calibration:
    """A calibration that says the same of everything, unless weighted."""
    return Calibration(
        detectors=(AUGMENTED_POLLING,),
        mean=np.zeros(1),
        scale=np.ones(1),
        weights=np.array([weight]),
        bias=bias,
        probabilities=np.array([0.1, 0.2, 0.4, 0.8, 0.9]),
        false=np.array([False, False, True, False, True]),
        sha256="",
        fitted_on="made up",
    )


@pytest.fixture(scope="module")
def sick():
    return wb.phantom(11, findings=["pleural effusion", "nodule"], size=load("mini").image_size)


# -- contrastive decoding -------------------------------------------------------------------------


def test_contrast_of_hand_made_logits():
    logits = torch.tensor([[0.0, 1.0, -9.0], [0.0, 3.0, 5.0]])
    found = ContrastiveDecoding(alpha=2.0, plausible=0.1).guide([0, 1], logits)
    logs = logits.log_softmax(-1)
    expected = 3 * logs[0] - 2 * logs[1]
    assert torch.equal(found[0, :2], expected[:2])
    assert found[0, 2] == -math.inf
    assert torch.equal(found[0], found[1])


def test_pairs_are_found_in_any_order_of_rows():
    logits = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    way = ContrastiveDecoding()
    straight = way.guide([0, 1, 2, 3], logits)
    order = [3, 0, 2, 1]
    assert torch.equal(way.guide(order, logits[order]), straight[order])


@pytest.mark.parametrize("name", ["mini", "A_tiny", "B_gqa_odd"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.8, "seed": 3}])
def test_alpha_0_decodes_as_without(name, options):
    model = load(name)
    film = wb.load_radiograph(GOLDEN / "images" / "grad_300x400.png")
    plain = model.report(film, max_new_tokens=12, **options)
    way = ContrastiveDecoding(alpha=0.0, plausible=1e-30)
    found = model.report(film, mitigation=way, max_new_tokens=12, **options)
    assert found.token_ids == plain.token_ids
    assert found.logprobs == pytest.approx(plain.logprobs, abs=1e-4)


def test_contrast_with_the_image_itself_changes_nothing(sick, monkeypatch):
    model = load("mini")
    monkeypatch.setattr(
        "workbench.hallucination.mitigation.ablated_images",
        lambda model, pixels, *, ablations, seed: {ablations[0]: torch.from_numpy(pixels)[None]},
    )
    plain = model.report(sick, max_new_tokens=40)
    found = model.report(sick, mitigation=ContrastiveDecoding(), max_new_tokens=40)
    assert found.token_ids == plain.token_ids


@pytest.mark.parametrize(
    "options", [{"alpha": -1}, {"plausible": 0}, {"plausible": 2}, {"ablation": "blink"}]
)
def test_contrast_refuses_options_out_of_range(options):
    with pytest.raises(OptionError, match=r"expected alpha|ablation must be one of"):
        ContrastiveDecoding(**options)


# -- rewriting mitigations ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "way",
    [
        Revise(above=0.99, calibration=one_detector(-20.0)),
        Abstain(0.5, calibration=one_detector(-20.0)),
        PollAndRewrite(remove_below=-1e9),
    ],
    ids=lambda way: way.name,
)
def test_nothing_rejected_keeps_text_and_tokens(sick, way):
    model = load("mini")
    plain, found = model.report(sick), model.report(sick, mitigation=way)
    assert (found.text, found.token_ids, found.changes) == (plain.text, plain.token_ids, ())
    assert np.array_equal(found.logprobs, plain.logprobs)
    assert found.mitigation["name"] == way.name


@pytest.mark.parametrize(
    ("way", "code"),
    [
        (Revise(calibration=one_detector(20.0)), "not mentioned"),
        (Abstain(1.0, calibration=one_detector(20.0)), "uncertain"),
        (PollAndRewrite(remove_below=1e9), "absent"),
    ],
    ids=["revise", "abstain", "poll"],
)
def test_everything_rejected_leaves_no_statement(sick, way, code):
    model = load("mini")
    found = model.report(sick, mitigation=way)
    stated = set(label(found.original.text).present)
    assert stated >= {"pleural effusion", "nodule"}
    assert not set(label(found.text).present)
    assert {label(found.text).code(name) for name in stated} == {code}
    assert {change.finding for change in found.changes} == stated
    assert found.seconds > found.original.seconds > 0


def test_a_rewritten_report_is_a_generation_like_any_other(sick):
    model = load("mini")
    found = model.report(sick, mitigation=Revise(calibration=one_detector(20.0)))
    assert model.tokenizer.decode(found.token_ids) == found.text
    assert len(found.logprobs) == len(found.tokens) == len(found.offsets) == len(found.token_ids)
    assert found.pixels_sha256 == found.original.pixels_sha256
    grounding = ground(model.trace(sick, found), ablations=["blank"])
    assert grounding.text == found.text
    assert grounding.logprobs == pytest.approx(found.logprobs, abs=1e-3)
    assert {change.edit for change in found.changes} == {"drop"}
    assert "finding-level revision" in found._repr_html_()
    assert found.to_dict()["original"] == found.original.text


def test_suspect_statements_go_and_others_stay(sick):
    """With the cut between two odds, only the more suspect of two findings is dropped."""
    model = load("mini")
    kind = one_detector(0.0, weight=1.0)
    suspect = {
        change.finding: change.score
        for change in model.report(sick, mitigation=Revise(above=1e-12, calibration=kind)).changes
    }
    order = sorted(suspect, key=suspect.get)
    assert suspect[order[0]] < suspect[order[-1]]
    found = model.report(sick, mitigation=Revise(above=suspect[order[-1]], calibration=kind))
    assert set(label(found.text).present) == set(order[:-1])


def test_without_a_fitting_calibration_it_says_what_to_do():
    model = load("A_tiny")
    film = wb.load_radiograph(GOLDEN / "images" / "grad_300x400.png")
    with pytest.raises(InputError, match=r"no calibration .* fit one with Calibration\.fit"):
        model.report(film, mitigation=Revise())
    found = model.report(film, mitigation=Revise(calibration=one_detector(0)), max_new_tokens=5)
    assert found.changes == ()


@pytest.mark.parametrize(
    "make",
    [lambda: Revise(above=0), lambda: Abstain(1.5), lambda: PollAndRewrite(edit="erase")],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(OptionError, match=r"above|edit|precision"):
        make()


# -- calibration ----------------------------------------------------------------------------------


def judged(n: int, seed: int = 0) -> list[JudgedCase]:
    rng = np.random.default_rng(seed)
    cases = []
    for at in range(n):
        false = bool(rng.random() < 0.4)
        scores = np.full(len(DETECTORS), np.nan)
        scores[DETECTORS.index(AUGMENTED_POLLING)] = 3 * false + rng.standard_normal()
        scores[DETECTORS.index("entropy")] = rng.standard_normal()
        truth = (ABSENT if false else PRESENT,)
        cases.append(JudgedCase(at, "internal", ("nodule",), truth, (tuple(scores),)))
    return cases


def test_calibration_survives_its_file(tmp_path):
    found = Calibration.fit(judged(120), sha256="f" * 64, fitted_on="made up")
    assert found.detectors == ("entropy", AUGMENTED_POLLING)
    again = Calibration.load(found.save(tmp_path / "c.json"))
    scores = np.array([[0.0, -2.0], [0.0, 1.0], [0.0, 4.0]])
    assert np.array_equal(again.probability(scores), found.probability(scores))
    assert (np.diff(found.probability(scores)) > 0).all()
    assert again.sha256 == "f" * 64
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match="no calibration"):
        Calibration.load(tmp_path / "bad.json")


def test_calibration_of_few_cases_is_refused():
    with pytest.raises(InputError, match="give more cases"):
        Calibration.fit(judged(12), sha256="")
    with pytest.raises(OptionError, match="was not run"):
        Calibration.fit(judged(60), sha256="", detectors=["polling"])


def test_cut_for_precision_by_hand():
    """Kept in order .1 true, .2 true, .4 false, .8 true, .9 false: 1, 1, 2/3, 3/4, 3/5."""
    kind = one_detector(0.0)
    assert [kind.cut_for_precision(p) for p in (1.0, 0.7, 0.6)] == [0.2, 0.8, 0.9]
    none = replace(kind, false=np.ones(5, bool))
    assert none.cut_for_precision(0.5) == 0.0


# -- benchmark ------------------------------------------------------------------------------------


def test_table_by_hand():
    """Two films: one false nodule that is taken back, one effusion that is lost with it."""
    cases = [
        MitigatedCase(
            1, "internal", ("pleural effusion",),
            {PLAIN: ("pleural effusion", "nodule"), "m": ("pleural effusion",)},
            {PLAIN: (), "m": ("nodule",)}, {PLAIN: 1.0, "m": 3.0},
        ),
        MitigatedCase(
            2, "external", ("pleural effusion",),
            {PLAIN: ("pleural effusion",), "m": ()}, {PLAIN: (), "m": ()}, {PLAIN: 1.0, "m": 2.0},
        ),
    ]  # fmt: skip
    table = tabulate(cases, seed=1, options={"m": {}}, provenance={}, resamples=50)
    none, m = table.rows
    assert (none.name, none.false.value, none.missed.value, none.f1.value) == (PLAIN, 0.5, 0, 1)
    assert (m.false.value, m.missed.value, m.doubted.value) == (0, 0.5, 0.5)
    assert m.f1.value == pytest.approx(2 / 3)
    assert m.false_change.value == -1
    assert m.missed_change.value == 0.5
    assert m.f1_change.value == pytest.approx(-1 / 3)
    assert m.time == 2.5
    assert m.per_finding == {"pleural effusion": {"false": 0, "missed": 1, "present": 2}}
    assert none.per_finding["nodule"] == {"false": 1, "missed": 0, "present": 0}
    assert table.to_dict()["mitigations"][0]["per_finding"] == none.per_finding
    assert set(table.by_domain) == {"internal", "external"}
    assert "-100 %" in str(table)


def test_benchmark_goes_on_from_what_was_kept(tmp_path):
    model, kept = load("mini"), tmp_path / "kept.jsonl"
    ways = (Revise(calibration=one_detector(20.0)),)
    options = {"mitigations": ways, "n": 2, "seed": 7_100_000, "resamples": 20, "progress": False}
    first = benchmark_mitigation(model, kept=kept, **options)
    lines = kept.read_text()
    again = benchmark_mitigation(model, kept=kept, **options)
    assert kept.read_text() == lines
    assert again.to_dict() == first.to_dict()
    assert first.rows[1].false.value == 0
    with pytest.raises(OptionError, match="other weights or options"):
        benchmark_mitigation(
            model, kept=kept, **{**options, "mitigations": (Revise(calibration=one_detector(2)),)}
        )


def test_what_is_shipped_fits_the_shipped_weights_and_no_held_out_seed():
    model = load("mini")
    for name in ("combination", WITH_PROBE, AUGMENTED_POLLING):
        found = shipped_calibration(model, name)
        assert found.sha256 == model.identity.sha256
        assert "seeds 8,000,000 to 8,000,299" in found.fitted_on
        assert len(found.probabilities) == len(found.false) > 400
        bins = reliability(found.probabilities, found.false)
        shares = [(at, share.low, share.high) for at, share in bins]
        assert all(low - 0.05 <= at <= high + 0.05 for at, low, high in shares)
    probe = shipped_probe(model.identity)
    assert probe is not None and "seeds 7,200,000 to 7,200,399" in probe.fitted_on
    with pytest.raises(InputError, match="no calibration 'magic' is shipped"):
        shipped_calibration(model, "magic")
