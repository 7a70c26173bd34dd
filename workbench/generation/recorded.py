"""One checkpoint against its recorded outputs: tokenizer, preprocessing, and the cases of images.

Arrays are recorded under "name" (float32) and "bf16__name" (the published bfloat16 run); those of a
case under "case__name". A dialogue is recorded as a list, one case for each turn with everything
that was said before it. Whatever goes wrong in a comparison is a failed row that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from workbench._store import read_json
from workbench.errors import CheckpointError, InputError
from workbench.generation.measures import (
    ParityRow,
    close,
    errors_as_rows,
    failed,
    mostly_close,
    outcome,
    same,
    same_sequence,
)
from workbench.generation.recorded_case import ImageOutputs
from workbench.generation.responder import Responder, parts_of
from workbench.imaging import load_radiograph
from workbench.imaging.guards import guarded_decoders
from workbench.imaging.picture import FORMATS
from workbench.model.load import LoadedCheckpoint, load_checkpoint
from workbench.model.tokenizer import CxrTokenizer
from workbench.radiograph import Radiograph
from workbench.settings import Settings

#: Arrays without which a set proves nothing: of an image, and of a case.
_NEEDED = ("vision_tokens", "projected")
_NEEDED_IN_CASE = ("input_ids", "logits_last", "gen_ids")

#: Fields that are inputs of a case or are compared through others.
_INPUTS = frozenset({"image", "max_new_tokens", "do_sample", "fp32", "bf16"})

_BF16 = "bf16__"

#: Two grey levels of a normalised pixel: what another Pillow or JPEG decoder may differ by.
_TWO_GREY_LEVELS = 0.0206
_EXACT_PIXELS = 1e-5
_PIXELS_APART = 0.05
_COLOUR_MODES = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")

_PILLOW = int(PIL.__version__.partition(".")[0])
#: Pillow versions that the vectors were recorded with and that agree where no variant is stored.
_RECORDED_PILLOW = (10, 13)


def compare_set(checkpoint: Path, golden: Path) -> list[ParityRow]:
    """Compare everything that is recorded for one checkpoint, each set in its own precision.

    `golden` holds the recorded outputs; the images lie in images/ beside its parent.
    """
    rows: list[ParityRow] = []
    with errors_as_rows(rows, checkpoint.name, "checkpoint"):
        for dtype in ("float32", "bfloat16"):
            loaded = load_checkpoint(checkpoint, device="cpu", dtype=dtype)
            found = _Comparison(loaded, golden, dtype == "float32").run()
            rows += [row for row in found if row not in rows]  # what is broken fails in both
    return rows


class _Comparison:
    """One checkpoint in one precision against what was recorded in it."""

    def __init__(self, loaded: LoadedCheckpoint, golden: Path, single: bool) -> None:
        self._loaded = loaded
        self._responder = Responder(*parts_of(loaded))
        self._golden = golden
        self._images = golden.parent.parent / "images"
        self._name = golden.name
        self._single = single
        self._rows: list[ParityRow] = []
        self._batch: list[tuple[ImageOutputs, str, Any]] = []

    def run(self) -> list[ParityRow]:
        """Compare everything; of the bfloat16 run only images are recorded."""
        if self._single:
            self._compare_tokenizer()
            self._compare_preprocessing()
        folders = sorted(path for path in self._golden.iterdir() if path.is_dir())
        if not folders:
            self._fail(self._name, "golden", "no image folder in it")
        for folder in folders:
            label = f"{self._name}/{folder.name}"
            with errors_as_rows(self._rows, label, "arrays.npz, cases.json"):
                self._compare_image(label, folder)
        if self._single and self._batch:
            self._add(self._name, "gen_ids in one batch", self._compare_batch)
        return self._rows

    def _add(
        self, case: str, array: str, compare: Callable[..., ParityRow | None], *args: object
    ) -> None:
        """Add what a comparison gives; None stands for a name that it does not know."""
        with errors_as_rows(self._rows, case, array):
            found = compare(*args) or failed(f"{array!r} is unknown and cannot be compared")
            self._rows.append(replace(found, case=case, array=array))

    def _fail(self, case: str, array: str, note: str) -> None:
        self._rows.append(failed(note, case, array))

    def _compare_tokenizer(self) -> None:
        """Compare the tokenizer's answers; one row per field over all texts."""
        label, file = f"{self._name}/tokenizer", "tokenizer_cases.json"
        with errors_as_rows(self._rows, label, file):
            cases = read_json(self._golden / file)
            fields = sorted({field for case in cases for field in case} - {"text"})
            if not fields:
                self._fail(label, file, "contains no case")
            for field in fields:
                self._add(label, field, _compare_texts, self._responder.tokenizer, cases, field)

    def _compare_preprocessing(self) -> None:
        """Compare the images that were only preprocessed.

        "name@pillow13" is what that version gives where it differs from the one under "name".
        """
        label, path = f"{self._name}/preprocess_only", self._golden / "preprocess_only.npz"
        with errors_as_rows(self._rows, label, path.name):
            arrays = _arrays(path)
            if not arrays:
                self._fail(label, path.name, "contains no array")
            for key, theirs in arrays.items():
                file, _, variant = key.partition("@")
                own = f"pillow{_PILLOW}"
                exact = variant == own if variant else f"{file}@{own}" not in arrays
                self._add(label, key, self._compare_pixels, file, theirs, exact)

    def _compare_image(self, label: str, folder: Path) -> None:
        """Compare the outputs of one image; its cases are kept for one batch."""
        recorded = read_json(folder / "cases.json")
        arrays = _arrays(folder / "arrays.npz")
        pixels = arrays.pop("pixel_values")
        if not isinstance(recorded, dict):
            raise CheckpointError("cases.json holds no cases by name")
        cases, strange = single_cases(recorded)
        arrays = _arrays_of_turns(arrays, recorded, cases)
        image = ImageOutputs(self._responder, pixels, cases)
        for case, note in strange.items():
            self._fail(f"{label}/{case}", "case", note)
        if self._single:
            self._compare_files(label, cases, pixels)
            self._find_missing(label, cases, arrays)
        for key, theirs in arrays.items():
            if key.startswith(_BF16) != self._single:
                case, name = _parts(key.removeprefix(_BF16))
                shown = name if self._single else f"{_BF16}{name}"
                where = f"{label}/{case}".removesuffix("/")
                self._add(where, shown, image.compare_array, case, name, theirs)
        for case, fields in cases.items():
            self._compare_case(f"{label}/{case}", image, case)
            self._batch.append((image, case, arrays.get(f"{case}__gen_ids", _tokens(fields))))

    def _compare_files(self, label: str, cases: dict[str, dict], pixels: np.ndarray) -> None:
        files = sorted({str(case["image"]) for case in cases.values() if case.get("image")})
        if not files:
            self._fail(label, "pixel_values", "cases.json names no image")
        for file in files:
            self._add(label, "pixel_values", self._compare_pixels, file, pixels)

    def _find_missing(self, label: str, cases: dict[str, dict], arrays: Collection[str]) -> None:
        """Name the arrays without which the set proves nothing."""
        there = {_parts(key) for key in arrays}
        begun = {case for case, _ in there}
        # a case whose tokens stand in cases.json needs no arrays
        held = [case for case, fields in cases.items() if case in begun or not _tokens(fields)]
        needed = [("", name) for name in _NEEDED]
        needed += [(case, name) for case in held for name in _NEEDED_IN_CASE]
        for case, name in needed:
            if (case, name) not in there:
                self._fail(f"{label}/{case}".removesuffix("/"), name, "missing in arrays.npz")

    def _compare_case(self, label: str, image: ImageOutputs, name: str) -> None:
        """Compare every recorded field of a case, and of its run in this precision."""
        case = image.cases[name]
        kind = "fp32" if self._single else "bf16"
        for field in case if self._single else ():
            if field not in _INPUTS:
                shown = "input_ids of the prompt" if field == "input_ids" else field
                self._add(label, shown, image.compare_field, name, field)
        run = case.get(kind, None if self._single else {})
        if not isinstance(run, dict) or (self._single and not run):
            self._fail(label, kind, "expected the recorded fields of a run")
            return
        for field, theirs in run.items():
            self._add(label, f"{kind}/{field}", image.compare_run, name, field, theirs)

    def _compare_batch(self) -> ParityRow:
        """Decode all cases of all images in one batch and count the tokens that differ."""
        asked = []
        for image, name, theirs in self._batch:
            with suppress(Exception):  # its own rows tell why it cannot be asked
                asked.append((image.job(name), list(theirs)))
        if not asked:
            return failed("no case could be asked")
        answers = self._responder.answer_batch([job for job, _ in asked])
        pairs = zip(answers, asked, strict=True)
        found = [same_sequence(answer.token_ids, tokens) for answer, (_, tokens) in pairs]
        wrong = sum(row.max_abs_diff or 0.0 for row in found)
        note = next((row.note for row in found if not row.ok), "")
        return outcome(wrong, 0.0, not wrong, "places", note)

    def _compare_pixels(self, file: str, theirs: np.ndarray, exact: bool = True) -> ParityRow:
        """Read, fit and normalise an image as users do, and compare."""
        path = self._images / file
        radiograph, note = _read(path)
        ours = self._loaded.processor(radiograph, "crop").numpy()
        ours = ours.reshape(theirs.shape) if ours.size == theirs.size else ours
        lossy = path.suffix.lower() in (".jpg", ".jpeg")
        if exact and not lossy and _PILLOW in _RECORDED_PILLOW:
            found = close(ours, theirs, _EXACT_PIXELS)
        else:
            found = mostly_close(ours, theirs, _TWO_GREY_LEVELS, _EXACT_PIXELS, _PIXELS_APART)
        return replace(found, note="; ".join(filter(None, (found.note, note))))


def single_cases(recorded: dict) -> tuple[dict[str, dict], dict[str, str]]:
    """Return the cases of a cases.json by name, and for every entry that is no case the reason.

    The turns of a dialogue are cases of their own: "name/1", "name/2".
    """
    cases, strange = {}, {}
    for name, entry in recorded.items():
        turns = {name: entry}
        if isinstance(entry, list):
            turns = {f"{name}/{number}": turn for number, turn in enumerate(entry, 1)}
            strange |= {} if entry else {name: "a dialogue without turns"}
        for shown, case in turns.items():
            if shown in cases or shown in strange:
                strange[shown] = "two cases have this name: cannot be compared"
                cases.pop(shown, None)
            elif isinstance(case, dict) and case.get("chat") and case.get("input_ids"):
                cases[shown] = case
            else:
                strange[shown] = "no case with chat and input_ids: cannot be compared"
    return cases, strange


def _arrays_of_turns(arrays: dict, recorded: dict, cases: Collection[str]) -> dict:
    """Give the arrays of the turns of a dialogue the names that `single_cases` gives the turns.

    They may be recorded as "name__0__array", "name_1__array", "name_turn1__array" and the like,
    counted from 0 or from 1.
    """
    renamed = dict(arrays)
    for name in (name for name, turns in recorded.items() if isinstance(turns, list)):
        pattern = re.compile(rf"({_BF16})?{re.escape(name)}\D*?(\d+)__(.+)")
        unnamed = [k for k in arrays if _parts(k.removeprefix(_BF16))[0] not in cases]
        found = [match for key in unnamed if (match := pattern.fullmatch(key))]
        first = min((int(match[2]) for match in found), default=0)
        for match in found:
            turn = int(match[2]) + (first == 0)
            renamed[f"{match[1] or ''}{name}/{turn}__{match[3]}"] = renamed.pop(match[0])
    return renamed


def _tokens(case: dict) -> list[int] | None:
    run = case.get("fp32")
    return run.get("gen_ids") if isinstance(run, dict) else None


def _read(path: Path) -> tuple[Radiograph, str]:
    """Read an image as users do; a colour photo, which is refused to them, as the reference did."""
    try:
        return load_radiograph(path), ""
    except InputError:
        with guarded_decoders(), Image.open(path, formats=FORMATS) as picture:
            too_large = picture.width * picture.height > Settings.from_env().max_pixels
            if too_large or picture.mode not in _COLOUR_MODES:
                raise
            grey = np.asarray(picture.convert("L"))
    return Radiograph.from_array(grey, source=path.name), "colour, refused to users; read as grey"


def _compare_texts(tokenizer: CxrTokenizer, cases: list[dict], field: str) -> ParityRow | None:
    answers = {
        "input_ids": lambda case: tokenizer.encode(case["text"]),
        "tokens": lambda case: tokenizer.pieces(tokenizer.encode(case["text"])),
        "decoded": lambda case: tokenizer.decode(case["input_ids"], skip_special=False),
        "decoded_skip_special": lambda case: tokenizer.decode(case["input_ids"]),
    }
    if field not in answers:
        return None
    found = [(case["text"], same(answers[field](case), case[field])) for case in cases]
    wrong = [f"{text!r}: {row.note}" for text, row in found if not row.ok]
    note = re.sub(r"\s+", " ", "; ".join(wrong[:3]))
    return outcome(float(len(wrong)), 0.0, not wrong, f"texts of {len(cases)}", note)


def _parts(key: str) -> tuple[str, str]:
    """Return the case ("" for the image) and the name of a recorded array."""
    case, _, name = key.partition("__")
    return (case, name) if name else ("", case)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored)
