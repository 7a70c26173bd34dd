"""The weight files of a checkpoint directory: found, their headers read and compared, hashed.

Only safetensors, in one file or in shards with an index. Names and shapes come from the headers, so
a misfit is found before any memory is spent. With an index each tensor is read from the shard that
the index names; copies of it in other shards are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from workbench._repr import short_repr
from workbench._store import file_sha256, read_json
from workbench.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

#: How many names a message lists.
SHOWN = 5

#: Names that old files carry and nothing loads.
_IGNORED = re.compile(r"\.rotary_emb\.inv_freq$")

_SHA256 = re.compile(r"[0-9a-f]{64}")

#: Numbers that are weights as they stand, as safetensors calls them; others need a scale.
_PLAIN = ("BF16", "F16", "F32", "F64")


@dataclass(frozen=True)
class WeightFiles:
    """Weight files of one checkpoint, sorted by name.

    Attributes:
        shapes: shape of every tensor by name.
        dtypes: dtypes as stored, e.g. ("BF16",), sorted.
        places: the file that each tensor is read from, by name.
    """

    files: tuple[Path, ...]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: tuple[str, ...]
    places: Mapping[str, Path]

    __repr__ = short_repr


def find_weights(directory: Path) -> WeightFiles:
    """Find the weight files of a directory and read their headers.

    Raises:
        CheckpointError: no safetensors, a shard is missing, a file is damaged, or the index and its
            shards do not agree on what is in them.
    """
    files, weight_map = _weight_files(directory)
    shapes: dict[str, tuple[int, ...]] = {}
    places: dict[str, Path] = {}
    dtypes: set[str] = set()
    strays: set[str] = set()
    for path in files:
        for name, (shape, dtype) in _read_header(path).items():
            place = path.name if weight_map is None else weight_map.get(name)
            if place == path.name:
                shapes[name], places[name] = shape, path
                dtypes.add(dtype)
            elif place is None:
                strays.add(name)
    listed = weight_map or {}
    lost = [f"{name} (in {place})" for name, place in listed.items() if name not in shapes]
    problems = _listed({"listed but not there": lost, "there but not listed": strays})
    if problems:
        raise CheckpointError(
            f"{INDEX_FILE} and its shards do not agree; {problems}; copy the index and all shards "
            "again, from one source"
        )
    return WeightFiles(files, shapes, tuple(sorted(dtypes)), places)


@contextmanager
def open_tensors(weights: WeightFiles) -> Iterator[dict[str, Any]]:
    """Give each tensor as a slice of its file; nothing is read before it is indexed."""
    with ExitStack() as stack:
        opened = {
            path: stack.enter_context(safe_open(path, framework="pt")) for path in weights.files
        }
        yield {name: opened[path].get_slice(name) for name, path in weights.places.items()}


def _read_header(path: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of every tensor of a file by name."""
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if not _IGNORED.search(name)]  # noqa: SIM118
            parts = {name: file.get_slice(name) for name in names}
            return {
                name: (tuple(part.get_shape()), part.get_dtype()) for name, part in parts.items()
            }
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path.name} is damaged or not a safetensors file ({error}); copy it again"
        ) from error


def check_weights(
    weights: WeightFiles, expected: Mapping[str, Sequence[int]], *, optional: Sequence[str] = ()
) -> None:
    """Refuse weights that are missing, unexpected, misshapen, or numbers that need a scale.

    `optional` names may be missing (a head tied to the embedding).
    """
    found = weights.shapes
    misshapen = [
        f"{name} {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != tuple(shape)
    ]
    missing = expected.keys() - found.keys() - set(optional)
    unexpected = found.keys() - expected.keys()
    problems = _listed({"missing": missing, "unexpected": unexpected, "misshapen": misshapen})
    if problems:
        raise CheckpointError(
            f"the weights do not fit config.json; {problems}; use the config.json that belongs to "
            "these weights, or copy the weights again"
        )
    coded = [dtype for dtype in weights.dtypes if dtype not in _PLAIN]
    if coded:
        raise CheckpointError(
            f"the weights are stored as {', '.join(coded)}, which are no plain numbers; expected "
            f"{', '.join(_PLAIN)}: take the checkpoint as it was before it was quantised"
        )


def hash_weights(weights: WeightFiles) -> dict[str, str]:
    """Return the SHA-256 of every weight file by file name; each is read from end to end."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = pool.map(file_sha256, weights.files)
        return {path.name: digest for path, digest in zip(weights.files, digests, strict=True)}


def verify_weights(weights: WeightFiles, promised: Mapping[str, Any]) -> dict[str, str]:
    """Hash every weight file and compare it with what is known of it, before anything is loaded.

    `promised` are SHA-256 by file name, as model_card.json has them. Files that are not named there
    are held to the name of their blob in the hub cache, which is their SHA-256. A file without
    either is only hashed.

    Raises:
        CheckpointError: a file is not the one that was published or written.
    """
    found = hash_weights(weights)
    for path in weights.files:
        blob = path.resolve()
        known = promised.get(path.name)
        if known is None and blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name):
            known = blob.name
        if known is not None and known != found[path.name]:
            raise CheckpointError(
                f"{path.name} is damaged or was changed: its SHA-256 begins with "
                f"{found[path.name][:12]}, expected {str(known)[:12]}; delete it and copy or fetch "
                "it again"
            )
    return found


def _weight_files(directory: Path) -> tuple[tuple[Path, ...], Mapping[str, str] | None]:
    """Return the files, and the index's file name of each tensor; None without an index."""
    single, index = directory / SINGLE_FILE, directory / INDEX_FILE
    if single.is_file():
        shards: set[str] = set()
        with suppress(CheckpointError):  # the one file is whole without an index
            shards = set(_weight_map(index).values())
        if shards - {SINGLE_FILE} and all((directory / name).is_file() for name in shards):
            raise CheckpointError(  # either could be the older one
                f"{directory} holds two sets of weights, {SINGLE_FILE} and the shards of "
                f"{INDEX_FILE}; keep one of them and move the other out of the folder"
            )
        return (single,), None
    if not index.is_file():
        raise CheckpointError(
            f"no {SINGLE_FILE} and no {INDEX_FILE} in {directory}; copy the weights beside "
            "config.json; pickled weights (.bin, .pt) are never read, convert them"
        )
    weight_map = _weight_map(index)
    names = sorted(set(weight_map.values()))
    absent = [name for name in names if not (directory / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{len(absent)} of {len(names)} shards are missing in {directory}: "
            f"{_shorten(absent)}; copy them beside {INDEX_FILE}"
        )
    return tuple(directory / name for name in names), weight_map


def _weight_map(index: Path) -> dict[str, str]:
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index.name} holds no weight_map; copy it again")
    files = set(map(str, weight_map.values()))
    strange = [name for name in files if Path(name).name != name or not name.endswith("tensors")]
    if strange:
        raise CheckpointError(
            f"{index.name} points to {_shorten(sorted(strange))}; shards are safetensors files "
            "beside it"
        )
    return {name: file for name, file in weight_map.items() if not _IGNORED.search(name)}


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object of a checkpoint, empty where there is no file; else `CheckpointError`."""
    if not path.is_file():
        return {}
    try:
        value = read_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name} is not valid JSON ({error}); copy it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} must hold an object, got {type(value).__name__}")
    return value


def _listed(problems: Mapping[str, Iterable[str]]) -> str:
    named = ((kind, sorted(names)) for kind, names in problems.items())
    return "; ".join(f"{kind}: {_shorten(names)}" for kind, names in named if names)


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
