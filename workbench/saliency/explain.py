"""`explain`: one call for a map of any phrase by any method.

    wb.saliency.explain(trace, finding="pleural effusion", method="relevancy").plot()

Does not know: how each method works; `METHODS` (`methods`) names where that stands.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from workbench.errors import OptionError, unknown_name
from workbench.figures.names import method_name
from workbench.saliency.cautions import caution_of
from workbench.saliency.methods import METHODS, Method
from workbench.saliency.scorer import Scorer
from workbench.saliency.target import (
    Target,
    checked_contrast,
    finding_sentence,
    stated_target,
)
from workbench.trace import ImageMap, Selection, Trace


def explain(
    trace: Trace,
    phrase: str | None = None,
    *,
    method: str = "relevancy",
    finding: str | None = None,
    contrast: str | None = None,
    token: int | None = None,
    word: str | int | None = None,
    sentence: int | None = None,
    occurrence: int = 0,
    **options: Any,
) -> ImageMap:
    """Return a map of where in the image a part of the text comes from.

    Args:
        trace: a run; all methods but "attention" and "rollout" need its model.
        phrase: words of the text; or name a finding, token, word or sentence. The whole text when
            nothing is named.
        method: one of `METHODS`.
        finding: explains the sentence that states the finding against its opposite; see
            `finding_target`. Methods that read attention take the sentence alone.
        contrast: words in the place of the phrase to weigh it against.
        token, word, sentence, occurrence: see `Trace.select`.
        **options: of the method.

    Returns:
        ImageMap over the radiograph; a caution where the method failed a check with this model. Its
        settings hold every option of the method, those left at their default too.

    Raises:
        InputError: the phrase is empty or not in the text, or there is no model.
        OptionError: an unknown method or option, or two parts of the text at once.
    """
    chosen = _method(method)
    choice = {"finding": finding, "token": token, "word": word, "sentence": sentence}
    if chosen.recorded:
        selection = trace.select(phrase, occurrence=occurrence, **choice)
        if contrast is not None:
            checked_contrast(selection, contrast)
        elif finding is not None:
            selection = finding_sentence(trace, finding, occurrence=occurrence)
        return _from_trace(chosen, trace, selection, options)
    trace.need_model()
    target = stated_target(trace, phrase, contrast=contrast, occurrence=occurrence, **choice)
    return explain_target(trace, target, method=method, **options)


def explain_target(
    trace: Trace, target: Target, *, method: str = "relevancy", **options: Any
) -> ImageMap:
    """Return the map of a target that was made before; see `explain`.

    Raises:
        InputError: the trace has no model.
        OptionError: an unknown method or option.
    """
    chosen = _method(method)
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
        target=target.name,
        unit=chosen.unit,
        signed=chosen.signed,
        layer=chosen.layer,
        head=chosen.head,
        caution=caution_of(chosen.name, trace.generation.model.sha256),
        settings=settings | _chosen(target) | _provenance(trace, chosen),
        scores=dict(found.scores),
        seconds=time.perf_counter() - began,
    )


def _method(name: str) -> Method:
    if name not in METHODS:
        raise OptionError(unknown_name("method", name, METHODS))
    return METHODS[name]


def _settings(method: Method, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a method.

    Raises:
        OptionError: it does not take one of those that were given.
    """
    defaults = method.defaults
    if unknown := [name for name in options if name not in defaults]:
        raise OptionError(
            f"{method.name} does not take the option {unknown[0]!r}; its options: "
            f"{', '.join(defaults) or 'none'}"
        )
    return defaults | dict(method.options) | dict(options)


def _from_trace(
    method: Method, trace: Trace, selection: Selection, options: Mapping[str, Any]
) -> ImageMap:
    """Return a map that reads attention only, of just the tokens of a selection."""
    began = time.perf_counter()
    settings = _settings(method, options)
    found = method.run(trace, **_named(trace, selection), **settings)
    # The whole text has no other words to be compared with.
    own = None if selection.kind == "text" else found.caution
    cautions = (caution_of(method.name, trace.generation.model.sha256), own)
    return replace(
        found,
        caution="; ".join(caution for caution in cautions if caution) or None,
        settings={**found.settings, **_provenance(trace, method)},
        seconds=time.perf_counter() - began,
    )


def _named(trace: Trace, selection: Selection) -> dict[str, Any]:
    """Return the choice that leads to a selection again."""
    if selection.kind == "token":
        return {"token": selection.tokens[0]}
    occurrence = 0
    while trace.select(selection.text, occurrence=occurrence).start < selection.start:
        occurrence += 1
    return {"phrase": selection.text, "occurrence": occurrence}


def _chosen(target: Target) -> dict[str, Any]:
    chosen = target.selection
    return {
        "kind": chosen.kind,
        "text": chosen.text,
        "tokens": list(chosen.tokens),
        "contrast": target.contrast_text or None,
    }


def _provenance(trace: Trace, method: Method) -> dict:
    generation = trace.generation
    return {
        "model": generation.model.id,
        "sha256": generation.model.sha256,
        "prompt": generation.prompt,
        "paper": method.paper,
        "versions": dict(generation.versions),
    }
