"""Benchmarks over the radiographs of a manifest give the tables that phantoms give."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import workbench as wb
from tests.threads import one_thread  # noqa: F401 (a fixture)
from workbench.bench.detectors import benchmark_hallucination
from workbench.bench.keys import Radiographs, case_keys, known
from workbench.bench.mitigation import benchmark_mitigation
from workbench.bench.saliency import _cases, benchmark_saliency
from workbench.bench.saliency_table import MapScore, tabulate
from workbench.cases import Case
from workbench.cli import DONE, FAILED, main
from workbench.commands.phantom import save
from workbench.errors import InputError
from workbench.evaluation import POLICIES
from workbench.evaluation.intervals import bootstrap_weights, grouped_weights
from workbench.findings import PHANTOM_FINDINGS
from workbench.hallucination.mitigation import PollAndRewrite

SEED, N = 5_000_000, 5
QUICK = ("attention", "grad_cam")


@pytest.fixture(scope="module")
def model():
    return wb.load_model("mini", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The phantoms of `benchmark_saliency` as files: images, masks and a manifest."""
    folder = tmp_path_factory.mktemp("phantoms")
    for at in range(N):
        case = wb.phantom(SEED + at, findings=[PHANTOM_FINDINGS[at]], size=model.image_size)
        save(case, folder)
    manifest = wb.data.build("phantom", source=folder)
    manifest.save(folder / "m.parquet")
    return Radiographs(folder / "m.parquet")


def told(table) -> dict:
    """The table without where its cases are from, and without times."""
    found = json.loads(json.dumps(table.to_dict()))
    rows = [*found.get("methods", ()), *found.get("baselines", ())]
    for row in rows:
        row.pop("seconds")
    for row in found.get("mitigations", ()):
        row.pop("time")
    apart = ("source", "by_domain", "model")
    for row in found.get("detectors", ()):
        row.pop("by_domain")
    (found.get("combination") or {}).pop("by_domain", None)
    return {name: value for name, value in found.items() if name not in apart}


def test_exported_phantoms_give_the_table_that_phantoms_give(model, exported):
    options = {"methods": QUICK, "seed": SEED, "randomised_cases": 1, "progress": False}
    drawn = benchmark_saliency(model, n=N, causal=True, **options)
    read = benchmark_saliency(model, radiographs=exported, causal=True, **options)
    assert told(drawn) == told(read)
    assert read.cases and read.patients == drawn.patients == read.cases
    assert "radiographs of m.parquet" in str(read)
    assert read.to_dict()["source"] == "m.parquet"
    assert 0 <= read.to_dict()["methods"][0]["causal"]["cases"] <= read.cases


@pytest.mark.parametrize(
    ("measure", "more"),
    [
        (benchmark_hallucination, {"samples": 0}),
        (benchmark_mitigation, {"mitigations": (PollAndRewrite(),)}),
    ],
)
def test_detectors_and_mitigation_take_the_same_rows(model, tmp_path, measure, more):
    for key in case_keys(4, SEED, None, phantoms=4):
        save(key.open(model.image_size), tmp_path)
    frame = wb.data.build("phantom", source=tmp_path).to_frame()
    # the benchmark draws internal phantoms first
    frame = frame.sort_values("image_id", key=lambda names: ["external" in one for one in names])
    frame.to_parquet(tmp_path / "m.parquet")
    drawn = measure(model, n=4, seed=SEED, progress=False, **more)
    read = measure(
        model, radiographs=Radiographs(tmp_path / "m.parquet"), seed=SEED, progress=False, **more
    )
    assert read.patients == read.to_dict()["patients"] == 4
    if measure is benchmark_mitigation:
        plain = [table.to_dict()["mitigations"][1] for table in (drawn, read)]
        assert [row["missed"]["value"] for row in plain] == [plain[0]["missed"]["value"]] * 2
    else:
        assert {row.detector: row.auroc.value for row in drawn.rows} == {
            row.detector: row.auroc.value for row in read.rows
        }


def test_what_a_row_does_not_say_is_not_counted(model, exported, tmp_path):
    frame = pd.read_parquet(exported.manifest)
    frame = frame.iloc[:2].copy()
    frame.loc[:, list(PHANTOM_FINDINGS)] = "not mentioned"
    frame.loc[:, "pneumothorax"] = "absent"
    frame.loc[:, "mass"] = "present"  # a column of manifests that no report is read for
    frame.to_parquet(tmp_path / "m.parquet")
    unknown = Radiographs(tmp_path / "m.parquet", root=exported.manifest.parent)
    found = benchmark_mitigation(
        model, mitigations=(PollAndRewrite(),), radiographs=unknown, progress=False
    ).rows[0]
    assert found.missed.value == 0
    assert found.false.value == 0  # what is stated besides is neither right nor wrong
    with pytest.raises(InputError, match="boxes or masks"):
        benchmark_saliency(model, radiographs=unknown, methods=QUICK, progress=False)


def test_uncertain_counts_as_the_policy_says():
    case = Case("a", "p", {"nodule": "uncertain", "fracture": "absent"}, {}, load=lambda: None)
    counted = {
        name: [known(case, one, policy.present) for one in ("nodule", "fracture", "pneumonia")]
        for name, policy in POLICIES.items()
    }
    assert counted == {
        "joint-definite": [False, True, False],
        "uncertain-as-positive": [True, True, False],
        "uncertain-as-negative": [True, True, False],
        "blank-as-negative": [False, True, True],
    }


def test_boxes_stand_for_masks_and_several_findings_are_several_cases(exported, tmp_path):
    frame = pd.read_parquet(exported.manifest)
    frame.loc[:, "masks"] = None
    box = {"x": 10, "y": 20, "width": 30, "height": 40}
    names = ["nodule", "pleural effusion"]
    frame.loc[0, "boxes"] = json.dumps([{"finding": name, **box} for name in [*names, "fracture"]])
    for name in names:
        frame[name] = "present"
    frame["fracture"] = "absent"
    frame.to_parquet(tmp_path / "m.parquet")
    source = Radiographs(tmp_path / "m.parquet", root=exported.manifest.parent)
    pairs = _cases(None, 7, source, None)
    assert sorted(name for _, name in pairs) == sorted(names)
    assert {key.seed for key, _ in pairs} == {7}
    mask = pairs[0][0].open(64).masks["nodule"]
    assert mask.sum() == 30 * 40 and mask[20:60, 10:40].all()


def test_images_of_a_patient_are_resampled_together():
    groups = ["a", "b", "a", "c", "b"]
    weights = grouped_weights(groups, np.random.default_rng(0))
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    alone = grouped_weights(list("abcde"), np.random.default_rng(0))
    assert (alone == bootstrap_weights(5, np.random.default_rng(0))).all()


def test_two_images_of_a_patient_widen_the_interval():
    hits = [True, True, False, False] * 6
    scores = [
        MapScore("attention", "method", at, "nodule", hit, 0.5, 0.5, patient=str(at))
        for at, hit in enumerate(hits)
    ]
    facts = {"methods": ["attention"], "drawn": 24, "missed": 0, "seed": 1, "provenance": {}}
    apart = tabulate(scores, **facts).methods[0].pointing
    paired = [replace(score, patient=str(at // 2)) for at, score in enumerate(scores)]
    table = tabulate(paired, **facts)
    together = table.methods[0].pointing
    assert table.patients == 12
    assert together.value == apart.value
    assert together.high - together.low > 1.2 * (apart.high - apart.low)


def test_the_command_takes_a_manifest(exported, capsys, tmp_path):
    given = ["--manifest", str(exported.manifest), "--root", str(exported.manifest.parent)]
    options = ["--methods", "grad_cam", "--randomised", "0", "--n", "2", "--jobs", "1", "--json"]
    assert main(["benchmark", "saliency", *given, *options]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["drawn"] == 2 and found["source"] == "m.parquet"
    assert {"causal", "per_finding"} <= found["methods"][0].keys() and "patients" in found
    assert main(["benchmark", "hallucination", "--root", "x"]) == FAILED
    assert "--manifest" in capsys.readouterr().err


@pytest.mark.parametrize("domain", ["external", "ct"])
def test_phantoms_of_one_domain_can_be_asked_for(domain, model):
    assert {key.domain for key in case_keys(3, SEED, None, phantoms=9, domain=domain)} == {domain}
    table = benchmark_saliency(
        model, domain=domain, n=2, seed=SEED, methods=("attention",), randomised_cases=0,
        progress=False,
    )  # fmt: skip
    assert f"{domain} phantoms from seed" in str(table)
    assert table.to_dict()["domain"] == domain


def test_halves_of_two_domains_are_the_default():
    for n in (1, 4, 5):
        domains = [key.domain for key in case_keys(n, SEED, None, phantoms=9)]
        assert domains == ["internal"] * ((n + 1) // 2) + ["external"] * (n // 2)


def test_a_domain_beside_a_manifest_is_refused(exported, capsys):
    assert main(["benchmark", "saliency", "--domain", "ct", "--manifest", "m.parquet"]) == FAILED
    assert "--domain is of phantoms" in capsys.readouterr().err
