"""Logit lens on image tokens: which word each place of the image would say, layer by layer.

The state of every image position after every language layer is read as if it were the last one:
final norm, then the head, then a softmax over the vocabulary.

Does not know: other bases. Early states need not be written in the last layer's language, so
nonsense there does not mean that nothing is known. No token is ever generated at an image position,
and nothing in training asked these states to be words.
Sources: nostalgebraist, interpreting GPT: the logit lens, LessWrong 2020; for image tokens, Neo et
al., Towards Interpreting Visual Information Processing in Vision-Language Models, ICLR 2025,
arXiv 2410.07149, section 4.
Deviation: state 0 is the projector's output, before any layer; the last state is the model's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from workbench.attention.lens_result import LogitLens
from workbench.backends import Reader
from workbench.errors import InputError, OptionError
from workbench.findings import PRESENT
from workbench.model.tokenizer import WORD_START
from workbench.reports import label
from workbench.trace import TokenLayout, Trace


def logit_lens(trace: Trace, words: Sequence[str] | None = None, *, top: int = 1) -> LogitLens:
    """Read the image positions of every layer as words.

    Runs the model once over prompt and image.

    Args:
        trace: the run, with its model (`trace.attach`).
        words: words to map. A word stands for its first piece, as it is generated after a space;
            the pieces are in `LogitLens.pieces`. The words of findings that the text states when
            None.
        top: how many of the likeliest pieces to keep at each position.

    Raises:
        InputError: the trace has no model, or a word is empty.
        OptionError: top is below 1 or beyond the vocabulary; words is one text.
    """
    started = time.perf_counter()
    model = trace.need_model()
    tokenizer = model.tokenizer
    asked = _stated_words(trace.layout) if words is None else _checked(words)
    ids = {word: _first_piece(tokenizer, word) for word in asked}
    vocabulary = model.sizes.vocabulary
    if not isinstance(top, int) or not 1 <= top <= vocabulary:
        raise OptionError(f"top must be from 1 to {vocabulary} (the vocabulary), got {top!r}")
    image = trace.layout.span("image").slice
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
        seconds=time.perf_counter() - started,
    )


def prompt_states(trace: Trace) -> list[torch.Tensor]:
    """Return the state of every prompt position after 0, 1, ... L layers.

    Returns:
        L + 1 tensors (positions before the first generated token, H), all but the last without the
        final norm; the last one has it.
    """
    model = trace.need_model()
    network = model.network
    device = network.get_input_embeddings().weight.device
    ids = torch.tensor([trace.generation.prompt_ids], device=device)
    features = network.encode_image(torch.tensor(trace.pixel_values)[None])
    embeds = network.splice(ids, features.to(device))
    with _watched_layers(model.decoder) as states:
        last = model.decoder(inputs_embeds=embeds, use_cache=False).last_hidden_state
    norm = model.decoder.norm
    before = [norm(state.to(norm.weight.device)) for state in states]
    return [state[0] for state in (*before, last)]


@contextmanager
def _watched_layers(decoder: torch.nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collect what enters each layer while the block runs.

    transformers' own `output_hidden_states` hangs hooks on the model that it never takes off.
    """
    states: list[torch.Tensor] = []

    def keep(module, args, kwargs) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])

    with ExitStack() as hooks:
        for layer in decoder.layers:
            hooks.callback(layer.register_forward_pre_hook(keep, with_kwargs=True).remove)
        yield states


def read_state(model: Reader, state: torch.Tensor) -> torch.Tensor:
    """Return log-probabilities over the vocabulary, (positions, V) float32, of normed states."""
    weight = model.head.weight
    return model.head(state.to(weight.device)).float().log_softmax(-1)


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
