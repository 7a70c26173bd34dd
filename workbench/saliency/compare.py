"""`compare`: several methods asked about the same words, side by side.

Methods have different units, so each map is drawn on its own scale; what can be compared is where
they point and how much of them lies where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workbench.errors import InputError, OptionError, check_one_of
from workbench.figures.maps import draw_small_multiples
from workbench.figures.numbers import method_name
from workbench.figures.page import figure_html
from workbench.saliency import checks
from workbench.saliency.explain import METHODS, explain
from workbench.trace import ImageMap, Selection, SelectionOptions, Trace

#: Methods that take a fraction of a second each on a laptop with `mini`.
FAST = ("attention", "rollout", "relevancy", "grad_cam", "input_x_gradient")

_TOLD = ("target", "layer", "head", "unit", "signed", "normalisation", "caution", "seconds")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of one image by name, and what they explain, in words."""

    maps: Mapping[str, ImageMap]
    target: str

    def __post_init__(self) -> None:
        maps = dict(self.maps)
        if not maps:
            raise InputError("there is no map to compare; give at least one")
        first = next(iter(maps.values())).image.pixels
        for name, item in maps.items():
            pixels = item.image.pixels
            if pixels.shape != first.shape or not np.array_equal(pixels, first):
                raise InputError(
                    f"the map {name!r} is of {item.image.contract.source!r}, the others are of "
                    "another image; compare maps of one image"
                )
        object.__setattr__(self, "maps", maps)

    def __iter__(self) -> Iterator[ImageMap]:
        return iter(self.maps.values())

    def __getitem__(self, name: str) -> ImageMap:
        """Return one map; OptionError where there is none of this name."""
        check_one_of("map", name, self.maps)
        return self.maps[name]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per map: what its caption says, what it cost, and every score of any."""
        rows = [{name: getattr(item, name) for name in _TOLD} | dict(item.scores) for item in self]
        return pd.DataFrame(rows, index=pd.Index(list(self.maps), name="map"))

    def scores(self, mask: np.ndarray) -> pd.DataFrame:
        """Return one row per map: pointing (bool), energy and overlap in [0, 1]; see `checks`."""
        asked = (checks.pointing, checks.energy, checks.overlap)
        rows = [{check.__name__: check(item, mask) for check in asked} for item in self]
        return pd.DataFrame(rows, index=pd.Index(list(self.maps), name="map"))

    def plot(
        self,
        *,
        masks: Mapping[str, np.ndarray] | None = None,
        columns: int = 3,
        peaks: bool = False,
    ) -> Figure:
        """Draw all maps, each divided by its own largest value, so many in a row.

        Args:
            masks: name -> boolean (H, W) of the original's size, outlined in each.
            peaks: mark the greatest cell of each, where the pointing game looks.
        """
        shown = {method_name(name): item for name, item in self.maps.items()}
        return draw_small_multiples(
            next(iter(self)).image.pixels,
            [(name, item.normalised_original()) for name, item in shown.items()],
            signed=[item.signed for item in self],
            title=self.target,
            details="each map divided by its own largest value",
            columns=columns,
            masks=masks,
            cautions={name: item.caution for name, item in shown.items() if item.caution},
            points={name: item.peak for name, item in shown.items()} if peaks else None,
            opacity=0.8,
        )

    def __repr__(self) -> str:
        return f"<Comparison of {self._names()}: {self.target}>"

    def _repr_html_(self) -> str:
        return figure_html(self.plot(), f"{self._names()}: {self.target}")

    def _names(self) -> str:
        return ", ".join(map(method_name, self.maps))


def compare(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    methods: Sequence[str] = FAST,
    options: Mapping[str, Mapping[str, object]] | None = None,
    contrast: str | None = None,
    **named: Unpack[SelectionOptions],
) -> Comparison:
    """Ask several methods about the same part of a text.

    Args:
        phrase, contrast, **named: what is explained; see `explain`.
        methods: names in `METHODS`; one that is named twice is run once.
        options: name of a method -> options of that method.

    Raises:
        InputError: see `explain`.
        OptionError: no method, one that is unknown, options for one that is not asked, or an
            option that a method does not take.
    """
    names = [methods] if isinstance(methods, str) else list(dict.fromkeys(methods))
    given = dict(options or {})
    if not names:
        raise OptionError("name at least one method to compare")
    if unused := [name for name in given if name not in names]:
        raise OptionError(f"options came for {unused[0]!r}, which is not among: {', '.join(names)}")
    selection = trace.select(phrase, **named)
    maps = {
        name: explain(trace, selection, method=name, contrast=contrast, **given.get(name, {}))
        for name in names
    }
    # Methods that read attention know no contrast, so their target is only a part of it.
    whole = [item.target for name, item in maps.items() if not METHODS[name].recorded]
    return Comparison(maps, (whole or [item.target for item in maps.values()])[0])
