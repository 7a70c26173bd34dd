"""Models to decode with: the reference checkpoints, and a random one whose sizes are primes."""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers import CHECKPOINTS, GOLDEN, IMAGES
from workbench.generation.engine import Engine, Request
from workbench.generation.options import DecodingSettings
from workbench.generation.responder import Responder, parts_of
from workbench.model.config import CxrLlavaConfig
from workbench.model.llava import CxrLlavaForConditionalGeneration
from workbench.model.load import load_checkpoint

CASES = ("report", "q1", "q2")
IMAGE_ID = -200
VOCABULARY = 23


@cache
def load(name: str):
    return load_checkpoint(GOLDEN / "checkpoints" / name, device="cpu", dtype="float32")


@cache
def recorded(name: str, image: str = IMAGES[0]) -> SimpleNamespace:
    """Arrays, cases and pixels of one checkpoint and image."""
    folder = GOLDEN / "golden" / name / image
    with np.load(folder / "arrays.npz") as stored:
        arrays = {key: stored[key] for key in stored.files}
    cases = json.loads((folder / "cases.json").read_text())
    pixels = torch.from_numpy(arrays["pixel_values"])
    return SimpleNamespace(arrays=arrays, cases=cases, pixels=pixels)


def golden_requests(name: str, limit: int = 48) -> list[tuple[Request, list[int]]]:
    """Every case of every image as a request, with the recorded tokens."""
    found = []
    for image in IMAGES:
        stored = recorded(name, image)
        for case in CASES:
            ids = tuple(stored.arrays[f"{case}__input_ids"].tolist())
            request = Request(stored.pixels, ids, DecodingSettings(max_new_tokens=limit))
            found.append((request, stored.arrays[f"{case}__gen_ids"].tolist()))
    return found


def random_model(seed: int = 0, **llama) -> CxrLlavaForConditionalGeneration:
    """A model with a lively output distribution."""
    torch.manual_seed(seed)
    config = CxrLlavaConfig(
        clip_vision_cfg={
            "image_size": 14,
            "patch_size": 7,
            "width": 10,
            "layers": 1,
            "head_width": 5,
        },
        clip_embed_dim=3,
        llama={
            "hidden_size": 12,
            "intermediate_size": 17,
            "max_position_embeddings": 131,
            "num_attention_heads": 2,
            "num_hidden_layers": 3,
            "num_key_value_heads": 1,
            "vocab_size": VOCABULARY,
            "initializer_range": 0.5,
            **llama,
        },
    )
    return CxrLlavaForConditionalGeneration(config).eval()


def random_pixels(seed: int, side: int = 14) -> torch.Tensor:
    return torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(seed))


def request(image: int = 0, head: int = 3, tail: int = 4, words: int = 0, **settings) -> Request:
    """A request with `head` random ids before the image and `tail` behind it."""
    generator = torch.Generator().manual_seed(1000 + words)
    ids = torch.randint(3, VOCABULARY, (head + tail,), generator=generator).tolist()
    ids = (*ids[:head], IMAGE_ID, *ids[head:])
    settings = DecodingSettings(**{"max_new_tokens": 11, **settings})
    return Request(random_pixels(image), ids, settings)


def collect(engine: Engine, requests: list[Request]) -> list[SimpleNamespace]:
    """Decode and return tokens, log-probabilities and the stop of every request."""
    found = [SimpleNamespace(tokens=[], logprobs=[], stopped=None) for _ in requests]
    for step in engine.decode(requests):
        for position, row in enumerate(step.rows):
            assert found[row].stopped is None, "a finished row went on"
            found[row].tokens.append(step.tokens[position])
            found[row].logprobs.append(step.logprobs[position])
            found[row].stopped = step.stopped[position]
    return found


_MODEL = cache(random_model)


def new_engine(end_ids=(2,), model=None) -> Engine:
    """A fresh engine; for one and the same random model unless one is given."""
    return Engine(model or _MODEL(), image_id=IMAGE_ID, end_ids=end_ids)


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The helpers of this file."""
    return SimpleNamespace(
        collect=collect,
        engine=new_engine,
        golden=GOLDEN,
        golden_requests=golden_requests,
        load=load,
        random_model=random_model,
        random_pixels=random_pixels,
        recorded=recorded,
        request=request,
    )


@pytest.fixture(params=CHECKPOINTS)
def name(request) -> str:
    """Each reference checkpoint's name in turn."""
    return request.param


@pytest.fixture
def responder(name) -> Responder:
    """A fresh responder, so that no test finds the prefixes of another."""
    return Responder(*parts_of(load(name)))
