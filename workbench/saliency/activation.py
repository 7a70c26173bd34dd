"""Token activation map: what image tokens would say of a word, without what earlier words activate.

The last state of every image token is read by the head's row of the word (its activation, at least
0). Earlier words have such maps too, and a word takes over what they light up: the mean of their
maps, weighted by how far their own positions activate the word, is scaled by least squares and
taken away. A rank Gaussian filter then removes what stands alone: in each window, values far from
the median weigh less, the less the window varies.

Paper: Li et al., Token Activation Map to Visually Explain Multimodal LLMs (TAM), ICCV 2025, arXiv
2506.23270, equations 2 to 7. Deviations: the map of several tokens is the mean of theirs; earlier
words are all tokens behind the image, marks of the chat template too; the map keeps its unit, and
is not scaled together with the activations of the text.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from workbench.errors import OptionError
from workbench.saliency.gradients import Attribution
from workbench.saliency.scorer import Scorer

#: Positions whose logits over the whole vocabulary are there at the same time.
_TOGETHER = 256


def token_activation(scorer: Scorer, grid: tuple[int, int], *, window: int = 3) -> Attribution:
    """Return the activation of the target's tokens above that of earlier words, >= 0.

    A contrast is left out. `window` is the side of the filter in cells, odd; 1 filters nothing.

    Raises:
        OptionError: the window is not odd, or below 1.
    """
    if not isinstance(window, int) or window < 1 or not window % 2:
        raise OptionError(f"window must be an odd number of cells from 1 up, got {window!r}")
    target, tokens = scorer.target, scorer.tokens
    ids = np.array((*tokens.words[1], *target.before, *target.tokens))
    image, first = len(tokens.image), len(ids) - len(target.tokens)
    places = [*tokens.image, *range(int(tokens.behind[0]), int(tokens.behind[0]) + len(ids) - 1)]
    with torch.inference_mode(), scorer.model.exclusive():
        told = (*target.before, *target.tokens[:-1])
        states = scorer.model.last_states(scorer.pixels, scorer.prompt, told)[places]
        parts = [scorer.model.read_out(some)[:, ids] for some in states.split(_TOGETHER)]
    active = torch.cat(parts).clamp_min(0).double().cpu().numpy()
    maps = []
    for at in range(first, len(ids)):
        earlier = np.flatnonzero(ids[:at] != ids[at])
        weights = active[image + earlier, at]
        clear = without(active[:image, at], active[:image, earlier] @ weights)
        cells = tokens.to_cells(torch.from_numpy(clear).float()).numpy()
        maps.append(rank_gaussian(cells.reshape(grid), window))
    return Attribution(torch.from_numpy(np.mean(maps, 0)).float())


def without(
    own: Float[np.ndarray, " N"], other: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Return what is left of a map, >= 0, without as much of another as lies in it."""
    norm = other @ other
    return np.maximum(own - other * (own @ other / norm if norm > 0 else 0.0), 0)


def rank_gaussian(
    values: Float[np.ndarray, "rows columns"], window: int
) -> Float[np.ndarray, "rows columns"]:
    """Return the mean of each window's sorted values, Gaussian by their rank around the median.

    Its width in ranks is the window's standard deviation divided by its mean.
    """
    padded = np.pad(values, window // 2, mode="reflect" if min(values.shape) > 1 else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (window, window))
    ranked = np.sort(windows.reshape(*values.shape, -1), -1)
    mean, spread = ranked.mean(-1, keepdims=True), ranked.std(-1, keepdims=True)
    width = np.divide(spread, mean, out=np.zeros_like(mean), where=mean > 0)
    ranks = np.arange(window**2) - window**2 // 2
    weights = np.exp(-(ranks**2) / (2 * width**2 + 1e-12))
    return (ranked * weights).sum(-1) / weights.sum(-1)
