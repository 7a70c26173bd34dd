"""Dialogues: every turn equals a fresh prompt with the same history, and failures undo nothing."""

import itertools
import threading

import numpy as np
import pytest

from workbench.errors import ContextBudgetError, InputError, OptionError
from workbench.generation.chat import Chat
from workbench.generation.options import decoding_settings
from workbench.generation.responder import Responder, parts_of
from workbench.model.prompt import SYSTEM_PROMPT, render_chat
from workbench.radiograph import InputWarning

QUESTIONS = (
    "Is there a pneumothorax?",
    "  And an effusion?\n",
    "Why?",
    "Where is the tube (in cm)?",
)


def start(responder, pixels, **defaults) -> Chat:
    defaults = {"max_new_tokens": 20, **defaults}
    return Chat(
        responder,
        pixels,
        lambda **options: decoding_settings({**defaults, **options}),
        source="test",
    )


def recompute(lab, name, chat, **options):
    """The last answer from a fresh engine that is given the whole history at once."""
    responder = Responder(*parts_of(lab.load(name)))
    settings = decoding_settings({"max_new_tokens": 20, **options})
    pixels = lab.recorded(name).pixels
    return responder.answer(
        responder.job(pixels, chat.messages[:-1], settings, task="chat", source="test")
    )


@pytest.mark.parametrize(
    "options", [{}, {"temperature": 1.0, "seed": 3}], ids=["greedy", "sampled"]
)
def test_every_turn_equals_recomputation(lab, name, responder, options):
    chat = start(responder, lab.recorded(name).pixels)
    for question in QUESTIONS:
        said = chat.say(question, **options)
        wanted = recompute(lab, name, chat, **options)
        assert said.token_ids == wanted.token_ids
        assert said.prompt == wanted.prompt
        assert said.prompt_ids == wanted.prompt_ids
        np.testing.assert_allclose(said.logprobs, wanted.logprobs, atol=1e-4)


def test_first_turn_is_the_recorded_one(lab, name, responder):
    case = lab.recorded(name).cases["q1"]
    chat = start(responder, lab.recorded(name).pixels, max_new_tokens=48)
    said = chat.say("Is there a pneumothorax?")
    assert said.prompt == case["prompt"]
    assert list(said.prompt_ids) == case["input_ids"]
    assert list(said.token_ids) == case["fp32"]["gen_ids"]
    assert said.text == case["fp32"]["text"]


def test_dialogue_is_rendered_as_the_published_template_does(lab, name, responder):
    chat = start(responder, lab.recorded(name).pixels)
    first = chat.say("  Is there an effusion? ")
    second = chat.say("Which side?\n")
    wanted = (
        f"<s>[INST] <<SYS>>\n{SYSTEM_PROMPT}\n<</SYS>>\n\n<image>\n  Is there an effusion? [/INST]"
        f" {first.text.strip()} </s><s>[INST] Which side? [/INST]"
    )
    assert second.prompt == wanted
    assert wanted == render_chat(chat.messages[:-1])
    tokenizer = lab.load(name).tokenizer
    before, after = wanted.split("<image>")
    ids = [*tokenizer.encode(before), -200, *tokenizer.encode(after)[1:]]
    assert list(second.prompt_ids) == ids
    assert ids[:2] == [1, 1]
    assert [turn.question for turn in chat.history] == ["  Is there an effusion? ", "Which side?\n"]
    assert [turn.answer for turn in chat.history] == [first, second]


def test_past_is_reused_and_the_image_encoded_once(lab, name, responder, monkeypatch):
    encoded, fed = [], []
    model = responder.engine.model
    encode, forward = model.encode_image, model.llama.forward
    monkeypatch.setattr(model, "encode_image", lambda p: encoded.append(1) or encode(p))

    def counted(*args, **kwargs):
        ids = kwargs.get("input_ids")
        fed.append(0 if ids is None else ids.shape[1])
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.llama, "forward", counted)
    chat = start(responder, lab.recorded(name).pixels)
    behind = []
    for question in QUESTIONS[:3]:
        fed.clear()
        said = chat.say(question)
        tail = len(said.prompt_ids) - said.prompt_ids.index(-200) - 1
        prompt = next(count for count in fed if count)
        assert prompt == tail - chat.reused
        behind.append((chat.reused, tail))
    assert len(encoded) == 1
    assert behind[0][0] == 0
    for (_, previous), (reused, _) in itertools.pairwise(behind):
        assert reused >= previous, "at least the previous prompt is kept"


def test_answer_that_tokenises_as_generated_is_not_computed_again(lab, name, responder):
    """With an answer made of ids that its own text gives back, only the new turn is computed."""
    chat = start(responder, lab.recorded(name).pixels)
    tokenizer = lab.load(name).tokenizer
    engine = responder.engine
    wanted = tokenizer.encode("The lungs are clear.", add_bos=False)
    original = engine.run

    def scripted(decoding, samplers):
        for step, token in zip(original(decoding, samplers), [*wanted, 2], strict=False):
            stop = "eos" if token == 2 else None
            object.__setattr__(step, "tokens", (token,))
            object.__setattr__(step, "stopped", (stop,))
            yield step

    engine.run = scripted
    first = chat.say("Is there an effusion?")
    assert first.text == "The lungs are clear."
    engine.run = original
    second = chat.say("Why?")
    tail = first.prompt_ids[first.prompt_ids.index(-200) + 1 :]
    assert chat.reused == len(tail) + len(wanted)
    assert second.token_ids == recompute(lab, name, chat).token_ids


def test_failed_turn_leaves_the_dialogue_as_it_was(lab, name, responder, monkeypatch):
    chat = start(responder, lab.recorded(name).pixels)
    chat.say(QUESTIONS[0])
    before = (chat.messages, chat.history)
    with pytest.raises(InputError, match="needs text"):
        chat.say("   ")
    with pytest.raises(OptionError, match="unknown decoding option"):
        chat.say("Why?", beam=3)
    with pytest.raises(ContextBudgetError, match="too many; ask for max_new_tokens="):
        chat.say("Why?", max_new_tokens=5000)
    layer = responder.engine.model.llama.layers[-1]
    forward, calls = layer.forward, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return forward(*args, **kwargs)

    monkeypatch.setattr(layer, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        chat.say("Why?")
    monkeypatch.undo()
    assert (chat.messages, chat.history) == before
    said = chat.say(QUESTIONS[1])
    assert said.token_ids == recompute(lab, name, chat).token_ids


def test_too_long_a_dialogue_says_by_how_much(lab, name, responder):
    chat = start(responder, lab.recorded(name).pixels, max_new_tokens=None)
    with pytest.raises(ContextBudgetError, match=r"\d+ too many; .* \d+ tokens shorter"):
        chat.say("pneumothorax? " * 1500)
    assert chat.history == ()


def test_two_threads_take_turns(lab, name, responder):
    chat = start(responder, lab.recorded(name).pixels)
    threads = [threading.Thread(target=chat.say, args=(q,)) for q in QUESTIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turn.question for turn in chat.history) == sorted(QUESTIONS)
    assert chat.history[-1].answer.token_ids == recompute(lab, name, chat).token_ids


def test_chat_shows_and_stores_its_turns(lab, name, responder):
    chat = start(responder, lab.recorded(name).pixels)
    said = chat.say("Is 1 < 2?")
    chat.say("Why?")
    assert "Is 1 &lt; 2?" in chat._repr_html_()
    assert repr(chat) == "<Chat about 'test', 2 turns>"
    stored = chat.to_dict()
    assert stored["turns"][0]["question"] == "Is 1 < 2?"
    assert stored["turns"][0]["answer"]["text"] == said.text


def test_page_says_the_notice_at_every_turn_and_the_rest_once(lab, name, responder):
    warnings = (InputWarning("notice", "for research"), InputWarning("crop-loss", "25 percent"))
    chat = Chat(
        responder,
        lab.recorded(name).pixels,
        lambda **_: decoding_settings({"max_new_tokens": 2}),
        source="test",
        warnings=warnings,
    )
    for question in QUESTIONS[:3]:
        said = chat.say(question).warnings  # two tokens need not be a word
        assert said[:2] == warnings and {each.code for each in said[2:]} <= {"no-words"}
    page = chat._repr_html_()
    assert page.count("for research") == 3
    assert page.count("25 percent") == 1
