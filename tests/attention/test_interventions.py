"""Interventions: what changes nothing, what changes everything, and what a head is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AttentionInterface

import workbench as wb
from tests.helpers import GOLDEN
from workbench.attention import ablate, patch
from workbench.backends.attending import Call, attention_rows
from workbench.errors import InputError, OptionError

ONE = [(0, 1)]


@pytest.fixture(scope="module")
def other():
    return wb.load_radiograph(GOLDEN / "images" / "noise_64x64.png")


def read(trace, image=None) -> np.ndarray:
    """Log-probability of the traced tokens about an image."""
    model, made = trace.need_model(), trace.generation
    pixels = torch.from_numpy(trace.pixel_values)[None] if image is None else model.pixels(image)
    logs = model.force(pixels, made.prompt_ids, made.token_ids).log_softmax(-1)
    return logs.gather(1, torch.tensor(made.token_ids)[:, None])[:, 0].numpy()


def hooks_of(network) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


@pytest.mark.parametrize("options", [{"heads": []}, {"layers": []}, {"heads": [], "how": "output"}])
def test_ablating_nothing_changes_nothing(golden, options):
    found = ablate(golden, **options)
    np.testing.assert_array_equal(found.before, found.after)
    np.testing.assert_array_equal(found.before, read(golden))
    assert found.written.token_ids == golden.generation.token_ids
    assert found.findings.empty and not found.change.any()


@pytest.mark.parametrize(
    "options",
    [
        *({"layer": 1, "positions": where} for where in ("image", "text", "all", [0, 5])),
        {"layer": 0}, {"heads": ONE, "positions": "all"}, {"heads": []},
    ],
)  # fmt: skip
def test_patching_with_itself_changes_nothing(golden, options):
    found = patch(golden, golden.image, **options)
    np.testing.assert_array_equal(found.before, found.after)
    assert found.written.token_ids == golden.generation.token_ids


def test_patching_all_that_enters_gives_the_other_image(golden, other):
    found = patch(golden, other, layer=0, positions="all")
    np.testing.assert_array_equal(found.before, read(golden))
    np.testing.assert_array_equal(found.after, read(golden, other))
    model = golden.need_model()
    assert found.text == model.report(other, max_new_tokens=9).text
    # the text is the same, so the image's positions are all that there is to patch
    image = patch(golden, other, layer=0, write=False)
    np.testing.assert_array_equal(image.after, found.after)
    assert not patch(golden, other, layer=0, positions="text", write=False).change.any()


def test_blind_heads_in_all_layers_leave_no_image(golden, other):
    model = golden.need_model()
    swapped = replace(golden, image=other, pixel_values=model.pixels(other)[0].numpy())
    one, two = ablate(golden), ablate(swapped)
    assert np.abs(one.before - two.before).max() > 1e-3
    np.testing.assert_array_equal(one.after, two.after)
    assert one.text == two.text
    kept = ablate(golden, layers=0, write=False), ablate(swapped, layers=0, write=False)
    assert np.abs(kept[0].after - kept[1].after).max() > 1e-4


def test_a_head_without_output_is_one_without_weights(golden):
    layer, head = ONE[0]
    found = ablate(golden, heads=ONE, how="output", write=False)
    model = golden.need_model()
    part = model.decoder.layers[layer].self_attn
    columns = slice(head * part.head_dim, (head + 1) * part.head_dim)
    kept = part.o_proj.weight.detach().clone()
    try:
        with model.other_weights(), torch.no_grad():
            part.o_proj.weight[:, columns] = 0
            expected = read(golden)
    finally:
        with torch.no_grad():
            part.o_proj.weight.copy_(kept)
    np.testing.assert_allclose(found.after, expected, atol=1e-5)
    assert np.abs(found.change).max() > 1e-4


def test_hidden_keys_get_nothing_and_the_others_their_share():
    torch.manual_seed(0)
    query, key = torch.randn(1, 4, 3, 8), torch.randn(1, 2, 5, 8)
    call = Call(0, "language", query, key, key, None, 0.3, True)
    hidden = torch.zeros(3, 5, dtype=torch.bool)
    hidden[1, [0, 2]] = True
    plain, rows = attention_rows(call), attention_rows(call, hidden=hidden)
    assert not rows[:, :, 1, [0, 2, 4]].any()
    torch.testing.assert_close(rows.sum(-1), torch.ones(1, 4, 3))
    torch.testing.assert_close(rows[:, :, [0, 2]], plain[:, :, [0, 2]])
    rest = plain[:, :, 1, [1, 3]]
    torch.testing.assert_close(rows[:, :, 1, [1, 3]], rest / rest.sum(-1, keepdim=True))


def test_a_finding_of_another_phantom_is_put_into_the_report(mini):
    other = wb.phantom(8, findings=["pneumothorax"], size=mini.model.image_size)
    found = patch(mini.trace, other, layer=0)
    codes = found.findings.set_index("finding")
    assert codes.loc["pneumothorax"].tolist() == ["absent", "present"]
    frame = found.to_frame()
    assert frame["token"].tolist() == list(mini.trace.generation.tokens)
    np.testing.assert_allclose(frame["after"] - frame["before"], frame["change"])
    assert "pneumothorax" in repr(found) and "States that enter layer 0, from phantom" in found.what
    assert "<b>Now:</b>" in found._repr_html_() and found.settings["layer"] == 0
    axes = found.plot()
    assert axes.get_title("left") == found.what
    assert len(axes.texts) == len(mini.trace.text.split())


def test_the_answer_to_a_question_changes_with_the_image_hidden(mini):
    model = mini.model
    answer = model.ask(mini.case, "Is there a pleural effusion?", max_new_tokens=4)
    found = ablate(model.trace(mini.case, answer))
    assert answer.text.startswith("Yes") and found.text.startswith("No")
    assert found.change[0] < -1


def test_nothing_is_left_behind(tiny_trace, other):
    network, names = tiny_trace.model.network, list(AttentionInterface._global_mapping)
    before = hooks_of(network)
    runs = (
        lambda: ablate(tiny_trace),
        lambda: patch(tiny_trace, other, layer=1),
        lambda: patch(tiny_trace, other, heads=ONE),
    )
    for run in runs:
        run()
        assert (hooks_of(network), list(AttentionInterface._global_mapping)) == (before, names)
        crash = network.llama.layers[-1].mlp.register_forward_hook(lambda *_: 1 / 0)
        try:
            with pytest.raises(ZeroDivisionError):
                run()
        finally:
            crash.remove()
        assert (hooks_of(network), list(AttentionInterface._global_mapping)) == (before, names)
    np.testing.assert_array_equal(read(tiny_trace), ablate(tiny_trace, heads=[]).before)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda trace: ablate(trace, layers=0, heads=ONE), "layers or heads, not both"),
        (lambda trace: ablate(trace, heads=[(0, 99)]), r"heads go from 0 to \d+ in layers 0, 1"),
        (lambda trace: ablate(trace, layers=[7]), "got layer 7"),
        (lambda trace: ablate(trace, how="softly"), "how must be one of image, output"),
        (lambda trace: patch(trace, trace.image), "either a layer"),
        (lambda trace: patch(trace, trace.image, layer=9), "layers go from 0 to"),
        (lambda trace: patch(trace, trace.image, layer=0, positions="here"), "positions must be"),
        (lambda trace: patch(trace, trace.image, layer=0, positions=[9999]), "go from 0 to"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_trace, run, message):
    with pytest.raises(OptionError, match=message):
        run(tiny_trace)


def test_a_text_that_was_not_asked_for(tiny_trace):
    found = ablate(tiny_trace, layers=-1, write=False)
    assert found.written is None and found.findings.empty and found.what.endswith("layer 1")
    with pytest.raises(InputError, match="write=True"):
        _ = found.text
    assert "Now" not in found._repr_html_()
    with pytest.raises(InputError, match="loaded trace has none"):
        ablate(replace(tiny_trace, model=None))
