"""Analyses on families of transformers: every method that is defined, and refusals of the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import workbench as wb
from tests.backends.families import FAMILIES
from tests.helpers import PlainRows
from workbench.attention.lens import prompt_states, token_states
from workbench.backends.attending import watch_attention
from workbench.errors import InputError, OptionError
from workbench.saliency import scorer as scoring
from workbench.saliency.scorer import Scorer, make_target

#: Each method with options that keep it short.
METHODS = {
    "occlusion": {"stride": None, "window": None},
    "adaptive_occlusion": {"budget": 60},
    "kernel_shap": {"regions": (2, 2), "samples": 12},
    "input_x_gradient": {},
    "smoothgrad": {"samples": 2},
    "integrated_gradients": {"most": 64},
    "grad_cam": {},
    "relevancy": {},
    "attention_without_sinks": {},
    "token_activation": {},
}


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """Return a trace of a tiny model of a family about an image that is not square."""
    made, root = {}, tmp_path_factory.mktemp("families")
    grey = np.random.default_rng(4).integers(0, 256, (116, 84), np.uint8)

    def of(name: str):
        if name not in made:
            model = wb.load_model(FAMILIES[name](root / name), device="cpu", dtype="float32")
            image = wb.load_radiograph(grey)
            made[name] = model.trace(image, model.report(image, max_new_tokens=6))
        return made[name]

    return of


@pytest.mark.parametrize("name", FAMILIES)
def test_the_unchanged_view_is_the_image_to_the_bit(traced, name):
    trace = traced(name)
    target = make_target(trace, trace.select(token=2))
    scorer = Scorer(trace, target)
    whole = trace.model.force(
        torch.from_numpy(trace.pixel_values)[None], trace.generation.prompt_ids,
        trace.generation.token_ids[:3],
    )  # fmt: skip
    expected = whole[2].log_softmax(-1)[trace.generation.token_ids[2]]
    assert float(scorer.scores(scorer.base)[0]) == pytest.approx(float(expected), abs=1e-5)
    assert scorer.of_image(torch.from_numpy(trace.pixel_values)[None]) == pytest.approx(
        float(expected), abs=1e-5
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_of_the_view_are_finite_differences(traced, name):
    trace = traced(name)
    scorer = Scorer(trace, make_target(trace, trace.select(token=1)))
    pixels = scorer.base.clone().requires_grad_()
    (found,) = torch.autograd.grad(scorer(pixels).sum(), pixels)
    assert found.isfinite().all() and float(found.abs().max()) > 0
    side = scorer.base.shape[-1]
    rows = torch.arange(side)[:, None].expand(side, side)
    for low in (0, side // 2):  # a band of the square
        direction = ((rows >= low) & (rows < low + side // 2)).float()[None, None] * found.sign()
        step = 2e-3
        with torch.no_grad():
            ends = scorer(
                torch.cat([scorer.base + step * direction, scorer.base - step * direction])
            )
        slope = float(ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float((found * direction).sum()), rel=0.05, abs=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_relevancy_is_that_of_rows_that_are_all_kept(traced, name, monkeypatch):
    """With masks, caps and grouped heads; and of checkpointed layers, to the bit."""
    trace = traced(name)
    model, target = trace.model, make_target(trace, trace.select(token=2))
    scorer, watcher = Scorer(trace, target), PlainRows()
    with torch.enable_grad(), watch_attention(model, watcher):
        pixels = scorer.base.clone().requires_grad_()
        score = scorer.said(scorer.view, pixels, target.tokens).sum()
        keys = sorted(key for key in watcher.rows if key[0] == "language")
        moved = torch.autograd.grad(score, [watcher.rows[key] for key in keys])
    wanted = torch.eye(scorer.queries[-1] + 1)
    for key, gradient in zip(keys, moved, strict=True):
        weighted = (gradient * watcher.rows[key].detach()).clamp_min(0)[0].mean(0)
        wanted = wanted + weighted @ wanted
    wanted = scorer.tokens.to_cells(wanted[list(scorer.queries)][:, scorer.tokens.image].sum(0))
    found = wb.saliency.explain(trace, token=2, method="relevancy").values
    np.testing.assert_allclose(found.ravel(), wanted, rtol=1e-3, atol=1e-4 * float(wanted.max()))
    monkeypatch.setattr(scoring, "SMALL", 0)
    again = wb.saliency.explain(trace, token=2, method="relevancy").values
    np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_5_vl", "idefics3"])
def test_every_method_gives_a_map(traced, name, method):
    trace = traced(name)
    found = wb.saliency.explain(trace, token=2, method=method, **METHODS[method])
    assert np.isfinite(found.values).all() and np.abs(found.values).max() > 0
    assert found.geometry.original_size == (116, 84)
    if method == "integrated_gradients":
        assert found.values.sum() == pytest.approx(
            found.scores["difference"] + found.scores["delta"], abs=1e-4
        )
    drawn = found.to_original()
    assert drawn.shape == (116, 84) and np.isfinite(drawn).any()


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_5_vl", "idefics3"])
def test_what_is_not_defined_is_refused_by_name(traced, name):
    trace = traced(name)
    with pytest.raises(InputError, match=f"{name} is no one stack .* not defined"):
        wb.attention.rollout(trace)
    with pytest.raises(OptionError, match=f"{name} has no one layer of patches"):
        wb.saliency.explain(trace, token=1, method="integrated_gradients", over="patches")


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_layer_of_the_lens_is_the_models_own_answer(traced, name):
    trace = traced(name)
    lens = wb.attention.logit_lens(trace, ["effusion"], top=1)
    assert lens.grid == trace.layout.grid
    assert lens.probabilities.shape[1] == np.prod(lens.grid)
    assert (lens.words["effusion"] >= 0).all() and (lens.words["effusion"] <= 1).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_first_token_is_chosen_where_the_prompt_ends(traced, name):
    trace = traced(name)
    states, prompt = token_states(trace), prompt_states(trace)
    assert len(states) == len(prompt) - 1
    for entered, normed in zip(states, prompt[:-1], strict=True):
        assert entered.shape == (len(trace.generation.token_ids), normed.shape[-1])
        with torch.inference_mode():
            found = trace.model.decoder.norm(entered[:1])[0]
        torch.testing.assert_close(found, normed[-1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["gemma3", "qwen2_5_vl", "paligemma"])
def test_interventions_change_nothing_or_all(traced, name):
    trace = traced(name)
    model, image, made = trace.model, trace.image, trace.generation
    other = wb.load_radiograph(np.random.default_rng(5).integers(0, 256, (116, 84), np.uint8))
    none = wb.attention.ablate(trace, heads=[])
    own = wb.attention.patch(trace, image, layer=1, positions="all")
    for found in (none, own, wb.attention.patch(trace, image, heads=[(0, 1), (2, 4)])):
        np.testing.assert_array_equal(found.before, found.after)
        assert found.written.token_ids == made.token_ids
    patched = wb.attention.patch(trace, other, layer=0, positions="all")
    swapped = replace(trace, image=other, pixel_values=model.pixels(other)[0].numpy())
    np.testing.assert_array_equal(
        patched.after, wb.attention.ablate(swapped, heads=[], write=False).before
    )
    assert patched.text == model.report(other, max_new_tokens=6).text
    shares, model.engine.shares = model.engine.shares, None
    one, two = wb.attention.ablate(trace), wb.attention.ablate(swapped)
    assert model.engine.shares is None  # nothing is learned of a changed model
    model.engine.shares = shares
    assert np.abs(one.before - two.before).max() > 1e-3
    np.testing.assert_array_equal(one.after, two.after)
    assert one.text == two.text
    assert wb.attention.patch_lens(trace, ["clear lungs."]).grid == trace.layout.grid
    if name == "qwen2_5_vl":  # of another grid
        tall = wb.load_radiograph(np.zeros((116, 40), np.uint8))
        with pytest.raises(InputError, match=r"other positions .* same size"):
            wb.attention.patch(trace, tall, layer=0)


@pytest.mark.parametrize("name", ["llava_next", "gemma3", "qwen2_5_vl", "paligemma"])
def test_grounding_probes_and_detectors(traced, monkeypatch, name):
    monkeypatch.setattr("workbench.generation.options.DEFAULT_NEW_TOKENS", 2)
    trace = traced(name)
    model, image = trace.model, trace.image
    grounded = wb.hallucination.ground(trace)
    assert np.isfinite(grounded.to_frame().select_dtypes("number")).all().all()
    typed = wb.hallucination.ground_text(model, image, "There is a left pleural effusion.")
    assert typed.text.startswith("There is")
    for mitigation in (wb.hallucination.PollAndRewrite(), wb.hallucination.ContrastiveDecoding()):
        report = model.report(image, mitigation=mitigation, max_new_tokens=6)
        assert report.model == model.identity
    with pytest.raises(InputError, match=f"no calibration .* {name}"):
        model.report(image, mitigation=wb.hallucination.Revise(), max_new_tokens=6)
    detected = wb.hallucination.detect(trace, samples=2)
    assert detected.to_frame()["linear probe"].isna().all()  # none is fitted for it
    cases = [(image, {"pneumothorax": "present", "fracture": "absent"})]
    table = wb.hallucination.probe_polling(model, cases, findings=["pneumothorax", "fracture"])
    assert len(table.to_frame())


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_5_vl"])
def test_a_run_and_its_review(traced, tmp_path, name):
    model = traced(name).model
    rows = []
    for seed in range(4):
        case = wb.phantom(seed=seed)
        grey = np.rint(case.image.pixels * 255).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{seed}.png")
        rows.append({"image_id": str(seed), "path": f"{seed}.png", "source": "own"})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    found = wb.run(tmp_path / "manifest.csv", model=model, out=tmp_path / "run", max_new_tokens=5)
    frame = found.to_frame()
    assert (frame["status"] == "done").all()
    texts = [model.report(tmp_path / f"{seed}.png", max_new_tokens=5).text for seed in range(4)]
    assert frame["text"].tolist() == texts


@pytest.mark.parametrize("name", ["llava_next", "gemma3", "qwen2_5_vl"])
def test_the_explorer_as_a_page(traced, tmp_path, name):
    trace = traced(name)
    explorer = wb.explore(trace.model, trace.image, report=trace.generation)
    explorer.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert name in page and "not for clinical use" in page.lower()


@pytest.mark.parametrize("name", ["llava", "gemma3", "qwen2_5_vl"])
def test_a_trace_is_saved_and_attached_again(traced, tmp_path, name):
    trace = traced(name)
    trace.save(tmp_path / "trace")
    again = wb.load_trace(tmp_path / "trace").attach(trace.model)
    np.testing.assert_allclose(again.language.values, trace.language.values, atol=1e-3)
    found, before = (wb.attention.to_image(one, token=2) for one in (again, trace))
    np.testing.assert_allclose(found.values, before.values, atol=1e-3)
    assert found.geometry == before.geometry
