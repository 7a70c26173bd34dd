"""Boxes that a model writes in a text, in pixels of the original radiograph.

    found = model.boxes(image, answer)          # WrittenBoxes
    found.boxes, found.findings, found.notes

How a model writes them is data (`backends/boxes.yaml`): what its numbers count, in which order,
and of which picture. A box that reaches out of the image is clipped, reversed corners are swapped;
what is not finite, empty, or wholly outside is `unusable` and counts as a false positive where
boxes are scored. Each is said in `notes`. There is no limit on the number of boxes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from workbench._repr import result
from workbench.errors import OptionError
from workbench.findings import ALL_FINDINGS, SYNONYMS
from workbench.radiograph import FitGeometry, Radiograph
from workbench.radiograph.fit import box_geometry
from workbench.reports.labeler import label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NUMBER = r"([-+]?(?:(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan|inf(?:inity)?))"
_COMMA = r"\s*,\s*"
_POINT = rf"[\[(]\s*{_NUMBER}{_COMMA}{_NUMBER}\s*[\])]"
#: Four numbers that may be a box, in all forms.
_FOUR = re.compile(
    "|".join((
        rf"[\[(]\s*{_COMMA.join([_NUMBER] * 4)}\s*[\])]",
        rf"{_POINT}\s*,?\s*{_POINT}",
        r"<x(\d+)>\s*<y(\d+)>\s*<x(\d+)>\s*<y(\d+)>",
        r"<loc(\d{4})>" * 4,
        r"<loc_(\d+)>" * 4,
        r"(?<=box>)\s*" + r"[\s,]+".join([_NUMBER] * 4) + r"\s*(?=<)",
    )),
    re.IGNORECASE,
)  # fmt: skip
#: What opens a box without being one.
_OPENS = re.compile(r'<box>|<\|box(?:_start)?\|>|"(?:bbox_2d|box_2d|bbox|box)"\s*:', re.IGNORECASE)
_NAMED = re.compile(r"<\|?(?:ref|object_ref_start|obj|p)\|?>([^<\[]*)")
_LABEL = re.compile(r'"(?:label|name|finding|phrase)"\s*:\s*"([^"]*)"')
_TAG = re.compile(r"<[^<>]*>")
_JOINS = re.compile(r"^\W*(?:and|or|as well as)?\W*$", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?;]\s|\n")
#: Characters between the mark of a box and its numbers, at most.
_GAP = 40
PICTURES = ("image", "processed", "crop", "square")
ORDERS = {"xyxy": [0, 1, 2, 3], "yxyx": [1, 0, 3, 2]}


class Processed(NamedTuple):
    """The picture that a processor makes of an image.

    Attributes:
        geometry: how the original lies under it; it fills the square of the geometry.
        pixels: its rows and columns; None where several pictures are made of one image.
    """

    geometry: FitGeometry
    pixels: tuple[int, int] | None


def whole(image: Radiograph, pixels: tuple[int, int]) -> Processed:
    """Return the picture of the whole image in so many rows and columns."""
    rows, columns = image.size
    return Processed(box_geometry(image.size, (0, 0, columns, rows)), pixels)


@dataclass(frozen=True)
class BoxConvention:
    """What the four numbers of a box mean.

    Attributes:
        name: of the entry in `backends/boxes.yaml`.
        full: the number that stands for the far edge; None: pixels.
        of: the picture that they count in, one of `PICTURES`; see `backends/boxes.yaml`.
        order: "xyxy" or "yxyx".
        shift: added to a number first; 0.5 where numbers are bins.
        digits: behind the point.
        form: how one box is written.
        marks: the start of tokens that nothing else writes, or "".
        source: where it is said, and when that was read.

    >>> pixels = wb.reports.BoxConvention("pixels", full=None)
    >>> pixels.write([[10, 20, 90, 80]], (256, 256))
    '[10, 20, 90, 80]'
    """

    name: str
    full: float | None
    of: str = "image"
    order: str = "xyxy"
    shift: float = 0.0
    digits: int = 0
    form: str = "[{0}, {1}, {2}, {3}]"
    marks: str = ""
    source: str = ""

    def picture(self, size: tuple[int, int], processed: Processed | None) -> Processed:
        """Return the picture that the numbers count in, for an image of a size (rows, columns).

        Raises:
            OptionError: it is what the processor makes, and that is not known.
        """
        rows, columns = size
        if self.of == "processed":
            if processed is None or (self.full is None and processed.pixels is None):
                raise OptionError(
                    f"boxes of {self.name} count in the picture that the model's processor makes, "
                    "and its size is not known here; give processed=(rows, columns), or another "
                    "convention="
                )
            return processed
        side = {"image": 0, "crop": min(size), "square": max(size)}[self.of]
        wide, high = (side or columns), (side or rows)
        left, top = (columns - wide) / 2, (rows - high) / 2
        if self.of == "crop":
            left, top = left // 1, top // 1
        frame = box_geometry(size, (left, top, left + wide, top + high))
        return Processed(frame, (high, wide))

    def to_original(
        self, numbers: np.ndarray, size: tuple[int, int], processed: Processed | None = None
    ) -> np.ndarray:
        """Map (N, 4) numbers as written to left, top, right, bottom in original pixels, unclipped.

        Raises:
            OptionError: see `picture`.
        """
        frame = self.picture(size, processed)
        ordered = np.asarray(numbers, float).reshape(-1, 4)[:, ORDERS[self.order]] + self.shift
        points = ordered.reshape(-1, 2, 2) / self._full(frame) * frame.geometry.size
        return frame.geometry.to_original(points).reshape(-1, 4)

    def write(
        self, boxes: np.ndarray, size: tuple[int, int], processed: Processed | None = None
    ) -> str:
        """Return boxes in original pixels, (N, 4), as this model would write them.

        What the picture does not show is cut off.

        Raises:
            OptionError: see `picture`.
        """
        frame = self.picture(size, processed)
        points = frame.geometry.to_model(np.asarray(boxes, float).reshape(-1, 2, 2))
        full = self._full(frame)
        ordered = (points / frame.geometry.size * full).clip(0, full)
        rounded = np.round(ordered - self.shift, self.digits).clip(0, full - 2 * self.shift)
        rows = rounded.reshape(-1, 4)[:, ORDERS[self.order]]
        return " ".join(self.form.format(*(f"{n:.{self.digits}f}" for n in row)) for row in rows)

    def _full(self, frame: Processed) -> np.ndarray:
        if self.full is not None:
            return np.array([self.full, self.full], float)
        assert frame.pixels is not None  # `picture` has refused
        return np.array(frame.pixels[::-1], float)


@result()
class WrittenBoxes:
    """The boxes of one text about one image.

    Attributes:
        boxes: (N, 4) float64 left, top, right, bottom in original pixels, within the image.
        numbers: (N, 4) float64 as written.
        phrases: the words that each is about, as written; "" for none.
        findings: the finding that the words name; "" for none or several.
        spans: first and one past the last character of each in the text.
        unusable: boxes that are no place in the image: not finite, empty, or outside.
        notes: what was changed, left out or doubtful.
        convention: how they were read.
        processed: what the processor made of the image, where known.
        raw: (N + unusable, 4) float64, all numbers that were written.

    >>> model.boxes(image, "Nodule [10, 20, 90, 80].", convention="pixels").findings
    ('nodule',)
    """

    image: Radiograph = field(repr=False)
    boxes: np.ndarray
    numbers: np.ndarray
    phrases: tuple[str, ...]
    findings: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    unusable: int
    notes: tuple[str, ...]
    convention: BoxConvention | None
    processed: Processed | None = field(repr=False)
    raw: np.ndarray = field(repr=False)

    def __len__(self) -> int:
        return len(self.boxes)

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each box: finding, phrase, left, top, right, bottom, start, end."""
        import pandas as pd

        frame = pd.DataFrame({"finding": self.findings, "phrase": self.phrases})
        frame[["left", "top", "right", "bottom"]] = self.boxes
        frame[["start", "end"]] = np.array(self.spans, int).reshape(-1, 2)
        return frame

    def to_cells(self) -> list[dict[str, object]]:
        """Return the boxes as a manifest has them: x, y, width, height, finding, label."""
        return [
            {"x": left, "y": top, "width": right - left, "height": bottom - top,
             "finding": finding, "label": phrase}
            for (left, top, right, bottom), finding, phrase in zip(
                np.round(self.boxes, 3).tolist(), self.findings, self.phrases, strict=True)
        ]  # fmt: skip

    def plot(self, ax: Axes | None = None, *, truth: dict[str, np.ndarray] | None = None) -> Axes:
        """Draw the boxes over the radiograph; `truth`, finding -> (n, 4), is dashed."""
        from workbench.figures.radiograph import draw_boxes

        return draw_boxes(self.image.pixels, self.boxes, self.findings, truth=truth or {}, ax=ax)

    def _repr_html_(self) -> str:
        from workbench.figures.page import embedded_png, notes_html
        from workbench.figures.style import closed_figure
        from workbench.figures.tables import frame_table

        with closed_figure(figsize=(4.6, 4.9)) as figure:
            self.plot(figure.add_subplot())
            picture = embedded_png(figure, f"Figure: {len(self)} boxes on the radiograph", dpi=90)
        return picture + notes_html("Read with care", self.notes) + frame_table(self.to_frame())


def read_boxes(
    text: str,
    image: Radiograph,
    convention: BoxConvention | None,
    processed: Processed | None = None,
) -> WrittenBoxes:
    """Read the boxes of a text about an image; without any, `convention` may be None.

    Raises:
        OptionError: see `BoxConvention.picture`.
    """
    found = list(_FOUR.finditer(text))
    raw = np.array([[float(n) for n in m.groups() if n is not None] for m in found]).reshape(-1, 4)
    phrases = list(_phrases(text, found))
    notes = list(_doubts(text, found, raw, convention))
    boxes = np.zeros((0, 4))
    if convention is not None and len(raw):
        with np.errstate(invalid="ignore", over="ignore"):
            boxes = convention.to_original(raw, image.size, processed)
    boxes, usable, said = within(boxes, image.size)
    keep = np.flatnonzero(usable)
    return WrittenBoxes(
        image, boxes[keep], raw[keep],
        tuple(phrases[n] for n in keep), tuple(finding_of(phrases[n]) for n in keep),
        tuple(found[n].span() for n in keep), len(raw) - len(keep), (*notes, *said),
        convention, processed, raw,
    )  # fmt: skip


def within(boxes: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return boxes (N, 4) with corners in order and clipped, which of them are usable, and notes.

    `size` is that of the image, rows and columns.
    """
    finite = np.isfinite(boxes).all(1)
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    edge = np.array(size[::-1], float)
    clipped = np.hstack((low, high)).clip(0, np.tile(edge, 2))
    usable = np.asarray(finite & (clipped[:, 2:] > clipped[:, :2]).all(1))
    reversed_ = usable & (boxes[:, :2] > boxes[:, 2:]).any(1)
    slack = 0.02 * edge  # rounding to coarse numbers
    out = usable & ((low < -slack) | (high > edge + slack)).any(1)
    counts = (
        (reversed_, "had their corners reversed, and were turned"),
        (out, "reach out of the image, and were clipped"),
        (~usable, "are unusable: not finite, empty, or outside of the image"),
    )
    return (
        clipped,
        usable,
        [f"{n.sum():,} of {len(n):,} boxes {said}" for n, said in counts if n.any()],
    )


@lru_cache(maxsize=4096)
def finding_of(phrase: str) -> str:
    """Return the one finding that words name or state; "" for none or several."""
    plain = " ".join(re.sub(r"[^a-z -]", " ", phrase.lower()).split())
    name = SYNONYMS.get(plain, plain)
    if name in ALL_FINDINGS:
        return name
    stated = {row.finding for row in label(phrase).rows} if plain else set()
    return stated.pop() if len(stated) == 1 else ""


def _phrases(text: str, found: Sequence[re.Match]) -> Iterator[str]:
    """Yield the words that each box is about.

    They are the label of its JSON object, what a tag in front of it names, what follows location
    tokens, else the words before it in its sentence; those of the box before it where that sentence
    has none between.
    """
    named = [*_NAMED.finditer(text)]
    at, end, last = 0, 0, ""
    for box in found:
        tag = None
        while at < len(named) and named[at].end() <= box.start():
            tag, at = named[at], at + 1
        gap = _TAG.sub(" ", text[max(end, tag.end() if tag else 0) : box.start()])
        said = _in_object(text, box)
        if said is None and re.match("<loc[0-9]", box.group()):
            said = re.split(r"[;<>\n\[]", text[box.end() : box.end() + 200])[0]
        if said is None:
            held = tag[1] if tag else last if end else ""
            same = _JOINS.match(gap) and (tag or not re.search(r"[.!?;]\s", gap))
            said = held if same else _SENTENCE.split(gap)[-1]
        last, end = " ".join(said.strip(" ,:;-[(\"'").split()), box.end()
        yield last


def _in_object(text: str, box: re.Match) -> str | None:
    """Return the label of the JSON object around a box; None where it is in none."""
    start = max(text.rfind("{", 0, box.start()), 0)
    if text[start : start + 1] != "{" or "}" in text[start : box.start()]:
        return None
    stop = text.find("}", box.end())
    label_ = _LABEL.search(text, start, stop if stop >= 0 else len(text))
    return label_[1] if label_ else ""


def _doubts(
    text: str, found: Sequence[re.Match], raw: np.ndarray, convention: BoxConvention | None
) -> Iterator[str]:
    """Yield what is odd about the boxes of a text."""
    starts = [box.start() for box in found]
    empty = 0
    for mark in _OPENS.finditer(text):
        at = bisect_left(starts, mark.end())
        gap = text[mark.end() : starts[at]] if at < len(starts) else "none"
        empty += len(gap) > _GAP or bool(gap.strip("[( \n\t"))
    if empty:
        yield f"{empty:,} marks of a box hold no four numbers and were passed over"
    finite = raw[np.isfinite(raw)]
    if convention is None or not finite.size:
        return
    high = finite.max()
    if convention.full is not None and high > convention.full:
        yield (
            f"numbers reach {high:g}, beyond {convention.full:g}, the far edge for "
            f"{convention.name}: another convention may have been meant"
        )
    if high <= 1 and (convention.full is None or convention.full > 1):
        yield (
            f"no number is above 1: fractions may have been meant, they were read as "
            f"{convention.name}"
        )
