"""The tokenizer equals the stored references and its spans cover what it decodes."""

import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import GOLDEN
from workbench.errors import CheckpointError, InputError
from workbench.model.prompt import IMAGE_TOKEN_ID, Message, render_chat
from workbench.model.tokenizer import CxrTokenizer, clean_spaces

TOKENIZERS = {
    path.name: CxrTokenizer.from_directory(path) for path in (GOLDEN / "checkpoints").iterdir()
}
both = pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=list(TOKENIZERS))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_reference_case_is_reproduced(name):
    tokenizer = TOKENIZERS[name]
    stored = json.loads((GOLDEN / "golden" / name / "tokenizer_cases.json").read_text())
    assert len(stored) > 25
    for case in stored:
        ids = tokenizer.encode(case["text"])
        assert ids == case["input_ids"], case["text"]
        assert tokenizer.pieces(ids) == case["tokens"]
        assert tokenizer.decode(ids, skip_special=False) == case["decoded"]
        assert tokenizer.decode(ids) == case["decoded_skip_special"]


def test_prompt_ids_and_generated_texts_equal_the_references(checkpoint, cases):
    tokenizer = TOKENIZERS[checkpoint.name]
    for case in cases.values():
        prompt = render_chat([Message(**turn) for turn in case["chat"]])
        assert tokenizer.encode_prompt(prompt) == case["input_ids"]
        for kind in ("fp32", "bf16"):
            assert tokenizer.decode(case[kind]["gen_ids"]) == case[kind]["text"]


@both
def test_special_ids(tokenizer):
    assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
    assert tokenizer.pad_id == tokenizer.unk_id
    assert tokenizer.vocab_size in (512, 640)


@both
def test_a_prompt_begins_with_two_bos_and_later_pieces_have_none(tokenizer):
    ids = tokenizer.encode_prompt("<s>[INST] a<image>b<image>c [/INST]")
    assert ids[:2] == [1, 1]
    assert ids.count(1) == 2
    assert ids.count(IMAGE_TOKEN_ID) == 2
    after = ids[ids.index(IMAGE_TOKEN_ID) + 1 :]
    assert after[: after.index(IMAGE_TOKEN_ID)] == tokenizer.encode("b", add_bos=False)
    assert IMAGE_TOKEN_ID not in tokenizer.encode_prompt("<s>[INST] none [/INST]")
    assert tokenizer.pieces([IMAGE_TOKEN_ID, 1]) == ["<image>", "<s>"]


def test_legacy_decides_about_the_run_after_a_special_token():
    assert TOKENIZERS["A_tiny"].pieces(TOKENIZERS["A_tiny"].encode("a</s>b"))[-1] == "b"
    assert TOKENIZERS["B_gqa_odd"].pieces(TOKENIZERS["B_gqa_odd"].encode("a</s>b"))[-1] == "▁b"


@pytest.mark.parametrize("name", TOKENIZERS)
@given(data=st.data())
def test_spans_cover_the_decoded_text_in_order(name, data):
    tokenizer = TOKENIZERS[name]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
    text = tokenizer.decode(ids)
    spans = tokenizer.offsets(ids)
    assert len(spans) == len(ids)
    covered = 0
    for start, end in spans:
        assert 0 <= start <= covered
        assert start <= end
        covered = max(covered, end)
    assert covered == len(text)


@pytest.mark.parametrize("name", TOKENIZERS)
@given(text=st.text(alphabet=st.characters(exclude_characters="▁", codec="utf-8"), max_size=40))
def test_text_without_marks_survives_a_round_trip(name, text):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(text)
    if any(mark in text for mark in ("<s>", "</s>", "<unk>")):
        return
    decoded = tokenizer.decode(ids)
    assert decoded == text or decoded.lstrip() == text.lstrip()


@both
def test_each_span_shows_the_piece(tokenizer):
    ids = [*tokenizer.encode("No effusion.\nµm 4.5 cm", add_bos=False), tokenizer.eos_id]
    text = tokenizer.decode(ids)
    spans = tokenizer.offsets(ids)
    pieces = tokenizer.pieces(ids)
    for index, ((start, end), piece) in enumerate(zip(spans, pieces, strict=True)):
        if piece.startswith("<0x") and piece != "<0x0A>":
            assert text[start:end] in "µ45cm."
        elif piece == "</s>":
            assert start == end == len(text)
        elif not piece.startswith("<0x"):
            shown = piece.replace("▁", " ")
            assert text[start:end] == (shown.lstrip(" ") if index == 0 else shown)


def bytes_behind_a(data):
    tokenizer = TOKENIZERS["B_gqa_odd"]
    return tokenizer, tokenizer.encode("a", add_bos=False) + [3 + value for value in data]


def test_bytes_of_one_character_share_its_span():
    tokenizer, ids = bytes_behind_a("µ🙂".encode() + b"\xff\xc2" + b"a")
    assert tokenizer.decode(ids) == "aµ🙂\ufffd\ufffda"
    spans = [(1, 2)] * 2 + [(2, 3)] * 4 + [(3, 4), (4, 5), (5, 6)]
    assert tokenizer.offsets(ids)[-len(spans) :] == spans


@given(st.binary(max_size=8))
def test_each_byte_lies_in_one_character(data):
    tokenizer, ids = bytes_behind_a(data)
    spans = tokenizer.offsets(ids)[len(ids) - len(data) :]
    assert all(end - start == 1 for start, end in spans)
    assert sorted(set(spans)) == [(i, i + 1) for i in range(1, len(tokenizer.decode(ids)))]


@both
def test_saved_and_read_back(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = CxrTokenizer.from_directory(tmp_path)
    text = "The </s><s>[INST] heart, x</s>y"
    assert again.legacy == tokenizer.legacy
    assert again.encode(text) == tokenizer.encode(text)
    assert again.encode_prompt(f"<s>{text}<image>\nb") == tokenizer.encode_prompt(
        f"<s>{text}<image>\nb"
    )


def with_files(tmp_path, name="A_tiny", **files):
    source = GOLDEN / "checkpoints" / name
    shutil.copy(source / "tokenizer.model", tmp_path)
    for file, value in files.items():
        (tmp_path / f"{file}.json").write_text(json.dumps(value))
    return CxrTokenizer.from_directory(tmp_path)


def test_only_the_model_file_is_needed_and_legacy_is_then_true(tmp_path):
    tokenizer = with_files(tmp_path)
    assert tokenizer.legacy
    assert tokenizer.encode("") == [1]


def test_added_tokens_are_cut_out_and_special_ones_skipped(tmp_path):
    tokenizer = with_files(
        tmp_path,
        tokenizer_config={
            "legacy": False,
            "pad_token": "<pad>",
            "added_tokens_decoder": {
                "513": {"content": "<mark>", "special": False, "rstrip": True, "lstrip": True},
            },
        },
        added_tokens={"<pad>": 512},
    )
    assert (tokenizer.pad_id, tokenizer.vocab_size) == (512, 514)
    ids = tokenizer.encode("a <mark> b<pad>")
    assert [i for i in ids if i > 511] == [513, 512]
    assert tokenizer.pieces(ids)[2:4] == ["<mark>", "b"]
    assert tokenizer.decode(ids) == "a <mark> b"
    spans = tokenizer.offsets(ids)
    assert spans[-1][1] == len("a <mark> b")


def test_clean_up_is_applied_when_the_file_asks_for_it(tmp_path):
    tokenizer = with_files(tmp_path, tokenizer_config={"clean_up_tokenization_spaces": True})
    ids = tokenizer.encode("Normal . No effusion")
    assert tokenizer.decode(ids) == "Normal. No effusion"
    assert tokenizer.offsets(ids)[-1][1] == len("Normal. No effusion")
    assert clean_spaces("is n't , it 's ? no !") == "isn't, it's? no!"


def test_ids_outside_the_vocabulary_decode_to_nothing():
    tokenizer = TOKENIZERS["A_tiny"]
    assert tokenizer.decode([9999, -1]) == ""
    assert tokenizer.offsets([9999]) == [(0, 0)]


def test_missing_model_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"no tokenizer\.model"):
        CxrTokenizer.from_directory(tmp_path)


def test_damaged_files(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(CheckpointError, match="not a sentencepiece model"):
        CxrTokenizer.from_directory(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json is not valid JSON"):
        CxrTokenizer.from_directory(tmp_path)


def test_special_tokens_of_another_tokenizer(tmp_path):
    with pytest.raises(CheckpointError, match=r"does not hold the special token '<\|end\|>'"):
        with_files(tmp_path, special_tokens_map={"eos_token": "<|end|>"})


@pytest.mark.parametrize("legacy", [True, False])
def test_no_text_ends_in_eos_whatever_the_settings_for_training_say(tmp_path, legacy):
    settings = {
        "legacy": legacy,
        "add_eos_token": True,
        "padding_side": "left",
        "truncation_side": "left",
        "model_max_length": 3,
        "chat_template": "{{ messages }}</s>",
    }
    plain = with_files(tmp_path, tokenizer_config={"legacy": legacy})
    training = with_files(tmp_path, tokenizer_config=settings)
    prompt = "<s>[INST] <image>\nIs there a nodule? [/INST]"
    assert training.encode_prompt(prompt) == plain.encode_prompt(prompt)
    assert training.encode_prompt(prompt)[-1] != training.eos_id
    assert training.encode("Nodule.", add_bos=False) == plain.encode("Nodule.", add_bos=False)
    training.save(tmp_path / "copy")
    written = json.loads((tmp_path / "copy" / "tokenizer_config.json").read_text())
    assert written["add_eos_token"] is True


def test_without_add_bos_the_prompt_still_begins_with_one(tmp_path):
    tokenizer = with_files(tmp_path, tokenizer_config={"add_bos_token": False})
    ids = tokenizer.encode_prompt("<s>[INST] <image>\nIs there a nodule? [/INST]")
    assert ids.count(tokenizer.bos_id) == 1
    assert ids[0] == tokenizer.bos_id


@pytest.mark.parametrize("text", ["caf\udce9", "\ud800", "a\udfffb", "\ud83d only"])
def test_half_a_character_is_an_error_in_any_text(text):
    for tokenizer in TOKENIZERS.values():
        for call in (tokenizer.encode, tokenizer.encode_prompt):
            with pytest.raises(InputError, match=r"character \d+ of the text is not a whole one"):
                call(text)
        assert tokenizer.encode("\U0001f642 é")


def added(tmp_path, *, embedded=512, **files):
    shutil.copy(GOLDEN / "checkpoints" / "A_tiny" / "tokenizer.model", tmp_path)
    for file, value in files.items():
        (tmp_path / f"{file}.json").write_text(json.dumps(value))
    return CxrTokenizer.from_directory(tmp_path, embedded=embedded)


BEYOND = [
    {"added_tokens": {"[PAD]": 512}, "tokenizer_config": {"pad_token": "[PAD]"}},
    {"tokenizer_config": {"pad_token": "[PAD]"}},
    {"special_tokens_map": {"pad_token": {"content": "[PAD]"}}},
    {"tokenizer_config": {"added_tokens_decoder": {"700": {"content": "[PAD]"}}}},
    {"special_tokens_map": {"additional_special_tokens": ["<a>", "[PAD]"]}},
]


@pytest.mark.parametrize("files", BEYOND)
def test_a_text_with_a_token_beyond_the_embedding_is_refused(tmp_path, files, caplog):
    tokenizer = added(tmp_path, **files)
    assert "added tokens are refused: " in caplog.text and "[PAD]" in caplog.text
    with pytest.raises(InputError, match=r"holds '\[PAD\]', a token that was added .*not embed"):
        tokenizer.encode("Is there [PAD] a nodule?")
    assert tokenizer.pad_id < 512
    assert max(tokenizer.encode("Is there a nodule?")) < 512
    assert added(tmp_path, embedded=701, **files).encode("[PAD]")


@pytest.mark.parametrize("name", ["bos", "eos", "unk"])
def test_a_token_of_every_prompt_beyond_the_embedding_is_refused(tmp_path, name):
    token = {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}[name]
    with pytest.raises(CheckpointError, match=f"special token '{token}' has the id 512"):
        added(tmp_path, added_tokens={token: 512}, special_tokens_map={f"{name}_token": token})


@pytest.mark.parametrize("index", [-1, -200, 2.5, "x", None, True])
def test_an_added_token_needs_an_id(tmp_path, index):
    with pytest.raises(CheckpointError, match="do not describe the tokens"):
        with_files(tmp_path, added_tokens={"[PAD]": index})


@pytest.mark.parametrize("name", ["legacy", "add_bos_token", "clean_up_tokenization_spaces"])
@pytest.mark.parametrize("value", ["false", 0, []])
def test_a_setting_that_could_mean_either_is_refused(tmp_path, name, value):
    with pytest.raises(CheckpointError, match=f"{name} must be true or false"):
        with_files(tmp_path, tokenizer_config={name: value})
