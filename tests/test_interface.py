"""The facade on the reference checkpoints: what users call, and what they get told."""

import json
import logging
import threading
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.errors import CheckpointError, ContextBudgetError, InputError, OptionError
from workbench.generation.options import DecodingSettings
from workbench.generation.result import Generation
from workbench.imaging.load import as_radiograph
from workbench.interface import ChestXrayModel, CxrLlavaModel, load_model
from workbench.model.load import load_checkpoint
from workbench.radiograph import InputContract, Radiograph

GOLDEN = Path(__file__).resolve().parent / "golden"
FILM = GOLDEN / "images" / "grad_300x400.png"
OTHER = GOLDEN / "images" / "noise_64x64.png"
SHORT = {"max_new_tokens": 12}


@cache
def checkpoint():
    return load_checkpoint(GOLDEN / "checkpoints" / "A_tiny", device="cpu")


@pytest.fixture
def model() -> ChestXrayModel:
    return CxrLlavaModel(checkpoint())


@pytest.fixture
def encoded(model, monkeypatch) -> list[int]:
    """Images encoded, call by call."""
    calls: list[int] = []
    original = model.loaded.model.encode_image
    monkeypatch.setattr(
        model.loaded.model, "encode_image", lambda p: calls.append(len(p)) or original(p)
    )
    return calls


def drawn(seed: int, size: int = 64) -> Radiograph:
    pixels = np.random.default_rng(seed).random((size, size + 7 * seed), dtype=np.float32)
    return Radiograph(pixels, InputContract(source=f"drawn {seed}", domain="phantom"))


class Case:
    """Something with an image, as a phantom has one."""

    image = drawn(1)


def test_load_model_takes_a_directory():
    model = load_model(GOLDEN / "checkpoints" / "B_gqa_odd", device="cpu", dtype="float32")
    assert repr(model) == "<ChestXrayModel 'B_gqa_odd', float32 on cpu>"
    assert model.card.name == "B_gqa_odd"
    assert model.notice == model.card.notice
    assert wb.load_model is load_model


def test_load_model_says_what_is_wrong(tmp_path):
    with pytest.raises(CheckpointError):
        load_model(tmp_path)


def test_report_is_the_recorded_one(model):
    stored = json.loads((GOLDEN / "golden/A_tiny/grad_300x400/cases.json").read_text())["report"]
    report = model.report(FILM, max_new_tokens=48)
    assert report.text == stored["fp32"]["text"]
    assert report.prompt == stored["prompt"]
    assert list(report.token_ids) == stored["fp32"]["gen_ids"]
    assert (report.task, report.source) == ("report", FILM.name)


def test_greedy_and_512_tokens_are_the_default(model):
    report = model.report(FILM)
    assert report.settings.greedy
    assert report.settings.max_new_tokens == 512
    assert report.seed is None
    assert report.token_ids == model.report(FILM, temperature=0.0).token_ids


def test_every_kind_of_image_is_accepted(model):
    radiograph = wb.load_radiograph(FILM)
    wanted = model.report(radiograph, **SHORT).token_ids
    assert model.report(str(FILM), **SHORT).token_ids == wanted
    assert model.report(FILM, **SHORT).token_ids == wanted
    case = Case()
    assert model.report(case, **SHORT).token_ids == model.report(case.image, **SHORT).token_ids
    assert as_radiograph(case) is case.image
    with pytest.raises(InputError):
        model.report("nowhere.png")


def test_answers_say_what_they_are(model):
    answer = model.ask(FILM, "Is there an effusion?", **SHORT)
    assert (answer.task, model.differential(FILM, **SHORT).task) == ("question", "differential")
    assert "Is there an effusion?" in answer.prompt
    assert answer.model.id == "A_tiny"
    assert answer.model.sha256 == next(iter(model.card.sha256s.values()))
    assert len(answer.token_ids) == len(answer.logprobs) == len(answer.offsets) <= 12
    assert answer.seconds > 0


def test_warnings_start_with_the_notice_and_name_a_foreign_domain(model):
    film = model.report(FILM, **SHORT)
    assert film.warnings[0].code == "notice"
    assert film.warnings[0].message == model.notice
    codes = [warning.code for warning in film.warnings]
    assert "crop-loss" in codes, "the contract's own warnings come along"
    assert "out-of-domain" not in codes
    foreign = [warning.code for warning in model.report(drawn(1), **SHORT).warnings]
    assert foreign.count("out-of-domain") == 1


def test_domain_warning_is_not_said_twice(model):
    from workbench.radiograph.contract import domain_warning

    image = drawn(1)
    said = domain_warning(image.contract, model.card.domain)
    contract = replace(image.contract, warnings=(*image.contract.warnings, said))
    warned = Radiograph(image.pixels, contract)
    codes = [warning.code for warning in model.report(warned, **SHORT).warnings]
    assert codes.count("out-of-domain") == 1


def test_notice_is_logged_once_in_a_process(caplog, monkeypatch):
    monkeypatch.setattr("workbench.model.licence._said", set())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            load_model(GOLDEN / "checkpoints" / "A_tiny", device="cpu")
    said = [record for record in caplog.records if "not for clinical use" in record.message]
    assert len(said) == 1


def test_all_tasks_share_one_encoding_of_the_image(model, encoded):
    model.report(FILM, **SHORT)
    model.differential(FILM, **SHORT)
    model.ask(FILM, "Why?", **SHORT)
    model.ask_many(FILM, ["Is it?", "Is there a very small effusion?", "Why?"], **SHORT)
    list(model.stream_report(FILM, **SHORT))
    chat = model.chat(FILM, **SHORT)
    chat.say("Is there an effusion?")
    chat.say("Which side?")
    assert encoded == [1]


def test_fit_changes_what_the_model_sees(model, encoded):
    image = wb.load_radiograph(FILM)
    model.report(image, **SHORT)
    model.report(image.with_fit("pad"), **SHORT)
    assert encoded == [1, 1]


def test_seed_repeats_a_sampled_text(model):
    options = {"temperature": 1.0, "top_p": 0.95, **SHORT}
    first = model.report(FILM, seed=5, **options)
    assert model.report(FILM, seed=5, **options).token_ids == first.token_ids
    assert model.report(FILM, seed=6, **options).token_ids != first.token_ids
    free = model.report(FILM, **options)
    assert model.report(FILM, seed=free.seed, **options).token_ids == free.token_ids


def test_report_many_equals_report_in_order(model):
    images = [drawn(seed) for seed in (3, 1, 2, 5, 4)] + [FILM, OTHER]
    together = model.report_many(images, batch_size=3, **SHORT)
    assert [g.source for g in together] == [as_radiograph(i).contract.source for i in images]
    for image, generation in zip(images, together, strict=True):
        assert generation.token_ids == model.report(image, **SHORT).token_ids


def test_report_many_with_seeds_equals_report_with_them(model):
    images, options = [FILM, OTHER, drawn(1)], {"temperature": 1.0, **SHORT}
    same = model.report_many(images, seed=4, **options)
    each = model.report_many(images, seed=[4, 5, 6], **options)
    for index, image in enumerate(images):
        alone = model.report(image, seed=4, **options)
        assert same[index].token_ids == alone.token_ids
        other = model.report(image, seed=4 + index, **options)
        assert each[index].token_ids == other.token_ids
        assert each[index].seed == 4 + index


def test_report_many_reads_images_only_as_they_are_needed(model, encoded):
    alive = []

    def images():
        for seed in range(40):
            alive.append(seed - sum(encoded))
            yield drawn(seed % 5)

    reports = model.report_many(images(), batch_size=2, max_new_tokens=1)
    assert len(reports) == 40
    assert max(alive) <= 8, "at most four batches ahead"
    assert max(encoded) <= 2


def test_report_many_of_nothing_is_nothing(model):
    assert model.report_many([]) == []


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_batch_size_must_be_positive(model, size):
    with pytest.raises(OptionError, match="batch_size must be a whole number"):
        model.report_many([FILM], batch_size=size)


def test_ask_many_equals_ask_in_order(model):
    questions = ["Where is the tip of the tube (in cm)?", "Why?", "Is there a pneumothorax?"]
    together = model.ask_many(FILM, questions, batch_size=2, **SHORT)
    for question, answer in zip(questions, together, strict=True):
        assert question in answer.prompt
        assert answer.token_ids == model.ask(FILM, question, **SHORT).token_ids


def test_ask_many_wants_a_list(model):
    with pytest.raises(OptionError, match="questions must be a list of texts"):
        model.ask_many(FILM, "Is there an effusion?")


def test_stream_report_joins_to_the_report(model):
    stream = model.stream_report(FILM, **SHORT)
    assert "".join(stream) == model.report(FILM, **SHORT).text == stream.generation.text
    assert isinstance(stream.generation, Generation)
    question = model.stream_ask(FILM, "Why?", **SHORT)
    assert "".join(question) == model.ask(FILM, "Why?", **SHORT).text


def test_chat_takes_defaults_and_options(model):
    chat = model.chat(FILM, max_new_tokens=5)
    assert len(chat.say("Is there an effusion?").token_ids) <= 5
    said = chat.say("Why?", temperature=0.9, seed=3, max_new_tokens=2)
    assert (said.settings.temperature, said.seed, said.settings.max_new_tokens) == (0.9, 3, 2)
    assert len(chat.history) == 2
    assert chat.history[1].answer is said


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"temp": 1.0}, OptionError, "unknown decoding option 'temp'"),
        ({"top_p": 3}, OptionError, "top_p must be above 0 and at most 1"),
        ({"max_new_tokens": 5000}, ContextBudgetError, "the model's context is 2048"),
        ({"settings": DecodingSettings(), "seed": 2}, OptionError, "either settings or single"),
    ],
)
def test_bad_options_are_refused_everywhere(model, encoded, options, error, message):
    calls = (
        lambda: model.report(FILM, **options),
        lambda: model.ask(FILM, "Why?", **options),
        lambda: model.ask_many(FILM, ["Why?"], **options),
        lambda: model.report_many([FILM], **options),
        lambda: model.stream_report(FILM, **options),
        lambda: model.chat(FILM).say("Why?", **options),
    )
    for call in calls:
        with pytest.raises(error, match=message):
            call()
    assert encoded == []


@pytest.mark.parametrize("question", ["", "  ", "What is <image>?", "</s> and then", None])
def test_questions_that_would_break_the_template_are_refused(model, question):
    with pytest.raises(InputError):
        model.ask(FILM, question)


def test_threads_may_share_a_model(model):
    images = [drawn(seed) for seed in range(6)]
    wanted = [model.report(image, **SHORT).token_ids for image in images]
    found: list = [None] * len(images)

    def work(index):
        found[index] = model.report(images[index], **SHORT).token_ids

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == wanted


def test_progress_is_shown_when_asked_for(model, capsys):
    model.report_many([FILM], progress=True, max_new_tokens=1)
    assert "1/1" in capsys.readouterr().err
    model.report_many([FILM], max_new_tokens=1)
    assert capsys.readouterr().err == ""


def test_real_phantom_is_accepted(model):
    case = wb.phantom(seed=7, size=64)
    report = model.report(case, **SHORT)
    assert report.source == case.image.contract.source


def test_model_shows_its_card(model):
    assert model.notice in model._repr_html_()
