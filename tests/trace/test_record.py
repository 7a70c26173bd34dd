"""A trace is one run, read again: the same numbers for every kind of text, and nothing else's."""

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers import logprob
from workbench.errors import InputError, OptionError
from workbench.model import costs
from workbench.model.tokenizer import CxrTokenizer
from workbench.phantom import phantom
from workbench.radiograph import InputContract, Radiograph
from workbench.trace import AttentionRows, Trace, record_trace

WRITERS = {
    "report": lambda m, i: m.report(i, max_new_tokens=64),
    "differential": lambda m, i: m.differential(i, max_new_tokens=9),
    "question": lambda m, i: m.ask(i, "Is there a pneumothorax?", max_new_tokens=9),
    "sampled": lambda m, i: m.report(i, temperature=1.3, seed=5, max_new_tokens=13),
    "one token": lambda m, i: m.report(i, max_new_tokens=1),
    "limit": lambda m, i: m.report(i, max_new_tokens=7),
}


def second_turn(model, image):
    chat = model.chat(image, max_new_tokens=9)
    chat.say("Is there an effusion?")
    return chat.say("On which side?")


def streamed(model, image):
    stream = model.stream_report(image)
    next(iter(stream))
    stream.close()
    assert stream.generation.stopped_by == "cancelled"
    return stream.generation


WRITERS |= {"chat": second_turn, "cancelled": streamed}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_text_is_read_with_the_numbers_it_was_written_with(lab, name, writer):
    model, image = lab.model(name), lab.image(name)
    written = WRITERS[writer](model, image)
    if writer in ("limit", "one token"):
        assert written.stopped_by == "limit"
    trace = model.trace(image, written, vision="none")
    np.testing.assert_allclose(trace.logprobs, written.logprobs, atol=1e-4)
    layout = trace.layout
    assert (layout.tokens, layout.text) == (written.tokens, written.text)
    assert len(layout.prompt_tokens) + 1 + len(layout.question_tokens) == len(written.prompt_ids)
    assert layout.image_tokens == model.loaded.model.config.image_tokens
    assert trace.language.values.shape[2:] == (len(written.token_ids), layout.length)
    np.testing.assert_allclose(trace.language.values.sum(-1), 1, atol=1e-5)
    assert trace.generation is written and trace.image is image


def test_a_second_turn_holds_the_first_one_in_its_question(lab):
    model, image = lab.model("mini"), lab.image("mini")
    chat = model.chat(image)
    first = chat.say("Is there a pleural effusion?")
    second = chat.say("Is there a nodule?")
    layout = model.trace(image, second, vision="none").layout
    before = "".join(layout.question_tokens).replace("\u2581", " ")
    assert first.text in before and "Is there a nodule?" in before
    assert layout.text == second.text


def test_without_a_text_a_report_is_written(lab):
    run = lab.run("A_tiny")
    model = run.model
    trace = model.trace(run.image)
    assert trace.generation.task == "report"
    assert trace.text == model.report(run.image).text


def test_a_phantom_is_traced_like_its_image(lab):
    model, case = lab.model("mini"), phantom(7, findings=["pleural effusion"])
    trace = model.trace(case, lab.run("mini").report)
    assert trace.image is case.image
    assert np.array_equal(trace.language.values, lab.run("mini").trace.language.values)


def test_pixels_are_those_the_model_saw(run):
    seen = run.model.loaded.processor(run.image)
    assert np.array_equal(run.trace.pixel_values, seen.numpy())
    assert run.trace.layout.geometry == run.image.geometry(run.model.image_size)


@pytest.mark.parametrize("other", [8, 9])
def test_a_text_about_another_image_is_refused(lab, other):
    run = lab.run("mini")
    image = phantom(other, findings=["nodule"]).image
    apart = (
        r"written about 'phantom seed 7 \(internal\)' and does not come back with "
        rf"'phantom seed {other} \(internal\)': "
    )
    with pytest.raises(InputError, match=apart + "the model would see other pixels"):
        run.model.trace(image, run.report)
    unknown = replace(run.report, pixels_sha256="")
    with pytest.raises(InputError, match=apart + r"log-probabilities differ .*allowed 0\.02"):
        run.model.trace(image, unknown)


def test_a_short_sure_answer_about_another_image_is_refused(lab):
    run = lab.run("mini")
    answer = run.model.ask(run.image, "Is there a pneumothorax?")
    with pytest.raises(InputError, match="the model would see other pixels"):
        run.model.trace(phantom(8, findings=[]).image, answer)


def test_a_text_about_another_fit_is_refused(lab):
    run = lab.run("B_gqa_odd")
    with pytest.raises(InputError, match="the image, and the fit, it was written about"):
        run.model.trace(run.image.with_fit("pad"), run.report)


def test_a_text_that_does_not_come_back_can_be_traced_on_purpose(lab):
    run = lab.run("mini")
    image = phantom(8, findings=["nodule"]).image
    pixels = run.model.pixels(image)
    trace = record_trace(run.model, image, pixels, run.report, vision="none", verify=False)
    assert np.abs(trace.logprobs - run.report.logprobs).max() > 0.02


def test_a_text_of_another_model_is_refused(lab):
    run, other = lab.run("A_tiny"), lab.run("B_gqa_odd")
    here, there = (r.model.identity.sha256[:12] for r in (run, other))
    message = rf"written by B_gqa_odd \({there}\), this model is A_tiny \({here}\)"
    with pytest.raises(InputError, match=message):
        run.model.trace(run.image, other.report)


def test_an_empty_text_is_refused(lab):
    run = lab.run("A_tiny")
    empty = replace(run.report, token_ids=(), tokens=(), logprobs=[], offsets=(), text="")
    with pytest.raises(InputError, match="holds no token"):
        run.model.trace(run.image, empty)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": "all"}, "heads must be one of auto, each, mean; got 'all'"),
        ({"heads": "none"}, "heads must be one of"),
        ({"vision": True}, "vision must be one of auto, each, mean, none; got True"),
        ({"layers": []}, r"numbers from 0 to 1 .*got \[\]"),
        ({"layers": [0, 2]}, r"numbers from 0 to 1 .*got \[0, 2\]"),
        ({"layers": [-3]}, r"got \[-3\]"),
    ],
)
def test_options_that_are_not_allowed_are_errors(lab, options, message):
    run = lab.run("A_tiny")
    with pytest.raises(OptionError, match=message):
        run.model.trace(run.image, run.report, **options)


def test_heads_are_averaged_where_all_would_be_too_large(lab, monkeypatch):
    run = lab.run("A_tiny")
    each = run.trace.language.values.nbytes
    vision = run.trace.vision.values.nbytes
    assert each > vision
    for limit, means in ((each, (False, False)), (each - 1, (True, False)), (0, (True, True))):
        monkeypatch.setattr(costs, "AUTO_BYTES", limit)
        trace = run.model.trace(run.image, run.report)
        assert (trace.language.mean_heads, trace.vision.mean_heads) == means


def test_without_vision_rows_they_cannot_be_had(lab):
    run = lab.run("A_tiny")
    trace = run.model.trace(run.image, run.report, vision="none")
    assert trace.vision is None
    with pytest.raises(InputError, match="trace again with vision='each'"):
        trace.need_vision()
    assert run.trace.need_vision() is run.trace.vision


def test_half_precision_is_traced_too(lab):
    run = lab.run("A_tiny")
    model = lab.open("A_tiny", dtype="bfloat16")
    written = model.report(run.image, max_new_tokens=7)
    trace = model.trace(run.image, written)
    assert written.model.dtype == "bfloat16"
    np.testing.assert_allclose(trace.language.values.sum(-1), 1, atol=1e-5)
    whole = record_trace(run.model, run.image, run.pixels, written, verify=False)
    apart = np.abs(trace.language.values - whole.language.values)
    assert apart.mean() < 1e-3 and apart.max() < 0.2


# ------------------------------------------------------------------ the result objects


@pytest.fixture(scope="module")
def rows() -> AttentionRows:
    values = np.random.default_rng(0).random((2, 3, 5, 7), dtype=np.float32)
    return AttentionRows(values, (1, 4), False, 6, 3)


def test_rows_are_picked_by_the_numbers_of_the_model(rows):
    values = rows.values
    assert np.array_equal(rows.pick(4, 2), values[1, 2])
    assert np.array_equal(rows.pick(-2, 2), values[1, 2])
    assert np.array_equal(rows.pick(-5, 0), values[0, 0])
    np.testing.assert_allclose(rows.pick(1), values[0].mean(0), rtol=1e-6)
    np.testing.assert_allclose(rows.pick(head=1), values[:, 1].mean(0), rtol=1e-6)
    np.testing.assert_allclose(rows.pick(), values.mean((0, 1)), rtol=1e-6)


def test_picked_rows_are_float32_whatever_was_kept(rows):
    half = replace(rows, values=rows.values.astype(np.float16))
    for choice in ({}, {"layer": 1}, {"layer": 1, "head": 0}):
        assert half.pick(**choice).dtype == np.float32
        np.testing.assert_allclose(half.pick(**choice), rows.pick(**choice), atol=1e-3)


@pytest.mark.parametrize("layer", [0, 6, -1, -7])
def test_a_layer_that_was_not_kept_is_an_error(rows, layer):
    with pytest.raises(OptionError, match=f"layer {layer} was not recorded.*1, 4 of 6"):
        rows.pick(layer)


def test_a_head_that_is_not_there_is_an_error(rows):
    for head in (3, -1):
        with pytest.raises(OptionError, match=f"heads go from 0 to 2, got {head}"):
            rows.pick(head=head)
    mean = replace(rows, values=rows.values.mean(1, keepdims=True), mean_heads=True)
    np.testing.assert_allclose(mean.pick(1), rows.pick(1), rtol=1e-6)
    with pytest.raises(OptionError, match="the 3 heads of each layer were averaged"):
        mean.pick(head=0)


def test_the_frame_says_where_each_token_looked(run):
    trace, layout = run.trace, run.trace.layout
    frame = trace.to_frame()
    assert list(frame["token"]) == list(run.report.tokens)
    assert list(zip(frame["start"], frame["end"], strict=True)) == list(run.report.offsets)
    kinds = ["prompt", "image", "question", "generated"]
    np.testing.assert_allclose(frame[kinds].sum(axis=1), 1, atol=1e-5)
    image = layout.span("image").slice
    wanted = trace.language.values.mean((0, 1))[:, image].sum(1)
    np.testing.assert_allclose(frame["image"], wanted, atol=1e-5)
    assert frame["generated"].iloc[0] == 0, "before the first token nothing was generated"
    assert (frame["generated"].iloc[1:] > 0).all()


def test_log_probabilities_add_up(lab):
    trace = lab.run("mini").trace
    parts = [logprob(trace, token=t) for t in range(len(trace.logprobs))]
    np.testing.assert_allclose(parts, trace.logprobs, rtol=1e-6)
    phrase = " ".join(trace.text.split()[2:5])
    assert len(trace.select(phrase).tokens) >= 3
    assert logprob(trace, phrase) == pytest.approx(
        sum(parts[t] for t in trace.select(phrase).tokens)
    )
    assert logprob(trace) == pytest.approx(sum(parts[:-1]), abs=1e-4)


def test_a_trace_introduces_itself(lab):
    run = lab.run("A_tiny")
    rows = run.trace.language.values.shape
    assert repr(run.trace) == (
        f"<Trace of report about 'grad_300x400.png': {rows[2]} tokens, 16 patches, "
        "2 layers x 4 heads, with vision rows>"
    )
    assert "16 image" in run.trace._repr_html_()
    without = replace(run.trace, vision=None)
    assert "no vision rows" in repr(without)


def test_a_name_in_a_trace_is_escaped(lab):
    run = lab.run("A_tiny")
    pixels = np.random.default_rng(0).random((31, 37), dtype=np.float32)
    image = Radiograph(pixels, InputContract(source="<script>alert(1)</script>"))
    trace = run.model.trace(image, run.model.report(image, max_new_tokens=2))
    assert isinstance(trace, Trace)
    assert "<script" not in trace._repr_html_()


def test_attach_takes_the_model_that_was_traced_only(lab):
    run, other = lab.run("A_tiny"), lab.run("B_gqa_odd")
    bare = replace(run.trace, model=None)
    with pytest.raises(InputError, match=r"trace\.attach\(wb\.load_model\('A_tiny'\)\)"):
        bare.need_model()
    attached = bare.attach(run.model)
    assert attached.need_model() is attached.need_model(type(run.model)) is run.model
    with pytest.raises(InputError, match=r"takes a CxrTokenizer, .* has a CxrLlavaModel"):
        attached.need_model(CxrTokenizer)
    with pytest.raises(InputError, match=r"recorded with A_tiny .*, this model is B_gqa_odd"):
        bare.attach(other.model)
    assert bare.model is None
