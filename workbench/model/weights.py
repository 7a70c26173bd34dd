"""The weight files of a checkpoint directory: found, their headers read and compared, hashed.

Only safetensors, in one file or in shards with an index. Nothing is loaded here: names and shapes
come from the headers, so a misfit is found before any memory is spent.

Does not know: models; it compares names and shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from workbench._files import file_sha256, read_json
from workbench._repr import short_repr
from workbench.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

#: How many names a message lists.
SHOWN = 5

#: Names that old files carry and nothing loads.
_IGNORED = re.compile(r"\.rotary_emb\.inv_freq$")

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class WeightFiles:
    """Weight files of one checkpoint.

    Attributes:
        files: safetensors files, sorted by name.
        shapes: shape of every tensor by name.
        dtypes: dtypes as stored, e.g. ("BF16",), sorted.
    """

    files: tuple[Path, ...]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: tuple[str, ...]

    __repr__ = short_repr

    @property
    def total_bytes(self) -> int:
        """Size of the files."""
        return sum(path.stat().st_size for path in self.files)


def find_weights(directory: Path) -> WeightFiles:
    """Find the weight files of a directory and read their headers.

    Raises:
        CheckpointError: no safetensors, a shard is missing, or a file is damaged.
    """
    files = _weight_files(directory)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: set[str] = set()
    for path in files:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (not a mapping)
                    part = file.get_slice(name)
                    shapes[name] = tuple(part.get_shape())
                    dtypes.add(part.get_dtype())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{path.name} is damaged or not a safetensors file ({error}); copy it again"
            ) from error
    return WeightFiles(files, shapes, tuple(sorted(dtypes)))


def check_weights(
    weights: WeightFiles, expected: Mapping[str, Sequence[int]], *, optional: Sequence[str] = ()
) -> None:
    """Compare names and shapes in the files with those of a model.

    Args:
        weights: what the files hold.
        expected: shape of every tensor that the model has.
        optional: names that may be missing (a head tied to the embedding).

    Raises:
        CheckpointError: weights are missing, unexpected or misshapen; the first five are named.
    """
    found = {name: shape for name, shape in weights.shapes.items() if not _IGNORED.search(name)}
    missing = sorted(set(expected) - set(found) - set(optional))
    unexpected = sorted(set(found) - set(expected))
    misshapen = [
        f"{name} {list(found[name])} instead of {list(expected[name])}"
        for name in sorted(set(found) & set(expected))
        if tuple(found[name]) != tuple(expected[name])
    ]
    problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    lines = [f"{kind}: {_shorten(names)}" for kind, names in problems.items() if names]
    if lines:
        raise CheckpointError(
            "the weights do not fit config.json; " + "; ".join(lines) + "; use the config.json "
            "that belongs to these weights, or copy the weights again"
        )


def hash_weights(weights: WeightFiles) -> dict[str, str]:
    """Return the SHA-256 of every weight file by file name; each is read from end to end."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = pool.map(file_sha256, weights.files)
        return {path.name: digest for path, digest in zip(weights.files, digests, strict=True)}


def verify_weights(weights: WeightFiles, promised: Mapping[str, Any]) -> dict[str, str]:
    """Hash every weight file and compare it with what is known of it, before anything is loaded.

    Args:
        weights: the files.
        promised: SHA-256 by file name, as model_card.json has it; files that are not named there
            are held to the name of their blob in the hub cache, which is their SHA-256. A file
            without either is only hashed.

    Returns:
        The SHA-256 of every file by file name.

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


def _weight_files(directory: Path) -> tuple[Path, ...]:
    single, index = directory / SINGLE_FILE, directory / INDEX_FILE
    if single.is_file():
        return (single,)
    if not index.is_file():
        pickles = any(directory.glob("*.bin")) or any(directory.glob("*.pt"))
        raise CheckpointError(
            f"no {SINGLE_FILE} and no {INDEX_FILE} in {directory}; "
            + (
                "pickled weights (.bin, .pt) are never read, convert them to safetensors"
                if pickles
                else "copy the weights beside config.json"
            )
        )
    names = sorted(set(_weight_map(index).values()))
    strange = [name for name in names if Path(name).name != name or not name.endswith("tensors")]
    if strange:
        raise CheckpointError(
            f"{INDEX_FILE} points to {_shorten(strange)}; shards are safetensors files beside it"
        )
    absent = [name for name in names if not (directory / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{len(absent)} of {len(names)} shards are missing in {directory}: "
            f"{_shorten(absent)}; copy them beside {INDEX_FILE}"
        )
    return tuple(directory / name for name in names)


def _weight_map(index: Path) -> dict[str, str]:
    try:
        weight_map = read_json(index)["weight_map"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{index.name} holds no weight_map ({error!r}); copy it again") from (
            error
        )
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index.name} holds an empty weight_map; copy it again")
    if not all(isinstance(name, str) and name for name in weight_map.values()):
        raise CheckpointError(f"{index.name}: its weight_map names no files; copy it again")
    return weight_map


def _shorten(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
