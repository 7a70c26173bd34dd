"""Parity with the recorded outputs, and that nothing false or missing passes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from workbench.errors import CheckpointError
from workbench.generation.engine import Request
from workbench.generation.options import DecodingSettings
from workbench.generation.parity import ParityReport, compare
from workbench.generation.recorded import single_cases
from workbench.generation.responder import Job
from workbench.interface import load_model
from workbench.model.prompt import Message, answer, follow_up, question_messages, render_chat

CHECKPOINT = "A_tiny"
IMAGE = "noise_64x64"


@pytest.fixture(scope="session")
def whole(lab) -> ParityReport:
    """Everything that is recorded, compared once."""
    return compare(lab.golden)


@pytest.fixture
def vectors(both) -> Path:
    """The float32 part of `both`."""

    def strip(cases):
        for case in cases.values():
            del case["bf16"]

    change_json(both, strip)
    change_arrays(both, lambda arrays: [arrays.pop(k) for k in [*arrays] if k.startswith("bf16")])
    return both


@pytest.fixture
def alone(vectors) -> Path:
    """One case of `vectors`."""

    def strip(stored):
        for name in [*stored]:
            if name.partition("__")[0] in ("report", "q2"):
                del stored[name]

    change_json(vectors, strip)
    change_arrays(vectors, strip)
    return vectors


@pytest.fixture
def both(lab, tmp_path) -> Path:
    """A copy of one checkpoint's vectors for one image, to be spoiled."""
    for part in (f"checkpoints/{CHECKPOINT}", f"golden/{CHECKPOINT}", "images"):
        shutil.copytree(lab.golden / part, tmp_path / part, copy_function=shutil.copyfile)
    for folder in (tmp_path / "golden" / CHECKPOINT).iterdir():
        if folder.is_dir() and folder.name != IMAGE:
            shutil.rmtree(folder)
    return tmp_path


def change_arrays(vectors: Path, change: Callable[[dict], None], file: str | None = None) -> None:
    path = vectors / "golden" / CHECKPOINT / (file or f"{IMAGE}/arrays.npz")
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    change(arrays)
    np.savez(path, **arrays)


def change_json(vectors: Path, change: Callable, file: str = f"{IMAGE}/cases.json") -> None:
    path = vectors / "golden" / CHECKPOINT / file
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def missed(vectors: Path) -> set[tuple[str, str]]:
    report = compare(vectors)
    assert not report.ok
    return {(row.case.removeprefix(f"{CHECKPOINT}"), row.array) for row in report.misses}


def test_everything_that_is_recorded_agrees(whole):
    assert whole.misses == ()
    assert whole.ok


def test_every_recorded_array_and_field_has_a_row(lab, whole):
    rows = {(row.case, row.array) for row in whole.rows}
    assert len(rows) > 300
    for name in ("A_tiny", "B_gqa_odd"):
        folder = lab.golden / "golden" / name
        for image in ("grad_300x400", "noise_64x64"):
            stored = lab.recorded(name, image)
            for key in stored.arrays:
                plain = key.removeprefix("bf16__")
                case, _, array = plain.partition("__")
                label = f"{name}/{image}/{case}" if array else f"{name}/{image}"
                shown = array or plain
                shown = shown if key == plain else f"bf16__{shown}"
                assert (label, shown) in rows, key
            for case, fields in stored.cases.items():
                label = f"{name}/{image}/{case}"
                inputs = {"image", "max_new_tokens", "do_sample", "fp32", "bf16"}
                assert {(label, field) for field in fields if field not in inputs} <= rows
                for run in ("fp32", "bf16"):
                    assert {(label, f"{run}/{field}") for field in fields[run]} <= rows
        with np.load(folder / "preprocess_only.npz") as stored:
            assert {(f"{name}/preprocess_only", key) for key in stored.files} <= rows
        fields = set(json.loads((folder / "tokenizer_cases.json").read_text())[0]) - {"text"}
        assert {(f"{name}/tokenizer", field) for field in fields} <= rows
        assert (name, "gen_ids in one batch") in rows


def test_report_is_plain_for_json_and_pandas(whole):
    stored = json.loads(json.dumps(whole.to_dict(), allow_nan=False))
    assert stored["ok"] is True
    assert {"case", "array", "max_abs_diff", "tolerance", "ok"} <= set(stored["rows"][0])
    frame = whole.to_frame()
    assert len(frame) == len(whole.rows)
    assert frame["ok"].all()
    assert str(whole).endswith("comparisons, all agree")


def test_one_checkpoint_is_compared_with_the_vectors_beside_it(alone):
    report = compare(alone / "checkpoints" / CHECKPOINT)
    assert report.ok
    assert {row.case.partition("/")[0] for row in report.rows} == {CHECKPOINT}


def test_one_spoiled_weight_is_found(vectors):
    path = vectors / "checkpoints" / CHECKPOINT / "model.safetensors"
    weights = load_file(path)
    weights["llama.layers.1.mlp.up_proj.weight"][3, 5] += 0.5
    save_file(weights, path)
    found = missed(vectors)
    assert (f"/{IMAGE}/report", "logits_last") in found
    assert (f"/{IMAGE}/report", "hidden_last") in found
    assert (f"/{IMAGE}", "vision_tokens") not in found


def test_one_spoiled_vision_weight_is_found(alone):
    path = alone / "checkpoints" / CHECKPOINT / "model.safetensors"
    weights = load_file(path)
    weights["vision_tower.transformer.resblocks.1.mlp.c_fc.weight"][3, 5] += 0.5
    save_file(weights, path)
    found = missed(alone)
    assert {
        (f"/{IMAGE}", name) for name in ("vision_block_1", "vision_tokens", "projected")
    } <= found
    assert not {(f"/{IMAGE}", name) for name in ("vision_ln_pre", "vision_block_0")} & found


NUMBERS = {
    "pixel_values": 0.01,
    "vision_ln_pre": 2e-3,
    "pooled": 2e-3,
    "projected": 2e-3,
    "q1__logits_last": 0.05,
    "q1__hidden_last": 0.05,
    "q2__first8_top20_values": 0.05,
    "q2__gen_margins": 0.05,
    "report__sample_probs__T1.0_P0.8": 0.01,
}
IDS = ("q1__gen_ids", "q1__input_ids", "q1__argmax_all", "q1__first8_top20_ids")


def test_every_spoiled_number_is_found_and_nothing_else(vectors):
    def spoil(arrays):
        for key, amount in NUMBERS.items():
            arrays[key].flat[3] += amount

    change_arrays(vectors, spoil)
    wanted = set()
    for key in NUMBERS:
        case, _, array = key.partition("__")
        wanted.add((f"/{IMAGE}/{case}", array) if array else (f"/{IMAGE}", key))
    found = missed(vectors)
    assert wanted <= found
    # What follows the image starts from the recorded pixels, which were spoiled too.
    untouched = {"input_ids", "prompt", "chat", "tokens", "decoded", "pre_small_20x31.png"}
    assert not {array for _, array in found} & untouched


def test_every_spoiled_id_is_found_and_nothing_else(alone):
    def spoil(arrays):
        for key in IDS:
            arrays[key].flat[7] = (arrays[key].flat[7] + 91) % 500

    change_arrays(alone, spoil)
    wanted = {(f"/{IMAGE}/q1", key.removeprefix("q1__")) for key in IDS}
    assert missed(alone) == {*wanted, ("", "gen_ids in one batch")}


def test_spoiled_bfloat16_features_are_found(both):
    def spoil(arrays):
        arrays["bf16__vision_tokens"] *= 1.05
        arrays["bf16__q1__logits_last"] *= -1

    change_arrays(both, spoil)
    assert missed(both) == {
        (f"/{IMAGE}", "bf16__vision_tokens"),
        (f"/{IMAGE}/q1", "bf16__logits_last"),
    }


FIELDS = {
    "image_token_pos": [3],
    "n_image_tokens": 17,
    "expanded_len": 132,
    "reference_own_max_new_tokens": 511,
    "something_new": 1,
}
RESULTS = {"text": "no", "text_streamed": "no", "stopped_by": "length", "gen_ids": [5]}


def test_every_spoiled_field_is_found_and_nothing_else(vectors):
    def spoil(cases):
        cases["q1"].update(FIELDS)
        cases["q1"]["fp32"].update(RESULTS)
        cases["q2"]["prompt"] += " "

    change_json(vectors, spoil)
    wanted = {(f"/{IMAGE}/q1", field) for field in FIELDS}
    wanted |= {(f"/{IMAGE}/q1", f"fp32/{field}") for field in RESULTS}
    # A prompt that differs gives other ids too.
    wanted |= {(f"/{IMAGE}/q2", field) for field in ("prompt", "input_ids of the prompt")}
    assert missed(vectors) == wanted


def test_every_spoiled_tokenizer_case_is_found_and_nothing_else(alone):
    fields = ("input_ids", "tokens", "decoded", "decoded_skip_special")

    def spoil(cases):
        for index, field in enumerate(fields):
            cases[4 + index][field] = cases[12 + index][field]

    change_json(alone, spoil, "tokenizer_cases.json")
    assert missed(alone) == {("/tokenizer", field) for field in fields}


def test_spoiled_preprocessing_is_found(alone):
    def spoil(arrays):
        arrays["pre_small_20x31.png"][0, 0, 5, 7] += 0.01

    change_arrays(alone, spoil, "preprocess_only.npz")
    assert missed(alone) == {("/preprocess_only", "pre_small_20x31.png")}


def test_unknown_and_missing_arrays_are_found(vectors):
    def spoil(arrays):
        arrays["q1__new_kind"] = np.zeros(3)
        arrays["vision_block_7"] = np.zeros((17, 64), np.float32)
        arrays["q9__logits_last"] = np.zeros(512, np.float32)
        del arrays["q2__logits_last"], arrays["projected"]

    change_arrays(vectors, spoil)
    assert missed(vectors) == {
        (f"/{IMAGE}/q1", "new_kind"),
        (f"/{IMAGE}", "vision_block_7"),
        (f"/{IMAGE}/q9", "logits_last"),
        (f"/{IMAGE}/q2", "logits_last"),
        (f"/{IMAGE}", "projected"),
    }


def harm(path: Path, damage: str) -> None:
    if damage == "missing":
        path.unlink()
    else:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.model"])
def test_damaged_checkpoint_is_found(vectors, file, damage):
    harm(vectors / "checkpoints" / CHECKPOINT / file, damage)
    assert missed(vectors) == {("", "checkpoint")}


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_damaged_vectors_and_images_are_found(vectors, damage):
    golden = vectors / "golden" / CHECKPOINT
    harm(golden / "tokenizer_cases.json", damage)
    harm(golden / IMAGE / "arrays.npz", damage)
    harm(vectors / "images" / "pre_rgb_301x257.png", damage)
    assert missed(vectors) == {
        ("/tokenizer", "tokenizer_cases.json"),
        (f"/{IMAGE}", "arrays.npz, cases.json"),
        ("/preprocess_only", "pre_rgb_301x257.png"),
    }


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_damaged_cases_and_preprocessing_are_found(vectors, damage):
    golden = vectors / "golden" / CHECKPOINT
    harm(golden / IMAGE / "cases.json", damage)
    harm(golden / "preprocess_only.npz", damage)
    assert missed(vectors) == {
        (f"/{IMAGE}", "arrays.npz, cases.json"),
        ("/preprocess_only", "preprocess_only.npz"),
    }


def test_missing_image_is_found(alone):
    (alone / "images" / f"{IMAGE}.png").unlink()
    assert missed(alone) == {(f"/{IMAGE}", "pixel_values")}


def test_checkpoint_without_vectors_and_vectors_without_checkpoint_are_found(vectors):
    (vectors / "checkpoints" / CHECKPOINT).rename(vectors / "checkpoints" / "other")
    assert missed(vectors) == {("", "checkpoint"), ("other", "golden")}


def test_vectors_without_any_image_are_found(vectors):
    shutil.rmtree(vectors / "golden" / CHECKPOINT / IMAGE)
    assert ("", "golden") in missed(vectors)


def test_nothing_to_compare_is_not_ok(tmp_path):
    with pytest.raises(CheckpointError, match="holds no reference vectors"):
        compare(tmp_path)
    with pytest.raises(CheckpointError, match="no directory"):
        compare(tmp_path / "nowhere")
    assert not ParityReport((), "empty").ok
    assert "nothing to compare" in str(ParityReport((), "empty"))


def test_vectors_beyond_the_context_are_compared_all_the_same(alone):
    """The published code does not look at the language model's own context, ours does for users."""
    path = alone / "checkpoints" / CHECKPOINT / "config.json"
    config = json.loads(path.read_text())
    config["llama"]["max_position_embeddings"] = 64
    path.write_text(json.dumps(config))
    report = compare(alone)
    assert report.misses == ()
    assert report.ok


def dialogue(vectors: Path, lab) -> list[dict]:
    """Record two turns of a dialogue, and the same with an empty question and without a cap."""
    model = load_model(str(vectors / "checkpoints" / CHECKPOINT), device="cpu", dtype="float32")
    pixels = lab.recorded(CHECKPOINT, IMAGE).pixels
    side = model
    messages, turns = [], []
    for asked in ("Is there a nodule?", "Where is it?"):
        messages += [follow_up(asked)] if messages else question_messages(asked)
        turns.append(record(side, pixels, messages, 9))
        messages.append(answer(turns[-1]["fp32"]["text"]))
    return turns


def record(side, pixels, messages, limit) -> dict:
    """Record one case as the reference does, with what this implementation computes."""
    settings = DecodingSettings(max_new_tokens=limit)
    ids = side.tokenizer.encode_prompt(render_chat(messages))
    job = Job(Request(pixels, tuple(ids), settings), "", "q", "made", ())
    found = side.answer(job)
    stopped = {"limit": "length"}.get(found.stopped_by, found.stopped_by)
    return {
        "chat": [vars(message).copy() for message in messages],
        "prompt": render_chat(messages),
        "input_ids": ids,
        "max_new_tokens": limit,
        "fp32": {"gen_ids": list(found.token_ids), "text": found.text, "stopped_by": stopped},
    }


@pytest.fixture
def talk(alone, lab) -> list[dict]:
    turns = dialogue(alone, lab)
    change_json(alone, lambda cases: cases.update(talk=turns))
    return turns


def test_a_dialogue_is_compared_turn_by_turn(alone, talk):
    report = compare(alone)
    assert report.misses == ()
    rows = {(row.case.rpartition(f"{IMAGE}/")[2], row.array) for row in report.rows}
    for number in (1, 2):
        for field in ("prompt", "input_ids of the prompt", "fp32/gen_ids", "fp32/text"):
            assert (f"talk/{number}", field) in rows


def test_a_spoiled_turn_is_found_and_no_other(alone, talk):
    def spoil(cases):
        cases["talk"][1]["fp32"]["gen_ids"][3] += 1
        cases["talk"][0]["fp32"]["text"] += "x"

    change_json(alone, spoil)
    assert missed(alone) == {
        (f"/{IMAGE}/talk/2", "fp32/gen_ids"),
        (f"/{IMAGE}/talk/1", "fp32/text"),
        ("", "gen_ids in one batch"),
    }


@pytest.mark.parametrize(
    "names",
    [("talk__0__", "talk__1__"), ("talk_1__", "talk_2__"), ("talk_turn0__", "talk_turn1__")],
)
def test_arrays_of_turns_belong_to_them(alone, talk, names):
    def store(arrays):
        for name, turn in zip(names, talk, strict=True):
            arrays[f"{name}input_ids"] = np.array(turn["input_ids"])
            arrays[f"{name}gen_ids"] = np.array(turn["fp32"]["gen_ids"])
        arrays[f"{names[1]}gen_ids"][2] += 1

    change_arrays(alone, store)
    found = missed(alone)
    assert (f"/{IMAGE}/talk/2", "gen_ids") in found
    assert (f"/{IMAGE}/talk/1", "gen_ids") not in found
    # a case with some arrays needs those that prove it
    assert (f"/{IMAGE}/talk/1", "logits_last") in found


def test_an_empty_question_and_a_case_without_a_cap_are_compared(alone, lab):
    model = load_model(str(alone / "checkpoints" / CHECKPOINT), device="cpu", dtype="float32")
    pixels = lab.recorded(CHECKPOINT, IMAGE).pixels
    asked = question_messages("x")
    empty = [asked[0], Message("user", "<image>\n")]
    cases = {
        "empty": record(model, pixels, empty, 5),
        "uncapped": record(model, pixels, asked, 512),
    }
    for name, value in (("max_new_tokens", None), ("reference_own_max_new_tokens", 512)):
        cases["uncapped"][name] = value
    change_json(alone, lambda stored: stored.update(cases))
    report = compare(alone)
    assert report.misses == ()
    assert any(row.case.endswith("/empty") and row.array == "fp32/text" for row in report.rows)
    change_json(alone, lambda stored: stored["uncapped"].pop("max_new_tokens"))
    assert compare(alone).misses == ()


ODD = {
    "nothing": None,
    "text": "report",
    "no turns": [],
    "turns of texts": ["a", "b"],
    "messages": [{"role": "user", "content": "x"}],
    "without ids": {"chat": [{"role": "user", "content": "x"}], "fp32": {}},
}


@pytest.mark.parametrize("entry", ODD.values(), ids=ODD.keys())
def test_what_is_no_case_is_a_row_that_says_why(alone, entry):
    change_json(alone, lambda cases: cases.update(odd=entry))
    report = compare(alone)
    assert report.misses
    for row in report.misses:
        assert "/odd" in row.case and row.note


@pytest.mark.parametrize(
    "field", ["chat", "input_ids", "fp32", "max_new_tokens", "image", "prompt"]
)
@pytest.mark.parametrize("value", [3, "x", [None], {"a": 1}, [[1]]])
def test_a_field_of_another_kind_is_never_a_traceback(alone, field, value, monkeypatch):
    change_json(alone, lambda cases: cases["q1"].update({field: value}))
    for part in ("_compare_tokenizer", "_compare_preprocessing"):
        monkeypatch.setattr(f"workbench.generation.recorded._Comparison.{part}", lambda _: None)
    assert compare(alone).misses


@pytest.mark.parametrize("content", ["[]", "3", "null", '"x"', "{}"])
def test_a_file_without_cases_is_a_row(alone, content):
    (alone / "golden" / CHECKPOINT / IMAGE / "cases.json").write_text(content)
    assert any(case == f"/{IMAGE}" or IMAGE in case for case, _ in missed(alone))


def test_two_cases_of_one_name_are_compared_with_neither():
    turn = {"chat": [{"role": "user"}], "input_ids": [1]}
    for recorded in ({"a/1": turn, "a": [turn]}, {"a": [turn], "a/1": turn}):
        cases, strange = single_cases(recorded)
        assert cases == {} and strange == {"a/1": "two cases have this name: cannot be compared"}


def test_a_colour_image_is_read_under_the_guards_of_every_picture(tmp_path, monkeypatch):
    from PIL import Image, ImageFile

    from workbench.errors import InputError
    from workbench.generation.recorded import _read

    levels = np.random.default_rng(3).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(levels).save(tmp_path / "colour.png")
    radiograph, note = _read(tmp_path / "colour.png")
    assert radiograph.size == (64, 64) and note.startswith("colour")
    monkeypatch.setenv("WORKBENCH_MAX_PIXELS", "4000")
    with pytest.raises(InputError, match="more than the limit"):
        _read(tmp_path / "colour.png")
    monkeypatch.delenv("WORKBENCH_MAX_PIXELS")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    (tmp_path / "torn.png").write_bytes((tmp_path / "colour.png").read_bytes()[:-3000])
    with pytest.raises(OSError, match="truncated"):
        _read(tmp_path / "torn.png")
