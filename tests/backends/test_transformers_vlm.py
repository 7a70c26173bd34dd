"""Any image-text-to-text model of transformers as a reader: exact, placed, and open."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
import transformers

import workbench as wb
from tests.backends.families import (
    FAMILIES,
    deepseek_vl_hybrid,
    ernie4_5_vl_moe,
    kept,
    llava,
    qwen3_5,
)
from workbench.backends import families as known
from workbench.backends.attending import own_value, watch_attention
from workbench.backends.checks import check
from workbench.backends.families import TESTED
from workbench.backends.reader import picture_of
from workbench.backends.vlm_processor import load_processor, processor_class, render
from workbench.errors import CheckpointError, InputError, OptionError
from workbench.model.prompt import Message, report_messages

SIZES = {"square": (96, 96), "wide": (60, 180), "tall": (170, 64)}


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    """Return the directory of a family's tiny checkpoint, made once."""
    return kept(tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="session")
def model(directory):
    """Return a loaded tiny model of a family."""
    made = {}

    def of(name: str):
        if name not in made:
            made[name] = wb.load_model(directory(name), device="cpu", dtype="float32")
        return made[name]

    return of


def image(size: tuple[int, int], seed: int = 0) -> wb.Radiograph:
    grey = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    return wb.load_radiograph(grey)


def test_every_family_that_is_called_tested_is_tested(directory):
    configs = {name: transformers.AutoConfig.from_pretrained(directory(name)) for name in FAMILIES}
    assert {
        name: (one.text_config.model_type, one.vision_config.model_type)
        for name, one in configs.items()
    } == TESTED


def test_a_tested_family_around_another_decoder_is_checked(tmp_path):
    """Of gpt-oss each row of attention leaves a share to a sink, which no recorded row has."""
    sizes = {"num_local_experts": 4, "num_experts_per_tok": 2}
    made = llava(tmp_path / "sinks", decoder=transformers.GptOssConfig, **sizes)
    with pytest.raises(CheckpointError, match=r"attention rows against eager is 0\.\d+, at most"):
        wb.load_model(made, device="cpu", dtype="float32")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_checks_hold(directory, name, dtype):
    loaded = wb.load_model(directory(name), device="cpu", dtype=dtype)
    found = check(loaded)
    assert found.directory.endswith(dtype) and len(found.rows) == (9 if dtype == "float32" else 8)
    assert found.ok, found.to_frame().to_string()


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_are_those_of_the_models_own_forward_pass(directory, model, name):
    ours, shown = model(name), image((118, 94))
    pixels = ours.pixels(shown)
    prompt, ids = ours.prepare(pixels, report_messages())
    own = transformers.AutoModelForImageTextToText.from_pretrained(
        directory(name), attn_implementation=ours.network.config._attn_implementation
    ).eval()
    made = load_processor(directory(name))(
        images=[picture_of(pixels)], text=[prompt], return_tensors="pt",
        add_special_tokens=not prompt.startswith("<s>"),
    )  # fmt: skip
    made.pop("labels", None)
    assert tuple(made["input_ids"][0].tolist()) == ids
    with torch.inference_mode():
        expected = own(**made, logits_to_keep=1).logits[0]
    assert torch.equal(ours.force(pixels, ids, [7]), expected)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("shape", SIZES)
def test_a_marker_comes_back_to_its_place(model, name, shape):
    """A white square on black: the token that it changes most lies there, within half a cell."""
    ours, size = model(name), SIZES[shape]
    black = torch.zeros(1, 1, *size)
    ids = ours.prompt_ids(report_messages(), black)
    places = ours.placement(black)
    left, top, right, bottom = places.seen
    high, wide = (bottom - top) / places.grid[0], (right - left) / places.grid[1]

    def features(pixels):
        with watch_attention(ours, own_value), torch.inference_mode():
            return ours.embeddings(ours.inputs(pixels), ids)

    dark = features(black)
    sides = places.boxes[:, 2:] - places.boxes[:, :2]
    # of several views the tokens of the finest one decide
    fine = np.prod(sides, 1) < 1.5 * np.nanmin(np.prod(sides, 1))
    centres = (places.boxes[:, :2] + places.boxes[:, 2:]) / 2
    for y, x in [(0.5, 0.5), (0.21, 0.77), (0.83, 0.14), (0.07, 0.93)]:
        middle = np.array([left + x * (right - left), top + y * (bottom - top)])
        half = np.array([wide, high]) / 4
        first, last = (np.rint(edge).clip(0).astype(int) for edge in (middle - half, middle + half))
        painted = black.clone()
        painted[..., first[1] : last[1], first[0] : last[0]] = 1
        change = (features(painted) - dark).norm(dim=-1).numpy()
        assert change.max() > 0
        token = int(np.where(fine, change, 0).argmax())
        aside = np.abs(centres[token] - (first + last) / 2)
        # half of the token's own cell, and a pixel of the original
        assert np.all(aside <= sides[token] / 2 + 1), (aside, sides[token])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_whole_facade(model, name):
    ours, shown = model(name), image((120, 88))
    report = ours.report(shown, max_new_tokens=9)
    assert len(report.token_ids) == 9 or report.stopped_by == "eos"
    assert report.prompt_ids == ours.prepare(ours.pixels(shown), report_messages())[1]
    assert report.template.startswith("checkpoint/") or name == "paligemma"
    stream = ours.stream_report(shown, max_new_tokens=9)
    assert "".join(stream) == report.text == stream.generation.text
    both = ours.report_many([shown, image((64, 64), 1)], max_new_tokens=9)
    assert both[0].token_ids == report.token_ids
    np.testing.assert_allclose(both[0].logprobs, report.logprobs, atol=1e-5)
    answers = ours.ask_many(
        shown, ["Is there an opacity?", "Is the heart enlarged?"], max_new_tokens=5
    )
    assert (
        answers[1].token_ids
        == ours.ask(shown, "Is the heart enlarged?", max_new_tokens=5).token_ids
    )
    chat = ours.chat(shown)
    first, second = chat.say("Heart?", max_new_tokens=4), chat.say("Lungs?", max_new_tokens=4)
    assert first.prompt in second.prompt or name == "paligemma"
    sampled = [ours.report(shown, temperature=1.0, seed=3, max_new_tokens=6) for _ in range(2)]
    assert sampled[0].token_ids == sampled[1].token_ids


@pytest.mark.parametrize("name", FAMILIES)
def test_a_trace_and_a_map_of_attention(model, name):
    ours, shown = model(name), image((120, 88))
    trace = ours.trace(shown, ours.report(shown, max_new_tokens=6))
    np.testing.assert_allclose(trace.logprobs, trace.generation.logprobs, atol=2e-5)
    np.testing.assert_allclose(trace.language.values.sum(-1), 1, atol=1e-4)
    assert trace.layout.image_tokens == np.prod(trace.layout.grid)
    drawn = wb.attention.to_image(trace, token=2)
    assert drawn.grid == trace.layout.grid
    mass = trace.language.pick()[2, trace.layout.span("image").slice].sum()
    assert drawn.values.sum() == pytest.approx(mass, rel=1e-4) or drawn.values.max() <= 1.0001
    assert trace.vision is None


def test_layers_without_attention_are_not_recorded(tmp_path):
    """A hybrid decoder, of a family that no list names: only the middle layer attends."""
    ours, shown = wb.load_model(qwen3_5(tmp_path / "qwen3_5"), device="cpu"), image((70, 90))
    trace = ours.trace(shown, ours.report(shown, max_new_tokens=5))
    assert (trace.language.layers, trace.language.total_layers) == ((1,), 3)
    assert len(trace.language.values) == 1
    np.testing.assert_allclose(trace.language.values.sum(-1), 1, atol=1e-4)
    with pytest.raises(OptionError, match=r"layers \[0\] of this model have no attention.* 1$"):
        ours.trace(shown, trace.generation, layers=[0])


def test_only_where_it_gives_the_same_is_the_start_of_a_prompt_used_again(model):
    """Paligemma's image looks at the question, so each question has to read it again."""
    for name in ("llava", "gemma3", "qwen2_5_vl", "paligemma"):
        ours, shown = model(name), image((96, 80))
        ours.ask_many(shown, ["Is there an opacity?", "Is the heart enlarged?"], max_new_tokens=2)
        assert ours.engine.shares is (name != "paligemma")


def test_the_trap_of_token_types_is_found_by_the_checks(directory, monkeypatch):
    monkeypatch.setattr(known, "WRITTEN_TOKEN_TYPE", {})
    monkeypatch.setattr("workbench.backends.transformers_vlm.WRITTEN_TOKEN_TYPE", {})
    found = check(wb.load_model(directory("paligemma"), device="cpu", dtype="float32"))
    assert [row.array for row in found.misses] == ["teacher forcing against generate"]


def test_a_family_that_fails_a_check_is_refused_with_the_row(directory, monkeypatch):
    monkeypatch.setattr("workbench.backends.vlm_reader.TESTED", {})
    monkeypatch.setattr("workbench.backends.transformers_vlm.WRITTEN_TOKEN_TYPE", {})
    with pytest.raises(CheckpointError, match=r"teacher forcing against generate is .* doctor"):
        wb.load_model(directory("paligemma"), device="cpu")
    assert wb.load_model(directory("llava"), device="cpu").card.name == "llava"


def test_types_of_tokens_are_those_of_the_processor(tmp_path):
    """Of ERNIE 4.5 two kinds of them, and marks around the image have the image's in one."""
    ours = wb.load_model(ernie4_5_vl_moe(tmp_path / "ernie"), device="cpu", dtype="float32")
    text = render(ours.own_processor, report_messages())
    made = ours.process(picture_of(torch.zeros(1, 1, 70, 90)), text)
    found = ours.text_inputs(made["input_ids"][0].tolist())
    assert len(found) == 4 and all(torch.equal(made[name], found[name]) for name in found)


def test_a_model_that_gets_an_image_twice_is_refused(tmp_path):
    """A map made by changes of one of the two would tell half of what the model saw."""
    with pytest.raises(CheckpointError, match="enters by 'high_res_pixel_values' too"):
        wb.load_model(deepseek_vl_hybrid(tmp_path / "hybrid"), device="cpu")


def test_no_hook_and_no_function_stays(model):
    ours, shown = model("qwen2_5_vl"), image((70, 90))
    before = ours.network.config._attn_implementation
    with pytest.raises(RuntimeError, match="stop"), watch_attention(ours, _stop):
        ours.report(shown, max_new_tokens=2)
    assert ours.network.config._attn_implementation == before
    names = transformers.AttentionInterface._global_mapping
    assert not [name for name in names if name.startswith("workbench")]
    assert not any(part._forward_pre_hooks for part in ours.network.modules())


def _stop(call):
    raise RuntimeError("stop")


def test_a_template_without_a_system_turn_gets_its_text_in_the_question(directory):
    processor = load_processor(directory("llava"))
    rendered = processor.chat_template
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    deaf = "messages if message['role'] != 'system' %}"
    for template in (strict + rendered, rendered.replace("messages %}", deaf, 1)):
        processor.chat_template = template
        text = render(processor, report_messages())
        assert "helpful radiologist" in text and "system:" not in text
        assert text.count("<image>") == 1


def test_refusals_say_what_to_do(directory, tmp_path, model):
    with pytest.raises(OptionError, match="CXR-LLaVA's own"):
        wb.load_model(directory("llava"), device="cpu", quantize="int8")
    with pytest.raises(OptionError, match="rows are not recorded"):
        model("llava").trace(image((64, 64)), vision="each")
    with pytest.raises(InputError, match="image tokens"):
        ours, small, large = model("qwen2_vl"), image((64, 64)), image((64, 190))
        ours.image_tokens(
            large, ours.prompt_ids([Message("user", "<image>\nA?")], ours.pixels(small))
        )


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"text_config": {"hidden_size": "big"}}, "its config.json .* expected int"),
        ("config.json", {"text_config": {"num_attention_heads": 7}}, "its config.json .* multiple"),
        ("config.json", {"text_config": {"model_type": "nothing"}}, "its config.json"),
        (
            "config.json",
            {"text_config": {"intermediate_size": 72}},
            r"of another shape .* of \(48, 72\)",
        ),
        ("processor_config.json", {"patch_size": None}, "a prompt about a picture"),
        ("processor_config.json", {"chat_template": "{{ messages[0] "}, "a prompt about a picture"),
        ("tokenizer_config.json", {"eos_token": None}, "names no token that ends a text"),
    ],
)
def test_a_file_that_does_not_fit_is_one_plain_sentence(directory, tmp_path, file, change, said):
    broken = shutil.copytree(directory("llava"), tmp_path / "broken")
    (broken / "chat_template.jinja").unlink(missing_ok="chat_template" not in change)
    found = json.loads((broken / file).read_text())
    for key, value in change.items():
        found[key] = found[key] | value if isinstance(value, dict) else value
    (broken / file).write_text(json.dumps(found))
    with pytest.raises(CheckpointError, match=said) as refused:
        wb.load_model(broken, device="cpu")
    assert len(str(refused.value)) < 500 and "\n" not in str(refused.value)


def test_the_processor_is_the_one_that_the_checkpoint_names(directory, tmp_path):
    """Pixtral is of type "llava" too; with llava's processor marks between rows would be absent."""
    named = shutil.copytree(directory("llava"), tmp_path / "named")
    for kind, expected in (("InternVLProcessor", "InternVLProcessor"), ("Other", "LlavaProcessor")):
        file = named / "processor_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"processor_class": kind}))
        assert processor_class(named).__name__ == expected


def test_weights_that_are_missing_are_no_model(directory, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(directory("llava"), tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    del weights[next(name for name in weights if "layers.1.self_attn.q_proj" in name)]
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 1 weights"):
        wb.load_model(broken, device="cpu")
