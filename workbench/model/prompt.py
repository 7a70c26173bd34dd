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

import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

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

    >>> wb.model.Message("user", "Is there a nodule?").role
    'user'
    """

    role: str
    content: str


@dataclass(frozen=True)
class Prompts:
    """The texts that a model is asked with.

    Attributes:
        name: "cxr-llava", or what the registry of prompts calls them.
        source: address and revision of where they stand, and when that was read.
        system: the system turn; None where there is none.
        report, differential: the user's turn behind the image. A free question is asked as it is.
        note: what differs from the source.

    >>> [turn.role for turn in model.prompts.question_messages("Is there a nodule?")]
    ['system', 'user']
    """

    name: str
    source: str
    system: str | None = SYSTEM_PROMPT
    report: str = REPORT_PROMPT
    differential: str = DIFFERENTIAL_PROMPT
    note: str = ""

    @property
    def version(self) -> str:
        """Name and hash of the texts, such as "cxr-llava/0a1b2c3d"."""
        texts = repr((self.system, self.report, self.differential)).encode()
        return f"{self.name}/{hashlib.sha256(texts).hexdigest()[:8]}"

    def report_messages(self) -> list[Message]:
        """Return the messages that ask for a report."""
        return self._about_image(self.report)

    def differential_messages(self) -> list[Message]:
        """Return the messages that ask for differential diagnoses."""
        return self._about_image(self.differential)

    def question_messages(self, text: str) -> list[Message]:
        """Return the messages that ask a free question about an image; the text is checked."""
        return self._about_image(check_user_text(text))

    def _about_image(self, text: str) -> list[Message]:
        system = [] if self.system is None else [Message("system", self.system)]
        return [*system, Message("user", f"{IMAGE_MARK}\n{text}")]

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each text: columns part, text, source."""
        import pandas as pd

        own = PUBLISHED_PROMPTS
        rows = [
            (part, getattr(self, part) or "(none)", given.source)
            for part in ("system", "report", "differential")
            for given in (own if getattr(self, part) == getattr(own, part) else self,)
        ]
        rows.append(("question", "(as it is asked)", ""))
        return pd.DataFrame(rows, columns=["part", "text", "source"])

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        head = html.escape(f"Prompts {self.version}. {self.note}".strip())
        return f"<p>{head}</p>{frame_table(self.to_frame())}"


#: What CXR-LLaVA was trained with, and what a model is asked that gives nothing else.
PUBLISHED_PROMPTS = Prompts("cxr-llava", "https://huggingface.co/ECOFRI/CXR-LLAVA-v2 at b222478")

report_messages = PUBLISHED_PROMPTS.report_messages
differential_messages = PUBLISHED_PROMPTS.differential_messages
question_messages = PUBLISHED_PROMPTS.question_messages


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

    >>> wb.model.render_chat([wb.model.Message("user", "Is there a nodule?")])
    '<s>[INST] Is there a nodule? [/INST]'
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
