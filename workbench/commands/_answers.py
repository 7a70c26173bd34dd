"""One answer about one image as files, JSON and lines on a screen; shared by report, ask and demo.

Does not know: how the answer was made.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench._store import whole_file

if TYPE_CHECKING:
    from workbench.generation.result import Generation
    from workbench.hallucination.rewriting import Change
    from workbench.radiograph import Radiograph

#: What was done to a finding, for each edit of a mitigation.
_EDITS = {"drop": "taken out", "deny": "denied", "doubt": "put in doubt", "add": "added"}


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide how words are chosen."""
    group = parser.add_argument_group("decoding")
    group.add_argument(
        "--temperature", type=float, help="0 is greedy (default); the published setting is 0.2"
    )
    group.add_argument("--top-p", type=float, help="sample from this much probability (0.8)")
    group.add_argument("--top-k", type=int, help="sample from this many words (50); 0 is all")
    group.add_argument("--max-new-tokens", type=int, metavar="N", help="stop after this many")
    group.add_argument("--seed", type=int, help="makes sampling repeatable")


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide how an image is read."""
    parser.add_argument(
        "--fit", choices=("crop", "pad"), default="crop", help="crop as published, or keep all"
    )
    add_upright_argument(parser)


def add_upright_argument(parser: argparse._ActionsContainer) -> None:
    """Add --upright."""
    parser.add_argument(
        "--upright", action="store_true", help="turn or mirror the image as its file says"
    )


def decoding_options(args: argparse.Namespace) -> dict:
    """Return the decoding options that were given.

    Raises:
        OptionError: one is out of its range.
    """
    from workbench.generation.options import decoding_settings

    names = ("temperature", "top_p", "top_k", "max_new_tokens", "seed")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
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
    """Write `stem`.txt and `stem`.json; return the paths.

    Args:
        image: what the answer is about.
        generation: the answer.
        stem: the files without their endings.
        spoken: as for `show`.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    text, data = stem.with_name(f"{stem.name}.txt"), stem.with_name(f"{stem.name}.json")
    warnings = [spoken(f"! {w.message}") for w in generation.warnings]
    lines = [f"{generation.task} of {generation.source}", *warnings, "", generation.text]
    lines += ["", *mitigated(generation)[:-1]] if mitigated(generation) else []
    written = {text: "\n".join(lines), data: shared.to_json(record(image, generation))}
    for path, content in written.items():
        with whole_file(path) as partial:
            partial.write_text(content + "\n", encoding="utf-8")
    return [text, data]


def show(
    image: Radiograph, generation: Generation, *, title: str, spoken: Callable[[str], str]
) -> None:
    """Print an answer under its image's facts and warnings, and what was done about it.

    Args:
        image: what it is about.
        generation: the answer.
        title: line above it.
        spoken: turns words of Python into those of the command line.
    """
    shared.say(title)
    shared.say(shared.wrap(", ".join(image.contract.facts()[1:])))
    for warning in generation.warnings:
        shared.say(shared.wrap(spoken(f"! {warning.code}: {warning.message}")))
    shared.say()
    shared.say(shared.wrap(generation.text or "(the model wrote nothing)"))
    shared.say()
    for line in mitigated(generation):
        shared.say(shared.wrap(line))


def mitigated(generation: Generation) -> list[str]:
    """Return what a mitigation did to a report, a line for each change; nothing without one."""
    done = getattr(generation, "mitigation", None)
    if not done:
        return []
    if generation.original is None:
        return [f"{done['name']}: took part in the writing; no text was changed afterwards", ""]
    changes = generation.changes
    counted = f"{len(changes)} change{'s' * (len(changes) != 1)}" if changes else "nothing changed"
    return [f"{done['name']}: {counted}", *map(_changed, changes), ""]


def _changed(change: Change) -> str:
    """Return one change in a line: finding, what was done, and the words before and after."""
    score = "" if change.score is None else f" (score {change.score:.2f})"
    texts = [" ".join(text.split()) for text in (change.before, change.after)]
    words = " -> ".join(f'"{text}"' for text in texts if text)
    return f"- {change.finding}, {_EDITS[change.edit]}{score}: {words}"
