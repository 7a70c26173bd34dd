"""The processor of any transformers image-text-to-text checkpoint, and its chat template.

A radiograph needs the tokenizer and the image processor. Several families also want a video
processor, which needs torchvision; here it is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from jinja2 import TemplateError
from transformers import AutoConfig, ProcessorMixin
from transformers.models.auto.processing_auto import (
    PROCESSOR_MAPPING,
    processor_class_from_name,
)

from workbench.errors import CheckpointError, InputError, MissingDependencyError
from workbench.model.prompt import IMAGE_MARK, Message
from workbench.model.weights import read_object

#: Files that may name a checkpoint's class of processors; the first that does counts.
_NAMED_IN = "processor_config.json", "preprocessor_config.json", "tokenizer_config.json"


def still(kind: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Return a class of processors without its video part; the class itself where it has none."""
    names = kind.get_attributes()
    if not any("video" in name for name in names):
        return kind

    class Attributes(ProcessorMixin):
        """Stands between the class and `ProcessorMixin`, and takes the video part out."""

        def __init__(self, *args: Any, **options: Any) -> None:
            given = dict(zip(names, args, strict=False)) | options
            super().__init__(**{name: part for name, part in given.items() if "video" not in name})

        @classmethod
        def from_args_and_dict(cls, args: Sequence[Any], *more: Any, **options: Any) -> Any:
            found = iter(args)
            every = [None if "video" in name else next(found) for name in names]
            return super().from_args_and_dict(every, *more, **options)

        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in names if "video" not in name]

    bases: Any = (kind, Attributes)
    return type(kind.__name__, bases, {})


def processor_class(directory: str | Path) -> type[ProcessorMixin]:
    """Return the class that a checkpoint names for its processor, else that of its family.

    Raises:
        KeyError: there is neither.
    """
    named = (read_object(Path(directory, file)).get("processor_class") for file in _NAMED_IN)
    found: Any = processor_class_from_name(str(next(filter(None, named), "")))
    if found:
        return found
    own: Any = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(directory, local_files_only=True))]
    return own


def load_processor(directory: str | Path) -> ProcessorMixin:
    """Return the processor of a local checkpoint: images and text, PIL only, no remote code.

    Raises:
        CheckpointError: the family has no processor in transformers, or its files do not fit.
        MissingDependencyError: the family's processor needs a package that is not installed.
    """
    name = read_object(Path(directory, "config.json")).get("model_type")
    try:
        kind: Any = still(processor_class(directory))
        return kind.from_pretrained(directory, local_files_only=True, backend="pil")
    except KeyError as error:
        raise CheckpointError(
            f"transformers has no processor for models of type {name!r}; expected an "
            "image-text-to-text checkpoint"
        ) from error
    except ImportError as error:
        raise MissingDependencyError(
            f"the processor of models of type {name!r} needs a package that is not here: "
            f"{shorten(str(error), 200)}"
        ) from error


def render(
    processor: ProcessorMixin, messages: Sequence[Message], answer: str | None = None
) -> str:
    """Return a dialogue in the checkpoint's own chat template; plain text where it has none.

    A template that knows no system turn gets its text in front of the first user turn. The prompt
    ends where an answer begins; with an `answer` it is there, and what ends it.

    Raises:
        InputError: the template does not take the dialogue.
    """
    if not _template(processor):
        text = "\n".join(part.content for part in messages if part.role == "user")
        mark = str(getattr(processor, "image_token", IMAGE_MARK))  # of some an AddedToken
        return text.replace(f"{IMAGE_MARK}\n", mark, 1).strip() + (answer or "")
    has_system = len(messages) > 1 and messages[0].role == "system"
    try:
        text = _rendered(processor, messages, answer)
        if not has_system or "".join(messages[0].content.split()) in "".join(text.split()):
            return text
    except TemplateError as error:
        if not has_system:
            raise InputError(f"the chat template takes no such dialogue: {error}") from error
    system, first, *rest = messages
    asked = first.content.removeprefix(f"{IMAGE_MARK}\n")
    image = first.content[: len(first.content) - len(asked)]
    together = Message("user", f"{image}{system.content}\n\n{asked}")
    return _rendered(processor, [together, *rest], answer)


def template_name(processor: ProcessorMixin) -> str:
    """Name the chat template: the checkpoint's own, by its hash."""
    text = str(_template(processor))
    return f"checkpoint/{hashlib.sha256(text.encode()).hexdigest()[:12]}" if text else "none"


def _template(processor: ProcessorMixin) -> object:
    return processor.chat_template or processor.tokenizer.chat_template or ""


def _rendered(processor: ProcessorMixin, messages: Sequence[Message], answer: str | None) -> str:
    turns = [{"role": one.role, "content": _parts(one.content)} for one in messages]
    if answer is not None:
        turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    ask = answer is None
    return str(processor.apply_chat_template(turns, add_generation_prompt=ask, tokenize=False))


def _parts(content: str) -> list[dict[str, str]]:
    """Return a message's content as chat templates take it; "<image>" is an image."""
    before, mark, behind = content.partition(IMAGE_MARK)
    parts = [{"type": "image"}] if mark else []
    text = (before + behind.removeprefix("\n")) if mark else content
    return [*parts, {"type": "text", "text": text}]
