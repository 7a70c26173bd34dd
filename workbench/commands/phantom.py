"""`workbench phantom`: draw phantoms with known findings; image, masks and truth to a folder."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import workbench.commands._shared as shared
from workbench.errors import OptionError
from workbench.findings import KINDS, NO_FINDING, PRESENT, SEVERITIES, SIDES, ZONES, standard_name

if TYPE_CHECKING:
    import numpy as np

    from workbench.phantom.case import Phantom
    from workbench.phantom.scene import Lesion
    from workbench.phantom.wording.questions import Question


def finding_list(text: str) -> list[str]:
    """Parse "effusion, nodule"; "normal" is the empty list."""
    try:
        names = [standard_name(name) for name in text.split(",") if name.strip()]
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return [] if names == [NO_FINDING] else names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = 'example: workbench phantom --seed 7 --findings "pleural effusion,nodule"'
    drawn = "findings to draw, or normal; without this option the seed decides"
    option = partial(shared.option, parser)
    option("--seed N", "decides everything (default 0)", default=0)
    option("--count N", "draw this many, from --seed upwards", default=1)
    option("--findings A,B", drawn, type=finding_list)
    option("--side", "wished-for side", choices=SIDES)
    option("--zone", "wished-for lung zone", choices=ZONES)
    option("--severity", "wished-for severity", choices=SEVERITIES)
    option("--kind", "wished-for kind of atelectasis, device or nodule", choices=tuple(KINDS))
    drawn = "two kinds of drawings, or projected from a CT"
    option("--domain", drawn, choices=shared.DOMAINS, default=shared.DOMAINS[0])
    option("--view", "of a CT phantom (PA)", choices=("PA", "AP", "LATERAL"))
    option("--size N", "pixels along each edge (512)", default=512)
    option("--out DIR", "output folder (out/phantoms)", default=Path("out/phantoms"))


def run(args: argparse.Namespace) -> int:
    from workbench.phantom.case import phantom

    shared.at_least(args, count=1)
    drawn = shared.chosen(args, "findings side zone severity kind domain view size")
    seeds = shared.progress(range(args.seed, args.seed + args.count), label="phantoms")
    records = [save(phantom(seed, **drawn), args.out) for seed in seeds]
    said = []
    for record in records:
        drawn = [name for name, code in record["labels"].items() if code == PRESENT]
        said.append(f"{args.out / record['image']}: {', '.join(drawn) or NO_FINDING}")
        said.append(shared.wrap(record["report"]))
    return shared.answer(args, {"phantoms": records}, said)


def save(case: Phantom, out: Path) -> dict:
    """Write image, masks and truth of one phantom; return the truth as plain values."""
    from workbench.imaging.load import mask_name
    from workbench.phantom.case import usual_view

    out.mkdir(parents=True, exist_ok=True)
    contract = case.image.contract
    view = "" if contract.view == usual_view(case.domain) else f"_{contract.view.lower()}"
    stem = f"phantom_{case.domain}_{case.seed}{view}"
    mark = f"seed {case.seed} ({case.domain}), view {contract.view}"
    _write_png(case.image.pixels, out / f"{stem}.png", mark=mark, credit=case.credit)
    masks = {finding: mask_name(f"{stem}.png", finding) for finding in case.masks}
    for finding, mask in case.masks.items():
        _write_png(mask, out / masks[finding])
    record = {"image": f"{stem}.png", "masks": masks, "size": case.image.size[0]}
    record |= shared.chosen(case, "seed domain labels report differential")
    record |= {"view": contract.view, "source": contract.source}
    record |= {"licence": case.credit} if case.credit else {}
    record["lesions"] = [_facts(lesion) for lesion in case.lesions]
    record["questions"] = [_facts(question) for question in case.questions]
    (out / f"{stem}.json").write_text(shared.to_json(record) + "\n", encoding="utf-8")
    return record


def _write_png(
    pixels: np.ndarray, path: Path, *, mark: str | None = None, credit: str = ""
) -> None:
    """Write (H, W) pixels in [0, 1], or a mask.

    The file says by a mark that it is a phantom, and by a credit what it was made from.
    """
    from PIL import Image, PngImagePlugin

    from workbench.imaging.picture import PHANTOM_KEY

    notes = PngImagePlugin.PngInfo()
    if mark:
        notes.add_text(PHANTOM_KEY, mark)
    if credit:
        notes.add_text("Copyright", credit)
    grey = (pixels.astype("float32") * 255 + 0.5).astype("uint8")
    Image.fromarray(grey).save(path, pnginfo=notes)


def _facts(item: Lesion | Question) -> dict:
    """The fields of a lesion or question that mean something outside the renderer."""
    return {key: value for key, value in asdict(item).items() if key != "params"}
