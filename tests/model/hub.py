"""A hub cache on this disk, as huggingface_hub lays it out."""

from __future__ import annotations

import shutil
from pathlib import Path

from workbench.model.source import PUBLISHED_ID, PUBLISHED_REVISION
from workbench.model.weights import find_weights, hash_weights

WEIGHTS = "model.safetensors"


def published_cache(folder: Path, sources: Path) -> Path:
    """Put a checkpoint under the published id and revision; return the folder of the repository.

    Files are links to blobs; that of the weights is named by its SHA-256.
    """
    repo = folder / f"models--{PUBLISHED_ID.replace('/', '--')}"
    snapshot = repo / "snapshots" / PUBLISHED_REVISION
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    digest = hash_weights(find_weights(sources))[WEIGHTS]
    for path in sources.iterdir():
        name = digest if path.name == WEIGHTS else f"{len(path.name):040x}"
        shutil.copy(path, repo / "blobs" / name)
        (snapshot / path.name).symlink_to(repo / "blobs" / name)
    return repo
