"""Models to trace: mini, and the reference checkpoints, one of which shares keys between heads."""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.helpers import CHECKPOINTS, GOLDEN, close_figures  # noqa: F401 (a fixture)
from workbench.imaging import load_radiograph
from workbench.interface import load_model
from workbench.phantom import phantom
from workbench.radiograph import fit_geometry
from workbench.trace import TokenLayout

MODELS = ("mini", *CHECKPOINTS)
FILM = load_radiograph(GOLDEN / "images" / "grad_300x400.png")
NEW = 11


def open_model(name: str, dtype: str = "float32"):
    source = "mini" if name == "mini" else GOLDEN / "checkpoints" / name
    return load_model(source, device="cpu", dtype=dtype)


@cache
def model_of(name: str):
    """The model, opened once."""
    return open_model(name)


@cache
def image_of(name: str):
    return phantom(7, findings=["pleural effusion"]).image if name == "mini" else FILM


@cache
def run_of(name: str) -> SimpleNamespace:
    """A report and its whole trace; nobody writes to it."""
    model, image = model_of(name), image_of(name)
    report = model.report(image, **({} if name == "mini" else {"max_new_tokens": NEW}))
    trace = model.trace(image, report, heads="each", vision="each")
    network = model.loaded.model
    pixels = torch.from_numpy(trace.pixel_values)[None]
    return SimpleNamespace(
        model=model,
        image=image,
        report=report,
        trace=trace,
        network=network,
        pixels=pixels,
        unchanged=lambda: unchanged(network),
    )


def network_state(network) -> dict:
    """Everything that a watch over attention could leave behind."""
    hooks = {
        f"{name}.{kind}": len(getattr(module, kind))
        for name, module in network.named_modules()
        for kind in (
            "_forward_hooks",
            "_forward_pre_hooks",
            "_backward_hooks",
            "_backward_pre_hooks",
        )
    }
    return {
        "attention": dict(AttentionInterface._global_mapping),
        "masks": dict(AttentionMaskInterface._global_mapping),
        "local": (
            dict(ALL_ATTENTION_FUNCTIONS._local_mapping),
            dict(ALL_MASK_ATTENTION_FUNCTIONS._local_mapping),
        ),
        "vision": network.vision_tower.config._attn_implementation,
        "language": network.llama.config._attn_implementation,
        "hooks": hooks,
        "inference": torch.is_inference_mode_enabled(),
    }


@contextmanager
def unchanged(network):
    """Compare what is registered and hooked before and after a block."""
    before = network_state(network)
    assert not any(before["hooks"].values())
    yield
    assert network_state(network) == before


def cut(text: str) -> list[tuple[int, int]]:
    """Cut a text into tokens: words and marks, each with the white space before it."""
    return [match.span() for match in re.finditer(r"\s*(?:\w+|[^\w\s])", text)]


def layout_of(text: str = "", *, size=(31, 23), side=24, grid=(4, 4), fit="crop") -> TokenLayout:
    """A layout without a model; the end token has written nothing."""
    offsets = [*cut(text), (len(text), len(text))]
    return TokenLayout(
        prompt_tokens=("<s>", "a", "b"),
        question_tokens=("c", "d", "e", "f", "g"),
        tokens=tuple(text[start:end] or "</s>" for start, end in offsets),
        offsets=tuple(offsets),
        text=text,
        grid=grid,
        geometry=fit_geometry(*size, side, fit),
    )


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The helpers of this file."""
    return SimpleNamespace(
        image=image_of,
        layout=layout_of,
        model=model_of,
        open=open_model,
        run=run_of,
    )


@pytest.fixture(params=MODELS)
def name(request) -> str:
    """Each model's name in turn."""
    return request.param


@pytest.fixture
def run(lab, name) -> SimpleNamespace:
    """The run of each model in turn."""
    return lab.run(name)
