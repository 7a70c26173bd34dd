"""Interventions: change the inside of a model while it reads and writes, and see what it then says.

    wb.attention.ablate(trace, heads=wb.attention.heads(trace).best(3))    # blind heads
    wb.attention.patch(trace, other, layer=2)                  # states of another image's run

What changes with a part shows that the part was used here, not that it alone was: other heads may
stand in for one that is gone, and a state that is put in may fit no run of the model. Layers
without attention (recurrent ones, convolutions) carry news of the image past any ablation.

Papers: ablated heads, Michel et al., NeurIPS 2019, arXiv 1905.10650; attention that is cut off,
Geva et al., EMNLP 2023, arXiv 2304.14767, section 5 (knockout); patched activations, Meng et al.,
NeurIPS 2022, arXiv 2202.05262, section 2 (causal tracing), from another input as Zhang and Nanda,
ICLR 2024, arXiv 2309.16042. Deviations: what a blind head paid to the image goes to the rest in
proportion, as if the image were not there, and not to nowhere; the clean and the other image are
two radiographs, none is corrupted by noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from html import escape

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from matplotlib.axes import Axes

from workbench.backends.attending import Call, attention_rows, watch_attention, watch_states
from workbench.backends.levels import READER, needs
from workbench.backends.reader import ImageTokens, Reader, Sizes
from workbench.errors import InputError, OptionError, check_one_of
from workbench.figures.page import SMALL, card
from workbench.figures.tables import html_table
from workbench.figures.words import FULL, plot_words, words_html
from workbench.generation import Generation
from workbench.imaging.load import as_radiograph
from workbench.model.licence import RESEARCH_NOTICE
from workbench.radiograph import Radiograph
from workbench.reports import label
from workbench.trace import Selection, Trace
from workbench.trace.layout import words_of

#: Ways to ablate a head.
HOW = ("image", "output")
POSITIONS = ("image", "text", "all")


@dataclass(frozen=True, eq=False)
class Intervention:
    """What a model said, and says with its inside changed.

    Attributes:
        what: what was changed, in words.
        original: the text before.
        written: the text that is written instead, with the same decoding settings; None where it
            was not asked for. Where the traced text was not the model's own (a reference, an edited
            report), it differs by that alone: compare with `ablate(trace, heads=[])`.
        before, after: (n,) log-probability of each token of `original`, read teacher-forced.
    """

    what: str
    original: Generation
    written: Generation | None
    before: Float[np.ndarray, " n"]
    after: Float[np.ndarray, " n"]
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def change(self) -> Float[np.ndarray, " n"]:
        """Log-probability after minus before; below 0 the changed part spoke for the token."""
        return self.after - self.before

    @property
    def text(self) -> str:
        """The text that is written instead.

        Raises:
            InputError: it was not asked for.
        """
        if self.written is None:
            raise InputError("no text was written; intervene again with write=True")
        return self.written.text

    @cached_property
    def findings(self) -> pd.DataFrame:
        """One row per finding whose code changed: finding, before, after; none without a text."""
        codes = [label(one.text).codes() for one in (self.original, self.written or self.original)]
        rows = [(name, code, codes[1][name]) for name, code in codes[0].items()]
        changed = [row for row in rows if row[1] != row[2]]
        return pd.DataFrame(changed, columns=["finding", "before", "after"])

    @cached_property
    def _words(self) -> tuple[tuple[Selection, ...], list[float]]:
        words = words_of(self.original.text, self.original.offsets)
        return words, [float(self.change[list(word.tokens)].sum()) for word in words]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per token of the original text: token, before, after, change."""
        columns = {"token": list(self.original.tokens), "before": self.before, "after": self.after}
        return pd.DataFrame(columns | {"change": self.change}).rename_axis("position")

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the original text word by word: pink where it became less likely, green likelier."""
        words, values = self._words
        return plot_words(
            [word.text for word in words], values, ax, title=self.what,
            label="change [nats]", note=RESEARCH_NOTICE,
        )  # fmt: skip

    def __repr__(self) -> str:
        changed = ", ".join(self.findings["finding"]) or "none"
        return (
            f"<Intervention: {self.what}: {self.change.sum():+.1f} nats over {len(self.before)} "
            f"tokens, findings changed: {changed}>"
        )

    def _repr_html_(self) -> str:
        words, values = self._words
        shown = words_html(self.original.text, [(word.start, word.end) for word in words], values)
        said, table = "", ""
        if self.written is not None:
            said = f"<p style='white-space:pre-wrap'><b>Now:</b> {escape(self.written.text)}</p>"
            rows = self.findings.to_numpy().tolist()
            table = html_table(["finding", "before", "after"], rows) if rows else ""
        return card(
            f"<b>{escape(self.what)}</b><p style='white-space:pre-wrap'>{shown}</p>{said}{table}"
            f"<p style='{SMALL}'>pink: less likely with the change, green: likelier; full colour "
            f"at {FULL:g} nats. {RESEARCH_NOTICE}</p>"
        )


@needs(READER)
def ablate(
    trace: Trace,
    *,
    layers: int | Iterable[int] | None = None,
    heads: Iterable[tuple[int, int]] | None = None,
    how: str = "image",
    write: bool = True,
) -> Intervention:
    """Take heads of the language model, or whole layers of them, away from a traced run.

    Args:
        layers: whose heads, negative ones counted from the last; all where heads are not named.
        heads: pairs of layer and head, as `HeadScores.best` gives them.
        how: "image" takes what the positions of text pay to the image and gives it to the rest, in
            proportion; "output" sets what the head writes to 0, at every position.
        write: also write the text anew; False is faster where only log-probabilities are wanted.

    Raises:
        InputError: the trace has no model.
        OptionError: both layers and heads are named, there is no such one, or `how` is unknown.

    >>> wb.attention.ablate(trace, layers=0, write=False).to_frame().columns.tolist()
    ['token', 'before', 'after', 'change']
    """
    check_one_of("how", how, HOW)
    model = trace.need_model()
    chosen = _chosen(model.sizes, layers, heads)
    tokens = model.image_tokens(trace.image, trace.generation.prompt_ids)
    image = np.concatenate((tokens.image, tokens.blind))

    def edit(call: Call) -> torch.Tensor | None:
        own = chosen.get(call.layer) if call.tower == "language" else None
        return None if own is None else _ablated(call, own, image if how == "image" else None)

    what = "Attention to the image" if how == "image" else "Output"
    return _intervened(
        trace, watch_attention(model, edit), f"{what} taken from {_named(chosen, model.sizes)}",
        write, {"how": how, "heads": _pairs(chosen)},
    )  # fmt: skip


@needs(READER)
def patch(
    trace: Trace,
    image: object,
    *,
    layer: int | None = None,
    heads: Iterable[tuple[int, int]] | None = None,
    positions: str | Sequence[int] = "image",
    write: bool = True,
) -> Intervention:
    """Put activations from the run with another image in the place of a traced run's own.

    Both runs read the same prompt and text. Where a decoder also gets features of the image between
    its layers (deepstack), these stay the traced image's.

    Args:
        image: the other one, as a model takes it; of the same size where the model does not fit it.
        layer: states that enter it, so that 0 is what the projector gives; negative counts from the
            last.
        heads: pairs of layer and head, whose outputs are taken instead of states.
        positions: of the prompt: "image", "text", "all", or their numbers.
        write: as in `ablate`.

    Raises:
        InputError: the trace has no model, or the other image takes other positions.
        OptionError: not exactly one of layer and heads is named, or there is no such one.

    >>> healthy = case.without("pleural effusion").image
    >>> wb.attention.patch(trace, healthy, layer=0, write=False).to_frame().columns.tolist()
    ['token', 'before', 'after', 'change']
    """
    if (layer is None) == (heads is None):
        raise OptionError("name either a layer, whose states are patched, or heads")
    model, other = trace.need_model(), as_radiograph(image)
    tokens = model.image_tokens(trace.image, trace.generation.prompt_ids)
    places = _patched_places(tokens, positions)
    _check_places(trace, tokens, other)
    if layer is None:
        chosen = _chosen(model.sizes, None, heads)
        at, what = {"heads": _pairs(chosen)}, f"Output of {_named(chosen, model.sizes)}"
    else:
        number = layer + model.sizes.layers if layer < 0 else layer
        if not 0 <= number < model.sizes.layers:
            raise OptionError(f"layers go from 0 to {model.sizes.layers - 1}, got {layer}")
        chosen, at, what = number, {"layer": number}, f"States that enter layer {number}"
    donors: dict[int, list[torch.Tensor]] = {}
    _read(trace, model.processor(other)[None], _watched(model, chosen, partial(_keep, donors)))
    values = {number: torch.cat(parts) for number, parts in donors.items()}

    def put(number: int, start: int, states: torch.Tensor) -> torch.Tensor | None:
        here = places[(places >= start) & (places < start + states.shape[1])]
        new, own = states.clone(), slice(None) if isinstance(chosen, int) else chosen[number]
        new[:, (here - start)[:, None], own] = values[number][here[:, None], own].to(new)
        return new

    source = other.contract.source
    return _intervened(
        trace, _watched(model, chosen, put), f"{what}, from {source}", write,
        {**at, "positions": places.tolist(), "source": source},
    )  # fmt: skip


#: Sees, or replaces, values (B, Q, ...) of a layer; also gets the layer and the first place.
_See = Callable[[int, int, torch.Tensor], torch.Tensor | None]


def _watched(
    model: Reader, chosen: int | Mapping[int, list[int]], see: _See
) -> AbstractContextManager[None]:
    """Show the states that enter a layer, or the outputs of layers with chosen heads."""
    if isinstance(chosen, int):
        return watch_states(
            model, lambda layer, at, states: see(layer, at, states) if layer == chosen else None
        )
    return watch_attention(
        model,
        lambda call: (
            see(call.layer, call.start, call.usual())
            if call.tower == "language" and call.layer in chosen
            else None
        ),
    )


def _keep(kept: dict[int, list[torch.Tensor]], layer: int, start: int, values: torch.Tensor):
    kept.setdefault(layer, []).append(values[0].clone())
    return values


def _ablated(call: Call, heads: list[int], image: np.ndarray | None) -> torch.Tensor | None:
    """Return a layer's output with heads that do not see the image, or write nothing at None."""
    if image is None:
        output = call.usual().clone()
        output[:, :, heads] = 0
        return output
    count, length = call.query.shape[2], call.key.shape[2]
    end = call.start + count
    # a sliding window may have kept the last keys only
    keys = np.isin(np.arange(end - length, end), image)
    text = np.flatnonzero(~np.isin(np.arange(call.start, end), image))
    if not keys.any() or not len(text):
        return None
    hidden = np.zeros((count, length), bool)
    hidden[text] = keys
    groups = call.query.shape[1] // call.key.shape[1]
    key, value = (part.repeat_interleave(groups, 1)[:, heads] for part in (call.key, call.value))
    mask = call.mask if call.mask is None or call.mask.shape[1] == 1 else call.mask[:, heads]
    blind = replace(call, query=call.query[:, heads], key=key, value=value, mask=mask)
    rows = attention_rows(blind, hidden=torch.from_numpy(hidden).to(key.device))
    output = call.usual().clone()
    output[:, text[:, None], heads] = (rows.to(value.dtype) @ value).transpose(1, 2)[:, text]
    return output


def _read(
    trace: Trace, pixels: torch.Tensor, edited: AbstractContextManager, write: bool = False
) -> tuple[np.ndarray, Generation | None]:
    """Return log-probabilities of the traced tokens about an image, and the text written anew."""
    model, made = trace.need_model(), trace.generation
    with model.exclusive(), model.other_weights(), edited:
        logits = model.force(pixels, made.prompt_ids, made.token_ids)
        chosen = torch.tensor(made.token_ids, device=logits.device)[:, None]
        logprobs = logits.log_softmax(-1).gather(1, chosen)[:, 0].cpu().numpy()
        return logprobs, model.write_again(pixels, made) if write else None


def _intervened(
    trace: Trace,
    edited: AbstractContextManager,
    what: str,
    write: bool,
    settings: Mapping[str, object],
) -> Intervention:
    pixels = torch.from_numpy(trace.pixel_values)[None]
    before, _ = _read(trace, pixels, nullcontext())
    after, written = _read(trace, pixels, edited, write)
    identity = trace.generation.model
    settings = {**settings, "model": identity.id, "sha256": identity.sha256}
    return Intervention(what, trace.generation, written, before, after, settings)


def _chosen(
    sizes: Sizes, layers: int | Iterable[int] | None, heads: Iterable[tuple[int, int]] | None
) -> dict[int, list[int]]:
    """Return layer -> heads."""
    if layers is not None and heads is not None:
        raise OptionError("name layers or heads, not both; a head is a pair of layer and head")
    if heads is None:
        named = sizes.attending if layers is None else layers
        named = [named] if isinstance(named, int) else named
        heads = [(layer, head) for layer in named for head in range(sizes.heads)]
    found: dict[int, list[int]] = {}
    for layer, head in dict.fromkeys(heads):
        number = layer + sizes.layers if layer < 0 else layer
        if number not in sizes.attending or not 0 <= head < sizes.heads:
            raise OptionError(
                f"heads go from 0 to {sizes.heads - 1} in layers "
                f"{', '.join(map(str, sizes.attending))}; got layer {layer}, head {head}"
            )
        found.setdefault(number, []).append(head)
    return found


def _pairs(chosen: Mapping[int, list[int]]) -> list[tuple[int, int]]:
    return [(layer, head) for layer, own in chosen.items() for head in own]


def _named(chosen: Mapping[int, list[int]], sizes: Sizes) -> str:
    whole = [str(layer) for layer, own in chosen.items() if len(own) == sizes.heads]
    if whole and len(whole) == len(chosen):
        every = len(whole) == len(sizes.attending)
        return "all layers" if every else _counted("layer", whole)
    pairs = [f"{layer}.{head}" for layer, head in _pairs(chosen)]
    return f"{len(pairs)} heads" if len(pairs) > 6 else _counted("head", pairs)


def _counted(what: str, names: list[str]) -> str:
    return f"{what}{'s' * (len(names) > 1)} {', '.join(names)}" if names else f"no {what}"


def _patched_places(tokens: ImageTokens, positions: str | Sequence[int]) -> np.ndarray:
    every = np.arange(int(tokens.behind[-1]) + 1)
    image = np.concatenate((tokens.image, tokens.blind))
    if isinstance(positions, str):
        check_one_of("positions", positions, POSITIONS)
        named = {"all": every, "image": np.sort(image), "text": np.setdiff1d(every, image)}
        return named[positions]
    if not set(positions) <= set(every.tolist()):
        raise OptionError(f"positions of the prompt go from 0 to {every[-1]}, got {positions}")
    return np.array(positions, int)


def _check_places(trace: Trace, tokens: ImageTokens, other: Radiograph) -> None:
    """Refuse an image whose tokens stand elsewhere, or lie in another grid."""
    try:
        there = trace.need_model().image_tokens(other, trace.generation.prompt_ids)
        same = there.grid == tokens.grid and np.array_equal(there.image, tokens.image)
    except InputError:
        same = False
    if not same:
        raise InputError(
            f"{other.contract.source} of {other.size} pixels takes other positions than the traced "
            f"image of {trace.image.size}; give both the same size"
        )
