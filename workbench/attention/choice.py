"""Which words, which layers, which heads: what every analysis of attention has to choose first."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from workbench.errors import InputError, OptionError
from workbench.trace import AttentionRows, Selection, SelectionOptions, Trace

#: How the rows of several tokens become one.
REDUCE = ("mean", "max")

#: From this correlation on, a map says that it is like another one.
ALIKE = 0.9

_SHOWN = 60


def choose(trace: Trace, phrase: str | Selection | None, named: SelectionOptions) -> Selection:
    """Return the chosen part of the text, which holds at least one token.

    Raises:
        OptionError: more than one part is named, or a number is out of range.
        InputError: the phrase is empty or not in the text, the finding is not named in it, or the
            text is empty.
    """
    selection = trace.select(phrase, **named)
    if not selection.tokens:
        raise InputError(
            "the generated text is empty, so no word has attention; trace an answer that says "
            f"something, or name one of its {len(trace.layout.tokens)} tokens with token="
        )
    return selection


def patch_rows(
    trace: Trace, *, layer: int | None = None, head: int | None = None
) -> Float[np.ndarray, "n N"]:
    """Return how much attention each generated token paid to each image patch.

    (n, N) float64 in [0, 1], patches row by row; rows sum to the image's share. For `layer`, `head`
    and errors see `AttentionRows.pick`.
    """
    rows = trace.language.pick(layer, head)
    return rows[:, trace.layout.span("image").slice].astype(np.float64)


def reduce_rows(
    rows: Float[np.ndarray, "n N"], selection: Selection, reduce: str
) -> Float[np.ndarray, " N"]:
    """Return one row for a selection: the mean of its tokens' rows, or their max patch by patch.

    Raises:
        OptionError: reduce is neither "mean" nor "max".
    """
    if reduce not in REDUCE:
        raise OptionError(f"reduce must be one of {', '.join(REDUCE)}; got {reduce!r}")
    own = rows[list(selection.tokens)]
    return own.mean(0) if reduce == "mean" else own.max(0)


def likeness(first: Float[np.ndarray, " N"], second: Float[np.ndarray, " N"]) -> float:
    """Return the correlation of two maps, in [-1, 1].

    An even map has no shape, so it is like another even one (1) and unlike all else (0).
    """
    even = [bool(np.allclose(values, values.mean())) for values in (first, second)]
    if any(even):
        return float(all(even))
    return float(np.corrcoef(first, second)[0, 1])


def alike_caution(likeness_found: float, what: str) -> str | None:
    """Return a caution where a map is nearly the same as one that it should differ from."""
    if likeness_found < ALIKE:
        return None
    return f"much like the map of {what} (r = {likeness_found:.2f})"


def target_of(selection: Selection) -> str:
    """Return the selection in a few words."""
    if selection.kind == "text":
        return "the whole text"
    text = " ".join(str(selection).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def layer_words(rows: AttentionRows, layer: int | None) -> str:
    """Return which layers, in words."""
    if layer is not None:
        number = layer + rows.total_layers if layer < 0 else layer
        return f"layer {number} of 0 to {rows.total_layers - 1}"
    if len(rows.layers) == rows.total_layers:
        return "mean of all layers"
    listed = ", ".join(map(str, rows.layers))
    return f"mean of layers {listed} of 0 to {rows.total_layers - 1}"


def head_words(rows: AttentionRows, head: int | None) -> str:
    """Return which heads, in words."""
    return "mean of heads" if head is None else f"head {head} of 0 to {rows.total_heads - 1}"


def chosen_settings(trace: Trace, selection: Selection, **options: object) -> dict[str, object]:
    """Return everything that decided a map, for `ImageMap.settings`."""
    return {
        "kind": selection.kind,
        "text": selection.text,
        "tokens": list(selection.tokens),
        **options,
        "model": trace.generation.model.id,
        "sha256": trace.generation.model.sha256,
    }
