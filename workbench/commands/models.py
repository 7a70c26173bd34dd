"""`workbench models`: what each model weighs, needs and allows; no weights are loaded."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

import workbench.commands._shared as shared

if TYPE_CHECKING:
    from workbench.model.card import ModelCard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = "mini, a hub id, or a directory (default: the known ones)"
    known = ("mini", "ECOFRI/CXR-LLAVA-v2")
    shared.option(parser, "models NAME", which, nargs="*", default=known)


def run(args: argparse.Namespace) -> int:
    from workbench.model.source import find_local

    for name in args.models:
        find_local(name)
    cards = [_card(name) for name in shared.progress(args.models, label="models")]
    found = {"models": [item.to_dict() for item in cards]}
    return shared.answer(args, found, (line for item in cards for line in _lines(item)))


def _card(name: str) -> ModelCard:
    from workbench.backends.vlm_reader import card_of_vlm, is_vlm
    from workbench.model.card import card
    from workbench.model.source import find_local

    found = find_local(name)
    return card_of_vlm(found) if found is not None and is_vlm(found.directory) else card(name)


def _lines(card: ModelCard) -> Iterator[str]:
    yield card.name if card.on_this_machine else f"{card.name}  (not on this machine)"
    yield f"  {card.notice}"
    facts = {
        "licence": card.licence,
        "parameters": ", ".join(f"{part} {n:,}" for part, n in card.parameters.items()),
        "memory": ", ".join(f"{kind} {_size(size)}" for kind, size in card.memory.items()),
        "context": f"{card.context_length:,} tokens: {card.image_tokens:,} for an image of "
        f"{card.image_size} x {card.image_size} (patches of {card.patch_size}), "
        f"{card.text_tokens:,} for prompt and answer; {card.cache_bytes:,} bytes of cache a token",
        "revision": card.revision or "",
        "sha256": "\n".join(f"{digest}  {file}" for file, digest in card.sha256s.items()),
    }
    for name, text in facts.items():
        if text:
            yield f"  {name:12}" + shared.wrap(text, indent=" " * 14).lstrip()
    yield ""


def _size(size: int) -> str:
    unit, factor = ("GB", 1e9) if size >= 1e9 else ("MB", 1e6)
    return f"{size / factor:.1f} {unit}"
