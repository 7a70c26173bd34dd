"""Traces on disk: arrays as safetensors, the rest as JSON, in one folder.

    trace.save("runs/case7")             ->  runs/case7/trace.json, runs/case7/trace.safetensors
    wb.load_trace("runs/case7")          ->  Trace without a model; `attach` gives it one

Pixels are kept (float32 as the model saw them, 16 bit as read); DICOM tags are not.
Does not know: pickles.
"""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from workbench._store import file_sha256, read_json
from workbench.errors import InputError
from workbench.generation import DecodingSettings, Generation
from workbench.generation.result import ModelIdentity
from workbench.radiograph import FitGeometry, InputContract, InputWarning, Radiograph
from workbench.trace.layout import TokenLayout
from workbench.trace.trace import AttentionRows, Trace

FORMAT = "cxr-workbench-trace/1"
ARRAYS, NOTES = "trace.safetensors", "trace.json"
_LEVELS = 65535
#: What comes of files that are not what was written.
_DAMAGED = (
    SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
)  # fmt: skip


def save_trace(trace: Trace, path: str | Path) -> Path:
    """Write a trace into a folder, readable by its owner only; older files of it are replaced.

    Returns:
        the folder.

    Raises:
        OSError: it cannot be written; older files of it are kept.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    arrays = {
        "pixels": np.rint(trace.image.pixels * _LEVELS).astype(np.uint16),
        "pixel_values": np.ascontiguousarray(trace.pixel_values),
        "logprobs": trace.logprobs,
        "written_logprobs": np.array(trace.generation.logprobs),
    }
    towers = {"language": trace.language, "vision": trace.vision}
    for name, rows in towers.items():
        if rows is not None:
            arrays[name] = np.ascontiguousarray(rows.values)
    notes = {
        "format": FORMAT,
        "layout": asdict(trace.layout),
        "contract": trace.image.contract.to_dict(),
        "generation": trace.generation.to_dict(),
        "towers": {
            name: None if rows is None else _tower_notes(rows) for name, rows in towers.items()
        },
    }
    parts = {name: folder / (name + ".part") for name in (ARRAYS, NOTES)}
    try:
        written, noted = (_private(part) for part in parts.values())
        save_file(arrays, written)
        notes["sha256"] = file_sha256(written)
        noted.write_text(json.dumps(notes, indent=1) + "\n")
        for name, part in parts.items():
            part.chmod(0o600)
            os.replace(part, folder / name)
    except SafetensorError as error:
        raise OSError(
            errno.EIO, f"{folder.name}/{ARRAYS}: the trace cannot be written ({error}); make room"
        ) from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
    return folder


def _private(path: Path) -> Path:
    """Make an empty file that nobody else may read, from before anything is in it."""
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    return path


def load_trace(path: str | Path) -> Trace:
    """Read a trace that `save` wrote.

    Raises:
        InputError: there is no trace, it is of another format, or it is damaged.
    """
    folder = Path(path)
    for name in (NOTES, ARRAYS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} holds no {name}; expected a folder that trace.save wrote")
    try:
        notes = read_json(folder / NOTES)
        found = notes["format"]
        if found != FORMAT:
            raise InputError(f"{folder} is of format {found!r}; this version reads {FORMAT!r}")
        if file_sha256(folder / ARRAYS) != notes["sha256"]:
            raise ValueError(f"{ARRAYS} is not the file that {NOTES} was written with")
        return _trace(notes, load_file(folder / ARRAYS))
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(
            f"the trace in {folder} is damaged ({type(error).__name__}: {error}); record it again"
        ) from error


def _trace(notes: dict, arrays: dict[str, np.ndarray]) -> Trace:
    contract = notes["contract"]
    contract = InputContract(
        **contract
        | {
            "warnings": _warnings(contract["warnings"]),
            "original_size": tuple(contract["original_size"]),
            "stored_range": tuple(contract["stored_range"]),
            "pixel_spacing": contract["pixel_spacing"] and tuple(contract["pixel_spacing"]),
        }
    )
    pixels = arrays["pixels"].astype(np.float32) / np.float32(_LEVELS)
    towers = {
        name: None if tower is None else _tower(tower, arrays[name])
        for name, tower in notes["towers"].items()
    }
    trace = Trace(
        layout=_layout(notes["layout"]),
        generation=_generation(notes["generation"], arrays["written_logprobs"]),
        image=Radiograph(pixels, contract),
        pixel_values=arrays["pixel_values"],
        logprobs=arrays["logprobs"],
        language=towers["language"],
        vision=towers["vision"],
    )
    expected = (len(trace.layout.tokens), trace.layout.length)
    if trace.language.values.shape[2:] != expected:
        raise ValueError(f"rows of {trace.language.values.shape[2:]}, expected {expected}")
    return trace


def _tower_notes(rows: AttentionRows) -> dict:
    return {
        "layers": list(rows.layers),
        "mean_heads": rows.mean_heads,
        "total_layers": rows.total_layers,
        "total_heads": rows.total_heads,
    }


def _tower(notes: dict, values: np.ndarray) -> AttentionRows:
    return AttentionRows(values, **notes | {"layers": tuple(notes["layers"])})


def _layout(notes: dict) -> TokenLayout:
    geometry = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in notes["geometry"].items()
    }
    return TokenLayout(
        prompt_tokens=tuple(notes["prompt_tokens"]),
        question_tokens=tuple(notes["question_tokens"]),
        tokens=tuple(notes["tokens"]),
        offsets=_pairs(notes["offsets"]),
        text=notes["text"],
        grid=tuple(notes["grid"]),
        geometry=FitGeometry(**geometry),
    )


def _generation(notes: dict, logprobs: np.ndarray) -> Generation:
    return Generation(
        text=notes["text"],
        token_ids=tuple(notes["token_ids"]),
        tokens=tuple(notes["tokens"]),
        logprobs=logprobs,
        offsets=_pairs(notes["offsets"]),
        prompt=notes["prompt"],
        prompt_ids=tuple(notes["prompt_ids"]),
        settings=DecodingSettings(**notes["settings"]),
        seconds=notes["seconds"],
        stopped_by=notes["stopped_by"],
        task=notes["task"],
        source=notes["source"],
        model=ModelIdentity(**notes["model"]),
        template=notes["template"],
        warnings=_warnings(notes["warnings"]),
        versions=dict(notes["versions"]),
        pixels_sha256=notes["pixels_sha256"],
    )


def _pairs(values: list) -> tuple[tuple[int, int], ...]:
    return tuple((int(first), int(last)) for first, last in values)


def _warnings(values: list) -> tuple[InputWarning, ...]:
    return tuple(InputWarning(**value) for value in values)
