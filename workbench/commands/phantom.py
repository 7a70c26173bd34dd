"""`workbench phantom`: draw chests with known findings; image, masks and truth to a folder.

Does not know: how a chest is drawn; that is `workbench.phantom`.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.errors import OptionError
from workbench.findings import NO_FINDING, SEVERITIES, SIDES, ZONES, standard_name

if TYPE_CHECKING:
    import numpy as np

    from workbench.phantom.case import Phantom


def finding_list(text: str) -> list[str]:
    """Parse "effusion, nodule"; "normal" is the empty list.

    Raises:
        argparse.ArgumentTypeError: a name is not known.
    """
    try:
        names = [standard_name(name) for name in text.split(",") if name.strip()]
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return [] if names == [NO_FINDING] else names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `workbench phantom`."""
    parser.epilog = 'example: workbench phantom --seed 7 --findings "pleural effusion,nodule"'
    parser.add_argument("--seed", type=int, default=0, help="decides everything (default 0)")
    parser.add_argument("--count", type=int, default=1, help="draw this many, from --seed upwards")
    parser.add_argument(
        "--findings",
        type=finding_list,
        metavar="A,B",
        help="findings to draw, or normal; without this option the seed decides",
    )
    parser.add_argument("--side", choices=SIDES, help="wished-for side")
    parser.add_argument("--zone", choices=ZONES, help="wished-for lung zone")
    parser.add_argument("--severity", choices=SEVERITIES, help="wished-for severity")
    parser.add_argument("--domain", choices=("internal", "external"), default="internal")
    parser.add_argument("--size", type=int, default=512, help="pixels along each edge (512)")
    parser.add_argument("--out", type=Path, default=Path("out/phantoms"), help="output folder")
    shared.add_json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Draw the phantoms and say what was written."""
    from workbench.phantom.case import phantom

    if args.count < 1:
        raise OptionError(f"--count must be at least 1, got {args.count}")
    wishes = {"side": args.side, "zone": args.zone, "severity": args.severity}
    seeds = range(args.seed, args.seed + args.count)
    records = []
    for seed in shared.progress(seeds, label="phantoms"):
        case = phantom(seed, findings=args.findings, domain=args.domain, size=args.size, **wishes)
        records.append(save(case, args.out))
    if args.json:
        shared.emit_json({"phantoms": records})
        return 0
    for record in records:
        drawn = [name for name, code in record["labels"].items() if code == "present"]
        shared.say(f"{args.out / record['image']}: {', '.join(drawn) or NO_FINDING}")
        shared.say(shared.wrap(record["report"]))
    return 0


def save(case: Phantom, out: Path) -> dict:
    """Write image, masks and truth of one phantom; return the truth as plain values."""
    from workbench.imaging.load import mask_name

    out.mkdir(parents=True, exist_ok=True)
    stem = f"phantom_{case.domain}_{case.seed}"
    write_png(case.image.pixels, out / f"{stem}.png", mark=_mark(case))
    masks = {}
    for finding, mask in case.masks.items():
        masks[finding] = mask_name(f"{stem}.png", finding)
        write_png(mask, out / masks[finding])
    record = {
        "image": f"{stem}.png",
        "masks": masks,
        "seed": case.seed,
        "domain": case.domain,
        "size": case.image.size[0],
        "labels": case.labels,
        "lesions": [_facts(lesion) for lesion in case.lesions],
        "report": case.report,
        "differential": case.differential,
        "questions": [_facts(question) for question in case.questions],
    }
    (out / f"{stem}.json").write_text(shared.to_json(record) + "\n", encoding="utf-8")
    return record


def write_png(pixels: np.ndarray, path: Path, *, mark: str | None = None) -> None:
    """Write (H, W) pixels in [0, 1], or a boolean mask, as an 8-bit PNG.

    Args:
        pixels: what to write.
        path: the file.
        mark: says in the file that it is a phantom, so that a reader need not take it for a film.
    """
    from PIL import Image, PngImagePlugin

    from workbench.imaging.picture import PHANTOM_KEY

    notes = PngImagePlugin.PngInfo()
    if mark:
        notes.add_text(PHANTOM_KEY, mark)
    grey = (pixels.astype("float32") * 255 + 0.5).astype("uint8")
    Image.fromarray(grey).save(path, pnginfo=notes)


def _mark(case: Phantom) -> str:
    contract = case.image.contract
    return f"seed {case.seed} ({case.domain}), view {contract.view}"


def _facts(item: object) -> dict:
    """The fields of a lesion or question that mean something outside the renderer."""
    return {key: value for key, value in asdict(item).items() if key != "params"}
