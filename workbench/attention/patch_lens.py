"""Patch lens: which word, in which sentence, each image token is most like, layer by layer.

The state of every image position is compared with those of words in sentences, after every layer,
and the nearest ones name it. Words inside their sentence say more than pieces of a vocabulary, and
an early state may well be like a word of a later layer.

Source: Krojer et al., LatentLens, arXiv 2602.00462, section 3.2. Deviation: they embed 117,000
sentences of 23,000 concepts; here two hundred sentences of chest reports, or texts of your own, are
all there is to be like. So a patch always has a nearest word; the cosine says how near, and a word
that no sentence holds cannot be found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes

from workbench.attention.lens import draw_words, layer_states, passed_of, places_of, states_of
from workbench.backends import Reader
from workbench.backends.levels import READER, needs
from workbench.errors import InputError, OptionError
from workbench.figures.page import figure_html
from workbench.model.placement import device_of
from workbench.phantom import sample_scene
from workbench.phantom.wording import write_report
from workbench.radiograph import FitGeometry, Radiograph
from workbench.reports import sentences
from workbench.trace import ImageMap, Trace
from workbench.trace.layout import words_of


@dataclass(frozen=True, eq=False)
class PatchLens:
    """Words of sentences that image positions are most like, after 0, 1, ... L language layers.

    Attributes:
        words: (L + 1, N, top) words, the likest first.
        sentences: (L + 1, N, top) the sentence that each stands in.
        cosines: (L + 1, N, top) cosine of the two states, in [-1, 1].
        passed: (L + 1, N, top) layers that the word had passed.
        grid: rows and columns of patches.
        settings: which model, and how many sentences there were.
    """

    words: Shaped[np.ndarray, "states N top"]
    sentences: Shaped[np.ndarray, "states N top"]
    cosines: Float[np.ndarray, "states N top"]
    passed: Shaped[np.ndarray, "states N top"]
    grid: tuple[int, int]
    geometry: FitGeometry
    image: Radiograph
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def layers(self) -> int:
        """Language layers of the model; there is one state more."""
        return len(self.words) - 1

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer, patch and rank.

        Columns: layer (passed), row, column, rank, word, sentence, word_layer, cosine.
        """
        layer, patch, rank = np.indices(self.words.shape).reshape(3, -1)
        row, column = np.unravel_index(patch, self.grid)
        found = {"layer": layer, "row": row, "column": column, "rank": rank}
        found |= {"word": self.words.ravel(), "sentence": self.sentences.ravel()}
        return pd.DataFrame(
            found | {"word_layer": self.passed.ravel(), "cosine": self.cosines.ravel()}
        )

    def plot(self, layer: int = -1, ax: Axes | None = None) -> Axes:
        """Write the likest word of each patch over the radiograph; `layer` as in `LogitLens`."""
        passed = passed_of(layer, self.layers)
        title = f"Word that each patch is most like, after {passed} of {self.layers} layers"
        key = "pale: unlike; yellow: alike; bold: cosine above 0.5"
        sure = self.cosines[passed, :, 0].clip(0, 1).reshape(self.grid)
        cells = ImageMap(sure, self.geometry, self.image, "patch lens", "likest word")
        return draw_words(cells, self.words[passed, :, 0], ax, title=title, key=key)

    def __repr__(self) -> str:
        rows, columns = self.grid
        return f"<PatchLens over {self.layers} layers, {rows} x {columns} patches>"

    def _repr_html_(self) -> str:
        return figure_html(self.plot(), "patch lens")


@needs(READER)
def patch_lens(trace: Trace, texts: Iterable[str] | None = None, *, top: int = 1) -> PatchLens:
    """Name what each patch means by the words in sentences whose states are nearest to its own.

    Args:
        texts: sentences to be like; those of 64 phantoms' reports, and of the trace's own text,
            when None. Each is read alone, without an image.
        top: how many of the nearest words to keep at each position.

    Raises:
        InputError: the trace has no model, or the texts hold no word.
        OptionError: top is below 1, or above the number of words; texts is one text.

    >>> wb.attention.patch_lens(trace, ["No pleural effusion."]).layers > 0
    True
    """
    if isinstance(texts, str):
        raise OptionError(f"texts must be a list of sentences, got one text; use [{texts!r}]")
    model, image = trace.need_model(), places_of(trace)
    told = list(dict.fromkeys(_report_sentences(trace) if texts is None else texts))
    words: list[tuple[str, str]] = []
    found: list[list[torch.Tensor]] = []
    with model.exclusive(), torch.inference_mode():
        for text in told:
            own, states = _word_states(model, text)
            words += [(word, text) for word in own]
            found.append(states)
        layers = model.sizes.layers + 1
        if not isinstance(top, int) or not 1 <= top <= len(words) * layers:
            if not words:
                raise InputError("the texts hold no word to be like; give sentences")
            raise OptionError(f"top must be from 1 to {len(words) * layers}, got {top!r}")
        known = F.normalize(torch.cat([torch.cat(parts) for parts in zip(*found, strict=True)]))
        cosines, nearest = [], []
        for state in states_of(trace):
            values, at = (F.normalize(state[image].float()).to(known) @ known.T).topk(top)
            cosines.append(values.cpu().numpy())
            nearest.append(at.cpu().numpy())
    passed, which = np.divmod(np.stack(nearest), len(words))
    said = np.array(words, dtype=object)[which]
    return PatchLens(
        said[..., 0], said[..., 1], np.stack(cosines), passed,
        trace.layout.grid, trace.layout.geometry, trace.image,
        {"model": trace.generation.model.id, "sha256": trace.generation.model.sha256,
         "sentences": len(told), "words": len(words)},
    )  # fmt: skip


def _report_sentences(trace: Trace) -> list[str]:
    """Return the sentences of the reports of phantoms 0 to 63, and those of the traced text."""
    reports = [
        write_report(sample_scene(seed).lesions, np.random.default_rng(seed), "internal")
        for seed in range(64)
    ]
    return [one.text for text in (*reports, trace.text) for one in sentences(text)]


def _word_states(model: Reader, text: str) -> tuple[list[str], list[torch.Tensor]]:
    """Return the words of a text, and the (words, H) states of their last tokens by layer."""
    ids = model.tokenizer.encode(text, add_bos=True)
    offset = len(ids) - len(model.tokenizer.encode(text, add_bos=False))
    embed = model.decoder.get_input_embeddings()
    row = torch.tensor([ids], device=device_of(embed))
    states = layer_states(
        model, lambda: model.decoder(input_ids=row, use_cache=False).last_hidden_state[0]
    )
    spelled = model.tokenizer.decode(ids[offset:])
    own = words_of(spelled, model.tokenizer.offsets(ids[offset:]))
    named = {offset + word.tokens[-1]: word.text.strip(".,;:()") for word in own if word.tokens}
    last = [at for at, word in named.items() if word]
    return [named[at] for at in last], [state[last].to(row.device).float() for state in states]
