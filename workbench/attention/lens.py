"""Logit lens on image tokens: which word each place of the image would say, layer by layer.

The state of every image position after every language layer is read as if it were the last one:
final norm, then the head, then a softmax over the vocabulary.

Early states need not be written in the last layer's language, so nonsense there does not mean that
nothing is known. No token is ever generated at an image position, and nothing in training asked
these states to be words.
Sources: nostalgebraist, interpreting GPT: the logit lens, LessWrong 2020; for image tokens, Neo et
al., Towards Interpreting Visual Information Processing in Vision-Language Models, ICLR 2025,
arXiv 2410.07149, section 4.
Deviation: state 0 is the projector's output, before any layer; the last state is the model's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from workbench.attention.word_maps import draw_maps
from workbench.backends import Reader
from workbench.backends.attending import watch_states
from workbench.backends.levels import READER, needs
from workbench.errors import InputError, OptionError
from workbench.figures.attention import draw_tokens
from workbench.figures.page import figure_html
from workbench.findings import PRESENT
from workbench.model.placement import device_of
from workbench.model.tokenizer import WORD_START
from workbench.radiograph import FitGeometry, Radiograph
from workbench.reports import label
from workbench.trace import ImageMap, TokenLayout, Trace


@dataclass(frozen=True, eq=False)
class LogitLens:
    """Words at image positions, after 0, 1, ... L language layers.

    Attributes:
        tokens: (L + 1, N, top) the likeliest vocabulary pieces, the likeliest first.
        probabilities: (L + 1, N, top) their probabilities, in [0, 1].
        words: word -> (L + 1, rows, columns) probability of its first piece, in [0, 1].
        pieces: word -> the piece that stands for it.
        grid: rows and columns of patches.
        settings: which model.
    """

    tokens: Shaped[np.ndarray, "states N top"]
    probabilities: Float[np.ndarray, "states N top"]
    words: Mapping[str, np.ndarray]
    pieces: Mapping[str, str]
    grid: tuple[int, int]
    geometry: FitGeometry
    image: Radiograph
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        """Language layers of the model; there is one state more."""
        return len(self.tokens) - 1

    def map(self, word: str, layer: int = -1) -> ImageMap:
        """Map the probability of a word that was asked for over the image.

        `layer` is how many layers the states have passed, from 0 (as the projector left them) to L;
        negative counts from the last.

        Raises:
            OptionError: the word was not asked for, or there is no such layer.
        """
        passed = passed_of(layer, self.layers)
        if word not in self.words:
            raise OptionError(
                f"the lens was not read for {word!r}; it holds {', '.join(self.words) or 'no word'}"
                f". Read it again with words=[{word!r}]"
            )
        values = self.words[word][passed]
        return ImageMap(
            values,
            self.geometry,
            self.image,
            method="logit lens",
            target=word,
            unit=f"probability of {self.pieces[word]!r}",
            layer=f"after {passed} of {self.layers} layers",
            head="",
            settings={**self.settings, "word": word, "layer": passed},
            scores={"largest": float(values.max())},
        )

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer and patch.

        Columns: layer (passed), row, column, token and probability (of the likeliest piece), and
        "p(word)", the probability of each word that was asked for.
        """
        states, patches, _ = self.tokens.shape
        rows, columns = np.indices(self.grid).reshape(2, -1)
        frame = {
            "layer": np.repeat(np.arange(states), patches),
            "row": np.tile(rows, states),
            "column": np.tile(columns, states),
            "token": self.tokens[..., 0].ravel(),
            "probability": self.probabilities[..., 0].ravel(),
        }
        own = {f"p({word})": values.ravel() for word, values in self.words.items()}
        return pd.DataFrame(frame | own)

    def plot(
        self,
        word: str | None = None,
        *,
        columns: int = 5,
        masks: Mapping[str, np.ndarray] | None = None,
    ) -> Figure:
        """Draw one word through the layers, all on one scale; the first word when None.

        `columns` and `masks` as in `AttentionStack.plot`.

        Raises:
            InputError: no word was asked for.
            OptionError: the word was not asked for.
        """
        if word is None and not self.words:
            raise InputError(
                "the lens was read for no word; read it again with words=['effusion'], or draw "
                "what it says itself with .plot_tokens()"
            )
        word = next(iter(self.words)) if word is None else word
        maps = [self.map(word, layer) for layer in range(self.layers + 1)]
        names = [
            f"after {passed} of {self.layers}: max {item.values.max():.0%}"
            for passed, item in enumerate(maps)
        ]
        title = f"Logit lens by layers passed: {word}"
        return draw_maps(maps, names, title=title, columns=columns, together=True, masks=masks)

    def plot_tokens(self, layer: int = -1, ax: Axes | None = None) -> Axes:
        """Write the likeliest piece of each patch over the radiograph; `layer` as in `map`."""
        passed = passed_of(layer, self.layers)
        title = f"Likeliest word at each patch, after {passed} of {self.layers} layers"
        key = "pale: a guess among many; yellow: likely; bold: more likely than not"
        chance = self.probabilities[passed, :, 0].reshape(self.grid)
        cells = ImageMap(chance, self.geometry, self.image, "logit lens", "likeliest piece")
        return draw_words(cells, self.tokens[passed, :, 0], ax, title=title, key=key)

    def __repr__(self) -> str:
        rows, columns = self.grid
        told = ", ".join(self.words) or "no words"
        return f"<LogitLens over {self.layers} layers, {rows} x {columns} patches: {told}>"

    def _repr_html_(self) -> str:
        drawn = self.plot() if self.words else self.plot_tokens()
        return figure_html(drawn, "logit lens")


def passed_of(layer: int, layers: int) -> int:
    """Return how many layers were passed; negative counts from the last."""
    passed = layer + layers + 1 if layer < 0 else layer
    if not 0 <= passed <= layers:
        raise OptionError(
            f"layer is how many of {layers} layers were passed, from 0 to {layers} (or negative, "
            f"from the last); got {layer}"
        )
    return passed


def draw_words(sure: ImageMap, words: np.ndarray, ax: Axes | None, *, title: str, key: str) -> Axes:
    """Write one word into each cell; for `sure` and `key` see `draw_tokens`."""
    boxes = [sure.cell_box(*at) for at in np.ndindex(sure.grid)]
    return draw_tokens(
        sure.image.pixels, boxes, words.tolist(), sure.values.ravel(), title=title, key=key,
        columns=sure.grid[1], ax=ax,
    )  # fmt: skip


@needs(READER)
def logit_lens(trace: Trace, words: Sequence[str] | None = None, *, top: int = 1) -> LogitLens:
    """Read the image positions of every layer as words, in one run over prompt and image.

    Args:
        words: words to map, each by its first piece as it is generated after a space; the words of
            findings that the text states when None.
        top: how many of the likeliest pieces to keep at each position.

    Raises:
        InputError: the trace has no model, or a word is empty.
        OptionError: top is below 1 or beyond the vocabulary; words is one text.

    >>> wb.attention.logit_lens(trace, ["effusion"]).map("effusion").grid == trace.layout.grid
    True
    """
    model = trace.need_model()
    tokenizer = model.tokenizer
    asked = _stated_words(trace.layout) if words is None else _checked(words)
    ids = {word: _first_piece(tokenizer, word) for word in asked}
    vocabulary = model.sizes.vocabulary
    if not isinstance(top, int) or not 1 <= top <= vocabulary:
        raise OptionError(f"top must be from 1 to {vocabulary} (the vocabulary), got {top!r}")
    image = places_of(trace)
    best, chance, columns = [], [], []
    with model.exclusive(), torch.inference_mode():
        for state in prompt_states(trace):
            probabilities = read_state(model, state[image]).exp()
            values, found = probabilities.topk(top)
            chance.append(values.cpu().numpy())
            best.append([tokenizer.pieces(row) for row in found.tolist()])
            columns.append(probabilities[:, list(ids.values())].cpu().numpy())
    maps = np.stack(columns).astype(np.float32)
    grid = (len(columns), *trace.layout.grid)
    return LogitLens(
        tokens=np.array(best, dtype=object),
        probabilities=np.stack(chance).astype(np.float32),
        words={word: maps[..., n].reshape(grid) for n, word in enumerate(ids)},
        pieces={word: tokenizer.pieces([number])[0] for word, number in ids.items()},
        grid=trace.layout.grid,
        geometry=trace.layout.geometry,
        image=trace.image,
        settings={"model": trace.generation.model.id, "sha256": trace.generation.model.sha256},
    )


def places_of(trace: Trace) -> np.ndarray:
    """Return for each cell of the grid the position of the token that shows most of it."""
    tokens = trace.need_model().image_tokens(trace.image, trace.generation.prompt_ids)
    return tokens.image if tokens.shares is None else tokens.image[tokens.shares.argmax(0)]


def layer_states(model: Reader, run: Callable[[], torch.Tensor]) -> list[torch.Tensor]:
    """Return the states (positions, H) that enter each layer during a run, and what it returns."""
    seen: list[torch.Tensor] = []
    with watch_states(model, lambda layer, start, states: seen.append(states[0])):
        last = run()
    return [*seen, last]


def states_of(trace: Trace) -> list[torch.Tensor]:
    """Return the states of all prompt positions after 0, 1, ... L layers; only the last normed."""
    model, pixels = trace.need_model(), torch.tensor(trace.pixel_values)[None]
    return layer_states(model, partial(model.last_states, pixels, trace.generation.prompt_ids))


def prompt_states(trace: Trace) -> list[torch.Tensor]:
    """Return the normed states of all prompt positions after 0, 1, ... L layers, (positions, H)."""
    model = trace.need_model()
    *entering, last = states_of(trace)
    norm = cast("torch.nn.LayerNorm", model.decoder.norm)
    return [*(norm(state.to(device_of(norm))) for state in entering), last]


def token_states(trace: Trace) -> list[Float[torch.Tensor, "n H"]]:
    """Return what entered each layer, not normed, where each token of the text was chosen."""
    model, text = trace.need_model(), trace.generation
    pixels = torch.tensor(trace.pixel_values)[None]
    with model.exclusive():
        model.prefill(pixels, text.prompt_ids)
        read = partial(model.force, pixels, text.prompt_ids, text.token_ids)
        *entering, _ = layer_states(model, read)
    return [state[-len(text.token_ids) :] for state in entering]


def read_state(model: Reader, state: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities over the vocabulary, (positions, V) float32, of normed states."""
    return model.read_out(state).log_softmax(-1)


def _checked(words: Sequence[str]) -> list[str]:
    if isinstance(words, str):
        raise OptionError(f"words must be a list of words, got one text; use [{words!r}]")
    for word in words:
        if not isinstance(word, str) or not word.strip():
            raise InputError(f"a word is empty ({word!r}); expected words such as 'effusion'")
    return list(dict.fromkeys(word.strip() for word in words))


def _first_piece(tokenizer, word: str) -> int:
    """Return the id of the first piece of a word that carries one of its characters."""
    ids = tokenizer.encode(word, add_bos=False)
    pieces = tokenizer.pieces(ids)
    return next((i for i, piece in zip(ids, pieces, strict=True) if piece != WORD_START), ids[0])


def _stated_words(layout: TokenLayout) -> list[str]:
    """Return the words by which the text names findings as present."""
    spans = [(row.start, row.end) for row in label(layout.text).mentions if row.code == PRESENT]
    words = [word for start, end in spans for word in layout.text[start:end].split()]
    return list(dict.fromkeys(word.strip(".,;:").lower() for word in words))
