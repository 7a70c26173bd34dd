"""Traces to analyse: a toy that can be checked by hand, beside those of `tests.helpers`."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tests.helpers import close_figures, golden, mini, tiny_trace  # noqa: F401 (fixtures)
from workbench.generation import DecodingSettings, Generation
from workbench.generation.result import ModelIdentity
from workbench.radiograph import FitGeometry, InputContract, Radiograph
from workbench.trace import AttentionRows, TokenLayout, Trace

TEXT = "Small pleural effusion. No pneumothorax."
PIECES = ("▁Small", "▁pleural", "▁effusion", ".", "▁No", "▁pneumothorax", ".", "</s>")
OFFSETS = ((0, 5), (5, 13), (13, 22), (22, 23), (23, 26), (26, 39), (39, 40), (40, 40))
PROMPT, GRID, QUESTION = ("<s>", "▁Look"), (2, 3), ("▁Say",)
PATCHES = GRID[0] * GRID[1]
LAYERS, HEADS = 2, 3
FIRST = len(PROMPT) + PATCHES + len(QUESTION)
LENGTH = FIRST + len(PIECES)
VISION_LAYERS, VISION_HEADS = 3, 5


def layout(text: str = TEXT, pieces=PIECES, offsets=OFFSETS) -> TokenLayout:
    geometry = FitGeometry((20, 20), 12, "crop", (12, 12), (0, 0))
    return TokenLayout(text, tuple(pieces), tuple(offsets), PROMPT, QUESTION, GRID, geometry)


def language_rows(seed: int = 0, count: int = len(PIECES)) -> np.ndarray:
    """Random causal rows (layers, heads, count, positions) that sum to 1."""
    rows = np.random.default_rng(seed).gamma(0.7, size=(LAYERS, HEADS, count, FIRST + count))
    for token in range(count):
        rows[:, :, token, FIRST + token :] = 0
    return (rows / rows.sum(-1, keepdims=True)).astype(np.float32)


def vision_rows(seed: int = 1, layers: int = VISION_LAYERS) -> np.ndarray:
    size = (layers, VISION_HEADS, PATCHES + 1, PATCHES + 1)
    rows = np.random.default_rng(seed).gamma(0.7, size=size)
    return (rows / rows.sum(-1, keepdims=True)).astype(np.float32)


def wrap(values: np.ndarray, *, mean_heads: bool = False, layers=None, total=None) -> AttentionRows:
    """Rows as recorded; `total` layers of which `layers` were kept."""
    numbers = tuple(range(len(values))) if layers is None else layers
    heads = HEADS if mean_heads else values.shape[1]
    return AttentionRows(values, numbers, mean_heads, total or len(values), heads)


def make_trace(language=None, vision=None, *, tokens: TokenLayout | None = None, **changes):
    """A trace without a model; random rows where none are given."""
    tokens = layout() if tokens is None else tokens
    count = len(tokens.tokens)
    language = wrap(language_rows(count=count)) if language is None else language
    if isinstance(language, np.ndarray):
        language = wrap(language)
    if isinstance(vision, np.ndarray):
        vision = wrap(vision)
    generation = Generation(
        text=tokens.text,
        token_ids=tuple(range(count)),
        tokens=tokens.tokens,
        logprobs=np.zeros(count),
        offsets=tokens.offsets,
        prompt="",
        prompt_ids=(),
        settings=DecodingSettings(),
        seconds=0.0,
        stopped_by="eos",
        task="report",
        source="toy",
        model=ModelIdentity("toy", "0" * 64),
    )
    pixels = np.random.default_rng(3).random((20, 20), dtype=np.float32)
    image = Radiograph(pixels, InputContract(source="toy", domain="phantom"))
    parts = {"language": language, "vision": vision, "logprobs": np.zeros(count), **changes}
    return Trace(tokens, generation, image, np.zeros((1, 12, 12), np.float32), **parts)


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The helpers of this file and the sizes of the toy."""
    return SimpleNamespace(
        trace=make_trace,
        layout=layout,
        language=language_rows,
        vision=vision_rows,
        wrap=wrap,
        patches=PATCHES,
        grid=GRID,
        first=FIRST,
        length=LENGTH,
        image=slice(len(PROMPT), len(PROMPT) + PATCHES),
    )
