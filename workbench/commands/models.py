"""`workbench models`: what each model weighs, needs and allows; no weights are loaded.

`--plan` predicts memory and time of what it can be asked for on this machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.errors import DeviceError
from workbench.settings import DTYPES

if TYPE_CHECKING:
    from workbench.model.card import ModelCard
    from workbench.model.plan import Plan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    which = "mini, a hub id, or a directory (default: the known ones)"
    known = ("mini", "ECOFRI/CXR-LLAVA-v2")
    shared.option(parser, "models NAME", which, nargs="*", default=known)
    group = parser.add_argument_group("with --plan")
    predicts = "predict memory and time of reports, traces, maps, grounding and training here"
    shared.option(parser, "--plan", predicts, action="store_true")
    shared.option(group, "--batch-size N", "reports written together (default 8)", default=8)
    shared.option(group, "--new-tokens N", "tokens of a report (default 128)", default=128)
    shared.option(group, "--device", "auto (default), cpu, mps, cuda or cuda:N")
    shared.option(group, "--dtype", "precision of the weights (default auto)", choices=DTYPES)
    shared.option(group, "--quantize KIND", "8bit, 4bit (a CUDA GPU) or int8 (a CPU)")


def run(args: argparse.Namespace) -> int:
    from workbench.model.source import find_local

    for name in args.models:
        find_local(name)
    if args.plan:
        return _plan(args)
    cards = [_card(name) for name in shared.progress(args.models, label="models")]
    found = {"models": [item.to_dict() for item in cards]}
    return shared.answer(args, found, (line for item in cards for line in _lines(item)))


def _plan(args: argparse.Namespace) -> int:
    """Plan each model; one whose weights do not fit is answered by what would."""
    from workbench.backends.vlm_reader import plan

    options = shared.chosen(args, "batch_size new_tokens quantize") | shared.placement(args)
    found, lines = [], []
    for name in args.models:
        try:
            planned = plan(name, **options)
            found.append(planned.to_dict())
            lines += _planned(planned, args.parser.spoken)
        except DeviceError as error:
            found.append({"model": name, "error": str(error)})
            lines += [f"{name} does not fit:", shared.wrap(str(error)), ""]
    return shared.answer(args, {"plans": found}, lines)


def _planned(plan: Plan, spoken: Callable[[str], str]) -> Iterator[str]:
    yield shared.wrap(plan.stated, indent="")
    frame = plan.to_frame().round(1)
    frame["instead"] = frame["instead"].map(spoken)
    frame["seconds"] = frame["seconds"].map(_time)
    frame = frame.rename(columns={"seconds": "time"})
    yield shared.table(frame.astype(str).to_numpy().tolist(), header=list(frame.columns)) + "\n"


def _card(name: str) -> ModelCard:
    from workbench.backends.vlm_reader import card_of_vlm, is_vlm, open_empty
    from workbench.model.card import card
    from workbench.model.source import find_local

    found = find_local(name)
    if found is None or not is_vlm(found.directory):
        return card(name)
    return card_of_vlm(found, *open_empty(found.directory))


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


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s"
