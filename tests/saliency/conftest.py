"""Scorers whose answers are known beforehand, beside the traces of `tests.helpers`."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

import workbench.saliency.methods as known
from tests.helpers import (  # noqa: F401 (fixtures)
    close_figures,
    golden,
    golden_trace,
    load,
    mini,
    tiny_trace,
)
from tests.threads import one_thread  # noqa: F401 (a fixture)
from workbench.radiograph import InputContract, Radiograph, fit_geometry
from workbench.saliency import Scorer, make_target
from workbench.trace import ImageMap, Trace


class ToyScorer(torch.nn.Module):
    """What methods use of a `Scorer`, around any function of pixels (B, 1, S, S) -> (B,)."""

    def __init__(self, score, base: torch.Tensor) -> None:
        super().__init__()
        self.score = score
        self.base = base
        self.forwards = 0
        self.view = None
        self.device = torch.device("cpu")
        processor = SimpleNamespace(mean=0.5, std=0.25, grey=0.0)
        self.model = SimpleNamespace(exclusive=nullcontext, processor=processor)
        self.network = SimpleNamespace(is_quantized=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.forwards += len(pixels)
        return self.score(pixels)

    @torch.inference_mode()
    def scores(self, pixels: torch.Tensor, *, batch_size: int = 16) -> torch.Tensor:
        return torch.cat([self(part) for part in pixels.split(batch_size)])

    @contextmanager
    def frozen(self):
        yield


def random_pixels(side: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(seed))


def linear_scorer(side: int, seed: int = 0) -> ToyScorer:
    """`scorer.weights` times pixels, summed."""
    weights = random_pixels(side, seed + 1)[0]
    toy = ToyScorer(lambda pixels: (pixels * weights).sum((1, 2, 3)), random_pixels(side, seed))
    toy.weights = weights
    return toy


def bent_scorer(side: int, seed: int = 0) -> ToyScorer:
    """Smooth, and no sum over pixels."""
    weights = random_pixels(side, seed + 1)[0] / side

    def score(pixels: torch.Tensor) -> torch.Tensor:
        total = (pixels * weights).sum((1, 2, 3))
        return total.tanh() + (pixels[:, 0, 1, 2] * pixels[:, 0, -2, -3]).sin()

    return ToyScorer(score, random_pixels(side, seed))


def square_film(side: int, seed: int = 5) -> Radiograph:
    pixels = np.random.default_rng(seed).random((side, side), dtype=np.float32)
    return Radiograph(pixels, InputContract(source="toy film", domain="phantom"))


def make_map(values, side: int = 12, **fields) -> ImageMap:
    """A map over a square film of `side` pixels that the model sees as it is."""
    fields = {"method": "toy", "target": "nothing", **fields}
    return ImageMap(np.array(values), fit_geometry(side, side, side), square_film(side), **fields)


def scorer_of(trace: Trace, phrase: str | None = None, *, contrast: str | None = None, **choice):
    return Scorer(trace, make_target(trace, trace.select(phrase, **choice), contrast))


def leftovers(network: torch.nn.Module) -> dict:
    """Everything that a method might forget on a model."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "hooks": {
            (name, kind)
            for name, module in network.named_modules()
            for kind in kinds
            if getattr(module, kind)
        },
        "attention": set(AttentionInterface._global_mapping),
        "masks": set(AttentionMaskInterface._global_mapping),
        "implementations": (
            network.vision_tower.config._attn_implementation,
            network.llama.config._attn_implementation,
        ),
        "wanted": [parameter.requires_grad for parameter in network.parameters()],
        "gradients": [name for name, p in network.named_parameters() if p.grad is not None],
        "training": network.training,
        "torch random": torch.get_rng_state().tolist(),
        "numpy random": np.random.get_state()[1].tolist(),
    }


@pytest.fixture(scope="session")
def toys() -> SimpleNamespace:
    """The helpers of this file."""
    return SimpleNamespace(
        scorer=ToyScorer,
        pixels=random_pixels,
        linear=linear_scorer,
        bent=bent_scorer,
        map=make_map,
        film=square_film,
        of=scorer_of,
        leftovers=leftovers,
        load=load,
        trace=golden_trace,
    )


@pytest.fixture(autouse=True)
def forget():
    """No verdict outlives its test."""
    yield
    known._session.clear()
