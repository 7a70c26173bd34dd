"""The card of a model: what it is, what it weighs, what fits its context, under which terms.

`workbench.model.card("mini")` reads configuration and headers only, never the weights. For the
published model it needs no network: when the files are not on this machine, the full-size
configuration is described, and the card states it.

Idea: Mitchell et al., Model Cards for Model Reporting, FAT* 2019, arXiv 1810.03993.
"""

from __future__ import annotations

import html
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import transformers

from workbench._lazy import make_callable
from workbench._repr import short_repr
from workbench.errors import CheckpointError, OptionError
from workbench.model.config import CxrLlavaConfig
from workbench.model.config_keys import network_keys
from workbench.model.prompt import TEMPLATE_VERSION
from workbench.model.sizes import Shape, empty_model, full_size_config
from workbench.model.source import (
    PUBLISHED_ID,
    PUBLISHED_REVISION,
    CheckpointSource,
    find_local,
    terms_for,
)
from workbench.model.weights import find_weights, hash_weights, read_object

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

CARD_FILE = "model_card.json"


@dataclass(frozen=True)
class ModelCard:
    """What is known about a model before it has seen anything.

    Attributes:
        name: "mini", a hub id, or the name of a directory.
        sha256s: SHA-256 of every weight file by file name; empty where the files are not here.
        notice: one line that every surface shows.
        domain: "phantom" or "radiograph": what the model was trained on.
        parameters: number by part, with the total.
        memory: bytes of the weights by dtype, see `workbench.model.sizes.BYTES`.
        context_length: positions of the language model; one image takes `image_tokens` of them,
            `text_tokens` are left for prompt and answer.
        image_size, patch_size: sides of the square input and of a patch, pixels.
        cache_bytes: bytes of keys and values of one position in 16 bit.
        template: version of the chat template.
        on_this_machine: the files are here; False where only the configuration is described.
        facts: the checkpoint's own model_card.json (training, numbers, limits).
        placement: dtype, device and why, of a model that is loaded; else empty.

    >>> model.card.licence
    'Apache-2.0'
    """

    name: str
    revision: str | None
    sha256s: Mapping[str, str]
    licence: str
    notice: str
    domain: str
    parameters: Mapping[str, int]
    memory: Mapping[str, int]
    context_length: int
    image_tokens: int
    text_tokens: int
    image_size: int
    patch_size: int
    cache_bytes: int
    template: str = TEMPLATE_VERSION
    on_this_machine: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)
    placement: str = field(default="", compare=False)

    __repr__ = short_repr

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain values for JSON."""
        return asdict(self)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per fact: columns section, item, value, unit."""
        import pandas as pd

        rows = [("model", "name", self.name, ""), ("model", "revision", self.revision or "", "")]
        rows += [("model", name, getattr(self, name), "") for name in _TEXTS]
        rows += [("model", "placement", self.placement, "")] if self.placement else []
        rows += [("parameters", part, count, "") for part, count in self.parameters.items()]
        rows += [("memory of the weights", d, b / 1e9, "GB") for d, b in self.memory.items()]
        rows += [("context", name, getattr(self, name), unit) for name, unit in _BUDGET]
        rows += [("SHA-256", file, digest, "") for file, digest in self.sha256s.items()]
        return pd.DataFrame(rows, columns=["section", "item", "value", "unit"])

    def _repr_html_(self) -> str:
        from workbench.figures.tables import frame_table

        here = "" if self.on_this_machine else " (not on this machine)"
        head = f"<h4>{html.escape(self.name)}{here}</h4><p><b>{html.escape(self.notice)}</b></p>"
        return head + frame_table(self.to_frame(), digits=2)


_TEXTS = ("licence", "notice", "domain", "template")
_BUDGET = (
    ("context_length", "tokens"),
    ("image_tokens", "tokens"),
    ("text_tokens", "tokens"),
    ("image_size", "pixels"),
    ("patch_size", "pixels"),
    ("cache_bytes", "bytes per token"),
)


def card(source: str | os.PathLike = "mini", *, hashes: bool = True) -> ModelCard:
    """Describe "mini", a directory or a hub id; a model that is loaded has its own as `.card`.

    `hashes` asks for the SHA-256 of weight files (seconds for a full-size directory).

    Raises:
        CheckpointError: there is no such checkpoint, or it cannot be read.
        OptionError: not something that has a card.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise OptionError(
            f"card needs 'mini', a directory or a hub id, got {type(source).__name__}; a model has "
            "its own as .card"
        )
    found = find_local(source)
    config = config_of(source, found)
    shape = Shape.of(empty_model(config), config.image_tokens)
    if found is None:
        found = CheckpointSource(PUBLISHED_ID, "hub", Path(), PUBLISHED_REVISION)
        return describe(shape, found, facts={}, on_this_machine=False)
    facts = read_object(found.directory / CARD_FILE)
    sha256s = hash_weights(find_weights(found.directory)) if hashes else {}
    return describe(shape, found, facts=facts, sha256s=sha256s)


def config_of(source: str | os.PathLike, found: CheckpointSource | None) -> CxrLlavaConfig:
    """Return the configuration of a checkpoint, of the published one without its files too.

    Raises:
        CheckpointError: it is not on this machine, or cannot be read.
    """
    if found is not None:
        return read_config(found.directory)
    if str(source) != PUBLISHED_ID:
        raise CheckpointError(
            f"{source} is not on this machine; load it once with a network, or give a directory"
        )
    return full_size_config()


def describe(
    shape: Shape,
    source: CheckpointSource,
    *,
    facts: Mapping[str, Any],
    sha256s: Mapping[str, str] | None = None,
    template: str = TEMPLATE_VERSION,
    on_this_machine: bool = True,
    placement: str = "",
) -> ModelCard:
    """Make a card from the sizes of a model, where it comes from, and its model_card.json."""
    context = int(shape.text.max_position_embeddings)
    return ModelCard(
        name=source.name if source.kind == "hub" else str(facts.get("name", source.name)),
        revision=source.revision,
        sha256s=dict(sha256s or {}),
        **asdict(terms_for(source, facts)),
        parameters=shape.sizes.parts(),
        memory=shape.sizes.memory(),
        context_length=context,
        image_tokens=shape.image_tokens,
        text_tokens=context - shape.image_tokens,
        image_size=shape.image_size,
        patch_size=shape.patch_size,
        cache_bytes=2 * shape.cache,
        template=template,
        on_this_machine=on_this_machine,
        facts=dict(facts),
        placement=placement,
    )


def read_config(directory: Path) -> CxrLlavaConfig:
    """Read config.json of a checkpoint directory.

    Raises:
        CheckpointError: it is missing, not JSON, or describes no model that can be built here.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(f"no {path.name} in {directory}; copy it beside the weights")
    fields = read_object(path)
    kind = fields.get("model_type", CxrLlavaConfig.model_type)
    if kind != CxrLlavaConfig.model_type or "llama" not in fields:
        raise CheckpointError(
            f"config.json in {directory} describes a model of type {kind!r} with the keys "
            f"{', '.join(sorted(fields)[:8])}; expected {CxrLlavaConfig.model_type!r} with "
            f"clip_vision_cfg and llama, or an image-text-to-text type that transformers "
            f"{transformers.__version__} knows: code beside the weights is never run, so look for "
            "a converted checkpoint"
        )
    try:
        config = CxrLlavaConfig(**network_keys(fields))
        empty_model(config)
        return config
    except OptionError as error:
        raise CheckpointError(f"config.json in {directory} does not fit: {error}") from error
    except Exception as error:  # of the framework, about values it does not expect
        raise CheckpointError(
            f"config.json in {directory} describes no model that can be built "
            f"({type(error).__name__}: {error}); copy it again"
        ) from error


make_callable(__name__, "workbench.model.card:card")
