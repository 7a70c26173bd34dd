"""What is asked of the model, and the Llama-2 chat template it is asked in.

The published tokenizer ships no template: transformers 4.36 filled in its Llama-2 default, later
versions do not, and a port that loses `[INST] <<SYS>>` gets worse answers without noticing. So the
template is here, has a version, and is compared with stored references.

Text from a user must not contain the template's own marks (`<image>`, `[INST]`, `<s>`, ...): to
drop them in silence would change the question. In text of the model itself that comes back as
history they are neutralised, since no user could repair it.

Source: Touvron et al., Llama 2, arXiv 2307.09288, appendix A.3.3 (the chat format).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from workbench.errors import InputError

#: Changes whenever `render_chat` gives another string for the same messages.
TEMPLATE_VERSION = "llama-2-chat/1"

#: What stands for the image in a message, and in a sequence of token ids.
IMAGE_MARK, IMAGE_TOKEN_ID = "<image>", -200

#: Label of token ids that carry no loss.
IGNORE_LABEL = -100

SYSTEM_PROMPT = (
    "You are a helpful radiologist. Try to interpret chest x ray image and answer to the question "
    "that user provides."
)
REPORT_PROMPT = (
    "Write a radiologic report on the given chest radiograph, including information about "
    "atelectasis, cardiomegaly, consolidation, pulmonary edema, pleural effusion, and "
    "pneumothorax.\n"
)
DIFFERENTIAL_PROMPT = "What are the possible differential diagnoses for this patient?\n"

#: How the template spells the first and the last token.
BOS, EOS = "<s>", "</s>"

#: Strings that mean something to the template or the tokenizer.
RESERVED = (IMAGE_MARK, "[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", BOS, EOS, "<unk>")
_RESERVED = re.compile("|".join(re.escape(mark) for mark in RESERVED))


@dataclass(frozen=True)
class Message:
    """One turn of a dialogue; its role is "system" (first only), "user" or "assistant".

    The content of the first user turn about an image starts with "<image>" and a newline.
    """

    role: str
    content: str


def report_messages() -> list[Message]:
    """Return the messages that ask for a report, as published."""
    return _about_image(REPORT_PROMPT)


def differential_messages() -> list[Message]:
    """Return the messages that ask for differential diagnoses, as published."""
    return _about_image(DIFFERENTIAL_PROMPT)


def question_messages(text: str) -> list[Message]:
    """Return the messages that ask a free question about an image; the text is checked."""
    return _about_image(check_user_text(text))


def follow_up(text: str) -> Message:
    """Return a later user turn of a dialogue, without an image; the text is checked."""
    return Message("user", check_user_text(text))


def answer(text: str) -> Message:
    """Return an assistant turn from text that the model wrote; reserved marks are neutralised."""
    return Message("assistant", neutralise(text))


def check_characters(text: str) -> str:
    """Return the text unchanged when it consists of whole characters; else `InputError`.

    A byte that is no UTF-8 comes from a terminal or a file name as half a character (a lone
    surrogate), which no tokenizer, file or page can take.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"character {error.start + 1} of the text is not a whole one (a byte that is not "
            "UTF-8); type it again, or set the terminal, or the file it came from, to UTF-8"
        ) from None
    return text


def check_user_text(text: str) -> str:
    """Return the text unchanged when it can stand in a user turn.

    Raises:
        InputError: not a string, empty, with half a character, or it holds a reserved mark.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"a question needs text, got {text!r}; write what you want to know")
    check_characters(text)
    found = _RESERVED.search(text)
    if found:
        raise InputError(
            f"the text holds {found[0]!r}, which is a mark of the chat template and not a word; "
            "write it another way, e.g. without the brackets"
        )
    return text


def neutralise(text: str) -> str:
    """Return the text with a space inside every reserved mark: "<s>" becomes "< s>"."""
    return _RESERVED.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def render_chat(messages: Sequence[Message]) -> str:
    """Render a dialogue in the Llama-2 chat format, ready for `CxrTokenizer.encode_prompt`.

    The content is taken as it is: "<image>" in it stands for an image. Text from outside belongs
    through `question_messages`, `follow_up` and `answer`, which look for reserved marks.

    Args:
        messages: an optional system turn, then user and assistant turns in alternation.

    Raises:
        InputError: no user turn, or turns that do not alternate.
    """
    turns = list(messages)
    system = turns.pop(0).content if turns and turns[0].role == "system" else None
    if not turns:
        raise InputError("a dialogue needs at least one user turn; start with question_messages")
    parts = []
    for index, turn in enumerate(turns):
        expected = "assistant" if index % 2 else "user"
        if turn.role != expected:
            raise InputError(
                f"turn {index + 1} of the dialogue must be of the {expected}, got {turn.role}; "
                "user and assistant alternate, and the user begins"
            )
        content = turn.content
        if index == 0 and system is not None:
            content = f"<<SYS>>\n{system}\n<</SYS>>\n\n{content}"
        if turn.role == "user":
            parts.append(f"{BOS}[INST] {content.strip()} [/INST]")
        else:
            parts.append(f" {content.strip()} {EOS}")
    return "".join(parts)


def _about_image(text: str) -> list[Message]:
    return [Message("system", SYSTEM_PROMPT), Message("user", f"{IMAGE_MARK}\n{text}")]
