"""`workbench report`: a report, or a differential, for each image; one bad file stops no other."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import workbench.commands._answers as answers
import workbench.commands._shared as shared
from workbench.errors import OptionError, WorkbenchError

if TYPE_CHECKING:
    from workbench.generation.result import Generation
    from workbench.radiograph import Radiograph

Made = TypeVar("Made")

#: Name of each mitigation, and its class in `workbench.hallucination`.
_MITIGATIONS = {
    "contrast": "ContrastiveDecoding",
    "poll": "PollAndRewrite",
    "revise": "Revise",
    "abstain": "Abstain",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench report`."""
    parser.epilog = "example: workbench report chest.dcm other.png --out out/reports"
    option = partial(shared.option, parser)
    cost = "keep false findings out, at a cost in time; the report then says what was changed"
    option("images IMAGE", "PNG, JPEG, TIFF or DICOM files", nargs="+")
    option("--task", "what to write", choices=("report", "differential"), default="report")
    answers.add_image_arguments(parser)
    option("--out DIR", "also write .txt and .json there", type=Path)
    option("--mitigation", cost, choices=tuple(_MITIGATIONS))
    answers.add_decoding_arguments(parser)
    shared.add_model_arguments(parser)
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Write every report that can be written; fail at the end if one could not."""
    if args.mitigation and args.task != "report":
        raise OptionError("--mitigation belongs to reports; leave it out with --task differential")
    decoding = answers.decoding_options(args)
    failed: list[dict] = []
    there = [path for path in args.images if _tried(_there, path, args, failed)]
    if there:
        shared.loading(args)
    done, stems, write = [], Counter(), None
    for path in shared.progress(there, label="reports"):
        image = _tried(_read, path, args, failed)
        if image is None:
            continue
        write = write or _writer(args, decoding)
        result = _tried(partial(_one, image, stems, write), path, args, failed)
        done += [] if result is None else [result]
    failed.sort(key=lambda item: args.images.index(item["image"]))
    if failed and not args.json:
        names = ", ".join(item["image"] for item in failed)
        shared.note(f"workbench: {len(failed)} of {len(args.images)} failed: {names}")
    return shared.answer(args, {"reports": done, "failed": failed}, (), good=not failed)


def _tried(
    step: Callable[[str, argparse.Namespace], Made],
    path: str,
    args: argparse.Namespace,
    failed: list[dict],
) -> Made | None:
    """Return what a step makes of an image; None where it cannot, which is said and noted."""
    try:
        return step(path, args)
    except (WorkbenchError, OSError) as error:
        said = args.parser.spoken(" ".join(str(error).split()))
    failed.append({"image": path, "error": said})
    shared.note(f"workbench: {said}")
    return None


def _there(path: str, args: argparse.Namespace) -> Path:
    from workbench.imaging.sources import check_path

    return check_path(path)


def _read(path: str, args: argparse.Namespace) -> Radiograph:
    from workbench.imaging import load_radiograph

    return load_radiograph(path, fit=args.fit, upright=args.upright)


def _writer(
    args: argparse.Namespace, options: dict[str, Any]
) -> Callable[[Radiograph], Generation]:
    """Load the model, and return what writes as was asked."""
    model = shared.open_model(args)
    if args.mitigation:
        from workbench import hallucination

        options["mitigation"] = getattr(hallucination, _MITIGATIONS[args.mitigation])()
    return partial(model.report if args.task == "report" else model.differential, **options)


def _one(
    image: Radiograph,
    stems: Counter,
    write: Callable[[Radiograph], Generation],
    path: str,
    args: argparse.Namespace,
) -> dict:
    """Report about one image, save and show it; files are called as its contract calls it."""
    generation, spoken = write(image), args.parser.spoken
    result = {"image": path} | answers.record(image, generation)
    if args.out:
        stem = args.out / f"{_stem(image.contract.source, stems)}_{args.task}"
        result["files"] = answers.save(image, generation, stem, spoken=spoken)
    if not args.json:
        for line in answers.lines(image, generation, title=path, spoken=spoken):
            shared.say(line)
    return result


def _stem(name: str, seen: Counter) -> str:
    """A file name for an image; images of the same name get numbers."""
    stem = Path(name).stem or "image"
    seen[stem] += 1
    return stem if seen[stem] == 1 else f"{stem}_{seen[stem]}"
