"""`workbench report`: a report, or a differential, for each image; one bad file stops no other.

Does not know: how a report is written; that is `wb.load_model(...).report`.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import workbench.commands._answers as answers
import workbench.commands._shared as shared
from workbench.errors import OptionError, WorkbenchError

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
    parser.add_argument(
        "--fit", choices=("crop", "pad"), default="crop", help="crop as published, or keep all"
    )
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
    model = shared.open_model(args)
    write = model.report if args.task == "report" else model.differential
    options = answers.decoding_options(args) | _mitigation(args)
    done, failed, stems = [], [], Counter()
    for path in shared.progress(args.images, label="reports"):
        try:
            done.append(_one(path, stems, write, options, args))
        except (WorkbenchError, OSError) as error:
            failed.append({"image": path, "error": " ".join(str(error).split())})
            shared.note(f"workbench: {failed[-1]['error']}")
    if args.json:
        shared.emit_json({"reports": done, "failed": failed})
    elif failed:
        names = ", ".join(item["image"] for item in failed)
        shared.note(f"workbench: {len(failed)} of {len(args.images)} failed: {names}")
    return 1 if failed else 0


def _mitigation(args: argparse.Namespace) -> dict:
    """Return the mitigation that was asked for, as an option of `report`.

    Raises:
        OptionError: it was asked for a differential.
    """
    if args.mitigation is None:
        return {}
    if args.task != "report":
        raise OptionError("--mitigation belongs to reports; leave it out with --task differential")
    from workbench import hallucination

    return {"mitigation": getattr(hallucination, _MITIGATIONS[args.mitigation])()}


def _one(path: str, stems: Counter, write, options: dict, args: argparse.Namespace) -> dict:
    """Read, report, save and show one image; files are called as its contract calls it."""
    from workbench.imaging import load_radiograph

    image = load_radiograph(path, fit=args.fit)
    generation = write(image, **options)
    result = {"image": path} | answers.record(image, generation)
    if args.out:
        stem = _stem(image.contract.source, stems)
        result["files"] = answers.save(image, generation, args.out / f"{stem}_{args.task}")
    if not args.json:
        answers.show(image, generation, title=path)
    return result


def _stem(name: str, seen: Counter) -> str:
    """A file name for an image; images of the same name get numbers."""
    stem = Path(name).stem or "image"
    seen[stem] += 1
    return stem if seen[stem] == 1 else f"{stem}_{seen[stem]}"
