"""A map of any phrase by any method of the table `METHODS`, and several methods side by side.

Methods have different units, so in a comparison each map is drawn on its own scale; what can be
compared is where they point and how much of them lies where.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Unpack

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from workbench.attention.word_maps import chosen_settings
from workbench.backends.levels import LOGPROBS, READER, WRITER, needs
from workbench.errors import InputError, OptionError, check_one_of, check_whole
from workbench.figures.maps import draw_small_multiples
from workbench.figures.numbers import method_name
from workbench.figures.page import figure_html
from workbench.imaging.load import as_radiograph
from workbench.interface import ChestXrayModel
from workbench.saliency import checks
from workbench.saliency.methods import FAST, METHODS, Method, caution_of, method_of, methods_for
from workbench.saliency.scorer import (
    AnswerScorer,
    Scorer,
    Target,
    checked_contrast,
    finding_sentence,
    make_target,
)
from workbench.trace import ImageMap, Selection, SelectionOptions, Trace
from workbench.trace.layout import split_options

_TOLD = ("target", "layer", "head", "unit", "signed", "normalisation", "caution", "seconds")


@needs(READER)
def explain(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    method: str = "relevancy",
    contrast: str | None = None,
    **options: object,
) -> ImageMap:
    """Return a map of where in the image a part of the text comes from.

    Args:
        trace: a run; all methods but those that read its attention need its model.
        phrase: words of the text, or a selection. The whole text when nothing is named.
        method: one of `METHODS`.
        contrast: words in the place of the phrase to weigh it against.
        **options: finding, sentence, word, token and occurrence name the part as in `Trace.select`;
            all others are of the method, see below. A finding is explained as the sentence that
            states it against its opposite, see `make_target`; methods that read attention or
            activations take the sentence alone.

    Options of methods, with defaults in `METHODS[method].options`:

    - attention, attention_without_sinks, rollout: `layer` and `head` of the language model, the
      mean of all when None; `reduce`, "mean" or "max" over the words. Of the second `above`, from
      how many times the mean on a token is a sink; of rollout `residual`, the share of each layer
      that stays with its token, and `discard`, the share of the smallest weights that is left out.
    - smoothgrad: `samples`, `noise` as a share of the image's range, `seed`.
    - integrated_gradients, integrated_gradients_patches: `baseline`, `tolerance` as a share of the
      difference, `most` gradients; of the first `over`, "pixels" or "patches".
    - token_activation: `window`, the side of the filter in cells.
    - occlusion, adaptive_occlusion: `stride` and `window` in model pixels, `fill`, `batch_size`; of
      the second `budget`, images at most.
    - kernel_shap: `regions` as (rows, columns), `samples`, `fill`, `seed`, `batch_size`.

    Returns:
        A map with a caution where the method failed a check with this model. Its settings hold
        every option of the method, those left at their default too.

    Raises:
        InputError: the phrase is empty or not in the text, or there is no model.
        OptionError: an unknown method or option, or two parts of the text at once.

    >>> wb.saliency.explain(trace, finding="pleural effusion", method="grad_cam").method
    'Grad-CAM'
    """
    chosen = method_of(method)
    named, own = split_options(options)
    if not chosen.recorded:
        trace.need_model()
        target = make_target(trace, phrase, contrast, **named)
        return explain_target(trace, target, method=method, **own)
    selection = trace.select(phrase, **named)
    if contrast is not None:
        checked_contrast(selection, contrast)
    elif selection.kind == "finding":
        selection = finding_sentence(trace, selection)
    return _from_trace(chosen, trace, selection, own)


@needs(READER)
def explain_target(
    trace: Trace, target: Target, *, method: str = "relevancy", **options: object
) -> ImageMap:
    """Return the map of a target that was made before; see `explain`.

    >>> target = wb.saliency.make_target(trace, "left", contrast="right")
    >>> wb.saliency.explain_target(trace, target, method="input_x_gradient").signed
    True
    """
    chosen = method_of(method)
    if chosen.recorded:
        return _from_trace(chosen, trace, target.selection, options)
    began = time.perf_counter()
    scorer = Scorer(trace, target)
    settings = _settings(chosen, options)
    found = chosen.run(scorer, trace.layout.grid, **settings)
    return ImageMap(
        values=found.values.numpy(),
        geometry=trace.layout.geometry,
        image=trace.image,
        method=method_name(chosen.name),
        target=target.name if chosen.contrasted else target.selection.shown,
        unit=chosen.unit,
        signed=chosen.signed,
        layer=found.layer or chosen.layer,
        head=chosen.head,
        caution=caution_of(chosen.name, trace.generation.model.sha256),
        settings={
            **settings,
            **chosen_settings(trace, target.selection, contrast=target.contrast_text or None),
            **_provenance(trace, chosen),
        },
        scores=dict(found.scores),
        seconds=time.perf_counter() - began,
    )


@needs(WRITER, LOGPROBS)
def explain_answer(
    model: ChestXrayModel,
    image: object,
    question: str,
    *,
    method: str = "occlusion",
    cells: int = 8,
    **options: object,
) -> ImageMap:
    """Return a map of where in the image the answer to a yes/no question comes from.

    It explains the odds of "Yes" against "No" as the first word of the answer, so it needs no
    report and no inside of the model: an endpoint does, if it gives log-probabilities.

    Args:
        image: what a model accepts as an image.
        question: one that yes or no answers, such as "Is there a pneumothorax?".
        method: "occlusion", "adaptive_occlusion" or "kernel_shap", which only change the image.
        cells: rows and columns of the grid. Occlusion in steps of half a cell asks
            4 * cells ** 2 + 1 times.
        **options: of the method.

    Raises:
        InputError: the image cannot be read, or the answer starts with neither yes nor no.
        OptionError: an unknown method or option, a method that needs the inside, or an endpoint
            that gives no log-probabilities.

    >>> question = "Is there a pleural effusion?"
    >>> wb.saliency.explain_answer(model, image, question, cells=2).unit
    'change of log-odds'
    """
    chosen = method_of(method)
    if chosen.level != WRITER:
        able = ", ".join(name for name, one in METHODS.items() if one.level == WRITER)
        raise OptionError(
            f"{method} explains words of a report by the inside of a model; of an answer's first "
            f"word there are {able}"
        )
    check_whole(2, cells=cells)
    began, image = time.perf_counter(), as_radiograph(image)
    settings = _settings(chosen, options)
    scorer = AnswerScorer(model, image, question, cells)
    found = chosen.run(scorer, (cells, cells), **settings)
    return ImageMap(
        values=found.values.numpy(), geometry=scorer.geometry, image=image,
        method=method_name(chosen.name), target=scorer.name, unit="change of log-odds", signed=True,
        layer=chosen.layer, head=chosen.head,
        caution=caution_of(chosen.name, model.identity.sha256),
        settings={**settings, "question": question, "cells": cells, "paper": chosen.paper,
                  "model": asdict(model.identity)},
        scores=dict(found.scores), seconds=time.perf_counter() - began,
    )  # fmt: skip


def _settings(method: Method, options: Mapping[str, object]) -> dict[str, object]:
    """Return all options of a method; refuse what it does not take."""
    known = method.options
    if unknown := [name for name in options if name not in known]:
        raise OptionError(
            f"{method.name} does not take the option {unknown[0]!r}; its options: "
            f"{', '.join(known) or 'none'}"
        )
    return known | dict(method.fixed) | dict(options)


def _from_trace(
    method: Method, trace: Trace, selection: Selection, options: Mapping[str, object]
) -> ImageMap:
    """Return a map that reads attention only, of just the tokens of a selection."""
    began = time.perf_counter()
    settings = _settings(method, options)
    found = method.run(trace, selection, **settings)
    # The whole text has no other words to be compared with.
    own = None if selection.kind == "text" else found.caution
    cautions = (caution_of(method.name, trace.generation.model.sha256), own)
    return replace(
        found,
        caution="; ".join(caution for caution in cautions if caution) or None,
        settings={**found.settings, **_provenance(trace, method)},
        seconds=time.perf_counter() - began,
    )


def _provenance(trace: Trace, method: Method) -> dict[str, object]:
    made = trace.generation
    return {"prompt": made.prompt, "paper": method.paper, "versions": dict(made.versions)}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Maps of one image by name, and what they explain, in words."""

    maps: Mapping[str, ImageMap]
    target: str

    def __post_init__(self) -> None:
        if not self.maps:
            raise InputError("there is no map to compare; give at least one")
        first = next(iter(self)).image.pixels
        for name, item in self.maps.items():
            if not np.array_equal(item.image.pixels, first):
                raise InputError(
                    f"the map {name!r} is of {item.image.contract.source!r}, the others are of "
                    "another image; compare maps of one image"
                )

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


@needs(READER)
def compare(
    trace: Trace,
    phrase: str | Selection | None = None,
    *,
    methods: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, object]] | None = None,
    contrast: str | None = None,
    **named: Unpack[SelectionOptions],
) -> Comparison:
    """Ask several methods about the same part of a text.

    Args:
        phrase, contrast, **named: what is explained; see `explain`.
        methods: names in `METHODS`; one that is named twice is run once. None takes those of `FAST`
            that are defined for the model.
        options: name of a method -> options of that method.

    Raises:
        InputError: see `explain`.
        OptionError: no method, one that is unknown, options for one that is not asked, or an
            option that a method does not take.

    >>> two = ["attention", "grad_cam"]
    >>> list(wb.saliency.compare(trace, finding="pleural effusion", methods=two).maps)
    ['attention', 'grad_cam']
    """
    if methods is None:
        known = METHODS if trace.model is None else methods_for(trace.model)
        methods = [name for name in FAST if name in known]
    names = [methods] if isinstance(methods, str) else list(dict.fromkeys(methods))
    given = options or {}
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
