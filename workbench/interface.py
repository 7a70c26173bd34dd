"""The facade: `load_model` and the model it returns, from a radiograph to text.

    model = load_model("mini")
    report = model.report("chest.dcm")
    print(report, report.logprobs, report.warnings)

Every method takes a Radiograph, anything `load_radiograph` reads, or an object whose `.image` is a
Radiograph (a phantom); decoding options are those of `DecodingOptions`, greedy when nothing is
given. Several threads may use one model: their decoding steps take turns.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any, Protocol, Unpack, cast

import torch
from jaxtyping import Float
from tqdm.auto import tqdm

from workbench.backends.cxr_llava import CxrLlavaReader
from workbench.backends.endpoint import EndpointWriter
from workbench.backends.families import boxes_in, find_boxes, find_prompts
from workbench.backends.levels import READER, needs
from workbench.backends.reader import Reader
from workbench.backends.vlm_reader import VlmReader, is_vlm, load_vlm
from workbench.errors import OptionError
from workbench.generation.chat import Chat
from workbench.generation.options import (
    DecodingOptions,
    DecodingSettings,
    decoding_settings,
    settings_of_each,
)
from workbench.generation.responder import Job
from workbench.generation.result import Generation
from workbench.generation.stream import TextStream
from workbench.imaging.load import as_radiograph
from workbench.model.costs import Asked
from workbench.model.load import load_checkpoint
from workbench.model.placement import Placement
from workbench.model.plan import Plan, make_plan
from workbench.model.prompt import Message, Prompts
from workbench.model.sizes import Shape, empty_model
from workbench.model.source import is_endpoint, names_of, resolve_source
from workbench.radiograph import InputWarning
from workbench.radiograph.contract import domain_warning
from workbench.reports.boxes import BoxConvention, WrittenBoxes, whole
from workbench.trace import Trace, record_trace


class Mitigation(Protocol):
    """What `report` can be asked to do against false findings."""

    def report(
        self, model: ChestXrayModel, image: object, **decoding: Unpack[DecodingOptions]
    ) -> Generation:
        """Write a report about an image with a model."""
        ...


def load_model(
    source: str | os.PathLike = "mini",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    quantize: str | None = None,
    revision: str | None = None,
    name: str | None = None,
    allow_remote: bool = False,
    prompts: str | Prompts | None = None,
) -> ChestXrayModel:
    """Load a model, or connect to one.

    Args:
        source: "mini" (shipped), a directory in the published layout or of any image-text-to-text
            model of transformers, a hub id such as "ECOFRI/CXR-LLAVA-v2", or the address of an
            OpenAI-compatible endpoint such as "http://127.0.0.1:8000/v1".
        device: "auto", "cpu", "mps", "cuda" or "cuda:N".
        dtype: "auto" (bfloat16 where the GPU has it, float16 on older ones; on a CPU float32, or
            bfloat16 where float32 does not fit, or where the processor multiplies bfloat16 in
            hardware and the model is not small: `.card.placement` says which and why), "float32",
            "float16" or "bfloat16".
        quantize: None, "8bit" or "4bit" (bitsandbytes; a GPU in practice), or "int8" (a CPU).
        revision: commit, tag or branch of a hub id; by default the pinned one.
        name: of the model that an endpoint serves.
        allow_remote: let images leave this machine for the host of an endpoint.
        prompts: name of an entry of `backends/prompts.yaml`, "cxr-llava", or texts of your own; by
            default what the model's card gives, where the registry knows it by its hub id, by the
            `_name_or_path` of config.json or by the base model of its README.md; see `.prompts`.

    Raises:
        CheckpointError: there is no such checkpoint, or it is incomplete or misshapen.
        DeviceError: device, dtype or quantisation are not available here.
        MissingDependencyError: an optional package is needed; the message names the command.
        OptionError: an option has a value that is not allowed.

    >>> wb.load_model("mini").card.domain
    'phantom'
    """
    if is_endpoint(source):
        model = EndpointModel(str(source), _named(name), allow_remote=allow_remote)
        model.prompts = find_prompts(prompts, _named(name))
        model.box_convention = find_boxes(None, _named(name))
        return model
    if name is not None or allow_remote:
        raise OptionError("name and allow_remote belong to the address of an endpoint")
    found = resolve_source(source, revision=revision)
    asked = find_prompts(prompts, *names_of(found))
    options = {"device": device, "dtype": dtype, "quantize": quantize}
    if is_vlm(found.directory):
        model = TransformersModel(*load_vlm(found, **options))
    else:
        model = CxrLlavaModel(load_checkpoint(source, revision=revision, **options))
    model.prompts = asked
    family = getattr(model.network.config, "model_type", "")
    model.box_convention = find_boxes(None, *names_of(found), family=family)
    return model


class ChestXrayModel(Reader):
    """A model that writes about chest radiographs.

    Methods raise InputError where the image cannot be read, OptionError for a decoding option that
    is unknown or out of its range, and ContextBudgetError where more new tokens were asked for than
    the context has room for.

    Analyses reach its inside through what a `workbench.backends.Reader` offers: `network`,
    `tokenizer`, `identity`, `force` and others.
    """

    @property
    def image_size(self) -> int:
        """Side of the square that the model sees, pixels."""
        return self.card.image_size

    @property
    def notice(self) -> str:
        """One line that every surface shows."""
        return self.card.notice

    def report(
        self,
        image: object,
        *,
        mitigation: Mitigation | None = None,
        **decoding: Unpack[DecodingOptions],
    ) -> Generation:
        """Write a radiologic report with the model's prompt.

        Args:
            image: a Radiograph, anything `load_radiograph` reads, or a phantom.
            mitigation: keeps false findings out, such as `workbench.hallucination.Revise()`; the
                Generation then also says what was changed.
            **decoding: see `DecodingOptions`; greedy when nothing is given.

        Raises:
            InputError: the image cannot be read.
            OptionError: a decoding option is unknown or out of its range.
            ContextBudgetError: more new tokens were asked for than the context has room for.

        >>> wb.reports.label(model.report(image).text).code("pleural effusion")
        'present'
        """
        if mitigation is not None:
            return mitigation.report(self, image, **decoding)
        return self._answer(image, self.prompts.report_messages(), "report", decoding)

    def differential(self, image: object, **decoding: Unpack[DecodingOptions]) -> Generation:
        """Write possible differential diagnoses with the model's prompt."""
        return self._answer(image, self.prompts.differential_messages(), "differential", decoding)

    def ask(self, image: object, question: str, **decoding: Unpack[DecodingOptions]) -> Generation:
        """Answer one question about an image.

        Raises:
            InputError: the question is empty or holds a mark of the chat template.
        """
        return self._answer(image, self.prompts.question_messages(question), "question", decoding)

    def ask_many(
        self,
        image: object,
        questions: Sequence[str],
        *,
        batch_size: int = 8,
        **decoding: Unpack[DecodingOptions],
    ) -> list[Generation]:
        """Answer several independent questions about one image, which is encoded once.

        Greedy answers equal those of `ask`.
        """
        if isinstance(questions, str):
            raise OptionError(
                f"questions must be a list of texts, got one text; use [{questions!r}]"
            )
        each = zip(questions, settings_of_each(decoding, len(questions)), strict=True)
        asked = [
            ("question", self.prompts.question_messages(one), settings) for one, settings in each
        ]
        return list(self.answer_many(self.jobs(image, asked), batch_size=batch_size))

    def chat(self, image: object, **defaults: Unpack[DecodingOptions]) -> Chat:
        """Start a dialogue about one image; `say` may change the decoding options of a turn."""
        pixels, told = self._look(image)
        decoding_settings(defaults)
        return Chat(
            self, pixels, lambda **options: decoding_settings({**defaults, **options}), **told
        )

    def stream_report(self, image: object, **decoding: Unpack[DecodingOptions]) -> TextStream:
        """Write a report piece by piece.

        The pieces join exactly to the text of the stream's `.generation`, which is there when the
        stream is through or closed.
        """
        return self.stream(self._asked(image, self.prompts.report_messages(), "report", decoding))

    def stream_ask(
        self, image: object, question: str, **decoding: Unpack[DecodingOptions]
    ) -> TextStream:
        """Answer one question piece by piece; see `stream_report`."""
        messages = self.prompts.question_messages(question)
        return self.stream(self._asked(image, messages, "question", decoding))

    def report_many(
        self,
        images: Iterable[Any],
        *,
        batch_size: int = 8,
        progress: bool = False,
        **decoding: Unpack[DecodingOptions],
    ) -> list[Generation]:
        """Write reports for many images of any size.

        Images, also those of a generator, are read a few batches ahead at most, so memory does not
        grow with their number. Greedy reports, and those with a seed, equal those of `report`;
        `seed` may also be a list, one for each image.

        Args:
            batch_size: images that are decoded together.
            progress: show a progress bar.
        """
        total = len(images) if isinstance(images, Sized) else None
        each = settings_of_each(decoding, total)
        jobs = (
            self._asked(image, self.prompts.report_messages(), "report", {"settings": settings})
            for image, settings in zip(images, each, strict=False)
        )
        answers = self.answer_many(jobs, batch_size=batch_size)
        return list(tqdm(answers, total=total, unit="report", disable=not progress))

    def jobs(
        self, image: object, asked: Iterable[tuple[str, list[Message], DecodingSettings]]
    ) -> list[Job]:
        """Prepare several answers about one image, which is read once; nothing is decoded.

        Args:
            asked: task name, messages and settings of each answer.

        Returns:
            Jobs for `answer_batch`, in the order of `asked`.
        """
        pixels, told = self._look(image)
        return [
            self.job(pixels, text, settings, task=task, **told) for task, text, settings in asked
        ]

    def boxes(
        self,
        image: object,
        answer: Generation | str,
        *,
        convention: str | BoxConvention | None = None,
        processed: tuple[int, int] | None = None,
    ) -> WrittenBoxes:
        """Read the boxes that the model wrote about an image, in original pixels.

        Args:
            image: what the answer is about.
            answer: a Generation of this model, or its text.
            convention: how boxes are written: a name of `backends/boxes.yaml` or a
                `workbench.reports.BoxConvention`; `.box_convention` when None, and where that is
                not known, that of tokens which only one model writes.
            processed: (rows, columns) of the picture that the server of an endpoint makes of the
                whole image.

        Raises:
            OptionError: the text holds boxes, and how they are meant, or the size of the picture
                that they count in, is not known; the message lists what is possible.
        """
        radiograph = as_radiograph(image)
        known = find_boxes(convention) or self.box_convention
        made = self.processed(radiograph) if processed is None else whole(radiograph, processed)
        return boxes_in(str(answer), radiograph, known, made, name=self.identity.id)

    @needs(READER)
    def encode(self, image: object) -> Float[torch.Tensor, "N D"]:
        """Return an image as the rows that stand for it in the decoder's sequence."""
        with self.exclusive(), torch.inference_mode():
            return self.image_rows(self.pixels(image))

    def pixels(self, image: object) -> Float[torch.Tensor, "1 1 H W"]:
        """Return the pixels of an image as `Reader` takes them."""
        return self.processor(as_radiograph(image))[None]

    @needs(READER)
    def trace(
        self,
        image: object,
        generation: Generation | None = None,
        *,
        heads: str = "auto",
        layers: Sequence[int] | None = None,
        vision: str = "auto",
    ) -> Trace:
        """Record one run once, so that every analysis can start from it.

        Args:
            generation: what this model wrote about the image; a new report when None.
            heads: "each" keeps every head of the language model, "mean" their mean, "auto" every
                head while that stays below 256 MiB.
            layers: language layers to keep, negative ones counted from the last; None keeps all.
            vision: as `heads` for the vision tower, or "none".

        Raises:
            InputError: the generation was written by another model or about another image.
            OptionError: heads, layers or vision are not allowed.
        """
        radiograph = as_radiograph(image)
        generation = self.report(radiograph) if generation is None else generation
        return record_trace(
            self,
            radiograph,
            self.pixels(radiograph),
            generation,
            heads=heads,
            layers=layers,
            vision=vision,
        )

    @needs(READER)
    def plan(
        self,
        tasks: str | Sequence[str] | None = None,
        *,
        batch_size: int = 8,
        new_tokens: int = 128,
    ) -> Plan:
        """Predict memory and time of tasks on this machine; see `workbench.plan`."""
        shape = Shape.of(empty_model(self.network.config), self.card.image_tokens)
        placed = Placement(**cast(Any, self.origin[1]))
        asked = Asked.of(batch_size, new_tokens)
        return make_plan(shape, placed, name=self.card.name, tasks=tasks, asked=asked)

    def __repr__(self) -> str:
        identity = self.identity
        return f"<ChestXrayModel {identity.id!r}, {identity.dtype} on {identity.device}>"

    def _repr_html_(self) -> str:
        return self.card._repr_html_()

    def _answer(
        self, image: object, messages: list[Message], task: str, decoding: Mapping
    ) -> Generation:
        return self.answer(self._asked(image, messages, task, decoding))

    def _asked(self, image: object, messages: list[Message], task: str, decoding: Mapping) -> Job:
        settings = decoding_settings(decoding)
        pixels, told = self._look(image)
        return self.job(pixels, messages, settings, task=task, **told)

    def _look(self, image: object) -> tuple[torch.Tensor, dict[str, Any]]:
        """Read an image where that is needed; return its pixels, and what is told of them."""
        radiograph = as_radiograph(image)
        contract = self.contract(radiograph)
        foreign = domain_warning(contract, self.card.domain)
        others = tuple(w for w in contract.warnings if foreign is None or w.code != foreign.code)
        first = (InputWarning("notice", self.notice), *((foreign,) if foreign else ()))
        told = {"source": contract.source, "warnings": (*first, *others)}
        return self.pixels(radiograph), told


def _named(name: str | None) -> str:
    if not name:
        raise OptionError('an endpoint needs the name of the model that it serves: name="..."')
    return name


class EndpointModel(EndpointWriter, ChestXrayModel):
    """A model behind an OpenAI-compatible endpoint."""


class CxrLlavaModel(CxrLlavaReader, ChestXrayModel):
    """A CXR-LLaVA checkpoint, `mini` included."""


class TransformersModel(VlmReader, ChestXrayModel):
    """A checkpoint of any other family of transformers."""
