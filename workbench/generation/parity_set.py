"""One checkpoint against its recorded outputs: files, preprocessing, tokenizer, images.

Does not know: which tolerance belongs to which array (`parity_arrays`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL

from workbench._store import read_json
from workbench.errors import InputError, WorkbenchError
from workbench.generation.measures import Difference, close, failed, mostly_close, same
from workbench.generation.parity import ParityRow, ParitySet
from workbench.generation.parity_arrays import ImageSide, Side, compare_arrays
from workbench.generation.parity_cases import (
    arrays_of_turns,
    compare_batch,
    compare_case,
    single_cases,
)
from workbench.imaging import load_radiograph
from workbench.imaging.picture import opened_picture
from workbench.radiograph import Radiograph

#: Two grey levels of a normalised pixel: what another Pillow or JPEG decoder may differ by.
TWO_GREY_LEVELS = 0.0206
_EXACT_PIXELS = 1e-5
_PIXELS_APART = 0.05

_COLOUR_MODES = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")

#: Pillow versions that the vectors were recorded with and that agree where no variant is stored.
_RECORDED_PILLOW = (10, 13)


def compare_set(parts: ParitySet, dtype: str) -> list[ParityRow]:
    """Compare everything that is recorded for one checkpoint."""
    try:
        sides = _load_sides(parts.checkpoint, dtype)
    except Exception as error:  # whatever is wrong with a checkpoint is a row
        note = (
            str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        )
        return [ParityRow.of(parts.name, "checkpoint", failed(note))]
    side = sides.get("float32") or sides["bfloat16"]
    rows: list[ParityRow] = []
    if "float32" in sides:
        rows += _tokenizer_rows(parts, side)
        rows += _preprocess_rows(parts, side)
    folders = sorted(path for path in parts.golden.iterdir() if path.is_dir())
    if not folders:
        rows.append(ParityRow.of(parts.name, "golden", failed("no image folder in it")))
    batch: list[tuple] = []
    for folder in folders:
        rows += _image_rows(parts, folder, sides, batch)
    if batch:
        together = "gen_ids in one batch"
        rows.append(_guarded(parts.name, together, lambda: compare_batch(side, batch)))
    return rows


def _load_sides(checkpoint: Path, dtype: str) -> dict[str, Side]:
    """Load the first precision, so that an unusable checkpoint shows at once."""
    wanted = ("float32", "bfloat16") if dtype == "float32" else ("bfloat16",)
    sides = {name: Side(checkpoint, name) for name in wanted}
    _ = sides[wanted[0]].loaded
    return sides


def _guarded(case: str, array: str, work: Callable[[], Difference]) -> ParityRow:
    """Run one comparison; whatever goes wrong in it is a failed row that says what."""
    try:
        return ParityRow.of(case, array, work())
    except Exception as error:
        return ParityRow.of(case, array, failed(f"{type(error).__name__}: {error}"))


def _image_rows(
    parts: ParitySet, folder: Path, sides: dict[str, Side], batch: list[tuple]
) -> Iterator[ParityRow]:
    """Compare the recorded outputs of one image; cases for one batch are added to `batch`."""
    label = f"{parts.name}/{folder.name}"
    try:
        recorded = read_json(folder / "cases.json")
        with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        pixels = arrays["pixel_values"]
        cases, strange = single_cases(recorded)
        arrays = arrays_of_turns(arrays, recorded, cases) if cases else arrays
        images = {name: ImageSide(side, pixels, cases) for name, side in sides.items()}
    except Exception as error:
        note = f"{type(error).__name__}: {error}"
        yield ParityRow.of(label, "arrays.npz, cases.json", failed(note))
        return
    for name, note in strange.items():
        yield ParityRow.of(f"{label}/{name}", "case", failed(note))
    if "float32" in sides:
        yield from _pixel_rows(parts, label, cases, sides["float32"], pixels)
    for case, array, work in compare_arrays(arrays, cases, images):
        yield _guarded(f"{label}/{case}" if case else label, array, work)
    for name, case in cases.items():
        for array, work in compare_case(name, case, images):
            yield _guarded(f"{label}/{name}", array, work)
        if "float32" in images:
            run = case.get("fp32")
            tokens = run.get("gen_ids") if isinstance(run, dict) else None
            batch.append((images["float32"], name, arrays.get(f"{name}__gen_ids", tokens)))


def _pixel_rows(
    parts: ParitySet, label: str, cases: dict, side: Side, pixels: np.ndarray
) -> Iterator[ParityRow]:
    files = sorted({str(case["image"]) for case in cases.values() if case.get("image")})
    if not files:
        yield ParityRow.of(label, "pixel_values", failed("cases.json names no image"))
    for file in files:
        yield _guarded(
            label,
            "pixel_values",
            lambda file=file: _compare_pixels(side, parts.images / file, pixels, exact=True),
        )


def _compare_pixels(side: Side, path: Path, theirs: np.ndarray, *, exact: bool) -> Difference:
    """Read, fit and normalise an image as users do, and compare."""
    radiograph, note = _read(path)
    ours = side.loaded.processor(radiograph, "crop").numpy()
    ours = ours.reshape(theirs.shape) if ours.size == theirs.size else ours
    lossy = path.suffix.lower() in (".jpg", ".jpeg")
    if exact and not lossy and _pillow() in _RECORDED_PILLOW:
        outcome = close(ours, theirs, _EXACT_PIXELS)
    else:
        outcome = mostly_close(ours, theirs, TWO_GREY_LEVELS, _EXACT_PIXELS, _PIXELS_APART)
    return replace(outcome, note="; ".join(filter(None, (outcome.note, note))))


def _read(path: Path) -> tuple[Radiograph, str]:
    """Read an image as users do; a colour photo, which is refused to them, as the reference did."""
    try:
        return load_radiograph(path), ""
    except InputError:
        with opened_picture(path) as picture:
            if picture.mode not in _COLOUR_MODES:
                raise
            grey = np.asarray(picture.convert("L"))
    return Radiograph.from_array(grey, source=path.name), "colour, refused to users; read as grey"


def _pillow() -> int:
    return int(PIL.__version__.partition(".")[0])


def _preprocess_rows(parts: ParitySet, side: Side) -> Iterator[ParityRow]:
    """Compare the images that were only preprocessed.

    "name@pillow13" is what that version gives where it differs from the one under "name".
    """
    path = parts.golden / "preprocess_only.npz"
    label = f"{parts.name}/preprocess_only"
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:
        yield ParityRow.of(label, path.name, failed(f"{type(error).__name__}: {error}"))
        return
    if not arrays:
        yield ParityRow.of(label, path.name, failed("holds no array"))
    for key, theirs in arrays.items():
        file, _, variant = key.partition("@")
        if variant:
            exact = variant == f"pillow{_pillow()}"
        else:
            exact = f"{file}@pillow{_pillow()}" not in arrays
        yield _guarded(
            label,
            key,
            lambda file=file, theirs=theirs, exact=exact: _compare_pixels(
                side, parts.images / file, theirs, exact=exact
            ),
        )


def _tokenizer_rows(parts: ParitySet, side: Side) -> Iterator[ParityRow]:
    """Compare the tokenizer's answers; one row per field over all texts."""
    path = parts.golden / "tokenizer_cases.json"
    label = f"{parts.name}/tokenizer"
    try:
        cases = json.loads(path.read_text(encoding="utf-8"))
        fields = sorted({field for case in cases for field in case} - {"text"})
    except Exception as error:
        yield ParityRow.of(label, path.name, failed(f"{type(error).__name__}: {error}"))
        return
    if not fields:
        yield ParityRow.of(label, path.name, failed("holds no case"))
    for field in fields:
        yield _guarded(
            label, field, lambda field=field: _compare_texts(side.loaded.tokenizer, cases, field)
        )


def _compare_texts(tokenizer, cases: list[dict], field: str) -> Difference:
    answers = {
        "input_ids": lambda case: tokenizer.encode(case["text"]),
        "tokens": lambda case: tokenizer.pieces(tokenizer.encode(case["text"])),
        "decoded": lambda case: tokenizer.decode(case["input_ids"], skip_special=False),
        "decoded_skip_special": lambda case: tokenizer.decode(case["input_ids"]),
    }
    if field not in answers:
        return failed(f"nobody knows how to compare {field!r}")
    wrong = []
    for case in cases:
        outcome = same(answers[field](case), case[field])
        if not outcome.ok:
            wrong.append(f"{case['text']!r}: {outcome.note}")
    note = re.sub(r"\s+", " ", "; ".join(wrong[:3]))
    return Difference(float(len(wrong)), 0.0, not wrong, f"texts of {len(cases)}", note)
