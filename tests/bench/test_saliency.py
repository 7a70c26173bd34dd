"""The saliency benchmark: true positives only, every case counted, the same with any jobs."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from tests.helpers import written
from tests.threads import one_thread  # noqa: F401 (a fixture)
from workbench.bench import loop, saliency
from workbench.bench.keys import PhantomKey
from workbench.bench.saliency import (
    FIXED,
    OPTIONS,
    SaliencyTask,
    _other_target,
    benchmark_saliency,
    score_case,
)
from workbench.bench.saliency_table import MapScore
from workbench.errors import OptionError
from workbench.findings import PHANTOM_FINDINGS
from workbench.generation.result import ModelIdentity
from workbench.reports import label
from workbench.saliency import METHODS, checks, explain_target, finding_target
from workbench.settings import FIRST_HELD_OUT_SEED

SEED = 5_000_000
KEYS = {"method", "pointing", "low", "high", "energy", "iou", "seconds", "randomisation_ok"}
QUICK = ("attention", "relevancy")


def task(methods: tuple[str, ...], other_of_slow: bool, check: bool) -> SaliencyTask:
    """What to do with one pleural effusion."""
    name = "pleural effusion"
    return SaliencyTask(PhantomKey(7, findings=(name,)), name, methods, other_of_slow, check)


@pytest.fixture(scope="module")
def model():
    return wb.load_model("mini", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def run(model):
    """Three phantoms below the held-out seeds, and what was logged."""
    messages: list[str] = []
    handler = SimpleNamespace(level=0, handle=lambda record: messages.append(record.getMessage()))
    loop.logger.addHandler(handler)
    try:
        table = benchmark_saliency(
            model, n=3, seed=SEED, methods=QUICK, randomised_cases=1, progress=False
        )
    finally:
        loop.logger.removeHandler(handler)
    return SimpleNamespace(table=table, messages=messages)


# ---------------------------------------------------------------- a small run


def test_dict_has_the_agreed_keys(run):
    result = run.table.to_dict()
    assert {"methods", "baselines", "cases"} <= set(result)
    assert {row["method"] for row in result["methods"]} == set(QUICK)
    assert {row["method"] for row in result["baselines"]} == set(FIXED)
    best = max(row["pointing"] for row in result["baselines"])
    for row in (*result["methods"], *result["baselines"]):
        assert set(row) >= KEYS
        assert 0 <= row["low"] <= row["pointing"] <= row["high"] <= 1
    for row in result["methods"]:
        assert row["best_fixed_baseline"] == best
        assert 0 <= row["other_phrase"] <= 1
        assert row["seconds"] > 0
        assert isinstance(row["randomisation_ok"], bool)
    assert result["drawn"] == 3 == result["cases"] + result["missed"]
    assert result["model"]["id"] == "mini"


def test_training_seeds_are_flagged(run):
    assert any("may have been trained on these phantoms" in text for text in run.messages)
    assert SEED < FIRST_HELD_OUT_SEED


def test_case_is_scored_as_by_hand(model):
    order = task(("relevancy",), False, False)
    scores = score_case(model, order)
    case = wb.phantom(7, findings=["pleural effusion"], size=model.image_size)
    trace, mask = model.trace(case), case.masks["pleural effusion"]
    target = finding_target(trace, "pleural effusion")
    image_map = explain_target(trace, target, method="relevancy")
    own = next(score for score in scores if score.kind == "method")
    assert own.pointing == checks.pointing(image_map, mask)
    assert own.energy == pytest.approx(checks.energy(image_map, mask), rel=1e-4)
    assert own.iou == pytest.approx(checks.overlap(image_map, mask))
    assert (own.similarity, own.seed) == (None, 7)
    prior = next(score for score in scores if score.method == "lung prior")
    assert prior.energy == pytest.approx(checks.energy(checks.lung_prior(image_map), mask))
    assert prior.seconds == 0
    assert {(score.method, score.kind) for score in scores} == {
        ("relevancy", "method"),
        ("relevancy", "other phrase"),
        *((name, "fixed") for name in FIXED),
    }


def test_missed_finding_is_no_case(model):
    silent = SimpleNamespace(
        image_size=64, report=lambda case: SimpleNamespace(text="No pleural effusion.")
    )
    assert score_case(silent, task(QUICK, True, True)) is None


def test_slow_methods_are_asked_about_another_phrase_now_and_then(model, monkeypatch):
    monkeypatch.setattr(saliency, "SLOW", ("attention",))
    for other in (False, True):
        scores = score_case(model, task(("attention",), other, False))
        assert any(score.kind == "other phrase" for score in scores) is other


def test_jobs_change_nothing_but_the_seconds(model, run):
    together = benchmark_saliency(
        model, n=3, seed=SEED, methods=QUICK, randomised_cases=1, jobs=2, progress=False
    )
    tables = [table.to_dict() for table in (run.table, together)]
    for table in tables:
        for row in table["methods"]:
            assert row.pop("seconds") > 0
    assert tables[0] == tables[1]


def test_stopped_run_goes_on_from_what_was_kept(model, run, tmp_path, monkeypatch):
    kept = tmp_path / "scores.jsonl"
    options = {"seed": SEED, "methods": QUICK, "progress": False, "kept": kept}
    explained: list[int] = []

    def counted(model, order):
        explained.append(order.key.seed)
        if len(explained) == 3:
            raise KeyboardInterrupt
        return score_case(model, order)

    monkeypatch.setattr(saliency, "score_case", counted)
    with pytest.raises(KeyboardInterrupt):
        benchmark_saliency(model, n=3, randomised_cases=1, **options)
    with kept.open("a") as handle:
        handle.write('{"task": {"key":')  # the line that was being written
    again = benchmark_saliency(model, n=3, randomised_cases=1, **options)
    assert explained == [SEED, SEED + 1, SEED + 2, SEED + 2]
    tables = [table.to_dict() for table in (run.table, again)]
    for row in (row for table in tables for row in table["methods"]):
        row.pop("seconds")
    assert tables[0] == tables[1]
    benchmark_saliency(model, n=3, randomised_cases=1, **options)
    assert len(explained) == 4

    monkeypatch.setattr(saliency, "OPTIONS", {"smoothgrad": {"samples": 2}})
    with pytest.raises(OptionError, match="written for other weights or options"):
        benchmark_saliency(model, n=3, randomised_cases=1, **options)


def test_processes_load_the_model_from_where_it_came(tiny, monkeypatch):
    """A directory is known by its last part only, which no other process could find."""
    seen = {}

    class Inline:
        def __init__(self, jobs, *, initializer, initargs, **_):
            seen.update(jobs=jobs, source=initargs[0], options=initargs[1])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return False

        def map(self, function, orders):
            return [None for _ in orders]

    monkeypatch.setattr(loop, "ProcessPoolExecutor", Inline)
    small = wb.load_model(tiny, device="cpu", dtype="float32")
    table = benchmark_saliency(small, n=2, seed=SEED, methods=QUICK, jobs=3, progress=False)
    assert (table.missed, seen["jobs"], seen["source"]) == (2, 3, tiny)
    again = wb.load_model(seen["source"], **seen["options"])
    assert again.identity == small.identity


# ---------------------------------------------------------------- another phrase


def others_of(text: str, finding: str) -> set[str]:
    trace = written(text)
    target = finding_target(trace, finding)
    found = [_other_target(trace, label(text), target, finding, seed) for seed in range(12)]
    return {other.selection.text for other in found if other is not None}


def test_other_phrase_is_a_sentence_about_another_drawable_finding():
    text = "Small left pleural effusion. No nodule. Heart size is normal. No fracture."
    assert others_of(text, "pleural effusion") == {"No nodule.", "Heart size is normal."}


def test_sentence_that_names_both_is_no_other_phrase():
    text = "Small left pleural effusion and atelectasis. No nodule."
    assert others_of(text, "pleural effusion") == {"No nodule."}
    assert others_of("Left pleural effusion and atelectasis.", "atelectasis") == set()


# ---------------------------------------------------------------- orders


@pytest.fixture
def ordered(monkeypatch):
    """Run with cases that cost nothing; returns the table and the orders."""

    def run_orders(n: int, misses=(), **options):
        orders: list[SaliencyTask] = []

        def count(model, order):
            orders.append(order)
            if order.key.seed in misses:
                return None
            return [
                MapScore(name, "method", order.key.seed, order.finding, True, 0.5, 0.5, 1.0)
                for name in order.methods
            ]

        monkeypatch.setattr(saliency, "score_case", count)
        identity = ModelIdentity("toy", "0" * 64)
        toy = SimpleNamespace(identity=identity, patchwise=True)
        options = {"seed": 11_000_000, "methods": QUICK, "progress": False} | options
        return benchmark_saliency(toy, n=n, **options), orders

    return run_orders


def test_seeds_follow_each_other_and_findings_take_turns(ordered):
    _, orders = ordered(19)
    assert [order.key.seed for order in orders] == list(range(11_000_000, 11_000_019))
    turns = [PHANTOM_FINDINGS[at % len(PHANTOM_FINDINGS)] for at in range(19)]
    assert [order.finding for order in orders] == turns


def test_missed_cases_are_counted(ordered):
    table, _ = ordered(7, misses=(11_000_001, 11_000_004))
    assert (table.drawn, table.missed, table.cases) == (7, 2, 5)
    assert table.methods[0].pointing.n == 5


@pytest.mark.parametrize(
    ("n", "cases", "checked"), [(300, 12, 12), (40, 0, 0), (3, 16, 3), (10, 4, 4), (5, 5, 5)]
)
def test_randomised_cases_are_as_many_as_asked_for(n, cases, checked, ordered):
    _, orders = ordered(n, randomised_cases=cases)
    chosen = [at for at, order in enumerate(orders) if order.check]
    assert len(chosen) == checked
    if checked > 1:
        assert chosen[0] == 0
        assert chosen[-1] < min(n, 48)


def test_randomised_cases_are_of_most_findings(ordered):
    _, orders = ordered(300)
    assert len({order.finding for order in orders if order.check}) == 8


def test_slow_methods_are_run_on_a_part_of_the_cases(ordered):
    table, orders = ordered(40, methods=("attention", "occlusion"), slow_cases=10)
    slow = [at for at, order in enumerate(orders) if "occlusion" in order.methods]
    assert slow == list(range(10))
    assert all("attention" in order.methods for order in orders)
    assert {at for at, order in enumerate(orders) if order.check} <= set(slow)
    assert {at for at, order in enumerate(orders) if order.other_of_slow} == set(slow[::5])
    cases = {row["method"]: row["cases"] for row in table.to_dict()["methods"]}
    assert cases == {"attention": 40, "occlusion": 10}


@pytest.mark.parametrize(
    ("n", "slow", "checked"), [(1, 1, 1), (9, 9, 1), (60, 20, 6), (96, 32, 10), (300, 48, 10)]
)
def test_small_tables_are_cheap_by_default(n, slow, checked, ordered):
    _, orders = ordered(n, methods=("attention", "occlusion"))
    assert sum("occlusion" in order.methods for order in orders) == slow
    assert sum(order.check for order in orders) == checked


def test_slow_methods_can_be_run_on_all(ordered):
    _, orders = ordered(40, methods=("occlusion",), slow_cases=99)
    assert all(order.methods == ("occlusion",) for order in orders)
    asked = {order.finding for order in orders if order.other_of_slow}
    assert asked == set(PHANTOM_FINDINGS)


def test_defaults_name_methods_that_exist():
    assert set(saliency.SLOW) <= set(METHODS)


def test_names_are_counted_once(ordered):
    methods = ("attention", "relevancy", "attention")
    table, orders = ordered(2, methods=methods)
    assert orders[0].methods == ("attention", "relevancy")
    assert len(table.methods) == 2


def test_all_methods_are_the_default(ordered):
    table, _ = ordered(1, methods=None)
    assert {row.method for row in table.methods} == set(METHODS)


def test_held_out_seeds_are_not_flagged(ordered, caplog):
    ordered(1, seed=FIRST_HELD_OUT_SEED)
    assert "trained on" not in caplog.text
    ordered(1, seed=FIRST_HELD_OUT_SEED - 1)
    assert "seed 9,999,999 lies below 10,000,000" in caplog.text


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("method", OPTIONS)
def test_options_of_the_benchmark_exist(method):
    assert set(OPTIONS[method]) <= set(METHODS[method].options)


def test_fixed_maps_are_fixed(model):
    case = wb.phantom(7, findings=[], size=64)
    like = checks.ImageMap(np.zeros((4, 4)), model.geometry(case.image), case.image, "like", "it")
    for name, make in FIXED.items():
        one, again, other = (make(like, seed) for seed in (1, 1, 2))
        assert one.method == name
        assert np.ptp(one.values) > 0
        np.testing.assert_array_equal(one.values, again.values)
        assert np.array_equal(one.values, other.values) is (name != "random")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("attention", "lime")}, "unknown method 'lime'; expected some of: attention"),
        ({"methods": ()}, "name at least one method"),
        ({"n": 0}, "n must be a whole number of 1 or more, got 0"),
        ({"jobs": 0}, "jobs must be a whole number of 1 or more, got 0"),
        ({"slow_cases": 0}, "slow_cases must be a whole number of 1 or more, got 0"),
        ({"seed": -1}, "seed must be a whole number of 0 or more, got -1"),
        ({"randomised_cases": -1}, "randomised_cases must be a whole number of 0 or more, got -1"),
    ],
)
def test_wrong_options(options, message, ordered):
    with pytest.raises(OptionError, match=message):
        ordered(options.pop("n", 1), **options)
