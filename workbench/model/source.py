"""Where a checkpoint comes from: the embedded `mini`, a directory, or a hub id.

Only configuration, tokenizer and safetensors files and the card are ever fetched, never code and
never pickles. The published model is pinned to one revision; terms are shown before weights come.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import yaml
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

from workbench.errors import CheckpointError, OptionError, did_you_mean
from workbench.model.licence import Terms, terms_of
from workbench.model.weights import find_weights, read_object

logger = logging.getLogger(__name__)

MINI = "mini"
PUBLISHED_ID = "ECOFRI/CXR-LLAVA-v2"
PUBLISHED_REVISION = "b2224786bb90d54b1e1291171866706cfbb44e2b"

#: Hub ids that are never followed to a moving branch.
PINNED = {PUBLISHED_ID: PUBLISHED_REVISION}

#: What is fetched: configuration, templates, vocabularies, weights, the card.
_WANTED = ("*.json", "*.jinja", "*.model", "*.txt", "*.safetensors", "README.md")
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")
_UNWANTED = ("*.py", "*.bin", "pytorch_model*", "original/*", "consolidated*")

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_ASSETS = Path(__file__).resolve().parents[1] / "assets"


@dataclass(frozen=True)
class CheckpointSource:
    """A checkpoint on this machine; its kind is "mini", "directory" or "hub".

    `name` is "mini", the name of the directory, or a hub id with the commit as `revision`.
    """

    name: str
    kind: str
    directory: Path
    revision: str | None = None


def is_endpoint(source: object) -> bool:
    """Tell whether a source is the address of an endpoint."""
    return isinstance(source, str) and source.startswith(("http://", "https://"))


def resolve_source(
    source: str | os.PathLike, *, revision: str | None = None, offline: bool | None = None
) -> CheckpointSource:
    """Find a checkpoint: "mini", a directory, or a hub id, fetched when it has to be.

    Args:
        revision: commit, tag or branch of a hub id; by default the pinned one, or "main".
        offline: True forbids the network; None leaves it to HF_HUB_OFFLINE.

    Raises:
        CheckpointError: there is no such checkpoint.
        OptionError: a revision for something that has none.
    """
    text = os.fspath(source)
    if revision is not None and (text == MINI or os.path.isdir(text)):
        raise OptionError(
            f"revision belongs to a hub id, and {text!r} is a directory on this machine; "
            "leave revision out"
        )
    if text == MINI:
        if not (_ASSETS / MINI / "config.json").is_file():
            raise CheckpointError(
                "the embedded model mini is not part of this installation; install the package "
                "again, or make it with `workbench train mini`"
            )
        return CheckpointSource(MINI, "mini", _ASSETS / MINI)
    if os.path.isdir(text):
        directory = Path(text).resolve()
        return CheckpointSource(directory.name, "directory", directory)
    if os.path.isfile(text):
        raise CheckpointError(
            f"{text!r} is a file; give the directory with config.json, tokenizer.model and "
            "the safetensors"
        )
    if isinstance(source, os.PathLike) or not _HUB_ID.fullmatch(text) or text.startswith("."):
        raise CheckpointError(
            f"no such directory: {text!r} (looked in {Path.cwd()})"
            f"{did_you_mean(text, (MINI, PUBLISHED_ID))}; give an existing directory, "
            f"{MINI!r}, or a hub id such as {PUBLISHED_ID!r}"
        )
    return _hub(text, revision or PINNED.get(text), offline)


def find_local(source: str | os.PathLike) -> CheckpointSource | None:
    """Find a checkpoint without the network; None for a hub id that is not in the cache.

    Raises:
        CheckpointError: not a hub id, and no such directory.
    """
    try:
        return resolve_source(source, offline=True)
    except NotCachedError:
        return None


def read_front_matter(directory: Path) -> Mapping[str, Any]:
    """Return what README.md states in its head (licence, base model); empty where it does not."""
    path = directory / "README.md"
    try:
        found = huggingface_hub.metadata_load(path) if path.is_file() else None
    except (ValueError, yaml.YAMLError):
        return {}
    return found or {}


def names_of(found: CheckpointSource) -> tuple[str, ...]:
    """Return the hub ids of a checkpoint and of what it was made from, as far as it states them."""
    base = read_front_matter(found.directory).get("base_model") or []
    config = read_object(found.directory / "config.json")
    own = (found.name, config.get("_name_or_path", ""))
    return tuple(map(str, (*own, *(base if isinstance(base, list) else [base]))))


def terms_for(found: CheckpointSource, facts: Mapping[str, Any]) -> Terms:
    """Return the terms of a checkpoint: of its model_card.json, of its README.md, or known ones."""
    if found.kind == "mini" or found.name == PUBLISHED_ID:
        return terms_of(found.kind, facts)
    stated = read_front_matter(found.directory)
    given = stated.get("license")
    licence = ", ".join(map(str, given)) if isinstance(given, list) else str(given or "")
    licence = str(stated.get("license_name", licence)) if licence == "other" else licence
    link = f" ({stated['license_link']})" if "license_link" in stated else ""
    own = {"licence": licence + link} if licence else {}
    return terms_of("directory", {**own, **facts})


class NotCachedError(CheckpointError):
    """A hub checkpoint is not in the local cache."""


def _hub(repo_id: str, revision: str | None, offline: bool | None) -> CheckpointSource:
    if repo_id in PINNED and revision != PINNED[repo_id]:
        logger.warning(
            "%s at revision %s instead of the tested %s", repo_id, revision, PINNED[repo_id]
        )
    try:
        directory = Path(_snapshot(repo_id, revision, offline))
    except LocalEntryNotFoundError as error:
        raise NotCachedError(
            f"{repo_id} (revision {revision or 'main'}) is neither a directory on this machine nor "
            "completely in the hub cache, and the network is off or out of reach; load it once "
            "with a network, or copy the files into a directory and give that"
        ) from error
    except GatedRepoError as error:
        raise CheckpointError(
            f"{repo_id} is given out under terms that you have to accept first; do that at "
            f"https://huggingface.co/{repo_id}, log in with `hf auth login`, and load it again"
        ) from error
    except Exception as error:  # of the hub, of the network, or of the disk
        raise CheckpointError(
            f"{repo_id} could not be fetched from the hub ({type(error).__name__}: {error}); check "
            "the spelling and the revision, log in with `hf auth login` if access is restricted, "
            "or try again: what has arrived is kept"
        ) from error
    return CheckpointSource(repo_id, "hub", directory, directory.name)


def _snapshot(repo_id: str, revision: str | None, offline: bool | None) -> str:
    """Return the folder of a snapshot; a complete one in the cache needs no network."""
    options = {
        "revision": revision,
        "allow_patterns": list(_WANTED),
        "ignore_patterns": list(_UNWANTED),
    }
    if offline or PINNED.get(repo_id) == revision:
        try:
            folder = huggingface_hub.snapshot_download(repo_id, local_files_only=True, **options)
            find_weights(Path(folder))
            words = ("tokenizer.model",) if repo_id in PINNED else _VOCABULARIES
            here = {path.name for path in Path(folder).iterdir()}
            if "config.json" in here and not here.isdisjoint(words):
                return folder
        except (CheckpointError, LocalEntryNotFoundError):
            pass
        if offline:
            raise LocalEntryNotFoundError(f"{repo_id} is not complete in the cache")
    card = Path()
    if repo_id != PUBLISHED_ID:
        first = {**options, "allow_patterns": ["README.md", "config.json"]}
        card = Path(huggingface_hub.snapshot_download(repo_id, **first))
    terms = terms_for(CheckpointSource(repo_id, "hub", card), {})
    logger.warning(
        "fetching %s from the hub. %s Licence: %s. Continuing means accepting these terms; "
        "interrupt to leave it",
        repo_id,
        terms.notice,
        terms.licence,
    )
    return huggingface_hub.snapshot_download(repo_id, **options)
