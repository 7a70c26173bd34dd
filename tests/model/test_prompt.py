"""Prompts equal the stored references; reserved marks are refused or neutralised on purpose."""

import pytest

from workbench.errors import InputError
from workbench.model import prompt
from workbench.model.prompt import Message, render_chat


def test_rendered_prompts_equal_the_references(cases):
    for case in cases.values():
        assert render_chat([Message(**turn) for turn in case["chat"]]) == case["prompt"]


def test_built_in_report_and_question_equal_the_references(cases):
    assert render_chat(prompt.report_messages()) == cases["report"]["prompt"]
    text = cases["q2"]["chat"][1]["content"].removeprefix("<image>\n")
    assert render_chat(prompt.question_messages(text)) == cases["q2"]["prompt"]


def test_the_differential_is_worded_as_published():
    assert render_chat(prompt.differential_messages()).endswith(
        "<image>\nWhat are the possible differential diagnoses for this patient? [/INST]"
    )


def test_turns_of_a_dialogue():
    dialogue = [
        *prompt.question_messages("  one?"),
        prompt.answer(" two. "),
        prompt.follow_up("three?\n"),
    ]
    assert render_chat(dialogue) == (
        f"<s>[INST] <<SYS>>\n{prompt.SYSTEM_PROMPT}\n<</SYS>>\n\n<image>\n  one? [/INST]"
        " two. </s><s>[INST] three? [/INST]"
    )


def test_without_a_system_turn_there_is_no_system_block():
    assert render_chat([Message("user", "hello")]) == "<s>[INST] hello [/INST]"


def test_a_dialogue_extends_its_beginning():
    first = prompt.question_messages("one?")
    longer = [*first, prompt.answer("two."), prompt.follow_up("three?")]
    assert render_chat(longer).startswith(render_chat(first))


@pytest.mark.parametrize("mark", prompt.RESERVED)
def test_reserved_marks_in_user_text_are_named_in_the_error(mark):
    with pytest.raises(InputError, match="mark of the chat template") as caught:
        prompt.question_messages(f"what about {mark} here?")
    assert repr(mark) in str(caught.value)
    with pytest.raises(InputError, match="mark of the chat template"):
        prompt.follow_up(mark)


@pytest.mark.parametrize("mark", prompt.RESERVED)
def test_reserved_marks_in_the_models_own_text_become_plain_text(mark):
    content = prompt.answer(f"see {mark}{mark}").content
    assert not any(reserved in content for reserved in prompt.RESERVED)
    assert content.replace(" ", "") == f"see{mark}{mark}"


def test_ordinary_text_is_not_touched():
    text = "Is FEV1 < 50 %? [see report] <b>"
    assert prompt.neutralise(text) == text
    assert prompt.check_user_text(text) == text


@pytest.mark.parametrize("text", ["", " \n", None, 3])
def test_a_question_needs_text(text):
    with pytest.raises(InputError, match="needs text"):
        prompt.question_messages(text)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ([], "at least one user turn"),
        (["system"], "at least one user turn"),
        (["assistant"], "turn 1 .* of the user, got assistant"),
        (["doctor"], "turn 1 .* of the user, got doctor"),
        (["system", "user", "user"], "turn 2 .* of the assistant, got user"),
        (["user", "system"], "turn 2 .* of the assistant, got system"),
    ],
)
def test_turns_alternate(roles, message):
    with pytest.raises(InputError, match=message):
        render_chat([Message(role, "x") for role in roles])
