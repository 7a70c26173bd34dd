"""`workbench report`: a report, or a differential, for each image; one bad file stops no other."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import workbench.commands._answers as answers
import workbench.commands._shared as shared
from workbench.errors import OptionError, WorkbenchError

if TYPE_CHECKING:
    from workbench.generation.result import Generation
    from workbench.radiograph import Radiograph

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


def run(args: argparse.Namespace) -> int:
    """Write every report that can be written; fail at the end if one could not."""
    from workbench.imaging.sources import check_path

    if args.mitigation and args.task != "report":
        raise OptionError("--mitigation belongs to reports; leave it out with --task differential")
    decoding = answers.decoding_options(args)
    failed: dict[str, str] = {}
    there = []
    for path in args.images:
        with _noted(args, path, failed):
            check_path(path)
            there.append(path)
    if there:
        shared.loading(args)
    done, stems, write = [], Counter(), None
    for path in shared.progress(there, label="reports"):
        image = None
        with _noted(args, path, failed):
            image = _read(args, path)
        if image is None:
            continue
        write = write or _writer(args, decoding)
        with _noted(args, path, failed):
            done.append(_one(args, path, image, write(image), stems))
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


def _read(args: argparse.Namespace, path: str) -> Radiograph:
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
    args: argparse.Namespace, path: str, image: Radiograph, generation: Generation, stems: Counter
) -> dict:
    """Save and show a report; files are called as the image's contract calls it."""
    spoken = args.parser.spoken
    result = {"image": path} | answers.record(image, generation)
    if args.out:
        name = Path(image.contract.source).stem or "image"
        stems[name] += 1
        name += f"_{stems[name]}" if stems[name] > 1 else ""  # images of one name get numbers
        stem = args.out / f"{name}_{args.task}"
        result["files"] = answers.save(image, generation, stem, spoken=spoken)
    if not args.json:
        for line in answers.lines(image, generation, title=path, spoken=spoken):
            shared.say(line)
    return result
