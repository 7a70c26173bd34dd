"""Cases: an image, what is known of it, and whose it is; any part may be missing.

They come from a manifest, with its codes, report sections, boxes and masks, or are phantoms, with
everything known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects, label

from workbench.data.columns import FINDING_COLUMNS
from workbench.data.manifest import Manifest
from workbench.data.mapping import from_cell
from workbench.errors import InputError
from workbench.findings import (
    ABSENT,
    CODES,
    NOT_MENTIONED,
    PHANTOM_FINDINGS,
    PRESENT,
    standard_name,
)
from workbench.imaging import load_radiograph
from workbench.phantom.case import Phantom, phantom, sample_scene
from workbench.radiograph import Radiograph


@dataclass(frozen=True, eq=False)
class Case:
    """One image and what is known of it.

    Attributes:
        codes: finding -> code; what is not named is not mentioned.
        sections: "findings", "impression" -> text of a radiograph as it was written.
        load: returns the image.
        regions: returns finding -> boolean (H, W) of the image, where masks or boxes are known.
        marked: finding -> (n, 4) boxes that are known as such; see `boxes`.
        drawn: returns the phantom behind it; None for a real radiograph.
        domain: the source of a row, or that of the phantom.
        seed: of what is drawn at random about it; of the phantom, where it is one.
    """

    id: str
    patient: str
    codes: Mapping[str, str]
    sections: Mapping[str, str]
    load: Callable[[], Radiograph] = field(repr=False)
    regions: Callable[[], Mapping[str, np.ndarray]] = field(repr=False, default=dict)
    marked: Mapping[str, np.ndarray] = field(repr=False, default_factory=dict)
    drawn: Callable[[], Phantom] | None = field(repr=False, default=None)
    domain: str = ""
    seed: int = 0

    @property
    def image(self) -> Radiograph:
        """The image, read anew."""
        return self.load()

    @property
    def labels(self) -> Mapping[str, str]:
        """What is known: finding -> code."""
        return self.codes

    @property
    def masks(self) -> Mapping[str, np.ndarray]:
        """Where it is known to be: finding -> boolean (H, W) of the image, made anew."""
        return self.regions()

    @property
    def boxes(self) -> Mapping[str, np.ndarray]:
        """Where it is known to be: finding -> (n, 4) left, top, right, bottom in original pixels.

        They are the boxes that were drawn, else those around each part of a mask.
        """
        return boxes_of(self.masks) | dict(self.marked)

    @property
    def phantom(self) -> Phantom:
        """The phantom behind it; `InputError` where it is a real radiograph."""
        if self.drawn is None:
            raise InputError(f"{self.id} is a real radiograph; only phantoms are known throughout")
        return self.drawn()

    def code(self, finding: str) -> str:
        """Return the code of a finding; not mentioned where nothing is known."""
        return self.codes.get(finding, NOT_MENTIONED)

    def known(self, findings: Sequence[str], *codes: str) -> list[str]:
        """Return the findings that are known to be present, or absent: those of some codes."""
        return [name for code in codes for name in findings if self.codes.get(name) == code]

    def section(self, name: str) -> str:
        """Return the "findings" or the "impression"; empty where there is none."""
        if self.drawn is None:
            return self.sections.get(name, "")
        body, _, impression = self.drawn().report.partition("Impression:")
        return (impression if name == "impression" else body).strip()

    @property
    def report(self) -> str:
        """Both sections as one text."""
        body, impression = (" ".join(self.section(n).split()) for n in ("findings", "impression"))
        return " ".join(filter(None, (body, impression and f"Impression: {impression}")))


def cases_of(source: Manifest | Iterable[Any]) -> tuple[Case, ...]:
    """Return the cases of a manifest, whose images are read when they are needed, or of others.

    An iterable holds cases, phantoms, or pairs (image, truth): findings to codes.

    Raises:
        InputError: there is no case, or one is none of these; the message shows it.
        OptionError: a finding is unknown.
    """
    if isinstance(source, Manifest):
        found = tuple(row_case(source, row) for row in range(len(source)))
    else:
        found = tuple(_case(number, one) for number, one in enumerate(source))
    if not found:
        raise InputError("there is no case; give phantoms, or pairs of an image and its truth")
    return found


def _case(number: int, one: object) -> Case:
    if isinstance(one, Case):
        return one
    if isinstance(one, Phantom):
        name = one.image.contract.source
        return Case(
            name, name, one.labels, {}, load=lambda: one.image, regions=lambda: one.masks,
            drawn=lambda: one, domain=one.domain, seed=one.seed,
        )  # fmt: skip
    if not (isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], Mapping)):
        raise InputError(
            f"case {number} is {type(one).__name__}; expected a phantom or a pair (image, truth), "
            "with truth such as {'pneumothorax': 'absent'}"
        )
    image, truth = one
    if wrong := [code for code in truth.values() if code not in CODES]:
        raise InputError(
            f"case {number} has code {wrong[0]!r}; expected one of: {', '.join(CODES)}"
        )
    known = {standard_name(name): code for name, code in truth.items()}
    return Case(f"case {number}", f"case {number}", known, {}, load=lambda: image)


def phantom_case(
    seed: int, *, domain: str = "internal", add: str | None = None, known: str | None = None
) -> Case:
    """Return one phantom as a case, with a finding added, and `known` to be absent where it is."""
    names = (*drawn_findings(seed, domain), *([add] if add else []))
    codes = {name: PRESENT if name in names else ABSENT for name in PHANTOM_FINDINGS}
    if known is not None:
        codes[known] = PRESENT if known in names else ABSENT
    draw = partial(_drawn, seed, names, domain)
    name = f"phantom-{domain}-{seed}" + (f"-{add}" if add else "")
    return Case(
        name, name, codes, sections={}, load=lambda: draw().image, regions=lambda: draw().masks,
        drawn=draw, domain=domain, seed=seed,
    )  # fmt: skip


def drawn_findings(seed: int, domain: str) -> tuple[str, ...]:
    """Return the findings that a seed decides."""
    return tuple(one.finding for one in sample_scene(seed, domain=domain).lesions)


@lru_cache(maxsize=1024)
def _drawn(seed: int, names: tuple[str, ...], domain: str) -> Phantom:
    return phantom(seed, findings=list(names), domain=domain, size=256)


def row_case(manifest: Manifest, row: int, *, seed: int = 0) -> Case:
    """Return what one row of a manifest knows."""
    values = {str(name): value for name, value in manifest.frame.iloc[row].items()}
    codes = {name: str(values[name]) for name in FINDING_COLUMNS if values[name] != NOT_MENTIONED}
    texts = {name: values[f"report_{name}"] for name in ("findings", "impression")}
    path = manifest.path(row)
    return Case(
        id=str(values["image_id"]),
        patient=f"{values['source']}/{values['patient_id']}",
        codes=codes,
        sections={name: str(text) for name, text in texts.items() if isinstance(text, str)},
        load=lambda: load_radiograph(path),
        regions=lambda: manifest_regions(values, path, manifest.root),
        marked=_marked(values),
        domain=str(values["source"]),
        seed=seed,
    )


def located(values: Mapping[str, Any]) -> set[str]:
    """Return the findings that a row of a manifest has boxes or masks of."""
    marks = [*(from_cell(values["boxes"]) or ()), *(from_cell(values["masks"]) or ())]
    return {str(one["finding"]) for one in marks if one.get("finding")}


def boxes_of(masks: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return finding -> (n, 4) left, top, right, bottom around each part of a mask.

    Parts of less than a hundredth of the largest are left out.
    """
    found = {}
    for name, mask in masks.items():
        parts = np.asarray(label(mask)[0])  # type: ignore[index]  (an array and a number)
        sizes = np.bincount(parts.ravel())[1:]
        spans = zip(find_objects(parts), sizes, strict=True)
        kept = [span for span, size in spans if 100 * size >= max(sizes)]
        edges = [(x.start, y.start, x.stop, y.stop) for y, x in kept]
        found[name] = np.array(edges, float).reshape(-1, 4)
    return found


def _marked(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    found: dict[str, list] = {}
    for box in from_cell(values["boxes"]) or ():
        if box.get("finding"):
            x, y = float(box["x"]), float(box["y"])
            edges = (x, y, x + float(box["width"]), y + float(box["height"]))
            found.setdefault(str(box["finding"]), []).append(edges)
    return {name: np.array(boxes) for name, boxes in found.items()}


def manifest_regions(
    values: Mapping[str, Any], path: Path, root: Path | None
) -> dict[str, np.ndarray]:
    """Return finding -> boolean (H, W) in the pixels of the image at `path`, of a row's values."""
    height, width = load_radiograph(path).size
    found: dict[str, np.ndarray] = {}
    for box in from_cell(values["boxes"]) or ():
        name = box.get("finding")
        if name:
            mask = found.setdefault(name, np.zeros((height, width), bool))
            left, top = int(box["x"]), int(box["y"])
            mask[top : top + int(box["height"]), left : left + int(box["width"])] = True
    for mask in from_cell(values["masks"]) or ():
        if mask.get("path") and mask.get("finding") and root is not None:
            drawn = Image.fromarray(np.rint(load_radiograph(root / mask["path"]).pixels * 255))
            shown = np.asarray(drawn.resize((width, height))) > 127
            found[mask["finding"]] = found.get(mask["finding"], np.zeros_like(shown)) | shown
    return found
