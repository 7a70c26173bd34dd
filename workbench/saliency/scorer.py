"""The one number that a saliency map explains, and what computes it for any pixels.

A target is the teacher-forced log-probability of a part of the generated text, given the image and
all text before that part; or the contrast between that part and other words in its place, e.g.
"left pleural effusion" against "no pleural effusion", which takes away what both share.

A phrase deep in a sentence is often certain once the sentence has begun, and a probability of 1 has
no gradient. The target of a *finding* is therefore the whole sentence that states it against the
plain sentence that says the opposite.

`Scorer` is a target as a differentiable function of pixels, which every method calls. It reads
prompt, image, question and the text before the phrase, then the phrase; a contrast is read beside
it with the same positions and a mask between the two, so one forward pass serves both.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import Unpack, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import nn
from transformers import PreTrainedModel

from workbench.backends.attending import checkpointed
from workbench.backends.levels import READER, needs
from workbench.backends.placing import View
from workbench.backends.reader import Reader, Writer
from workbench.errors import DeviceError, InputError
from workbench.findings import ABSENT, NO_FINDING
from workbench.interface import ChestXrayModel
from workbench.model.placement import SMALL, device_of
from workbench.radiograph import FitGeometry, Radiograph
from workbench.reports import label, sentences
from workbench.trace import Selection, SelectionOptions, Trace


@dataclass(frozen=True)
class Target:
    """What is explained.

    Attributes:
        before, tokens: ids of the generated tokens in front of it, and of its own.
        contrast: ids that stand in their place in the contrast; empty where there is none.
    """

    selection: Selection
    before: tuple[int, ...]
    tokens: tuple[int, ...]
    contrast: tuple[int, ...] = ()
    contrast_text: str = ""

    @property
    def name(self) -> str:
        """The target in words, for figures and tables."""
        phrase = self.selection.shown
        if not self.contrast:
            return f"log-probability of \u201c{phrase}\u201d"
        return f"\u201c{phrase}\u201d against \u201c{self.contrast_text}\u201d"


@needs(READER)
def make_target(
    trace: Trace,
    phrase: str | Selection | None = None,
    contrast: str | None = None,
    **named: Unpack[SelectionOptions],
) -> Target:
    """Return the target of a part of a traced text; of a finding, against its opposite.

    Args:
        trace: a run; for a contrast, or a finding, its model must be there.
        phrase, **named: the part, see `Trace.select`. A finding without a contrast is weighed as
            its whole sentence, also where that names several findings: "There is a small effusion
            on the left." against "No pleural effusion.", and "No pleural effusion." against "There
            is pleural effusion.". What is denied is read from the mention itself, so one that
            another sentence contradicts is weighed by its own words.
        contrast: words that could stand in the place of the part; None for none.

    Raises:
        OptionError, InputError: see `Trace.select`.
        InputError: the selection has no token, the contrast is empty or the same words, or the
            finding is "no finding", which has no single opposite.

    >>> wb.saliency.make_target(trace, "left", contrast="right").contrast_text
    'right'
    """
    selection = trace.layout.choose(phrase, **named)
    if selection.kind == "finding" and contrast is None:
        contrast = _opposite(trace, selection)
        selection = finding_sentence(trace, selection)
    numbers, ids = selection.tokens, trace.generation.token_ids
    before, own = ids[: numbers[0]], ids[numbers[0] : numbers[-1] + 1]
    if contrast is None:
        return Target(selection, before, own)
    wanted = checked_contrast(selection, contrast)
    other = trace.need_model().tokenizer.encode(wanted, add_bos=False)
    return Target(selection, before, own, tuple(other), wanted)


@needs(READER)
def finding_target(trace: Trace, finding: str, *, occurrence: int = 0) -> Target:
    """Return the target of a finding against its opposite; see `make_target`.

    >>> wb.saliency.finding_target(trace, "pleural effusion").contrast_text
    'No pleural effusion.'
    """
    return make_target(trace, finding=finding, occurrence=occurrence)


def checked_contrast(selection: Selection, contrast: str) -> str:
    """Return the contrast with single spaces.

    Raises:
        InputError: it is empty, or the same words as the selection.
    """
    wanted = " ".join(contrast.split())
    if not wanted:
        raise InputError(
            f"the contrast is empty ({contrast!r}); expected words such as 'no effusion'"
        )
    if wanted.lower() == " ".join(selection.text.split()).lower():
        raise InputError(
            f"the contrast {wanted!r} is the phrase itself; expected other words in its place"
        )
    return wanted


def finding_sentence(trace: Trace, mention: Selection) -> Selection:
    """Return the sentence that states, or denies, the finding of a selection."""
    number = sum(sentence.end <= mention.start for sentence in sentences(trace.text))
    return trace.select(sentence=number)


def _opposite(trace: Trace, mention: Selection) -> str:
    """Return the plain sentence that says the opposite of a mention of a finding."""
    if mention.finding == NO_FINDING:
        raise InputError(
            f"{mention.text!r} has no single opposite; explain it as a phrase with a contrast of "
            "your own"
        )
    rows = label(trace.text).mentions
    own = [row for row in rows if mention.start <= row.start < mention.end]
    denied = any(row.finding == mention.finding and row.code == ABSENT for row in own)
    return f"There is {mention.finding}." if denied else f"No {mention.finding}."


class PixelScorer(nn.Module):
    """A number for any pixels; what methods that change the image need of it.

    Attributes:
        base: (1, 1, S, S), the unchanged image.
        forwards: images that were scored so far.
        name: what is scored, in words.
    """

    model: Writer
    base: torch.Tensor
    forwards: int = 0
    name: str

    @property
    def device(self) -> torch.device:
        """Where pixels have to be."""
        return self.base.device

    @torch.inference_mode()
    def scores(self, pixels: torch.Tensor, *, batch_size: int = 16) -> Float[torch.Tensor, " B"]:
        """Return the scores of many images (B, 1, S, S) without gradients, in batches, on the CPU.

        Raises:
            DeviceError: a score is not finite.
        """
        with self.model.exclusive():
            parts = [self(part.to(self.device)).cpu() for part in pixels.split(batch_size)]
        found = torch.cat(parts)
        if not found.isfinite().all():
            raise DeviceError(
                f"the score of {self.name} is not finite under {self.model.identity.dtype}; load "
                "the model with dtype='bfloat16' or dtype='float32'"
            )
        return found


class AnswerScorer(PixelScorer):
    """The odds of "Yes" against "No" as the first word of a model's answer, in nats.

    Of a model that takes images of any size, `base` is the image squeezed into a square; a change
    of the square is added to the image itself, so that the unchanged square is the image.

    Attributes:
        geometry: how the radiograph lies under the square.
    """

    def __init__(self, model: ChestXrayModel, image: Radiograph, question: str, cells: int) -> None:
        super().__init__()
        self.model = model
        self.name = f"“Yes” against “No” to “{question}”"
        self.messages = model.prompts.question_messages(question)
        self.own = self.base = model.pixels(image)
        if model.patchwise:
            self.geometry = model.geometry(image)
            return
        height, width = self.own.shape[2:]
        side = 2 * cells * max(1, round(min(height, width) / (2 * cells)))
        self.base = F.interpolate(self.own, (side, side), mode="bilinear", antialias=True)
        self.geometry = FitGeometry((height, width), side, "crop", (side, side), (0, 0))

    def forward(self, pixels: Float[torch.Tensor, "B 1 S S"]) -> Float[torch.Tensor, " B"]:
        """Return the odds for each image."""
        self.forwards += len(pixels)
        if self.base is not self.own:
            shape = (self.own.shape[2], self.own.shape[3])
            change = F.interpolate(pixels - self.base, shape, mode="bilinear")
            pixels = (self.own + change).clamp(0, 1)
        return torch.from_numpy(self.model.word_odds(pixels.split(1), self.messages)).float()


#: What `shared_encodes` keeps: vision tokens by tower, state of its weights, and pixels.
_shared: dict[Hashable, torch.Tensor] | None = None


@contextmanager
def shared_encodes() -> Iterator[None]:
    """Encode no batch of images twice meanwhile, whatever target is scored; needs their memory.

    Targets that are scored without gradients share the vision tokens of the same pixels, also where
    the weights behind the tower changed in between.
    """
    global _shared
    before, _shared = _shared, {}
    try:
        yield
    finally:
        _shared = before


class Scorer(PixelScorer):
    """The score of a target for any pixels.

    Attributes:
        pixels: (1, 1, H, W) of the trace.
        base: (1, 1, S, S), the same, or what its model sees of them (`Reader.view`).
        queries: positions of the whole sequence whose outputs decide the phrase's tokens.
        tokens: where the image's tokens stand in the sequence, and lie in the image.

    >>> target = wb.saliency.finding_target(trace, "pleural effusion")
    >>> wb.saliency.Scorer(trace, target).of_image(model.pixels(image)) > 0
    True
    """

    def __init__(self, trace: Trace, target: Target) -> None:
        super().__init__()
        model = trace.need_model()
        # Not a module, so not registered: the model is not this module's to move or to train.
        self.model: Reader = model
        self.target, self.name = target, target.name
        self.prompt = trace.generation.prompt_ids
        self.tokens = model.image_tokens(trace.image, self.prompt)
        self.pixels = pixels = torch.from_numpy(trace.pixel_values).unsqueeze(0)
        self.view = model.view(pixels)
        # a view's pixels become inputs, which go where the text goes
        if self.view is None:
            self.base = pixels.to(device_of(model.vision))
        else:
            self.base = self.view.base
        start = int(self.tokens.behind[-1]) + len(target.before)
        self.queries = tuple(range(start, start + len(target.tokens)))

    @property
    def network(self) -> PreTrainedModel:
        """All weights of the model."""
        return self.model.network

    def forward(self, pixels: Float[torch.Tensor, "B 1 S S"]) -> Float[torch.Tensor, " B"]:
        """Return the summed log-probability of the phrase, minus that of the contrast, float32."""
        self.forwards += len(pixels)
        if self.view is None:
            return self.from_tokens(self._encoded(pixels))
        score = self.said(self.view, pixels, self.target.tokens)
        if self.target.contrast:
            score = score - self.said(self.view, pixels, self.target.contrast)
        return score

    def _encoded(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the vision tokens of a batch, those of `shared_encodes` where it was there."""
        tower = self.model.vision
        if _shared is None or torch.is_grad_enabled():
            return tower(pixels).tokens
        weights = tuple(parameter._version for parameter in tower.parameters())
        digest = sha256(
            pixels.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        ).digest()
        key = (id(tower), weights, digest)
        if key not in _shared:
            _shared[key] = tower(pixels).tokens
        return _shared[key]

    def said(self, view: View, pixels: torch.Tensor, words: Sequence[int]) -> torch.Tensor:
        """Return the summed log-probability (B,) of words behind the shared text, from a view."""
        tokens = (*self.target.before, *words)
        logits = view.logits(pixels, self.prompt, tokens)[:, len(self.target.before) :]
        return _summed(logits, words)

    @torch.inference_mode()
    def of_image(self, pixels: Float[torch.Tensor, "1 1 H W"]) -> float:
        """Return the score of another image, as `Reader` takes its pixels."""
        if self.view is None:
            return float(self.scores(pixels)[0])
        scores = []
        for words in (self.target.tokens, self.target.contrast):
            tokens, before = (*self.target.before, *words), len(self.target.before)
            logits = self.model.force(pixels, self.prompt, tokens)[None, before:]
            scores.append(float(_summed(logits, words)) if words else 0.0)
        return scores[0] - scores[1]

    def from_tokens(self, tokens: Float[torch.Tensor, "B N W"]) -> Float[torch.Tensor, " B"]:
        """Return the score from vision tokens, the input of the projector."""
        features, target = self.model.projector(tokens), self.target
        embed = cast("nn.Embedding", self.model.decoder.get_input_embeddings())
        head, tail = self.tokens.words
        rest = (*tail, *target.before, *target.tokens[:-1], *target.contrast)
        first, behind = (
            embed(torch.tensor(ids, device=device_of(embed))).expand(len(features), -1, -1)
            for ids in (head, rest)
        )
        embeds = torch.cat((first, features.to(first), behind), dim=1)
        options = self._beside(embeds) if target.contrast else {}
        hidden = self.model.decoder(inputs_embeds=embeds, use_cache=False, **options)
        return self._score(hidden.last_hidden_state)

    def _beside(self, embeds: torch.Tensor) -> dict:
        """Return mask and positions that let the contrast stand in the place of the phrase."""
        length, extra = embeds.shape[1], len(self.target.contrast)
        phrase = len(self.target.tokens) - 1
        shared = length - extra - phrase
        positions = torch.arange(length, device=embeds.device)
        positions[-extra:] -= phrase
        allowed = torch.ones(length, length, dtype=torch.bool, device=embeds.device).tril()
        allowed[-extra:, shared : shared + phrase] = False
        mask = torch.zeros(length, length, device=embeds.device, dtype=embeds.dtype)
        mask.masked_fill_(~allowed, torch.finfo(embeds.dtype).min)
        return {
            "attention_mask": mask.expand(len(embeds), 1, -1, -1),
            "position_ids": positions[None].expand(len(embeds), -1),
        }

    def _score(self, hidden: torch.Tensor) -> torch.Tensor:
        target = self.target
        score = self._sum(hidden, self.queries, target.tokens)
        if target.contrast:
            # The last shared position chooses the first word of both.
            end = hidden.shape[1]
            behind = range(end - len(target.contrast), end - 1)
            score = score - self._sum(hidden, (self.queries[0], *behind), target.contrast)
        return score

    def _sum(self, hidden: torch.Tensor, queries, tokens) -> torch.Tensor:
        return _summed(self.model.head(hidden[:, list(queries)]).float(), tokens)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep gradients off the weights while a method differentiates pixels, then restore.

        Layers of a model that is not small are checkpointed: gradients then take about 1.4 times
        the time, and a fifth of the memory.

        Raises:
            InputError: the weights are quantised; the message names methods that need no gradient.
        """
        if getattr(self.network, "is_quantized", False):
            raise InputError(
                "gradients through 8-bit or 4-bit weights are not exact; use method='occlusion' or "
                "'kernel_shap', or load the model without quantize"
            )
        parameters = list(self.network.parameters())
        small = sum(parameter.numel() for parameter in parameters) <= SMALL
        with self.model.exclusive(), nullcontext() if small else checkpointed(self.network):
            wanted = [parameter.requires_grad for parameter in parameters]
            try:
                for parameter in parameters:
                    parameter.requires_grad_(False)
                yield
            finally:
                for parameter, flag in zip(parameters, wanted, strict=True):
                    parameter.requires_grad_(flag)


def _summed(logits: torch.Tensor, tokens: Sequence[int]) -> torch.Tensor:
    """Return the summed log-probability (B,) of n tokens from their logits (B, n, V)."""
    chosen = torch.tensor(tokens, device=logits.device)
    picked = logits.gather(2, chosen.expand(len(logits), -1)[..., None])[..., 0]
    return (picked - logits.logsumexp(-1)).sum(1)
