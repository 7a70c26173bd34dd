"""The labeler against the MeSH codes of Open-i, where those reports are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "labeler.py"
    spec = importlib.util.spec_from_file_location("labeler_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_present_findings_agree_with_mesh(benchmark):
    reports = benchmark.read_reports()
    if reports is None:
        pytest.skip("needs the Open-i reports: pip install --no-deps torchxrayvision")
    labels, _ = benchmark.timed(reports)
    for half in benchmark.HALVES:
        found = benchmark.agreement(reports, labels, half)
        least = 0.80 if half == "all" else 0.72  # halves have 14 pneumothoraces
        assert min(found[name]["f1"] for name in benchmark.FINDINGS) >= least
        assert found["mean_f1"] >= 0.88


def test_agreement_is_counted_by_hand(benchmark):
    from workbench.reports import label

    texts = ["Cardiomegaly.", "Cardiomegaly.", "Possible cardiomegaly.", "Clear lungs."]
    every = "Effusion. Atelectasis. Pneumothorax. Consolidation. Pulmonary edema."
    truth = [{"cardiomegaly"}, set(), {"cardiomegaly"}, {"cardiomegaly"}]
    others = frozenset(benchmark.FINDINGS) - {"cardiomegaly"}
    reports = [(n, f"{t} {every}", frozenset(s | others)) for n, (t, s) in
               enumerate(zip(texts, truth, strict=True))]  # fmt: skip
    labels = [label(text) for _, text, _ in reports]
    found = benchmark.agreement(reports, labels, "all")
    assert (found["cardiomegaly"]["tp"], found["cardiomegaly"]["fp"]) == (1, 1)
    assert found["cardiomegaly"]["fn"] == 2
    assert found["cardiomegaly"]["f1"] == pytest.approx(2 / 5)
    assert found["mean_f1"] == pytest.approx((2 / 5 + 5) / 6)
    odd = benchmark.agreement(reports, labels, "odd")["cardiomegaly"]
    assert (odd["tp"], odd["fp"], odd["fn"]) == (0, 1, 1)
    doubt = benchmark.agreement(reports, labels, "all", ("present", "uncertain"))["cardiomegaly"]
    assert (doubt["tp"], doubt["fp"], doubt["fn"]) == (2, 1, 1)


def test_disagreements_are_written_with_their_place(benchmark, tmp_path):
    from workbench.reports import label

    text = "Left effusion. No pneumothorax."
    benchmark.write_disagreements(
        [(7, text, frozenset({"pneumothorax", "atelectasis"}))], [label(text)], tmp_path / "d.csv"
    )
    assert (tmp_path / "d.csv").read_text().splitlines() == [
        "study,finding,mesh,code,start,end,rule,evidence",
        "7,pleural effusion,no heading,present,5,13,named,effusion",
        "7,atelectasis,present,not mentioned",
        "7,pneumothorax,present,absent,18,30,negation,pneumothorax",
    ]
