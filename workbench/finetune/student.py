"""The model as it is trained: the loss on answer tokens, and what ties the model to its base.

`Student` wraps the whole model without changing it, so that everything else (generation, saliency,
grounding) runs on the very module that is being trained.

Word pieces that a model has never written share one direction in its output head: training only
ever pushed them down, together. Behind a frozen head no LoRA can tell them apart (`mini`: each
stays at 1 in 700), so a new word needs `tuning.embeddings: full`.

A hundred cases teach a word, and their own habits of writing, at the cost of what the base knew.
`keep` ties the tokens that are not about the taught finding to what the base would say without that
finding: it has no idea what follows a word that it never saw. The base needs no second model: it is
this one with its parameters as they began.

Paper: Li and Hoiem, Learning without Forgetting, ECCV 2016, arXiv 1606.09282 (deviation: per token,
on texts without the new words, at temperature 1).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from workbench.finetune.encoding import DECIDES, OTHER
from workbench.finetune.parts import trainable
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.prompt import IGNORE_LABEL


class Student(nn.Module):
    """A prepared model with the loss of instruction tuning.

    Args:
        taught_weight: weight of the loss on tokens that decide about the taught finding; that of
            all others is 1.
        keep: share of the loss on tokens that have nothing to do with it that measures how far the
            model has moved from what the base would say there (KL divergence), not how far it is
            from the reference.
    """

    accepts_loss_kwargs = True

    def __init__(
        self,
        model: CxrLlavaForConditionalGeneration,
        *,
        taught_weight: float = 1.0,
        keep: float = 0.0,
    ) -> None:
        super().__init__()
        self.model = model
        self.taught_weight, self.keep = taught_weight, keep
        learning = trainable(self) if keep else ()
        self._began = {name: p.detach().clone() for name, p in learning}

    def forward(
        self,
        labels: torch.Tensor,
        about: torch.Tensor,
        num_items_in_batch: torch.Tensor | int | None = None,
        base: Mapping[str, torch.Tensor] | None = None,
        unlabelled: torch.Tensor | None = None,
        only_logits: bool = False,
        **batch: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Return the "loss" of a batch from `encoding`: the weighted sum over its answer tokens.

        The sum is divided by `num_items_in_batch`, the answer tokens of the whole step over all
        processes.

        Args:
            base: the same rows without what is about it, where the base is asked.
            unlabelled: True in rows without labels, which only tie the model to the base; then also
                "parts" (2, 2) are returned: the sum and the tokens of labelled and of other rows.
            only_logits: return "logits" (T, V) of the T tokens that have nothing to do with it.
            **batch: `pixel_values` (B, 1, S, S), or `vision_tokens` (B, N, W) that the frozen tower
                made of them, and the rest of a packed batch.
        """
        rows = None if unlabelled is None else unlabelled[labels != IGNORE_LABEL]
        logits, targets, about = self._answers(labels, about, **batch)
        if only_logits:
            return {"logits": logits[about == OTHER]}
        each = F.cross_entropy(logits.float(), targets, reduction="none")
        each = torch.where(about == DECIDES, self.taught_weight * each, each)
        total, whole = each.sum(), each.detach().clone()
        if self.keep:
            other = about == OTHER
            more = self.keep * (self._moved(logits[other], base or {}, batch) - each[other])
            total = total + more.sum()
            whole[other] += more.detach()
        count = len(targets) if num_items_in_batch is None else num_items_in_batch
        found = {"loss": total / count}
        if rows is not None:
            sums = [torch.stack([(whole * own).sum(), 1.0 * own.sum()]) for own in (~rows, rows)]
            found["parts"] = torch.stack(sums)
        return found

    def _moved(
        self,
        logits: torch.Tensor,
        base: Mapping[str, torch.Tensor],
        batch: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """Return (T,) divergence of the model from the base, nats."""
        seen = {name: batch[name] for name in ("pixel_values", "vision_tokens") if name in batch}
        asked = {**base, **seen, "only_logits": True}
        with torch.no_grad():
            began = {name: value.to(logits.device) for name, value in self._began.items()}
            said = functional_call(self, began, kwargs=asked)["logits"]
        return F.kl_div(
            logits.float().log_softmax(-1), said.float().log_softmax(-1), reduction="none",
            log_target=True,
        ).sum(-1)  # fmt: skip

    def _answers(
        self,
        labels: torch.Tensor,
        about: torch.Tensor,
        *,
        ids: torch.Tensor,
        positions: torch.Tensor,
        allowed: torch.Tensor,
        image_start: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        vision_tokens: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return logits (T, V), ids (T,) and `about` (T,) of the answer tokens."""
        model, start = self.model, int(image_start[0])
        tokens = model.vision(pixel_values).tokens if vision_tokens is None else vision_tokens
        weight = model.projector.weight
        features = model.projector(tokens.to(device=weight.device, dtype=weight.dtype))
        embeds = model.get_input_embeddings()(ids)
        behind = embeds[:, start + features.shape[1] :]
        embeds = torch.cat([embeds[:, :start], features.to(embeds.dtype), behind], dim=1)
        mask = torch.zeros(allowed.shape, dtype=embeds.dtype, device=embeds.device)
        states = model.decoder(
            inputs_embeds=embeds,
            attention_mask=mask.masked_fill(~allowed, torch.finfo(embeds.dtype).min),
            position_ids=positions,
            use_cache=False,
        ).last_hidden_state
        rows = labels != IGNORE_LABEL
        return model.head(states[rows]), labels[rows], about[rows]
