"""Visual contrastive decoding: choose the words that the image makes likelier.

The same text is decoded with the image and with an ablation of it, side by side in one batch. Each
token is chosen from (1 + alpha) log p(token | image) - alpha log p(token | ablation), among tokens
that are at least `plausible` times as likely as the likeliest one given the image. What the model
would write of any image cancels out.

Paper: Leng et al., Visual Contrastive Decoding, CVPR 2024, arXiv 2311.16922, equations 3 to 5.
Deviation: any of our ablations in place of a diffusion's noise, and greedy by default.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Unpack

import torch

from workbench.errors import OptionError
from workbench.generation.options import DecodingOptions, decoding_settings
from workbench.hallucination.ablations import ABLATIONS, ablated_images
from workbench.hallucination.mitigation import MitigatedGeneration, extended
from workbench.interface import ChestXrayModel, as_radiograph
from workbench.model.prompt import report_messages


@dataclass(frozen=True)
class ContrastiveDecoding:
    """Visual contrastive decoding of a report.

    Attributes:
        alpha: how strongly the ablation is held against a token; 0 decodes as without.
        plausible: smallest likelihood of a token, as a share of the likeliest one's, in (0, 1].
        ablation: one of `ABLATIONS`.
        seed: of the noise, or of the phantom that stands for another patient.
    """

    alpha: float = 1.0
    plausible: float = 0.1
    ablation: str = "noise"
    seed: int = 0

    #: What tables call it.
    name = "contrastive decoding"

    def __post_init__(self) -> None:
        if not self.alpha >= 0 or not 0 < self.plausible <= 1:
            raise OptionError(
                "expected alpha of 0 or more and plausible above 0 and at most 1, got "
                f"{self.alpha} and {self.plausible}"
            )
        if self.ablation not in ABLATIONS:
            raise OptionError(
                f"unknown ablation {self.ablation!r}; expected one of: {', '.join(ABLATIONS)}"
            )

    def report(
        self, model: ChestXrayModel, image: object, **decoding: Unpack[DecodingOptions]
    ) -> MitigatedGeneration:
        """Write a report about an image; see `ChestXrayModel.report`."""
        began = time.perf_counter()
        image = as_radiograph(image)
        settings = decoding_settings(decoding).with_seed()
        asked = [("report", report_messages(), settings)]
        lead = model.jobs(image, asked)[0]
        pixels = lead.request.pixel_values
        shadow = ablated_images(
            model, pixels[0].cpu().numpy(), ablations=[self.ablation], seed=self.seed
        )[self.ablation]
        beside = model.job(shadow, report_messages(), settings, task="report", source=lead.source)
        written = model.answer_batch([lead, beside], guide=self.guide)[0]
        return extended(
            written,
            mitigation={"name": self.name, **asdict(self)},
            seconds=time.perf_counter() - began,
        )

    def guide(self, rows: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        """Return the contrast of each pair of rows 2 k (image) and 2 k + 1 (ablation), for both.

        Args:
            rows: number of each row; both rows of a pair are always there.
            logits: (R, V) float32.
        """
        changed = torch.empty_like(logits)
        logs = logits.log_softmax(-1)
        at = {row: position for position, row in enumerate(rows)}
        for row, position in at.items():
            if row % 2:
                continue
            other = at[row + 1]
            found = (1 + self.alpha) * logs[position] - self.alpha * logs[other]
            least = logs[position].max() + torch.tensor(self.plausible).log()
            found = found.masked_fill(logs[position] < least, -torch.inf)
            changed[position] = changed[other] = found
        return changed
