"""What people would use instead: the published way of working, on the same weights.

One image, one question: the image is encoded and the whole prompt computed for every answer, and
transformers' `generate` writes it, one row at a time. The weights are the very same tensors, so
a difference is one of work, not of model.

Does not know: workbench's engine.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM

from workbench.model.prompt import IMAGE_TOKEN_ID


class Published:
    """transformers' own language model around the parts of ours.

    Args:
        model: a `CxrLlavaForConditionalGeneration`.
        attention: "sdpa", or "eager", which can return its rows.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        with torch.device("meta"):
            self._writer = LlamaForCausalLM(model.llama.config)
        self._writer.model, self._writer.lm_head = model.llama, model.lm_head
        self._writer.generation_config.eos_token_id = None
        self._writer.generation_config.pad_token_id = 0
        self._model = model.eval()

    @torch.inference_mode()
    def embed(self, pixels: torch.Tensor, ids: Sequence[int]) -> torch.Tensor:
        """Encode an image and put it in its place among the words: (1, T, H)."""
        cut = list(ids).index(IMAGE_TOKEN_ID)
        image = self._model.encode_image(pixels)
        words = self._model.llama.embed_tokens(torch.tensor([[*ids[:cut], *ids[cut + 1 :]]]))
        return torch.cat((words[:, :cut], image, words[:, cut:]), 1)

    @torch.inference_mode()
    def write(self, pixels: torch.Tensor, ids: Sequence[int], tokens: int, **options):
        """Answer one prompt from nothing; returns what `generate` does."""
        embeds = self.embed(pixels, ids)
        return self.write_from(embeds, tokens, **options)

    @torch.inference_mode()
    def write_from(self, embeds: torch.Tensor, tokens: int, **options):
        """Continue input embeddings by exactly so many tokens, greedily."""
        return self._writer.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            **options,
        )

    @torch.inference_mode()
    def forced(self, pixels: torch.Tensor, ids: Sequence[int], text: Sequence[int]) -> torch.Tensor:
        """Read a finished text with an image in one forward pass of everything: logits (n, V)."""
        output = self._model(
            input_ids=torch.tensor([[*ids, *text]]), pixel_values=pixels, use_cache=False
        )
        return output.logits[0, -len(text) - 1 : -1].log_softmax(-1)
