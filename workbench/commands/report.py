"""`workbench report`: a report, or a differential, for each image; one bad file stops no other."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench.commands._shared as shared
from workbench._store import whole_file
from workbench.errors import OptionError, WorkbenchError

if TYPE_CHECKING:
    from workbench.generation.result import Generation
    from workbench.hallucination.rewriting import Change
    from workbench.radiograph import InputContract, Radiograph

TURNED = "turn or mirror the image as its file says"
#: What was done to a finding, for each edit of a mitigation.
_EDITS = {"drop": "taken out", "deny": "denied", "doubt": "put in doubt"}
#: Name of each mitigation, and its class in `workbench.hallucination`.
_MITIGATIONS = {"contrast": "ContrastiveDecoding", "poll": "PollAndRewrite", "revise": "Revise",
                "abstain": "Abstain"}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: workbench report chest.dcm other.png --out out/reports"
    option = partial(shared.option, parser)
    cost = "keep false findings out, at a cost in time; the report then says what was changed"
    option("images IMAGE", "PNG, JPEG, TIFF or DICOM files", nargs="+")
    option("--task", "what to write", choices=("report", "differential"), default="report")
    add_image_arguments(parser)
    option("--out DIR", "also write .txt and .json there", type=Path)
    option("--mitigation", cost, choices=tuple(_MITIGATIONS))
    add_decoding_arguments(parser)
    shared.add_model_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Write every report that can be written; fail at the end if one could not."""
    from workbench.imaging import load_radiograph
    from workbench.imaging.sources import check_path

    if args.mitigation and args.task != "report":
        raise OptionError("--mitigation belongs to reports; leave it out with --task differential")
    decoding = decoding_options(args)
    failed: dict[str, str] = {}
    done, stems, write, there = [], Counter(), None, []
    for path in args.images:
        with _noted(args, path, failed):
            check_path(path)
            there.append(path)
    if there:
        shared.loading(args)
    for path in shared.progress(there, label="reports"):
        image = None
        with _noted(args, path, failed):
            image = load_radiograph(path, fit=args.fit, upright=args.upright)
        if image is None:
            continue
        write = write or _writer(args, decoding)
        with _noted(args, path, failed):
            done.append(_one(args, path, *write(image), stems))
    lost = [{"image": path, "error": failed[path]} for path in args.images if path in failed]
    if lost and not args.json:
        names = ", ".join(item["image"] for item in lost)
        shared.note(f"workbench: {len(lost)} of {len(args.images)} failed: {names}")
    return shared.answer(args, {"reports": done, "failed": lost}, (), good=not lost)


@contextmanager
def _noted(args: argparse.Namespace, path: str, failed: dict[str, str]) -> Iterator[None]:
    """Say and note why something cannot be done with an image, and let the others go on."""
    try:
        yield
    except (WorkbenchError, OSError) as error:
        failed[path] = args.parser.spoken(" ".join(str(error).split()))
        shared.note(f"workbench: {failed[path]}")


def _writer(
    args: argparse.Namespace, options: dict[str, Any]
) -> Callable[[Radiograph], tuple[InputContract, Generation]]:
    model = shared.open_model(args)
    if args.mitigation:
        from workbench import hallucination

        options["mitigation"] = getattr(hallucination, _MITIGATIONS[args.mitigation])()
    ask = model.report if args.task == "report" else model.differential
    return lambda image: (model.contract(image), ask(image, **options))


def _one(
    args: argparse.Namespace,
    path: str,
    contract: InputContract,
    generation: Generation,
    stems: Counter,
) -> dict:
    """Save and show a report; files are called as the image's contract calls it."""
    result = {"image": path} | record(contract, generation)
    if args.out:
        name = Path(contract.source).stem or "image"
        stems[name] += 1
        name += f"_{stems[name]}" if stems[name] > 1 else ""  # images of one name get numbers
        stem = args.out / f"{name}_{args.task}"
        result["files"] = save(contract, generation, stem, spoken=args.parser.spoken)
    if not args.json:
        shown = lines(contract, generation, title=path, spoken=args.parser.spoken)
        shared.say("\n".join(shown))
    return result


# --- one answer about one image, for other commands too -------------------------------------------


def add_decoding_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide how words are chosen."""
    group = parser.add_argument_group("decoding")
    option = partial(shared.option, group)
    option("--temperature T", "0 is greedy (default); the published setting is 0.2", type=float)
    option("--top-p P", "sample from this much probability (0.8)", type=float)
    option("--top-k K", "sample from this many words (50); 0 is all", type=int)
    option("--max-new-tokens N", "stop after this many", type=int)
    option("--seed N", "makes sampling repeatable", type=int)


def add_image_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that decide how an image is read."""
    fits = ("crop", "pad")
    shared.option(
        parser,
        "--fit",
        "of CXR-LLaVA: crop as published, or keep all; other models fit images themselves",
        choices=fits,
        default="crop",
    )
    shared.option(parser, "--upright", TURNED, action="store_true")


def decoding_options(args: argparse.Namespace) -> dict:
    """Return the decoding options that were given; refuse those out of their range."""
    from workbench.generation.options import decoding_settings

    asked = shared.chosen(args, "temperature top_p top_k max_new_tokens seed")
    given = {name: value for name, value in asked.items() if value is not None}
    decoding_settings(given)
    return given


def record(contract: InputContract, generation: Generation) -> dict:
    """Return an answer, the findings it states and the contract of its image as plain values."""
    from workbench.reports import label

    stated = label(generation.text).to_dict()["rows"]
    return generation.to_dict() | {"findings": stated, "contract": contract.to_dict()}


def save(
    contract: InputContract,
    generation: Generation,
    stem: Path,
    *,
    spoken: Callable[[str], str] = str,
) -> list[Path]:
    """Write `stem`.txt and `stem`.json, and return the paths; `spoken` as for `lines`."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    warnings = [spoken(f"! {w.message}") for w in generation.warnings]
    said = [f"{generation.task} of {generation.source}", *warnings, "", generation.text]
    said += ["", *mitigated(generation)] if mitigated(generation) else []
    contents = {".txt": "\n".join(said), ".json": shared.to_json(record(contract, generation))}
    paths = [stem.with_name(stem.name + ending) for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        with whole_file(path) as unfinished:
            unfinished.write_text(content + "\n", encoding="utf-8")
    return paths


def lines(
    contract: InputContract, generation: Generation, *, title: str, spoken: Callable[[str], str]
) -> Iterator[str]:
    """Yield an answer under a title; `spoken` turns words of Python into those of the shell."""
    yield title
    yield shared.wrap(", ".join(contract.facts()[1:]))
    for warning in generation.warnings:
        yield shared.wrap(spoken(f"! {warning.code}: {warning.message}"))
    yield f"\n{shared.wrap(generation.text or '(the model wrote nothing)')}\n"
    if changes := mitigated(generation):
        yield from map(shared.wrap, changes)
        yield ""


def mitigated(generation: Any) -> list[str]:
    """Return what a mitigation did to a report, a line for each change; nothing without one."""
    if not getattr(generation, "mitigation", None):
        return []
    done, changes = generation.mitigation, generation.changes
    if generation.original is None:
        return [f"{done['name']}: took part in the writing; no text was changed afterwards"]
    counted = f"{len(changes)} change{'s' * (len(changes) != 1)}" if changes else "nothing changed"
    return [f"{done['name']}: {counted}", *map(_changed, changes)]


def _changed(change: Change) -> str:
    score = "" if change.score is None else f" (score {change.score:.2f})"
    texts = [" ".join(text.split()) for text in (change.before, change.after)]
    words = " -> ".join(f'"{text}"' for text in texts if text)
    return f"- {change.finding}, {_EDITS[change.edit]}{score}: {words}"
