"""Scorer: a target as a differentiable function of pixels, the one thing every method calls.

The text is teacher-forced: prompt, image, question and the text before the phrase are read, then
the phrase; a contrast is read beside it with the same positions and a mask between the two, so one
forward pass serves both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from jaxtyping import Float
from torch import nn
from transformers import PreTrainedModel

from workbench.errors import DeviceError, InputError
from workbench.saliency.target import Target
from workbench.trace import Trace


class Scorer(nn.Module):
    """The score of a target for any pixels.

    Attributes:
        base: (1, 1, S, S), the pixels of the trace.
        forwards: images that went through the vision tower so far.
        queries: positions of the spliced sequence whose outputs decide the phrase's tokens.
    """

    def __init__(self, trace: Trace, target: Target) -> None:
        super().__init__()
        model = trace.need_model()
        # Not a module, so not registered: the model is not this module's to move or to train.
        self.model = model
        self.target = target
        self.forwards = 0
        head, tail = model.split(trace.generation.prompt_ids)
        self.head = head[:-1]
        self.shared = (*tail, *target.before)
        self.image_tokens = trace.layout.image_tokens
        self.base = torch.from_numpy(trace.pixel_values).unsqueeze(0).to(self.device)
        start = len(self.head) + self.image_tokens + len(self.shared) - 1
        self.queries = tuple(range(start, start + len(target.tokens)))

    @property
    def network(self) -> PreTrainedModel:
        """All weights of the model."""
        return self.model.network

    @property
    def device(self) -> torch.device:
        """Where pixels have to be."""
        return self.model.pixel_layer.weight.device

    def forward(self, pixels: Float[torch.Tensor, "B 1 S S"]) -> Float[torch.Tensor, " B"]:
        """Return the summed log-probability of the phrase, minus that of the contrast, float32."""
        self.forwards += len(pixels)
        return self.from_tokens(self.model.vision(pixels).tokens)

    def from_tokens(self, tokens: Float[torch.Tensor, "B N W"]) -> Float[torch.Tensor, " B"]:
        """Return the score from vision tokens, the input of the projector."""
        return self.from_features(self.model.projector(tokens))

    def from_features(self, features: Float[torch.Tensor, "B N H"]) -> Float[torch.Tensor, " B"]:
        """Return the score from projected tokens."""
        target = self.target
        embed = cast("nn.Embedding", self.model.decoder.get_input_embeddings())
        first = torch.tensor(self.head, device=embed.weight.device)
        text = (*self.shared, *target.tokens[:-1])
        rest = (*text, *target.contrast)
        behind = torch.tensor(rest, device=embed.weight.device)
        batch = len(features)
        words = embed(first).expand(batch, -1, -1), embed(behind).expand(batch, -1, -1)
        embeds = torch.cat((words[0], features.to(words[0]), words[1]), dim=1)
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
        logits = self.model.head(hidden[:, list(queries)]).float()
        chosen = torch.tensor(tokens, device=logits.device)
        picked = logits.gather(2, chosen.expand(len(logits), -1)[..., None])[..., 0]
        return (picked - logits.logsumexp(-1)).sum(1)

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
                f"the score of {self.target.name} is not finite under {self.network.dtype}; load "
                "the model with dtype='bfloat16' or dtype='float32'"
            )
        return found

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep gradients off the weights while a method differentiates pixels, then restore.

        Raises:
            InputError: the weights are quantised; the message names methods that need no gradient.
        """
        if getattr(self.network, "is_quantized", False):
            raise InputError(
                "gradients through 8-bit or 4-bit weights are not exact; use method='occlusion' or "
                "'kernel_shap', or load the model without quantize"
            )
        with self.model.exclusive():
            parameters = list(self.network.parameters())
            wanted = [parameter.requires_grad for parameter in parameters]
            try:
                for parameter in parameters:
                    parameter.requires_grad_(False)
                yield
            finally:
                for parameter, flag in zip(parameters, wanted, strict=True):
                    parameter.requires_grad_(flag)
