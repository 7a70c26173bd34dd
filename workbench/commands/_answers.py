"""One answer about one image as files, JSON and lines on a screen."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import workbench.commands._shared as shared
from workbench._store import whole_file

if TYPE_CHECKING:
    from workbench.generation.result import Generation
    from workbench.hallucination.mitigation import MitigatedGeneration
    from workbench.hallucination.rewriting import Change
    from workbench.radiograph import Radiograph

#: What was done to a finding, for each edit of a mitigation.
_EDITS = {"drop": "taken out", "deny": "denied", "doubt": "put in doubt"}


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide how words are chosen."""
    group = parser.add_argument_group("decoding")
    greedy = "0 is greedy (default); the published setting is 0.2"
    shared.option(group, "--temperature T", greedy, type=float)
    shared.option(group, "--top-p P", "sample from this much probability (0.8)", type=float)
    shared.option(group, "--top-k K", "sample from this many words (50); 0 is all", type=int)
    shared.option(group, "--max-new-tokens N", "stop after this many", type=int)
    shared.option(group, "--seed N", "makes sampling repeatable", type=int)


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide how an image is read."""
    fits = ("crop", "pad")
    shared.option(parser, "--fit", "crop as published, or keep all", choices=fits, default="crop")
    add_upright_argument(parser)


def add_upright_argument(parser: argparse._ActionsContainer) -> None:
    """Add --upright."""
    shared.option(
        parser, "--upright", "turn or mirror the image as its file says", action="store_true"
    )


def decoding_options(args: argparse.Namespace) -> dict:
    """Return the decoding options that were given; refuse those out of their range."""
    from workbench.generation.options import decoding_settings

    asked = shared.chosen(args, "temperature top_p top_k max_new_tokens seed")
    given = {name: value for name, value in asked.items() if value is not None}
    decoding_settings(given)
    return given


def record(image: Radiograph, generation: Generation) -> dict:
    """Return an answer, the findings it states and the contract of its image as plain values."""
    from workbench.reports import label

    return generation.to_dict() | {
        "findings": label(generation.text).to_dict()["rows"],
        "contract": image.contract.to_dict(),
    }


def save(
    image: Radiograph, generation: Generation, stem: Path, *, spoken: Callable[[str], str] = str
) -> list[Path]:
    """Write `stem`.txt and `stem`.json, and return the paths; `spoken` as for `lines`."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    warnings = [spoken(f"! {w.message}") for w in generation.warnings]
    said = [f"{generation.task} of {generation.source}", *warnings, "", generation.text]
    said += ["", *mitigated(generation)] if mitigated(generation) else []
    contents = {"txt": "\n".join(said), "json": shared.to_json(record(image, generation))}
    paths = [stem.with_name(f"{stem.name}.{ending}") for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        with whole_file(path) as partial:
            partial.write_text(content + "\n", encoding="utf-8")
    return paths


def lines(
    image: Radiograph, generation: Generation, *, title: str, spoken: Callable[[str], str]
) -> Iterator[str]:
    """Yield an answer under a title, its image's facts and warnings, and what was done about it.

    `spoken` turns words of Python into those of the command line.
    """
    yield title
    yield shared.wrap(", ".join(image.contract.facts()[1:]))
    for warning in generation.warnings:
        yield shared.wrap(spoken(f"! {warning.code}: {warning.message}"))
    yield ""
    yield shared.wrap(generation.text or "(the model wrote nothing)")
    yield ""
    if changes := mitigated(generation):
        yield from map(shared.wrap, changes)
        yield ""


def mitigated(generation: Generation) -> list[str]:
    """Return what a mitigation did to a report, a line for each change; nothing without one."""
    if not getattr(generation, "mitigation", None):
        return []
    generation = cast("MitigatedGeneration", generation)
    done, changes = generation.mitigation, generation.changes
    if generation.original is None:
        return [f"{done['name']}: took part in the writing; no text was changed afterwards"]
    counted = f"{len(changes)} change{'s' * (len(changes) != 1)}" if changes else "nothing changed"
    return [f"{done['name']}: {counted}", *map(_changed, changes)]


def _changed(change: Change) -> str:
    """Return one change in a line: finding, what was done, and the words before and after."""
    score = "" if change.score is None else f" (score {change.score:.2f})"
    texts = [" ".join(text.split()) for text in (change.before, change.after)]
    words = " -> ".join(f'"{text}"' for text in texts if text)
    return f"- {change.finding}, {_EDITS[change.edit]}{score}: {words}"
