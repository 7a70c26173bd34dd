"""The whole path with checkpoints of other families: from a report to the review and the explorer.

Directories are as `save_pretrained` writes them; everything goes in by their path, as users do it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from PIL import Image

import workbench as wb
from tests.backends.families import kept
from tests.helpers import finished, forked
from tests.widgets.conftest import bare, browser  # noqa: F401 (fixtures)
from tests.widgets.seeing import settled
from workbench.backends.vlm_reader import load_vlm
from workbench.cli import main
from workbench.errors import InputError
from workbench.interface import TransformersModel
from workbench.model.placement import device_of
from workbench.model.source import resolve_source

THREE = ("llava", "gemma3", "qwen2_5_vl")
COUNT = 20
QUESTION = "Is there a pleural effusion?"
METHOD = ".wbx-bar-row label:has-text('Method') select"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Return the directory of a tiny checkpoint of a family."""
    return kept(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def model(directory):
    made = {}

    def of(name: str) -> wb.ChestXrayModel:
        if name not in made:
            made[name] = wb.load_model(directory(name), device="cpu", dtype="float32")
        return made[name]

    return of


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """Twenty phantoms, tall, wide and square, with what is known of them and their reports."""
    folder, rows = tmp_path_factory.mktemp("images"), []
    for seed in range(COUNT):
        case = wb.phantom(seed, size=96)
        grey = np.rint(case.image.pixels * 255).astype(np.uint8)
        grey = (grey, grey[:70], grey[:, 20:])[seed % 3]
        Image.fromarray(grey).save(folder / f"{seed}.png")
        row = {"image_id": str(seed), "path": f"{seed}.png", "source": "own"}
        rows.append(row | {"report_findings": str(case.report), **case.labels})
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def traced(model, manifest):
    """Return a trace about a tall radiograph."""
    made = {}

    def of(name: str) -> wb.Trace:
        if name not in made:
            image = wb.load_radiograph(manifest.parent / "2.png")
            report = model(name).report(image, max_new_tokens=6)
            made[name] = model(name).trace(image, report)
        return made[name]

    return of


def command(manifest: Path, out: Path, model: Path, *more: str) -> list[str]:
    """The command line of a run."""
    given = ("--model", str(model), "--device", "cpu", "--dtype", "float32", "--json")
    return [
        *("run", "--manifest", str(manifest), "--out", str(out), "--max-new-tokens", "4"),
        *("--batch-size", "2", *given, *more),
    ]


@pytest.fixture(scope="module")
def ran(directory, manifest, tmp_path_factory):
    """Return the folder of a run that nobody disturbed."""
    made, root = {}, tmp_path_factory.mktemp("runs")

    def of(name: str) -> Path:
        if name not in made:
            assert main(command(manifest, root / name, directory(name))) == 0
            made[name] = root / name
        return made[name]

    return of


# --- one image --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THREE)
def test_maps_and_grounding_of_a_trace_that_was_saved(traced, model, tmp_path, name):
    trace = traced(name)
    trace.save(tmp_path / "trace")
    again = wb.load_trace(tmp_path / "trace").attach(model(name))
    maps = wb.saliency.compare(again, token=2)
    assert set(maps.maps) == {"attention", "relevancy", "grad_cam", "input_x_gradient"}
    assert maps["relevancy"].layer == "all layers of the language model"
    assert maps["grad_cam"].layer == "image tokens"
    maps = [*maps, wb.saliency.explain(again, token=2, method="occlusion")]
    for one in maps:
        assert one.to_original().shape == trace.image.size
        assert np.isfinite(one.values).all() and np.ptp(one.values) > 0
    words = wb.hallucination.ground(again).words()
    assert np.isfinite(words["contribution"]).all() and words["contribution"].any()


@pytest.mark.parametrize("name", THREE)
def test_probes(model, monkeypatch, name):
    monkeypatch.setattr("workbench.generation.options.DEFAULT_NEW_TOKENS", 2)
    cases = [(wb.phantom(seed, size=64), {"pneumothorax": "absent"}) for seed in (1, 2)]
    table = wb.hallucination.probe_polling(model(name), cases, findings=["pneumothorax"])
    assert len(table.to_frame()) and table.cases == 2


@pytest.mark.parametrize("name", THREE)
def test_the_contract_tells_what_the_models_own_processor_does(model, manifest, name):
    ours, image = model(name), wb.load_radiograph(manifest.parent / "1.png")  # 70 x 96
    contract, report = ours.contract(image), ours.report(image, max_new_tokens=1)
    assert contract.fit == "own" and image.contract.fit == "crop"
    said = " ".join(warning.message for warning in report.warnings)
    assert "centre crop" not in said and "512" not in said and "trained on phantoms" not in said
    fact = contract.facts()[-1]
    if name == "llava":  # to 42 x 57, then the middle 42
        assert contract.crop_loss == pytest.approx(100 * (1 - 42 / 57), abs=0.5)
        assert "cuts off 26 % of this 70 x 96 image" in said and "cuts off 26" in fact
    elif name == "gemma3":  # everything onto a square
        assert contract.crop_loss == 0 and contract.squeeze == pytest.approx(96 / 70, rel=0.02)
        assert "cuts off 0 %, narrows it 1.37-fold" in fact
    else:  # any size
        assert contract.crop_loss == 0 and contract.squeeze == 1 and "fold" not in fact
    left, top, right, bottom = ours.geometry(image).crop_box
    seen = (right - left) * (bottom - top) / (70 * 96)
    assert 100 * (1 - seen) == pytest.approx(contract.crop_loss, abs=2)


# --- many images ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THREE)
def test_a_run_killed_twice_ends_as_one_that_was_not(ran, directory, manifest, tmp_path, name):
    whole, out = ran(name), tmp_path / "run"
    arguments, seen = command(manifest, out, directory(name)), {}
    for goal in (4, 12):
        process = forked(main, arguments)
        deadline = time.monotonic() + 120
        while len(finished(out)) < goal and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        now = finished(out)
        assert goal <= len(now) < COUNT and now.items() >= seen.items()
        seen = now
    assert main(arguments) == 0
    measured = ["seconds", "peak_rss_mb", "peak_gpu_mb"]
    first, last = (pd.read_parquet(one / "results.parquet") for one in (whole, out))
    assert (last["status"] == "done").all() and len(last) == COUNT
    pd.testing.assert_frame_equal(first.drop(columns=measured), last.drop(columns=measured))


@pytest.mark.parametrize("name", THREE)
def test_the_record_of_a_run_is_of_this_model(ran, model, name):
    fixed = json.loads((ran(name) / "run.json").read_text())["fixed"]
    identity = model(name).identity
    assert (fixed["model"]["id"], fixed["model"]["sha256"]) == (identity.id, identity.sha256)
    assert fixed["model"]["template"].startswith("checkpoint/")
    prompt = fixed["tasks"][0]["prompt"]
    assert prompt == model(name).report(wb.phantom(1, size=64), max_new_tokens=1).prompt
    assert "[INST]" not in prompt and "user: " in prompt


@pytest.mark.parametrize("name", THREE)
def test_review_and_evaluation_of_a_run(ran, manifest, tmp_path, capsys, name):
    queue = wb.review.queue(ran(name), manifest=manifest)
    assert len(queue.to_frame()) and set(queue.to_frame()["source"]) == {"own"}
    review = ("review", "queue", str(ran(name)), "--manifest", str(manifest))
    assert main([*review, "--out", str(tmp_path / "queue.csv")]) == 0
    capsys.readouterr()
    reports = pd.read_csv(manifest)[["image_id", "report_findings"]]
    reports.columns = ["id", "text"]
    reports.to_csv(tmp_path / "references.csv", index=False)
    files = ("--predictions", str(ran(name) / "results.parquet"))
    files += ("--references", str(tmp_path / "references.csv"), "--resamples", "20", "--json")
    assert main(["evaluate", *files]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["per_finding"] and {"macro_f1", "micro_f1"} <= set(found)


# --- the command line -------------------------------------------------------------------------


@pytest.mark.parametrize("name", THREE)
def test_commands_about_a_directory(directory, manifest, capsys, name):
    given = ("--model", str(directory(name)), "--device", "cpu", "--json")
    short, image = ("--max-new-tokens", "2"), str(manifest.parent / "1.png")
    assert main(["report", image, *short, *given]) == 0
    report = json.loads(capsys.readouterr().out)["reports"][0]
    assert report["contract"]["fit"] == "own" and report["model"]["id"] == name
    assert main(["ask", image, QUESTION, *short, *given]) == 0
    assert "own processor" not in json.loads(capsys.readouterr().out)["text"]
    (directory(name) / "README.md").write_text("---\nlicense: other\nlicense_name: house\n---\n")
    assert main(["models", str(directory(name)), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)["models"][0]
    assert (card["name"], card["licence"], card["domain"]) == (name, "house", "radiograph")
    assert card["parameters"]["total"] > 0 and card["image_tokens"] > 0
    (directory(name) / "README.md").unlink()


@pytest.mark.parametrize("kind", ["saliency", "hallucination", "mitigation"])
def test_benchmarks_of_a_model_whose_input_is_smaller_than_a_phantom(
    directory, monkeypatch, capsys, caplog, kind
):
    """42 pixels are fewer than a phantom can have; the benchmark draws the smallest."""
    monkeypatch.setattr("workbench.generation.options.DEFAULT_NEW_TOKENS", 3)
    more = ("--samples", "1") if kind == "hallucination" else ()
    given = ("--n", "2", "--jobs", "1", *more, "--model", str(directory("llava")), "--json")
    # no finding is stated by random words, so there is none to detect
    assert main(["benchmark", kind, *given]) == (kind == "hallucination")
    said = capsys.readouterr()
    if kind == "hallucination":
        assert "none of 2 reports states a finding" in said.err and "size" not in said.err
        return
    found = json.loads(said.out)
    if kind == "mitigation":
        assert "no calibration 'combination with linear probe' is shipped for llava" in caplog.text
        names = {row["name"] for row in found["mitigations"]}
        assert names == {"none", "contrastive decoding", "polling, then rewriting"}
    else:
        names = [row["method"] for row in found["methods"]]
        assert "relevancy" in names and "rollout" not in names
        assert "integrated_gradients_patches" not in names


# --- the explorer -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", THREE)
def test_the_explorer_in_chromium(traced, bare, tmp_path, name):  # noqa: F811
    trace = traced(name)
    widget = wb.explore(trace.model, trace.image, report=trace.generation)
    page = bare.live(widget)
    page.set_default_timeout(60_000)
    page.locator(".wbx-word").first.click()
    _titled(page, "attention: ")
    shown = [option.lower() for option in page.locator(f"{METHOD} option").all_inner_texts()]
    assert "relevancy" in shown and not [one for one in shown if "rollout" in one or "(" in one]
    for method in ("relevancy", "input_x_gradient"):
        page.select_option(METHOD, method)
        _titled(page, method.replace("_x_", " \u00d7 "))
    state = widget.sides[0].to_dict("a")
    geometry = trace.layout.geometry
    np.testing.assert_allclose(state["seen"]["crop"], geometry.crop_box)
    assert state["radiograph"]["facts"][-1].startswith("the model's own processor")
    saved = tmp_path / "page.html"
    widget.save(saved)
    text = saved.read_text()
    assert name in text and "CXR-LLaVA" not in re.sub(r"CXR-LLaVA Workbench", "", text)


def _titled(page, words: str) -> None:
    page.wait_for_function(
        "(words) => document.querySelector('.wbx-maptitle')?.textContent.includes(words)", arg=words
    )
    settled(page)


def test_the_models_view_is_what_it_sees_of_the_image(model):
    """A model that squeezes gets a squeezed picture; CXR-LLaVA's crop would be another place."""
    from workbench.widgets.radiographs import model_view_of

    ramp = np.tile(np.linspace(0, 1, 60, dtype=np.float32), (90, 1))
    image = wb.Radiograph.from_array(ramp)
    state = model_view_of(image, model("gemma3").geometry(image))
    assert state["crop"] == [0, 0, 60, 90]
    shown = _pixels(state["png"])
    assert shown[:, 0].mean() < 8 and shown[:, -1].mean() > 247
    cut = model_view_of(image, model("llava").geometry(image))
    np.testing.assert_allclose(cut["crop"], [0, 15, 60, 75], atol=1)


def _pixels(text: str) -> np.ndarray:
    import base64
    import io

    data = base64.b64decode(text.split(",")[-1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("L")).astype(float)


def test_a_grid_whose_rows_and_columns_share_no_divisor(directory):
    """Thirteen by eleven cells: their common multiple would be a square of 1,144 pixels."""
    ours = wb.load_model(directory("qwen2_5_vl"), device="cpu", dtype="float32")
    ours.own_processor.image_processor.size["longest_edge"] = 40_000
    grey = np.random.default_rng(0).integers(0, 256, (182, 154), np.uint8)
    image = wb.load_radiograph(grey)
    trace = ours.trace(image, ours.report(image, max_new_tokens=3))
    assert trace.layout.grid == (13, 11)
    view = ours.view(ours.pixels(image))
    assert view.base.shape == (1, 1, 256, 256)
    found = wb.saliency.explain(trace, token=2, method="integrated_gradients", most=64)
    assert found.grid == (13, 11)
    total = found.scores["difference"] + found.scores["delta"]
    assert found.values.sum() == pytest.approx(total, abs=1e-4)
    shorter = {"occlusion": {"stride": 64}, "adaptive_occlusion": {"budget": 12}}
    for method, options in {**shorter, "kernel_shap": {"samples": 4}}.items():
        found = wb.saliency.explain(trace, token=2, method=method, **options)
        assert np.isfinite(found.values).all() and found.to_original().shape == (182, 154)


# --- a model in parts -------------------------------------------------------------------------


def split(directory: Path, whole: wb.ChestXrayModel, folder: Path) -> TransformersModel:
    """The same checkpoint with every second layer, the embedding and the head on disk.

    accelerate fetches them when they are called; until then they are on no device.
    """
    where: dict[str, str] = {}
    for name, part in whole.network.named_modules():
        if any(isinstance(one, torch.nn.ModuleList) for one in part.modules()):
            loose = [one for one, _ in part.named_parameters(recurse=False)]
            where |= {f"{name}.{one}".lstrip("."): "cpu" for one in loose}
        elif not any(name.startswith(f"{parent}.") for parent in where):
            number = name.rpartition(".")[2]
            odd = number.isdecimal() and int(number) % 2
            ends = name.endswith(("lm_head", "embed_tokens", "norm"))
            where[name] = "disk" if odd or ends else "cpu"
    network = transformers.AutoModelForImageTextToText.from_pretrained(
        directory, dtype=torch.float32, device_map=where, offload_folder=folder
    )
    network.eval().requires_grad_(False)
    assert any(weight.is_meta for weight in network.parameters())
    _, *others = load_vlm(resolve_source(str(directory)), device="cpu", dtype="float32")
    return TransformersModel(network, *others)


@pytest.mark.parametrize("name", THREE)
def test_a_model_that_is_partly_on_disk_gives_the_same_numbers(
    traced, model, directory, tmp_path, name
):
    whole = traced(name)
    parts = split(directory(name), model(name), tmp_path / "parts")
    assert device_of(parts.head) == device_of(parts.decoder) == torch.device("cpu")
    generation = replace(whole.generation, model=parts.identity)
    assert parts.report(whole.image, max_new_tokens=6).token_ids == generation.token_ids
    trace = parts.trace(whole.image, generation)
    close = {"atol": 1e-5, "rtol": 1e-5}
    np.testing.assert_allclose(trace.logprobs, whole.logprobs, **close)
    np.testing.assert_allclose(trace.language.values, whole.language.values, **close)
    for method in ("attention", "relevancy", "input_x_gradient", "grad_cam", "occlusion"):
        found, known = (
            wb.saliency.explain(one, token=2, method=method).values for one in (trace, whole)
        )
        np.testing.assert_allclose(found, known, **close, err_msg=method)
    found, known = (wb.hallucination.ground(one).words() for one in (trace, whole))
    np.testing.assert_allclose(found["contribution"], known["contribution"], **close)
    lens = [wb.attention.logit_lens(one, ["effusion"]).words["effusion"] for one in (trace, whole)]
    np.testing.assert_allclose(*lens, **close)
    with pytest.raises(InputError, match="cannot be randomised; load the model where"):
        wb.saliency.randomisation(trace, token=2)


@pytest.mark.parametrize("name", THREE)
def test_in_bfloat16_maps_stay_alike(traced, directory, name):
    """Log-probabilities within 0.05 nats, attention within 0.02, maps correlate above 0.99."""
    whole = traced(name)
    half = wb.load_model(directory(name), device="cpu", dtype="bfloat16")
    trace = half.trace(whole.image, replace(whole.generation, model=half.identity))
    np.testing.assert_allclose(trace.logprobs, whole.logprobs, atol=0.05)
    np.testing.assert_allclose(trace.language.values, whole.language.values, atol=0.02)
    for method in ("attention", "relevancy", "input_x_gradient"):
        found, known = (
            wb.saliency.explain(one, token=2, method=method).values.ravel()
            for one in (trace, whole)
        )
        assert np.corrcoef(found, known)[0, 1] > 0.99, method
