"""LogitLens: what the image positions say in every layer, to read, to map and to draw.

Does not know: how it was read (`lens`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped

from workbench.attention.figure import draw_stack, draw_tokens, figure_html
from workbench.errors import InputError, OptionError
from workbench.radiograph import FitGeometry, Radiograph
from workbench.trace import ImageMap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class LogitLens:
    """Words at image positions, after 0, 1, ... L language layers.

    Attributes:
        tokens: (L + 1, N, top) the likeliest vocabulary pieces, the likeliest first.
        probabilities: (L + 1, N, top) their probabilities, in [0, 1].
        words: word -> (L + 1, rows, columns) probability of its first piece, in [0, 1].
        pieces: word -> the piece that stands for it.
        grid: rows and columns of patches.
        geometry: how the original lies in the model's square.
        image: the radiograph.
        settings: which model.
        seconds: wall time.
    """

    tokens: Shaped[np.ndarray, "states N top"]
    probabilities: Float[np.ndarray, "states N top"]
    words: Mapping[str, np.ndarray]
    pieces: Mapping[str, str]
    grid: tuple[int, int]
    geometry: FitGeometry
    image: Radiograph
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def layers(self) -> int:
        """Language layers of the model; there is one state more."""
        return len(self.tokens) - 1

    def map(self, word: str, layer: int = -1) -> ImageMap:
        """Map the probability of a word over the image.

        Args:
            word: one of the words that were asked for.
            layer: how many layers the states have passed, from 0 (as the projector left them) to
                L; negative counts from the last.

        Raises:
            OptionError: the word was not asked for, or there is no such layer.
        """
        passed = self._passed(layer)
        values = self._values(word)[passed]
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
        for each word that was asked for its probability, named "p(word)".
        """
        import pandas as pd

        states, patches, _ = self.tokens.shape
        rows, columns = np.indices(self.grid).reshape(2, -1)
        own = {f"p({word})": values.ravel() for word, values in self.words.items()}
        return pd.DataFrame(
            {
                "layer": np.repeat(np.arange(states), patches),
                "row": np.tile(rows, states),
                "column": np.tile(columns, states),
                "token": self.tokens[..., 0].ravel(),
                "probability": self.probabilities[..., 0].ravel(),
                **own,
            }
        )

    def plot(
        self,
        word: str | None = None,
        *,
        columns: int = 5,
        together: bool = True,
        masks: Mapping[str, np.ndarray] | None = None,
        smooth: bool = True,
    ) -> Figure:
        """Draw one word through the layers.

        Args:
            word: one of the words that were asked for; the first when None.
            columns: how many maps in a row.
            together: one scale for all layers; else each has its own.
            masks: name -> boolean (H, W) of the original's size, outlined in each.
            smooth: interpolate between patches.

        Raises:
            InputError: no word was asked for.
            OptionError: the word was not asked for.
        """
        if word is None:
            word = self._first_word()
        maps = [self.map(word, layer) for layer in range(self.layers + 1)]
        names = [
            f"after {passed} of {self.layers}: max {item.values.max():.0%}"
            for passed, item in enumerate(maps)
        ]
        return draw_stack(
            maps,
            names,
            title=f"Logit lens by layers passed: {word}",
            details="",
            columns=columns,
            together=together,
            masks=masks,
            smooth=smooth,
        )

    def plot_tokens(self, layer: int = -1, ax: Axes | None = None) -> Axes:
        """Write the likeliest piece of each patch over the film.

        Args:
            layer: how many layers the states have passed; negative counts from the last.
            ax: where to draw; a new figure when None, larger with more patches.

        Raises:
            OptionError: there is no such layer.
        """
        passed = self._passed(layer)
        chance = self.probabilities[passed, :, 0].reshape(self.grid)
        cells = ImageMap(chance, self.geometry, self.image, "logit lens", "likeliest piece")
        boxes = [cells.cell_box(r, c) for r in range(self.grid[0]) for c in range(self.grid[1])]
        return draw_tokens(
            self.image.pixels,
            boxes,
            self.tokens[passed, :, 0].tolist(),
            chance.ravel(),
            title=f"Likeliest word at each patch, after {passed} of {self.layers} layers",
            columns=self.grid[1],
            ax=ax,
        )

    def _passed(self, layer: int) -> int:
        passed = layer + self.layers + 1 if layer < 0 else layer
        if not 0 <= passed <= self.layers:
            raise OptionError(
                f"layer is how many of {self.layers} layers were passed, from 0 to {self.layers} "
                f"(or negative, from the last); got {layer}"
            )
        return passed

    def _values(self, word: str) -> np.ndarray:
        if word not in self.words:
            raise OptionError(
                f"the lens was not read for {word!r}; it holds {', '.join(self.words) or 'no word'}"
                f". Read it again with words=[{word!r}]"
            )
        return self.words[word]

    def _first_word(self) -> str:
        if not self.words:
            raise InputError(
                "the lens was read for no word; read it again with words=['effusion'], or draw "
                "what it says itself with .plot_tokens()"
            )
        return next(iter(self.words))

    def __repr__(self) -> str:
        rows, columns = self.grid
        told = ", ".join(self.words) or "no words"
        return f"<LogitLens over {self.layers} layers, {rows} x {columns} patches: {told}>"

    def _repr_html_(self) -> str:
        figure = self.plot() if self.words else self.plot_tokens().figure
        return figure_html(figure, "logit lens")
