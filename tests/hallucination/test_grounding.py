"""Grounding by ablation: its invariants first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.errors import ContextBudgetError, InputError, OptionError
from workbench.hallucination import ABLATIONS, ground, ground_text


def test_same_image_contributes_exactly_nothing(golden):
    found = ground(golden, images={"same": golden.image})
    assert (found.of("same") == 0).all()
    assert (ground(golden, ablations=[], images={"same": golden.image}).contribution == 0).all()


def test_order_of_ablations_changes_no_bit(golden):
    first, second = ground(golden), ground(golden, ablations=ABLATIONS[::-1])
    assert second.ablations == first.ablations[::-1]
    for name in ABLATIONS:
        np.testing.assert_array_equal(first.of(name), second.of(name))
    np.testing.assert_array_equal(first.logprobs, second.logprobs)


def test_fewer_ablations_change_nothing_beyond_rounding(golden):
    alone = ground(golden, ablations=["blurred"])
    np.testing.assert_allclose(alone.of("blurred"), ground(golden).of("blurred"), atol=1e-5)
    small = ground(golden, batch_size=2)
    np.testing.assert_allclose(small.contributions, ground(golden).contributions, atol=1e-5)


def test_model_that_does_not_look_gets_nothing_from_the_image(root):
    model = wb.load_model(root / "tests/golden/checkpoints/A_tiny", device="cpu", dtype="float32")
    with torch.no_grad():
        for parameter in model.network.mm_projector.parameters():
            parameter.zero_()
    film = wb.load_radiograph(root / "tests/golden/images/grad_300x400.png")
    found = ground_text(model, film, "No pneumothorax. Small effusion.")
    assert (found.contributions == 0).all()
    assert (found.logprobs < 0).all()


def test_logprobs_are_those_of_the_trace(golden):
    np.testing.assert_allclose(ground(golden).logprobs, golden.logprobs, atol=2e-5)


def test_reading_equals_reading_alone(golden):
    """A row of the batch is what the engine says of that image alone."""
    responder, written = golden.model, golden.generation
    own = torch.from_numpy(golden.pixel_values)[None]
    pixels = [own, own.flip(-1), own * 0]
    batch = responder.read_with(pixels, written.prompt_ids, written.token_ids)
    for row, image in enumerate(pixels):
        logits = responder.engine.force(image, written.prompt_ids, written.token_ids)
        logs = logits.log_softmax(-1)
        alone = logs[range(len(written.token_ids)), list(written.token_ids)]
        np.testing.assert_allclose(batch.logprobs[row], alone.numpy(), atol=2e-5)
        entropy = -(logs.exp() * logs).sum(-1)
        np.testing.assert_allclose(batch.entropies[row], entropy.numpy(), atol=2e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_mirrored_image_moves_the_side(mini, side):
    case = wb.phantom(7, findings=["pleural effusion"], side=side, severity="moderate", size=256)
    text = f"There is a pleural effusion on the {side}, moderate in size."
    found = ground_text(mini.model, case, text).words().set_index("word")
    assert found.mirrored[f"{side},"] > 3
    # What has no side does not move: the effusion is there in the mirror too.
    assert abs(found.mirrored["effusion"]) < 0.1


def test_mirrored_twice_is_the_image(mini):
    flipped = wb.Radiograph(mini.case.image.pixels[:, ::-1], mini.case.image.contract)
    swapped = ground_text(mini.model, flipped, mini.trace.text, images={"back": mini.case})
    np.testing.assert_allclose(swapped.of("back"), swapped.of("mirrored"), atol=1e-4)


def test_finding_falls_when_its_lesion_is_gone(mini):
    found = ground(mini.trace, phantom=mini.case).findings()
    effusion = found[(found.finding == "pleural effusion") & (found.code == "present")]
    others = found[found.finding == "pneumothorax"]
    assert effusion["without pleural effusion"].min() > 1
    assert effusion["without pleural effusion"].min() > others["without pleural effusion"].max()


def test_sums_agree(mini):
    found = ground(mini.trace)
    frame = found.to_frame()
    assert frame.contribution.sum() == pytest.approx(found.contributions[:5].mean(0).sum())
    # Every token but the end wrote exactly one word.
    assert found.words().blurred.sum() == pytest.approx(found.of("blurred")[:-1].sum(), abs=1e-6)
    row = found.findings().query("finding == 'pleural effusion' and code == 'present'").iloc[0]
    mention = next(
        m for m in found.mentions
        if m.label.finding == "pleural effusion" and m.label.code == "present"
    )  # fmt: skip
    assert row.logprob == pytest.approx(found.logprobs[list(mention.deciding)].sum())
    assert set(mention.words) <= set(mention.deciding)


def test_texts_from_elsewhere(mini, golden):
    text = "Large right  pneumothorax.\nHeart size is normal."
    found = ground_text(mini.model, mini.case, text)
    assert found.text == "Large right pneumothorax. Heart size is normal."
    assert found.findings().finding.tolist() == ["pneumothorax", "cardiomegaly"]
    # The film shows no such thing, so the model would rather have written something else.
    assert found.findings().logprob[0] < found.findings().logprob[1]
    foreign = ground_text(golden.model, golden.image, "No effusion.")
    assert len(foreign.words()) == 2


def test_generation_equals_its_trace(golden):
    found = ground_text(golden.model, golden.image, golden.generation)
    np.testing.assert_array_equal(found.contributions, ground(golden).contributions)


def test_answers_can_be_grounded(mini):
    answer = mini.model.ask(mini.case, "Is there a pleural effusion?")
    found = ground_text(mini.model, mini.case, answer)
    assert found.text == answer.text
    assert found.logprobs == pytest.approx(answer.logprobs, abs=1e-3)


def test_another_patient_can_be_given(mini):
    other = wb.phantom(1, size=mini.model.image_size)
    given = ground(mini.trace, ablations=["other patient"], other=other)
    drawn = ground(mini.trace, ablations=["other patient"])
    assert given.ablations == drawn.ablations == ("other patient",)
    assert (given.of("other patient") != drawn.of("other patient")).any()


def test_seed_moves_only_what_is_drawn(tiny_trace):
    first, second = ground(tiny_trace, seed=0), ground(tiny_trace, seed=1)
    for name in ("blank", "mean image", "blurred", "mirrored"):
        np.testing.assert_array_equal(first.of(name), second.of(name))
    assert (first.of("noise") != second.of("noise")).any()
    assert (first.of("other patient") != second.of("other patient")).any()


def test_results_are_shown(mini):
    found = ground(mini.trace)
    assert "nats" in found.plot().figure.axes[1].get_ylabel()
    assert "mirrored" in found.plot(ablation="mirrored").get_title(loc="left")
    shown = found._repr_html_()
    assert "effusion" in shown and "nan" not in shown
    assert "6 ablations" in repr(found)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"ablations": ["upside down"]},
            OptionError,
            "must be one of .*; got 'upside down'",
        ),
        ({"ablations": "blank"}, OptionError, "must be a list"),
        ({"ablations": []}, OptionError, "at least one ablation"),
        ({"blink": 1}, OptionError, "unknown option 'blink'; expected one of: ablations, batch"),
        ({"batch_size": 0}, OptionError, "batch_size"),
        ({"ablations": ["blank"], "other": "x.png"}, OptionError, "not among the ablations"),
    ],
)
def test_errors_repair(tiny_trace, options, error, words):
    with pytest.raises(error, match=words):
        ground(tiny_trace, **options)


def test_more_errors_repair(mini, tiny_trace):
    with pytest.raises(InputError, match="is the image itself"):
        ground(tiny_trace, other=tiny_trace.image)
    with pytest.raises(InputError, match="give the phantom that the text is about"):
        ground(mini.trace, phantom=wb.phantom(8, size=mini.model.image_size))
    with pytest.raises(OptionError, match="two ablations called 'blank'"):
        ground(tiny_trace, images={"blank": tiny_trace.image})
    with pytest.raises(OptionError, match=r"must be one of blank.*; got 'dark'"):
        ground(tiny_trace).of("dark")
    with pytest.raises(InputError, match="the text is empty"):
        ground_text(mini.model, mini.case, "  ")
    with pytest.raises(ContextBudgetError):
        ground_text(mini.model, mini.case, "No effusion. " * 3000)
