"""`workbench report`: a report, or a differential, for each image; one bad file stops no other.

Does not know: how a report is written; that is `wb.load_model(...).report`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
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
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG, TIFF or DICOM files")
    parser.add_argument(
        "--task", choices=("report", "differential"), default="report", help="what to write"
    )
    answers.add_image_arguments(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="also write .txt and .json there")
    parser.add_argument(
        "--mitigation",
        choices=tuple(_MITIGATIONS),
        help="keep false findings out, at a cost in time; the report then says what was changed",
    )
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
    if args.json:
        shared.emit_json({"reports": done, "failed": failed})
    elif failed:
        names = ", ".join(item["image"] for item in failed)
        shared.note(f"workbench: {len(failed)} of {len(args.images)} failed: {names}")
    return 1 if failed else 0


def _tried(step: Callable, path: str, args: argparse.Namespace, failed: list[dict]) -> Any:
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


def _writer(args: argparse.Namespace, options: dict[str, Any]) -> Callable[..., Generation]:
    """Load the model, and return what writes as was asked."""
    model = shared.open_model(args)
    if args.mitigation:
        from workbench import hallucination

        options["mitigation"] = getattr(hallucination, _MITIGATIONS[args.mitigation])()
    return partial(model.report if args.task == "report" else model.differential, **options)


def _one(image: Radiograph, stems: Counter, write, path: str, args: argparse.Namespace) -> dict:
    """Report about one image, save and show it; files are called as its contract calls it."""
    generation = write(image)
    result = {"image": path} | answers.record(image, generation)
    if args.out:
        stem = _stem(image.contract.source, stems)
        result["files"] = answers.save(
            image, generation, args.out / f"{stem}_{args.task}", spoken=args.parser.spoken
        )
    if not args.json:
        answers.show(image, generation, title=path, spoken=args.parser.spoken)
    return result


def _stem(name: str, seen: Counter) -> str:
    """A file name for an image; images of the same name get numbers."""
    stem = Path(name).stem or "image"
    seen[stem] += 1
    return stem if seen[stem] == 1 else f"{stem}_{seen[stem]}"
