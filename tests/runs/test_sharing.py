"""A run as a model card of the hub, and as pairs of texts that RadEval reads."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from workbench.cli import main
from workbench.data import Manifest, load
from workbench.errors import InputError
from workbench.evaluation import score
from workbench.model.licence import NOT_CLINICAL
from workbench.runs import model_card, report_pairs, run


@pytest.fixture(scope="module")
def done(films, model, tmp_path_factory):
    """A run of eight reports."""
    out = tmp_path_factory.mktemp("sharing") / "first"
    return run(films, model=model, tasks=["report"], out=out, max_new_tokens=12)


@pytest.fixture(scope="module")
def known(films) -> Manifest:
    """Its manifest with reports of all images but one, and a label."""
    manifest = load(films, check=False)
    texts = [f"Report {n}. No effusion." for n in range(len(manifest))]
    frame = manifest.frame.assign(report_findings=texts, patient_id=manifest.frame["image_id"])
    frame.loc[3, "report_findings"] = pd.NA
    return manifest.with_frame(frame.assign(**{"pleural effusion": "absent"}))


def test_pairs_are_what_radeval_reads(done, known, tmp_path):
    pairs = report_pairs(done, known)
    written = done.to_frame().set_index("id")["text"]
    expected = known.frame.set_index("image_id")["report_findings"].dropna()
    both = [key for key in written.index if key in expected.index and written[key].strip()]
    assert pairs["id"].tolist() == both
    assert pairs["hypothesis"].tolist() == [written[key] for key in both]
    assert pairs["reference"].tolist() == [expected[key] for key in both]
    table = known.save(tmp_path / "m.parquet")
    assert report_pairs(done.folder, table).equals(pairs)
    plain = pairs.rename(columns={"reference": "text"})[["id", "text"]]
    plain.to_csv(tmp_path / "plain.csv", index=False)
    assert report_pairs(done.folder, tmp_path / "plain.csv").equals(pairs)


def test_pairs_need_texts_of_the_same_images(done, known):
    with pytest.raises(InputError, match="the references contain labels and no texts"):
        report_pairs(done, {"film-0": {"pleural effusion": "absent"}})
    with pytest.raises(InputError, match="of 8 predictions and 1 references have an id in common"):
        report_pairs(done, {"other": "No effusion."})


def test_the_hub_reads_the_card(done, known):
    scores = score(done, known, resamples=20)
    text = model_card(done, scores)
    card = ModelCard(text)
    facts = done.record["fixed"]["model"]
    assert card.data.license == "other" and card.data.license_name == facts["licence"]
    assert card.data.pipeline_tag == "image-text-to-text" and "radiology" in card.data.tags
    defined = {n: a.f1.value for n, a in scores.averages.items() if a.f1.value is not None}
    found = {r.metric_name.split()[0]: r.metric_value for r in card.data.eval_results or []}
    assert found == {name.split()[0]: round(value, 4) for name, value in defined.items()}
    for said in (facts["sha256"], facts["notice"], "pleural effusion", scores.policy.name, "torch"):
        assert said in text
    assert NOT_CLINICAL in text.lower()


def test_the_card_contains_no_path_and_no_report(done, known):
    text = model_card(done.folder, score(done, known, resamples=0))
    assert str(done.folder.parent) not in text and str(known.root) not in text
    assert not any(report in text for report in known.frame["report_findings"].dropna())
    assert not any(said in text for said in done.to_frame()["text"] if len(said) > 20)
    assert "## Results" not in model_card(done)


def test_a_card_needs_the_record_of_the_run(done, tmp_path):
    lost = tmp_path / "lost"
    lost.mkdir()
    for path in done.folder.iterdir():
        if path.name != "run.json":
            (lost / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"lost has no run\.json, .*; restore the file"):
        model_card(lost)


def test_evaluate_writes_both(done, known, tmp_path, capsys):
    table = known.save(tmp_path / "m.parquet")
    given = ["evaluate", "--predictions", done.folder, "--references", table, "--resamples", "0"]
    files = ["--pairs", tmp_path / "pairs.csv", "--model-card", tmp_path / "card" / "README.md"]
    assert main([*map(str, [*given, *files]), "--no-text-metrics", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == sorted(str(path) for path in files[1::2])
    assert list(pd.read_csv(tmp_path / "pairs.csv")) == ["id", "reference", "hypothesis"]
    assert ModelCard.load(tmp_path / "card" / "README.md").data.language == "en"
    given[2] = tmp_path / "pairs.csv"
    assert main([*map(str, given), *map(str, files[2:])]) == 1
    assert "--model-card describes a run; give --predictions" in capsys.readouterr().err
