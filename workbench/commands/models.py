"""`workbench models`: what each model weighs, needs and allows; no weights are loaded.

Does not know: how sizes are counted; that is `wb.model.card`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import workbench.commands._shared as shared

if TYPE_CHECKING:
    from workbench.model.card import ModelCard

#: What is listed when nothing is named.
KNOWN = ("mini", "ECOFRI/CXR-LLAVA-v2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench models`."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="NAME",
        default=KNOWN,
        help="mini, a hub id, or a directory in the published layout (default: the known ones)",
    )
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Print the card of each model."""
    from workbench.model.source import find_local

    for name in args.models:
        find_local(name)
    from workbench.model.card import card

    cards = [card(name) for name in shared.progress(args.models, label="models")]
    if args.json:
        shared.emit_json({"models": [item.to_dict() for item in cards]})
        return 0
    for item in cards:
        _say(item)
    return 0


def _say(card: ModelCard) -> None:
    here = "" if card.on_this_machine else "  (not on this machine)"
    shared.say(f"{card.name}{here}")
    shared.say(f"  {card.notice}")
    _fact("licence", card.licence)
    parts = ", ".join(f"{part} {count:,}" for part, count in card.parameters.items())
    _fact("parameters", parts)
    _fact("memory", ", ".join(f"{kind} {_size(size)}" for kind, size in card.memory.items()))
    _fact(
        "context",
        f"{card.context_length:,} tokens: {card.image_tokens:,} for the image "
        f"({card.image_size} x {card.image_size} in patches of {card.patch_size}), "
        f"{card.text_tokens:,} for prompt and answer; {card.cache_bytes:,} bytes of cache a token",
    )
    if card.revision:
        _fact("revision", card.revision)
    for file, digest in card.sha256s.items():
        _fact("sha256", f"{digest}  {file}")
    shared.say()


def _fact(name: str, text: str) -> None:
    lines = shared.wrap(text, indent=" " * 14).splitlines()
    lines[0] = f"  {name:12}{lines[0].strip()}"
    shared.say("\n".join(lines))


def _size(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1e3:.1f} kB"
