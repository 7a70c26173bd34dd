"""One answer about one image as files, JSON and lines on a screen; shared by report, ask and demo.

Does not know: how the answer was made.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench._files import whole_file

if TYPE_CHECKING:
    from workbench.generation.result import Generation
    from workbench.radiograph import Radiograph


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


def decoding_options(args: argparse.Namespace) -> dict:
    """Return the decoding options that were given."""
    names = ("temperature", "top_p", "top_k", "max_new_tokens", "seed")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def record(image: Radiograph, generation: Generation) -> dict:
    """Return an answer, the findings it states and the contract of its image as plain values."""
    from workbench.reports import label

    return generation.to_dict() | {
        "findings": label(generation.text).to_dict()["rows"],
        "contract": image.contract.to_dict(),
    }


def save(image: Radiograph, generation: Generation, stem: Path) -> list[Path]:
    """Write `stem`.txt and `stem`.json; return the paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    text, data = stem.with_name(f"{stem.name}.txt"), stem.with_name(f"{stem.name}.json")
    warnings = [f"! {w.message}" for w in generation.warnings]
    lines = [f"{generation.task} of {generation.source}", *warnings, "", generation.text]
    written = {text: "\n".join(lines), data: shared.to_json(record(image, generation))}
    for path, content in written.items():
        with whole_file(path) as partial:
            partial.write_text(content + "\n", encoding="utf-8")
    return [text, data]


def show(image: Radiograph, generation: Generation, *, title: str) -> None:
    """Print an answer under its image's facts and warnings."""
    shared.say(title)
    shared.say(shared.wrap(", ".join(image.contract.facts()[1:])))
    for warning in generation.warnings:
        shared.say(shared.wrap(f"! {warning.code}: {warning.message}"))
    shared.say()
    shared.say(shared.wrap(generation.text or "(the model wrote nothing)"))
    shared.say()
